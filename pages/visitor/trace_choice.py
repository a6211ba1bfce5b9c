"""What a visitor looks at on the page *Your model*: which trace, which layer, which other trace beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PARAMETERS = {"trace": "name", "beside": "beside", "traced": "layer"}
"""The fields by their names in a link."""
LONGEST = 400
"""Characters of a name in a link."""


@dataclass(frozen=True)
class TraceChoice:
    """Names, each empty for what the page itself chooses. They may be of traces and layers that do not exist."""

    name: str = ""
    """Of the trace; empty for the one with the worst verdict."""
    beside: str = ""
    """Of a second trace; empty for none."""
    layer: str = ""
    """The name of the layer's module; empty for the worst."""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> TraceChoice:
        """Reads a choice from a query."""
        return cls(**{field: query.get(parameter, "")[:LONGEST] for parameter, field in PARAMETERS.items()})

    def to_query(self) -> dict[str, str]:
        """Whatever is chosen, as query parameters."""
        texts = {parameter: getattr(self, field) for parameter, field in PARAMETERS.items()}
        return {parameter: text for parameter, text in texts.items() if text}


def without_choice(query: Mapping[str, str]) -> dict[str, str]:
    """The part of a query that says nothing about traces."""
    return {name: text for name, text in query.items() if name not in PARAMETERS}
