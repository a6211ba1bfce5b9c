"""What a link says about the page beside the run: the open view, hidden controls, and whether it plays by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from moe_sim.config.knobs import KNOBS
from moe_sim.teaching.level import LEVELS, Level

TABS = ("why", "mechanism", "specialization", "feedback", "router", "capacity", "devices", "variance", "coactivation",
        "inference", "names", "text")  # fmt: skip
"""The second row of views, as pages/dashboard/js/tabs.js has them."""
LOG_AXES = ("imbalance", "task_and_balance_loss")
"""Charts whose vertical axis can be logarithmic or not."""
PARTS = {
    "presets": "Presets", "mechanisms": "Presets of mechanisms", "thresholds": "Diagnosis thresholds",
    "pages": "Links to the other pages", "share": "Share and export", "step": "Step", "reset": "Reset",
    "freeze": "Freeze", "extend": "+1,000", "speed": "Speed", "tiles": "Tiles", "tabs": "Second row of views",
}  # fmt: skip
"""Parts of the page, beside the knobs, that a link can hide."""
HIDEABLE: dict[str, str] = {**{name: knob.label for name, knob in KNOBS.items()}, **PARTS}
"""Everything that a link can hide, with its words."""


@dataclass(frozen=True)
class View:
    """The page's state that no run depends on."""

    tab: str = "why"
    log: tuple[str, ...] = ("imbalance",)
    hide: frozenset[str] = frozenset()
    autoplay: bool = False
    level: Level = "beginner"

    def to_query(self) -> dict[str, str]:
        """What is not as usual, as query parameters."""
        texts = {
            "tab": self.tab, "log": ",".join(self.log) or "none", "hide": ",".join(sorted(self.hide)),
            "autoplay": "1" if self.autoplay else "", "level": self.level,
        }  # fmt: skip
        usual = {"tab": "why", "log": "imbalance", "hide": "", "autoplay": "", "level": "beginner"}
        return {name: text for name, text in texts.items() if text != usual[name]}


def view_from_query(query: Mapping[str, str]) -> tuple[View, list[str]]:
    """Read a view, however broken the query is.

    Returns:
        The view, and one sentence for each part that was refused.
    """
    notices: list[str] = []

    def one_of(name: str, allowed: tuple[str, ...]) -> str:
        text = query.get(name, allowed[0])
        if text not in allowed:
            notices.append(f"{name} must be one of {', '.join(allowed)}, not {text[:40]!r}. Using {allowed[0]}.")
        return text if text in allowed else allowed[0]

    log = query.get("log", "imbalance").split(",")
    strange = [name for name in log if name not in (*LOG_AXES, "none")]
    if strange:
        notices.append(f"log must be among {', '.join(LOG_AXES)} or none, not {strange[0][:40]!r}.")
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
    )
    return view, notices
