"""Replay after a server restart: what the browser kept restores the run, and accepts nothing else."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given

from moe_sim import KNOBS, Event, RunConfig
from moe_sim.config.run_plan import RunPlan
from moe_sim.config.settings import Settings
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.live_run import LiveRun
from moe_sim.server.server import Server
from pages.visitor.commands import obey
from pages.visitor.comparison import ComparisonSession, plan_of
from pages.visitor.replay import MOST_CHANGES, MOST_STEPS, replay_from, to_keep
from tests.support.apps import opened, session_of
from tests.support.comparing import advance as advance_both
from tests.support.comparing import side_by_side
from tests.support.inspecting import small_config
from tests.support.strategies import plans


def advance(run: BackgroundRun, stop: int) -> None:
    """Train up to a step as the scheduler does; the shared scheduler may train it at the same time."""
    while run.steps_done < stop:
        run.touch()
        run.advance()


def resume_command(run: BackgroundRun, kept: Any, **changes: Any) -> dict[str, Any]:
    """The command of a browser that watched a run, as the server receives it."""
    command = {
        "name": "resume", "number": 1, "runs": kept, "steps": run.steps_done, "budget": run.budget,
        "rate": run.rate, "training": run.state == "training",
    }  # fmt: skip
    return json.loads(json.dumps(command | changes))


@pytest.fixture
def original() -> LiveRun:
    """A run that was changed by hand and by plan; one more change is still planned."""
    run = LiveRun(small_config(seed=3), (Event(12, {"z_loss_coef": 0.1}), Event(500, {"top_k": 2})))
    run.train()
    advance(run, 5)
    run.update(aux_loss_coef=0.1)
    advance(run, 15)
    run.update(learning_rate=0.01)
    run.budget = 700
    run.set_rate(15.0)
    return run


def same(one: LiveRun, other: LiveRun) -> bool:
    """Whether the first run did everything that the other has done so far; it may have done more."""
    frame = other.history.to_frame()
    return one.history.to_frame()[: len(frame)].equals(frame) and one.history.events == other.history.events


def test_what_a_browser_kept_restores_the_run_to_the_last_digit_and_it_continues(original: LiveRun) -> None:
    session = session_of(opened())
    obey(session, resume_command(original, to_keep([plan_of(original)])))
    run = session.run
    assert run.catching_up
    advance(run, original.steps_done)
    assert same(run, original)
    assert (run.state, run.budget, run.rate) == ("training", 700, 15.0)
    assert run.course == original.course
    for one in (original, run):
        advance(one, 35)
    assert same(run, original)


def test_sliders_that_the_browser_reports_as_they_were_do_not_change_the_replayed_run(original: LiveRun) -> None:
    session = session_of(opened())
    session.change(aux_loss_coef=0.1)  # reported before the replay is requested: its run is replaced
    obey(session, resume_command(original, to_keep([plan_of(original)])))
    advance(session.run, 3)
    session.change(aux_loss_coef=0.1)
    advance(session.run, original.steps_done)
    assert same(session.run, original)
    session.change(aux_loss_coef=0.3)  # from here on, a change is a change
    assert session.run.config.aux_loss_coef == 0.3


def test_a_paused_run_waits_at_its_step(original: LiveRun) -> None:
    original.pause()
    session = session_of(opened())
    obey(session, resume_command(original, to_keep([plan_of(original)])))
    advance(session.run, original.steps_done)
    assert session.run.state == "paused"
    assert not session.run.wants_step


def test_all_runs_of_a_comparison_are_restored() -> None:
    before = advance_both(side_by_side({0: {"top_k": 2}}, {4: {"aux_loss_coef": 0.1}}), 12)
    before.update(1, z_loss_coef=0.5)
    before.set_rate(30.0)
    comparison = ComparisonSession((before.plans[0], before.plans[0]), before.thresholds, Server(Settings(workers=0)))
    comparison.command(resume_command(before, to_keep(before.plans)))
    advance(comparison.run, 12)
    assert [same(one, other) for one, other in zip(comparison.run.members, before.members, strict=True)] == [True] * 3
    assert (comparison.run.state, comparison.run.budget, comparison.run.rate) == ("paused", before.budget, 30.0)
    assert not list(comparison.notices)


def test_a_session_with_a_new_run_of_its_own_is_left_alone(original: LiveRun) -> None:
    session = session_of(opened())
    session.restart(RunConfig(seed=8))
    run = session.run
    obey(session, resume_command(original, to_keep([plan_of(original)])))
    assert session.run is run


def test_a_viewer_of_a_lecture_keeps_watching_it(original: LiveRun) -> None:
    session = session_of(opened())
    session.following = "a lecture"
    run = session.run
    obey(session, resume_command(original, to_keep([plan_of(original)])))
    assert session.run is run


BAD: list[dict[str, Any]] = [
    {"steps": -1}, {"steps": 2_001}, {"steps": 1.5}, {"steps": None}, {"budget": MOST_STEPS + 1}, {"budget": "2000"},
    {"rate": 59.0}, {"rate": "fast"}, {"training": 1}, {"runs": []}, {"runs": None}, {"runs": [{}]}, {"runs": ["x"]},
    {"runs": [{"config": {"seed": "x"}, "events": ""}]}, {"runs": [{"config": {"seed": 1}, "events": ""}]},
    {"runs": [{"config": {"top_k": "9"}, "events": ""}]}, {"runs": [{"config": {}, "events": "1:seed=3"}]},
    {"runs": [{"config": {}, "events": "1:aux_loss_coef=nan"}]}, {"runs": [{"config": {}, "events": None}]},
    {"runs": [{"config": {}, "events": ";".join(["1:aux_loss_coef=1"] * (MOST_CHANGES + 1))}]},
    {"runs": [{"config": {}, "events": ""}] * 5},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: json.dumps(bad)[:60])
def test_an_invalid_command_gets_a_sentence_and_the_run_stays(bad: dict[str, Any]) -> None:
    good = {"runs": [{"config": {}, "events": ""}], "steps": 5, "budget": 2_000, "rate": 60, "training": True}
    assert replay_from(good) is not None
    session = session_of(opened())
    run = session.run
    obey(session, {"name": "resume"} | good | bad)
    assert session.run is run
    (notice,) = session.notices
    assert "cannot be computed again" in notice


def test_a_run_cannot_be_restored_as_a_comparison_nor_a_comparison_as_a_run() -> None:
    run = {"config": {}, "events": ""}
    good = {"name": "resume", "steps": 0, "budget": 2_000, "rate": 60, "training": False}
    session = session_of(opened())
    before = session.run, session.comparison().run
    obey(session, good | {"runs": [run, run]})
    session.comparison().command(good | {"runs": [run]})
    assert (session.run, session.comparison().run) == before
    assert [len(list(notices)) for notices in (session.notices, session.comparison().notices)] == [1, 1]


@given(plans())
def test_every_plan_is_kept_without_loss(plan: RunPlan) -> None:
    assert_kept(plan)


def test_a_run_with_more_changes_than_fit_in_a_link_is_kept() -> None:
    assert_kept(RunPlan(RunConfig(), tuple(Event(step, {"aux_loss_coef": step / 100}) for step in range(1, 601))))


def assert_kept(plan: RunPlan) -> None:
    command = {"runs": to_keep([plan]), "steps": 0, "budget": 0, "rate": 0, "training": False}
    replay = replay_from(json.loads(json.dumps(command)))
    assert replay is not None
    assert math.isinf(replay.rate)
    assert replay.plans[0].config == plan.config
    assert all(replay.plans[0].course(name) == plan.course(name) for name in KNOBS)
