"""Texts of visitors' own. A text is known by its key for as long as something refers to it: a visitor's session, or a
run on it. It is stored nowhere else.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from weakref import WeakValueDictionary

import numpy as np

from moe_sim.config.errors import InvalidInput
from moe_sim.tasks.corpora import ALPHABET, encode

SHORTEST, LONGEST = 6_000, 1_000_000
"""Characters."""
PARTS = ("1st quarter", "2nd quarter", "3rd quarter", "4th quarter")
HELD_OUT_SHARE = 0.1
"""Of each quarter, its end is never trained on."""
FEWEST_CHARACTERS = 8
"""Different ones that a text must have."""
UNUSED = "□"
"""Fills the alphabet of a text with few different characters."""

_known: WeakValueDictionary[str, OwnText] = WeakValueDictionary()


class OwnText:
    """A text, encoded, in quarters for training and held-out ends."""

    def __init__(self, content: str) -> None:
        """
        Args:
            content: the text. Its most frequent characters are the model's alphabet; rarer ones are left out.

        Raises:
            InvalidInput: if what remains is shorter than `SHORTEST`, or the text is longer than `LONGEST` or hardly has
                different characters.
        """
        if len(content) > LONGEST:
            raise InvalidInput(f"The text may have at most {LONGEST:,} characters; this one has {len(content):,}.")
        text = unicodedata.normalize("NFC", content.replace("\r\n", "\n").replace("\t", " "))
        self.content = "".join(one for one in text if one == "\n" or one.isprintable())
        frequent = [character for character, _ in Counter(self.content).most_common(len(ALPHABET))]
        self.alphabet = "".join(frequent).ljust(len(ALPHABET), UNUSED)
        characters = encode(self.content, self.alphabet)
        if len(characters) < SHORTEST:
            raise InvalidInput(f"The text needs at least {SHORTEST:,} characters; this one has {len(characters):,}.")
        if len(frequent) < FEWEST_CHARACTERS:
            raise InvalidInput(f"The text needs at least {FEWEST_CHARACTERS} different characters.")
        self.key = hashlib.sha256(self.content.encode()).hexdigest()[:12]
        """Of `RunConfig.own_text`."""
        quarters = np.array_split(characters, len(PARTS))
        ends = [int(len(quarter) * (1 - HELD_OUT_SHARE)) for quarter in quarters]
        self.train = [quarter[:end] for quarter, end in zip(quarters, ends, strict=True)]
        self.held_out = [quarter[end:] for quarter, end in zip(quarters, ends, strict=True)]


def own_text(content: str) -> OwnText:
    """The text with this content, one object for all who refer to it.

    Raises:
        InvalidInput: as `OwnText`.
    """
    text = OwnText(content)
    return _known.setdefault(text.key, text)


def known_text(key: str) -> OwnText:
    """The text with this key.

    Raises:
        InvalidInput: if nothing refers to it any more, or it was on another machine.
    """
    text = _known.get(key)
    if text is None:
        raise InvalidInput(
            "This run was trained on a text of its author's own, which is not stored anywhere. Whoever has the text "
            "can paste it again, under Task and data."
        )
    return text
