"""The part of a link that is about the page, not the run: the open tab, axes, hidden parts, autoplay and level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from moe_sim.config.knobs import KNOBS
from moe_sim.teaching.level import LEVELS, Level

TABS = ("why", "mechanism", "specialization", "feedback", "router", "capacity", "devices", "variance", "coactivation",
        "inference", "names", "text", "prompt")  # fmt: skip
"""The tabs of the dashboard. `VIEWS` in pages/dashboard/run_board.py has their titles and charts."""
LOG_AXES = ("imbalance", "task_and_balance_loss")
"""Charts whose vertical axis can be linear or logarithmic."""
PARTS = {
    "presets": "Presets", "mechanisms": "Other balancing methods", "thresholds": "Diagnosis thresholds",
    "pages": "Links to the other pages", "share": "Share and export", "step": "Step", "reset": "Reset",
    "freeze": "Freeze", "extend": "+1,000", "speed": "Speed", "tiles": "Tiles", "tabs": "Tabs",
}  # fmt: skip
"""Parts of the page, besides the knobs, that a link can hide."""
HIDEABLE: dict[str, str] = {**{name: knob.label for name, knob in KNOBS.items()}, **PARTS}
"""Everything that a link can hide, with its label."""


LAYERS = ("all", *map(str, range(1, int(KNOBS["num_layers"].maximum or 1) + 1)))
"""The layers that a view can show."""


@dataclass(frozen=True)
class View:
    """State of the page that does not affect the run."""

    tab: str = "why"
    log: tuple[str, ...] = ("imbalance",)
    hide: frozenset[str] = frozenset()
    autoplay: bool = False
    level: Level = "beginner"
    layer: int = 0
    """Of a run with several, counted from 1; 0 for all."""

    @property
    def layer_index(self) -> int | None:
        """The layer counted from 0, or None for all."""
        return self.layer - 1 if self.layer else None

    def to_query(self) -> dict[str, str]:
        """Returns whatever differs from the defaults, as query parameters."""
        texts = {
            "tab": self.tab, "log": ",".join(self.log) or "none", "hide": ",".join(sorted(self.hide)),
            "autoplay": "1" if self.autoplay else "", "level": self.level, "layer": LAYERS[self.layer],
        }  # fmt: skip
        defaults = {
            "tab": "why", "log": "imbalance", "hide": "", "autoplay": "", "level": "beginner", "layer": "all",
        }  # fmt: skip
        return {name: text for name, text in texts.items() if text != defaults[name]}


def view_from_query(query: Mapping[str, str]) -> tuple[View, list[str]]:
    """Reads a view from a query, valid or not.

    Returns:
        The view, and one sentence per invalid part.
    """
    notices: list[str] = []

    def one_of(name: str, allowed: tuple[str, ...]) -> str:
        text = query.get(name, allowed[0])
        if text not in allowed:
            notices.append(f"{name} must be one of {', '.join(allowed)}, not {text[:40]!r}. Using {allowed[0]}.")
        return text if text in allowed else allowed[0]

    log = query.get("log", "imbalance").split(",")
    unknown_axes = [name for name in log if name not in (*LOG_AXES, "none")]
    if unknown_axes:
        notices.append(f"log must be among {', '.join(LOG_AXES)} or none, not {unknown_axes[0][:40]!r}.")
    hidden = [name for name in query.get("hide", "").split(",") if name]
    unknown = [name for name in hidden if name not in HIDEABLE]
    if unknown:
        notices.append(f"There is nothing named {unknown[0][:40]!r} to hide.")
    view = View(
        tab=one_of("tab", TABS),
        log=tuple(name for name in LOG_AXES if name in log),
        hide=frozenset(hidden) & frozenset(HIDEABLE),
        autoplay=query.get("autoplay") == "1",
        level=cast(Level, one_of("level", LEVELS)),
        layer=LAYERS.index(one_of("layer", LAYERS)),
    )
    return view, notices
