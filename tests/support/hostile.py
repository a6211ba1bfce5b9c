"""Hostile input: what an attacker may send, or a cat on the keyboard. The same seed gives the same input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from moe_sim import KNOBS
from moe_sim.config.knobs import THRESHOLDS
from pages.visitor.view import TABS

TEXTS = (
    "", " ", "\t\n", "\x00", "a\x00b", "nan", "NaN", "inf", "-inf", "Infinity", "1e400", "-1e400", "1e-400", "-0",
    "-0.0", "-1", "+1", "0x10", "1_000", "1,5", "٣", "²", "½", "𝟜", "9" * 400, "9" * 5000, "0" * 5000 + "1",
    "1." + "3" * 5000,    "off", "on", "OFF", "None", "null", "true", "[]", "{}", "[[[[",
    "\ud800", "\udfff\ud800", "🙂", "e\u0301" * 20,
    "x" + "\u0336" * 300, "\u202egnp.exe", "\u2066\u2069", "\ufeff", "\u2028", "<script>window.hacked = 1</script>",
    "<img src=x onerror=window.hacked=1>", "[a link](javascript:window.hacked=1)", "![x](https://evil.example/x.png)",
    "https://evil.example/?a=b", "www.evil.example", "me@evil.example", "javascript:alert(1)", "$\\frac{1}{0}$",
    "$$x$$", ":material/delete:", ":red[x]", ":smile:", "**b**", "`c`", "{run_id}", "{0}", "%s%n", "%00",
    "../../etc/passwd",    "'; DROP TABLE runs; --", "=1+1", "a=b&c=d", ";;;;", "::::",
    ",,,,", "0:", ":=", "1:top_k", "1:top_k=", "1:seed=7",
    "5:aux_loss_coef=nan", "0:num_experts=64;0:top_k=8", "7:top_k=99;8:top_k=-1", "999999:aux_loss_coef=1",
    "9999999:aux_loss_coef=1", "__class__", "__init__", "self", "config", "\\", "\\u0000", "\r\nSet-Cookie: a=b",
)  # fmt: skip
"""Texts that have broken programs."""
KEYS = (
    *KNOBS, *THRESHOLDS, "events", "b", "c", "d", "tab", "log", "hide", "autoplay", "level", "follow", "embed", "v",
)  # fmt: skip
"""Every key that a link can have, and one that means nothing."""
NAMES = (
    "train",
    "pause",
    "step",
    "extend",
    "rate",
    "reset",
    "freeze",
    "lost",
    "view",
    "resync",
    "sync",
    "",
    "__class__",
)
"""Names of commands, valid and invalid."""


def text(random: np.random.Generator) -> str:
    """One of `TEXTS`, random characters, random planned changes, or some of `TEXTS` joined by a separator."""
    kind = random.integers(5)
    if kind == 0:
        return "".join(map(chr, random.integers(0x110000, size=random.integers(1, 20))))
    if kind == 1:
        return "".join(map(chr, random.integers(32, 127, size=random.integers(1, 20))))
    if kind == 2:
        names = random.choice([*KNOBS], size=random.integers(1, 6))
        return ";".join(f"{random.integers(-5, 2000)}:{name}={random.choice(PLAUSIBLE)}" for name in names)
    if kind == 3:
        return str(random.choice([";", ",", "=", ":", "&", ""])).join(
            TEXTS[i] for i in random.integers(len(TEXTS), size=3)
        )
    return TEXTS[random.integers(len(TEXTS))]


PLAUSIBLE = (
    "0",
    "1",
    "2",
    "8",
    "64",
    "2048",
    "0.1",
    "1e-5",
    "1000",
    "off",
    "on",
    "text",
    "bias",
    "sinkhorn",
    "nan",
    "-1",
)
"""Values that some knob allows."""


def links(seed: int, count: int) -> Iterator[dict[str, str]]:
    """Queries that mix keys with hostile texts, keys with plausible values, and unknown keys."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        query = {str(key): str(random.choice(PLAUSIBLE)) for key in random.choice(KEYS, size=random.integers(6))}
        query |= {str(key): text(random) for key in random.choice(KEYS, size=random.integers(1, 5))}
        if random.random() < 0.1:
            query[text(random)] = text(random)
        yield query


def value(random: np.random.Generator, depth: int = 3) -> Any:
    """Any JSON value, and numbers that only Python's JSON can express."""
    kind = random.integers(9 if depth else 7)
    if kind == 7:
        return [value(random, depth - 1) for _ in range(random.integers(5))]
    if kind == 8:
        return {text(random): value(random, depth - 1) for _ in range(random.integers(5))}
    plain = (None, True, False, 0, -1, 10**400, 2**53, 1.5, float("nan"), float("inf"), -1e308)
    return text(random) if kind < 3 else plain[random.integers(len(plain))]


def command(random: np.random.Generator, run_ids: tuple[str, ...]) -> Any:
    """A button command of the board, or something like it; some name other visitors' runs."""
    if random.random() < 0.1:
        return value(random)
    given: dict[str, Any] = {"name": NAMES[random.integers(len(NAMES))], "number": int(random.integers(1, 10_000))}
    parts = {
        "run_id": random.choice(run_ids), "value": (0, 15, True, 10**9)[random.integers(4)],
        "tab": str(random.choice(TABS)), "log": ["imbalance"], "which": 1, "number": True,
    }  # fmt: skip
    for name in random.choice([*parts], size=random.integers(4)):
        given[str(name)] = parts[name] if random.random() < 0.6 else value(random)
    return given


def spoiled(content: bytes, random: np.random.Generator) -> bytes:
    """A corrupted file: cut off, with some bytes changed, or with a part missing or repeated."""
    kind, at = random.integers(4), int(random.integers(len(content)))
    if kind == 0:
        return content[:at]
    if kind == 1:
        spoiled = bytearray(content)
        for place in random.integers(len(content), size=random.integers(1, 6)):
            spoiled[place] = random.choice([0, 10, 34, 44, 91, 123, 127, 128, 255, int(random.integers(256))])
        return bytes(spoiled)
    until = at + int(random.integers(1, 200))
    return content[:at] + (content[until:] if kind == 2 else content[at:until] + content[at:])


def assert_sentence(sentence: str) -> None:
    """Assert that a text is a printable sentence of reasonable length."""
    assert sentence.endswith((".", "?"))
    assert sentence.isprintable()
    assert len(sentence) < 600
