"""Hostile button commands: the visitor's own run stays valid, and other visitors' runs stay unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from moe_sim import RunConfig
from moe_sim.config.limits import MOST_STEPS
from moe_sim.config.settings import Settings
from moe_sim.config.thresholds import Thresholds
from moe_sim.live.background_run import RATES
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.server.server import Server
from pages.dashboard.inbox import LARGEST_NUMBER, MOST, Inbox
from pages.visitor.commands import obey
from pages.visitor.session import Session
from pages.visitor.view import LOG_AXES, TABS
from tests.support.apps import opened, session_of, settled
from tests.support.hostile import command, value

SMALL = {"num_experts": "4", "batch_tokens": "32", "expert_hidden_size": "4", "num_topics": "3"}


def fingerprint(run: LiveRun) -> tuple[Any, ...]:
    """Everything that a command could change in a paused run."""
    return (
        run.id, run.state, run.config, run.plan, run.budget, run.rate, run.thresholds, run.history.events,
        run.steps_done, run.forgotten, run.probe.step, run._single_steps,
    )  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(Settings(workers=0))
    yield server
    server.stop()


@pytest.fixture
def other(server: Server) -> LiveRun:
    """Another visitor's run, paused at step 3, for a lecture to show."""
    run = server.scheduler.add(LiveRun(RunConfig(num_experts=4, batch_tokens=32)))
    run.advance_by(3)
    return run


def runs_of(session: Session) -> tuple[LiveRun | Comparison, ...]:
    return session.run, session.comparison().run


def test_two_thousand_hostile_commands_leave_valid_runs_and_no_trace_in_anybody_elses(
    server: Server, other: LiveRun
) -> None:
    random = np.random.default_rng(0)
    session = session_of(opened(server=server, **SMALL))
    before = fingerprint(other)
    for number in range(2_000):
        one = command(random, (other.id, session.run.id, session.comparison().run.id, ""))
        one = one if isinstance(one, dict) else {"name": one}
        session.comparison().command(one) if number % 4 == 0 else obey(session, one)
        for run in runs_of(session):
            assert run.rate in RATES
            assert type(run.rate) is float
            assert run.budget <= MOST_STEPS + 1_000
        if number % 100 == 0:  # otherwise they train all the time
            for run in runs_of(session):
                run.pause()
    assert session.view.tab in TABS
    assert set(session.view.log) <= set(LOG_AXES)
    assert not list(session.notices)
    assert fingerprint(other) == before
    for run in runs_of(session):
        server.scheduler.remove(run)


def test_two_thousand_hostile_deliveries_yield_few_commands_and_none_twice() -> None:
    random = np.random.default_rng(1)
    inbox, taken, board = Inbox("s"), 0, "a"
    for _ in range(2_000):
        board = str(random.choice(["a", "b", "", board, "x" * 50]))
        count = 30 if random.random() < 0.03 else random.integers(5)
        delivery: Any = {"board": board, "session": "s", "commands": [command(random, ("x",)) for _ in range(count)]}
        if random.random() < 0.3:
            delivery = value(random) if random.random() < 0.5 else delivery | {"commands": value(random)}
        fresh = inbox.fresh(delivery)
        assert len(fresh) <= MOST
        numbers = [one["number"] for one in fresh]
        assert numbers == sorted(set(numbers))
        assert inbox.fresh(delivery) == [] or len(fresh) == MOST
        obeyed = json.loads(json.dumps(inbox.obeyed))
        assert type(obeyed["last"]) is int
        assert 0 <= obeyed["last"] < LARGEST_NUMBER
        assert len(obeyed["board"]) <= 40
        taken += len(fresh)
    assert taken > 500, "hardly any command was valid"


def test_a_run_cannot_be_extended_beyond_what_can_be_saved() -> None:
    session = session_of(opened(**SMALL))
    session.run.budget = MOST_STEPS - 500
    for _ in range(5):
        obey(session, {"name": "extend"})
    assert session.run.budget == MOST_STEPS + 500


def watching(server: Server, other: LiveRun) -> tuple[AppTest, Session]:
    """A visitor who follows a lecture on this run."""
    app = opened(server=server, follow=server.lectures.begin(other))
    assert session_of(app).run is other
    return app, session_of(app)


def test_nothing_that_a_viewer_of_a_lecture_does_changes_its_run(server: Server, other: LiveRun) -> None:
    app, session = watching(server, other)
    before, random = fingerprint(other), np.random.default_rng(2)
    for _ in range(500):
        one = command(random, (other.id,))
        obey(session, one if isinstance(one, dict) else {"name": one})
    for act in (
        lambda: session.change(aux_loss_coef=1.0), lambda: session.change(seed=7), session.new_seed,
        lambda: session.move_threshold(collapse_share=0.9), session.begin_lecture,
    ):  # fmt: skip
        act()
        assert session.run is other
        assert fingerprint(other) == before
    assert session.thresholds == Thresholds(collapse_share=0.9)
    settled(app)
    assert fingerprint(other) == before


def test_a_viewer_who_leaves_a_lecture_loses_all_access_to_its_run(
    server: Server, other: LiveRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.visitor.address.LAG", 0.0)
    before = fingerprint(other)
    for leave in (
        lambda session: session.branch_off(), lambda session: session.choose_preset("too-late"),
        lambda session: session.restart(session.run.start_config), lambda session: session.show(session.run.branch),
    ):  # fmt: skip
        _, session = watching(server, other)
        leave(session)
        assert session.run is not other
        session.run.update(aux_loss_coef=1.0)
        assert fingerprint(other) == before
        assert server.scheduler.get(other.id) is other
    app, session = watching(server, other)
    app.query_params["seed"] = "7"
    del app.query_params["follow"]
    settled(app)
    assert session.run is not other
    assert fingerprint(other) == before


def test_the_id_of_another_run_in_a_link_opens_nothing(server: Server, other: LiveRun) -> None:
    before = fingerprint(other)
    session = session_of(
        opened(server=server, **dict.fromkeys(("follow", "b", "c", "d", "events", "run_id", "run", "id"), other.id))
    )
    assert other not in (session.run, *session.comparison().run.members)
    assert fingerprint(other) == before


def test_ids_have_128_random_bits(server: Server, other: LiveRun) -> None:
    ids = [LiveRun(RunConfig(num_experts=2, batch_tokens=32)).id for _ in range(20)]
    ids += [server.lectures.begin(other) for _ in range(20)]
    assert all(len(one) >= 22 for one in ids)  # 6 bits per character
    assert len({one[:6] for one in ids}) == len(ids)
    assert server.lectures.get(other.id) is None
    assert server.scheduler.get(server.lectures.begin(other)) is None
