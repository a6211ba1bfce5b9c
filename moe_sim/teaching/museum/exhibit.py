"""The definition of an exhibit: a run with a mistake, and how the mistake can be told from its charts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.run_plan import RunPlan
from moe_sim.history.history import History


@dataclass(frozen=True)
class Report:
    """A public issue or pull request in which the mistake was found."""

    project: str
    number: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://github.com/{self.project}/issues/{self.number}"


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A mistake, the run that shows it, and its explanation."""

    mistake: str
    """Its name in `RunConfig.mistake`."""
    title: str
    """The mistake in a few words: what the visitor chooses."""
    wanted: str
    """What the author of the run wanted. It does not give the mistake away."""
    start: dict[str, Any]
    """Differences from the defaults at step 0, without the mistake."""
    plan: tuple[Event, ...] = ()
    tab: str
    """The view whose chart gives the mistake away."""
    giveaway: str
    """The rule by which a reader of the charts can tell."""
    explanation: tuple[str, ...]
    wrong: str
    """The line or two of PyTorch that were written."""
    right: str
    """What they should have been."""
    reports: tuple[Report, ...] = ()
    signal: Callable[[History], bool] = field(repr=False)
    """The rule as code: whether a run shows this mistake."""

    def config(self, seed: int = 0, *, healthy: bool = False) -> RunConfig:
        """The run at step 0, or the same without the mistake."""
        return RunConfig(**{**self.start, "seed": seed, "mistake": "none" if healthy else self.mistake})

    def beside_healthy(self, seed: int = 0) -> tuple[RunPlan, RunPlan]:
        """The healthy run and the mistaken one, for a comparison."""
        return RunPlan(self.config(seed, healthy=True), self.plan), RunPlan(self.config(seed), self.plan)
