"""What one visitor compares: the runs side by side, and what may be done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from moe_sim.config.codec import events_to_text
from moe_sim.config.events import Event
from moe_sim.config.knobs import problems
from moe_sim.config.run_config import RunConfig
from moe_sim.config.run_plan import NAMES, RunPlan, changes_between, run_plan_from_text
from moe_sim.config.thresholds import Thresholds
from moe_sim.live.background_run import DEFAULT_RATE
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.server.messages import encode_comparison
from moe_sim.server.server import Server
from pages.visitor.feed import Feed
from pages.visitor.memory import or_notice_out_of_memory
from pages.visitor.playback import play
from pages.visitor.replay import REFUSED, Replay, replay_from

KEYS = tuple(name.lower() for name in NAMES[1:])
"""Query parameters: how runs B, C and D depart from A, as `0:aux_loss_coef=0.03;100:top_k=2`."""
RESCUE, COLLAPSE = 0.03, 0.0


def plan_of(run: LiveRun) -> RunPlan:
    """A run with everything that was done to it and is still planned."""
    return RunPlan(run.history.initial_config, run.course)


class ComparisonSession:
    """Holds the comparison. Runs after the first one depart from it."""

    def __init__(self, plans: Sequence[RunPlan], thresholds: Thresholds, server: Server) -> None:
        self._server = server
        self.notices: list[str] = []
        self._feed = Feed()
        made = self._launch(plans, thresholds, DEFAULT_RATE)
        self.run = made or self._server.scheduler.add(Comparison([RunPlan(RunConfig())] * 2, runs=server.runs))
        self._opened_with = self.run.id

    @classmethod
    def beside(cls, run: LiveRun, thresholds: Thresholds, server: Server) -> ComparisonSession:
        """A run, and the same with the balancing loss on, or off where it is on."""
        base = plan_of(run)
        other = RESCUE if not base.config.aux_loss_coef else COLLAPSE
        return cls((base, base.changed([Event(0, {"aux_loss_coef": other})])), thresholds, server)

    @classmethod
    def from_query(
        cls, query: Mapping[str, str], run: LiveRun, thresholds: Thresholds, server: Server
    ) -> ComparisonSession | None:
        """Read a comparison, however broken the query is; None where there is none in it."""
        base, others, notices = plan_of(run), [], []
        for key in KEYS:
            if key in query:
                other, refused = run_plan_from_text(base, query[key])
                others.append(other)
                notices += [f"Run {key.upper()}: {sentence}" for sentence in refused]
        if not others:
            return None
        comparison = cls((base, *others), thresholds, server)
        comparison.notices += notices
        return comparison

    def to_query(self) -> dict[str, str]:
        """How the other runs depart from the first one, as query parameters."""
        base, *others = self.run.plans
        return {key: events_to_text(changes_between(base, other)) for key, other in zip(KEYS, others, strict=False)}

    def begin(self, plans: Sequence[RunPlan], *, catch_up: int = 0, train: bool | None = None) -> None:
        """Start other runs from step 0. Goes on training if the ones before did, unless told otherwise."""
        old, made = self.run, self._launch(plans, self.run.thresholds, self.run.rate, catch_up)
        if made is None:
            return
        self.run = made
        self._feed.restart()
        if train if train is not None else old.state == "training":
            self.run.train()
        self._server.scheduler.remove(old)

    def depart(self, which: int, step: int, name: str, value: Any) -> None:
        """Let a run (1 for B) differ from A in one more knob, from a step on; all begin anew, and hurry there."""
        base, *others = self.run.plans
        self._change(which, [*changes_between(base, others[which - 1]), Event(step, {name: value})])

    def move(self, which: int | None, name: str, value: Any) -> None:
        """Move a live knob now, in one run or in all."""
        self._try(lambda: self.run.update(which, **{name: value}))

    def give_back(self, which: int, name: str) -> None:
        """Let a run have a knob as A has it again."""
        base, *others = self.run.plans
        changes = [
            Event(event.step, rest)
            for event in changes_between(base, others[which - 1])
            if (rest := {knob: value for knob, value in event.changes.items() if knob != name})
        ]
        self._change(which, changes)

    def add(self) -> None:
        """One more run, at first like A."""
        plans = self.run.plans
        if len(plans) < len(NAMES):
            self.begin((*plans, plans[0]))

    def remove(self, which: int) -> None:
        """Leave out a run other than A; two always stay."""
        plans = list(self.run.plans)
        if 0 < which < len(plans) and len(plans) > 2:
            del plans[which]
            self.begin(plans)

    def branch(self, run: LiveRun, step: int, name: str, value: Any) -> None:
        """What if a knob of a run had been moved at a step: the run again beside the one in which it is."""
        base = plan_of(run)
        other = self._try(lambda: base.changed([Event(step, {name: value})]))
        if other is not None:
            self.begin((base, other), catch_up=step, train=True)

    def resume(self, replay: Replay | None) -> None:
        """Compute again what was trained before the connection was lost, unless something was begun since."""
        if self.run.id != self._opened_with:
            return
        if replay is None or len(replay.plans) < 2:
            self.notices.append(REFUSED)
            return
        old = self.run
        self.begin(replay.plans, catch_up=replay.steps, train=replay.training)
        if self.run is not old:
            self.run.set_rate(replay.rate)
            self.run.extend(replay.budget - self.run.budget)

    def command(self, command: dict[str, Any]) -> None:
        """Obey a button of the board."""
        match command:
            case {"name": "resume"}:
                self.resume(replay_from(command))
            case {"name": "resync"}:
                self._feed.restart()
            case {"name": "reset"}:
                self.begin(self.run.plans, train=False)
            case {"name": "lost", "run_id": self.run.id} if self.run.forgotten:
                self.begin(self.run.plans, train=False)
                self.notices.append("The runs were put away after a long pause and start again from step 0.")
            case _:
                play(self.run, command)

    def next_message(self) -> str:
        """What the runs did lately, for a page that is fed without the stream."""
        return self._feed.next(self.run, lambda start: encode_comparison(self.run, start, self._server.lectures))

    def _launch(
        self, plans: Sequence[RunPlan], thresholds: Thresholds, rate: float, catch_up: int = 0
    ) -> Comparison | None:  # fmt: skip
        """Begin runs; None, with a notice, if there is no memory for them."""
        run = or_notice_out_of_memory(
            lambda: Comparison(plans, rate=rate, catch_up=catch_up, runs=self._server.runs), self.notices
        )
        if run is None:
            return None
        run.thresholds = thresholds
        return self._server.scheduler.add(run)

    def _change(self, which: int, changes: Sequence[Event]) -> None:
        """Let a run depart from A in these changes only; all begin anew."""
        base, *others = self.run.plans
        other = self._try(lambda: base.changed(changes))
        if other is not None:
            others[which - 1] = other
            self.begin((base, *others))

    def _try(self, act: Any) -> Any:
        """Do it; what is not possible becomes a notice."""
        try:
            return act()
        except ValidationError as error:
            self.notices += problems(error).values()
        except ValueError as error:
            self.notices.append(str(error))
        return None
