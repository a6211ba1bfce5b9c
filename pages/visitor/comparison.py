"""One visitor's comparison: runs side by side, and the actions on them."""

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
from pages.text.notices import Notices
from pages.visitor import hosting
from pages.visitor.feed import Feed
from pages.visitor.memory import or_notice_out_of_memory
from pages.visitor.playback import play
from pages.visitor.replay import REFUSED, Replay, replay_from

KEYS = tuple(name.lower() for name in NAMES[1:])
"""Query parameters: how runs B, C and D differ from A, such as `0:aux_loss_coef=0.03;100:top_k=2`."""
RESCUE, COLLAPSE = 0.03, 0.0


def plan_of(run: LiveRun) -> RunPlan:
    """Returns a run's initial configuration with all its changes, made and planned."""
    return RunPlan(run.history.initial_config, run.course)


class ComparisonSession:
    """Holds the comparison. Run A is the baseline for the others. An action on a run that does not exist does nothing:
    a visitor may remove it and press another of its buttons before the page is drawn again."""

    def __init__(self, plans: Sequence[RunPlan], thresholds: Thresholds, server: Server) -> None:
        self._server, self._presence = server, hosting.presence()
        self.notices = Notices()
        self._feed = Feed()
        self.layer = 0
        """The layer that the board shows, counted from 1; 0 for all."""
        made = self._launch(plans, thresholds, DEFAULT_RATE, slow_start=server.settings.slow_start)
        self.run = made or self._add(Comparison([RunPlan(RunConfig())] * 2, runs=server.runs))
        self._opened_with = self.run.id

    @classmethod
    def beside(cls, run: LiveRun, thresholds: Thresholds, server: Server) -> ComparisonSession:
        """Compares a run with a copy whose load-balancing loss is on, or off if it is on in the run."""
        base = plan_of(run)
        other = RESCUE if not base.config.aux_loss_coef else COLLAPSE
        return cls((base, base.changed([Event(0, {"aux_loss_coef": other})])), thresholds, server)

    @classmethod
    def from_query(
        cls, query: Mapping[str, str], run: LiveRun, thresholds: Thresholds, server: Server
    ) -> ComparisonSession | None:
        """Reads a comparison from a query. Invalid parts become notices. None if the query holds no comparison."""
        base, others, notices = plan_of(run), [], []
        for key in KEYS:
            if key in query:
                other, refused = run_plan_from_text(base, query[key])
                others.append(other)
                notices += [f"Run {key.upper()}: {sentence}" for sentence in refused]
        if not others:
            return None
        comparison = cls((base, *others), thresholds, server)
        comparison.notices.extend(notices)
        return comparison

    def to_query(self) -> dict[str, str]:
        """Returns how the other runs differ from A, as query parameters."""
        base, *others = self.run.plans
        return {key: events_to_text(changes_between(base, other)) for key, other in zip(KEYS, others, strict=False)}

    def begin(self, plans: Sequence[RunPlan], *, catch_up: int = 0, train: bool | None = None) -> None:
        """Starts new runs from step 0. If `train` is None, they train if the old runs were training."""
        old = self.run
        made = self._launch(plans, old.thresholds, old.rate, catch_up, slow_start=old.slow_start)
        if made is None:
            return
        self.run = made
        self._feed.restart()
        if train if train is not None else old.state == "training":
            self.run.train()
        self._server.scheduler.remove(old)

    def restart_with_change(self, which: int, step: int, name: str, value: Any) -> None:
        """Changes a knob of run `which` (1 is B) from a step on. All runs restart."""
        base, *others = self.run.plans
        if which <= len(others):
            self._change(which, [*changes_between(base, others[which - 1]), Event(step, {name: value})])

    def change_now(self, which: int | None, name: str, value: Any) -> None:
        """Changes a live knob now, in run `which` or, if that is None, in all."""
        if which is None or which < len(self.run.members):
            self._try(lambda: self.run.update(which, **{name: value}))

    def reset_difference(self, which: int, name: str) -> None:
        """Removes a knob from a run's differences from A. All runs restart."""
        base, *others = self.run.plans
        if which > len(others):
            return
        changes = [
            Event(event.step, rest)
            for event in changes_between(base, others[which - 1])
            if (rest := {knob: value for knob, value in event.changes.items() if knob != name})
        ]
        self._change(which, changes)

    def add(self) -> None:
        """Adds a copy of A."""
        plans = self.run.plans
        if len(plans) < len(NAMES):
            self.begin((*plans, plans[0]))

    def remove(self, which: int) -> None:
        """Removes a run other than A. At least two remain."""
        plans = list(self.run.plans)
        if 0 < which < len(plans) and len(plans) > 2:
            del plans[which]
            self.begin(plans)

    def branch(self, run: LiveRun, step: int, name: str, value: Any) -> None:
        """Compares a run with a copy in which a knob changes at `step`. Both first catch up to that step."""
        base = plan_of(run)
        other = self._try(lambda: base.changed([Event(step, {name: value})]))
        if other is not None:
            self.begin((base, other), catch_up=step, train=True)

    def beside_unrescued(self, run: LiveRun, step: int) -> None:
        """Compares a run, as B, with a copy that was left alone from `step` on. Both first catch up to that step."""
        rescued = plan_of(run)
        alone = RunPlan(rescued.config, tuple(event for event in rescued.events if event.step < step))
        self.begin((alone, rescued), catch_up=step, train=True)

    def resume(self, replay: Replay | None) -> None:
        """Replays the runs from before the connection was lost, unless others have been started since."""
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
        """Executes a command of the board."""
        match command:
            case {"name": "resume"}:
                self.resume(replay_from(command))
            case {"name": "resync"}:
                self._feed.restart()
            case {"name": "layer", "layer": int() as layer}:
                self.layer = int(layer)
                self._feed.restart()
            case {"name": "reset"}:
                self.begin(self.run.plans, train=False)
            case {"name": "lost", "run_id": self.run.id} if self.run.forgotten:
                self.begin(self.run.plans, train=False)
                self.notices.append("The runs were discarded after a long pause and restart from step 0.")
            case _:
                play(self.run, command)

    def next_message(self) -> str:
        """Returns the next message, for pages without the stream."""
        lectures, layer = self._server.lectures, self.layer - 1 if self.layer else None
        return self._feed.next(self.run, lambda start: encode_comparison(self.run, start, lectures, layer))

    def _launch(
        self, plans: Sequence[RunPlan], thresholds: Thresholds, rate: float, catch_up: int = 0, *, slow_start: bool
    ) -> Comparison | None:
        """Creates runs. Returns None and adds a notice if memory runs out."""
        run = or_notice_out_of_memory(
            lambda: Comparison(plans, rate=rate, catch_up=catch_up, runs=self._server.runs), self.notices
        )
        if run is None:
            return None
        run.thresholds, run.slow_start = thresholds, slow_start
        return self._add(run)

    def _add(self, run: Comparison) -> Comparison:
        run.keep_for(self._presence)
        return self._server.scheduler.add(run)

    def _change(self, which: int, changes: Sequence[Event]) -> None:
        """Makes `changes` the only differences between a run and A. All runs restart."""
        base, *others = self.run.plans
        other = self._try(lambda: base.changed(changes))
        if other is not None:
            others[which - 1] = other
            self.begin((base, *others))

    def _try(self, act: Any) -> Any:
        """Returns `act()`. An invalid value becomes a notice and returns None."""
        try:
            return act()
        except ValidationError as error:
            self.notices.extend(problems(error).values())
        except ValueError as error:
            self.notices.append(str(error))
        return None
