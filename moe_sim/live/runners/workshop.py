"""Takes the steps of runs that this process computes, of several of one shape together."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

from moe_sim.config.limits import MOST_STEPS
from moe_sim.live.runners.computation import Computation
from moe_sim.live.runners.runner import Progress, unwrapped
from moe_sim.trainer.together import Together, most_together, shape_of, stepping

MOST_SHARES = 4
"""Runs that are computed together have the time of as many turns: of all of theirs, up to this many."""


class Company:
    """Runs that are computed together, turn after turn. Stacking them takes as long as half a step, so they stay
    stacked until one of them is wanted alone or in other company."""

    def __init__(self, runners: Sequence[Computation]) -> None:
        self.runners = tuple(runners)
        self.together = Together([runner.trainer for runner in runners])
        for runner in runners:
            runner.company = self

    def part(self) -> None:
        """Brings all trainers up to date; each run is alone again."""
        self.together.release()
        for runner in self.runners:
            runner.company = None


@dataclass
class Turn:
    """A request to advance a run; see `Runner.advance`."""

    runner: Computation
    steps: int
    seconds: float
    keep: bool
    end: float = math.inf
    """When it ends, once it has begun."""
    until_change: int = MOST_STEPS
    """Steps until the next planned change."""
    alone: bool = False
    """Whether it is computed alone, because one of its company failed."""

    @property
    def is_open(self) -> bool:
        """Whether another step may begin."""
        runner = self.runner
        return self.steps > 0 and runner.error is None and not runner.diverged and time.monotonic() < self.end


class Workshop:
    """Advances runs, those of one shape together.

    Args:
        kept: how many companies stay stacked between turns, those that were computed last.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._companies: list[Company] = []

    def take_turns(self, turns: Sequence[Turn]) -> list[Progress | Exception]:
        """Advances several runs.

        Returns:
            The progress of each, or the error that had ended it in an earlier turn.
        """
        failed = {id(turn): turn.runner.error for turn in turns}
        waiting = [turn for turn in turns if turn.is_open]
        while waiting:
            group = _next_group(waiting)
            try:
                self._advance(group)
            except Exception as error:
                if len(group) == 1:
                    group[0].runner.error = error
                for turn in group:
                    turn.alone = True
            waiting = [turn for turn in waiting if turn.is_open]
        self._part_surplus()
        return [failed[id(turn)] or turn.runner.progress() for turn in turns]

    def _part_surplus(self) -> None:
        """Parts all companies but the last ones."""
        together = [company for company in self._companies if company.runners[0].company is company]
        surplus = max(0, len(together) - self._kept)
        for company in together[:surplus]:
            company.part()
        self._companies = together[surplus:]

    def _company_of(self, runners: list[Computation]) -> Company:
        company = runners[0].company
        if company is None or {*company.runners} != {*runners}:
            company = Company(runners)
        self._companies = [one for one in self._companies if one is not company] + [company]
        return company

    def _advance(self, group: list[Turn]) -> None:
        """Takes steps until one of the runs has all of its own, has a planned change, or is out of time."""
        now, shares = time.monotonic(), min(len(group), MOST_SHARES)
        for turn in group:
            turn.end = min(turn.end, now + turn.seconds * shares)
        steps = min(min(turn.steps, turn.until_change) for turn in group)
        company = self._company_of([turn.runner for turn in group])
        turns = {id(turn.runner._trainer): turn for turn in group}
        try:
            with closing(self._stepping(company, steps)) as taken:
                for together in taken:
                    for index, trainer in enumerate(together.trainers):
                        turn = turns[id(trainer)]
                        turn.steps -= 1
                        if turn.runner.look_is_due():
                            together.settle(index)
                            turn.runner.look_after_step(turn.keep)
                    if time.monotonic() >= group[0].end:
                        break
        except Exception:
            company.part()
            raise

    def _stepping(self, company: Company, steps: int) -> Generator[Together]:
        """Takes steps and yields who took them. If all cannot take the next one together, their company ends there."""
        while steps and company.together.step():
            steps -= 1
            yield company.together
        if steps:
            company.part()
            with closing(stepping(company.together.trainers, 1)) as taken:
                yield from taken


class LocalRunner(Computation):
    """A runner in this process."""

    worker = 0

    def advance(self, steps: int, seconds: float, *, keep: bool) -> Progress:
        [result] = take_turns([Turn(self, steps, seconds, keep)])
        return unwrapped(result)


def take_turns(turns: Sequence[Turn]) -> list[Progress | Exception]:
    """Takes turns as a workshop does that keeps nothing stacked."""
    return Workshop(0).take_turns(turns)


def _next_group(waiting: list[Turn]) -> list[Turn]:
    """The first run and others of its shape."""
    for turn in waiting:
        turn.until_change = turn.runner.follow_plan()
    if waiting[0].alone:
        return waiting[:1]
    first = waiting[0].runner.config
    alike = [turn for turn in waiting if shape_of(turn.runner.config) == shape_of(first) and not turn.alone]
    return alike[: most_together(first)]
