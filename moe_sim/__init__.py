"""Expert Collapse Lab: a small Mixture-of-Experts model whose router you can watch collapse, and rescue."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moe_sim.version import __version__

if TYPE_CHECKING:
    from moe_sim.charts.plotting import plot
    from moe_sim.config.events import Event
    from moe_sim.config.knobs import KNOBS
    from moe_sim.config.presets import PRESETS, Preset
    from moe_sim.config.run_config import RunConfig
    from moe_sim.history.columns import StepRecord
    from moe_sim.history.history import History
    from moe_sim.history.probe import Probe
    from moe_sim.history.trace import TraceHistory, open_trace
    from moe_sim.tracing.transformers_callback import trace_callback
    from moe_sim.tracing.watching import watch
    from moe_sim.trainer.together import advance
    from moe_sim.trainer.trainer import Trainer

__all__ = [
    "KNOBS",
    "PRESETS",
    "Event",
    "History",
    "Preset",
    "Probe",
    "RunConfig",
    "StepRecord",
    "TraceHistory",
    "Trainer",
    "__version__",
    "advance",
    "open_trace",
    "plot",
    "trace_callback",
    "watch",
]

_MODULES = {
    "KNOBS": "config.knobs", "PRESETS": "config.presets", "Event": "config.events", "History": "history.history",
    "Preset": "config.presets", "Probe": "history.probe", "RunConfig": "config.run_config",
    "StepRecord": "history.columns", "TraceHistory": "history.trace", "Trainer": "trainer.trainer",
    "advance": "trainer.together", "open_trace": "history.trace", "plot": "charts.plotting",
    "trace_callback": "tracing.transformers_callback", "watch": "tracing.watching",
}  # fmt: skip
_PACKAGES = ("config", "history", "losses", "metrics", "router", "trainer")


def __getattr__(name: str) -> Any:
    """Loads a name when it is first used: torch takes two seconds, and not everything needs it at once."""
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    end = ""
    if not name.startswith("_"):  # which tools look for without being mistaken
        from moe_sim.config.suggestions import did_you_mean

        end = did_you_mean(name, __dir__(), "")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{end}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
