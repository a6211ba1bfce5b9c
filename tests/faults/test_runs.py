"""Faults inside a run or its clock: the run ends with a sentence, the others continue, and nothing leaks."""

from __future__ import annotations

import ast
import gc
import json
import math
import time
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from moe_sim import History, RunConfig
from moe_sim.live import background_run
from moe_sim.live import scheduler as scheduler_module
from moe_sim.live.live_run import LiveRun
from moe_sim.live.runners import computation
from moe_sim.live.scheduler import FORGET_AFTER, Scheduler
from moe_sim.server.messages import encode
from moe_sim.trainer.together import Together
from moe_sim.trainer.trainer import Trainer
from pages.visitor.memory import NO_MEMORY
from tests.support.apps import opened, run_of, session_of, settled, turned_to, widget
from tests.support.inspecting import eventually, small_config, trainer_of
from tests.test_architecture import SHIPPED, called_names

HOUR = 3600.0


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    scheduler.stop()


# Inside a step


def allocate_too_much() -> None:
    """Fail as torch does when out of memory."""
    torch.empty(1 << 62, dtype=torch.uint8)


def run_out() -> None:
    raise MemoryError


def divide_by_zero() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("fault", [allocate_too_much, run_out, divide_by_zero])
def test_a_fault_in_a_step_ends_that_run_with_a_sentence_and_the_others_continue(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None]
) -> None:
    scheduler.start()
    broken, sound = (scheduler.add(LiveRun(small_config(seed=seed), rate=math.inf)) for seed in (1, 2))
    compute = Together._compute

    def faulty(self: Together):  # type: ignore[no-untyped-def]
        if any(trainer.config.seed == 1 and trainer.steps_done == 5 for trainer in self.trainers):
            fault()
        return compute(self)

    monkeypatch.setattr(Together, "_compute", faulty)
    for run in (broken, sound):
        run.touch()
        run.train()
    assert eventually(lambda: broken.state == "failed" and len(sound.history) > 20)
    message = json.loads(encode(broken, 0)[1])
    assert (message["state"], message["to"], message["diagnosis"]["state"]) == ("failed", 5, "Stopped")
    assert "after step 5" in message["diagnosis"]["evidence"]


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("where", ["chain.0.moe.router.weight", "chain.0.moe.experts"])
def test_a_non_finite_weight_ends_the_run_as_diverged_with_only_finite_records(
    scheduler: Scheduler, poison: float, where: str
) -> None:
    run = scheduler.add(LiveRun(small_config()))
    scheduler.start()
    run.set_rate(math.inf)
    run.advance_by(5)
    with torch.no_grad():
        for name, weights in trainer_of(run).network.named_parameters():
            if name.startswith(where):
                weights.fill_(poison)
    run.touch()
    run.train()
    assert eventually(lambda: run.state in ("diverged", "failed"))
    assert run.state == "diverged"
    frame = run.history.to_frame()
    assert len(frame) == 5
    assert frame[["task_loss", "balance_loss", "load_0", "grad_norm_0"]].map(math.isfinite).all(axis=None)
    assert json.loads(encode(run, 0)[1])["diagnosis"]["state"] == "Diverged"


# Out of memory while a run is created


@pytest.fixture
def short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run of more than 8 experts can be created."""

    class Limited(Trainer):
        def __init__(self, config: RunConfig, history: History | None = None) -> None:
            if config.num_experts > 8:
                allocate_too_much()
            super().__init__(config, history)

    monkeypatch.setattr(computation, "Trainer", Limited)


@pytest.mark.usefixtures("short_of_memory")
def test_without_memory_for_a_new_run_the_current_one_stays_with_a_sentence() -> None:
    app = opened()
    run = run_of(app)
    widget(app, "num_experts").set_value(16)
    settled(app)
    assert run_of(app) is run
    assert NO_MEMORY in [notice.value for notice in app.warning]
    assert widget(app, "num_experts").value == 8


@pytest.mark.usefixtures("short_of_memory")
def test_without_memory_for_a_linked_run_the_default_opens_with_a_sentence() -> None:
    app = opened(num_experts="64", b="0:aux_loss_coef=1")
    assert NO_MEMORY in [notice.value for notice in app.warning]
    assert run_of(app).config == RunConfig()


@pytest.mark.usefixtures("short_of_memory")
def test_without_memory_for_a_new_comparison_the_current_one_stays_with_a_sentence() -> None:
    app = turned_to(opened(), "compare")
    comparison = session_of(app).comparison()
    run = comparison.run
    comparison.restart_with_change(1, 0, "num_experts", 16)
    assert comparison.run is run
    settled(app)
    assert NO_MEMORY in [notice.value for notice in app.warning]


def test_another_error_while_a_run_is_created_is_not_reported_as_out_of_memory() -> None:
    def fail() -> LiveRun:
        raise RuntimeError("a bug")

    session = session_of(opened())
    with pytest.raises(RuntimeError, match="a bug"):
        session.show(fail)


# The clock


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_no_code_reads_the_wall_clock(file) -> None:
    calls = called_names(file)
    assert not calls & {"time.time", "datetime.now", "datetime.datetime.now", "datetime.utcnow", "datetime.today"}
    imported = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    assert not any(node.module == "time" for node in imported), "call time.monotonic() by its full name"


class Clock:
    """A monotonic clock that can jump, in place of the time module."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (scheduler_module, background_run):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(scheduler_module, "IDLE_SWEEP_INTERVAL", 0.05)
    return clock


def test_after_a_clock_jump_a_run_keeps_its_rate_and_is_not_discarded(scheduler: Scheduler, clock: Clock) -> None:
    scheduler.start()
    streamed, fed = (scheduler.add(LiveRun(small_config(), rate=15.0)) for _ in range(2))
    with streamed.lease():
        streamed.train()
        fed.touch()
        assert eventually(lambda: len(streamed.history) >= 5)
        before = len(streamed.history)
        clock.ahead += HOUR
        jumped = time.monotonic()
        assert eventually(lambda: len(streamed.history) >= before + 20)
        # A late run catches up by one turn: three steps may come at once, all others 1/15 s apart.
        assert time.monotonic() - jumped > 17 / 15 - 0.01, "it caught up for the hour"
        assert scheduler.get(streamed.id) is streamed
        assert scheduler.get(fed.id) is fed, "its page was asleep as well, and comes back"


def test_time_while_the_machine_is_awake_still_counts_as_idle(scheduler: Scheduler, clock: Clock) -> None:
    idle = scheduler.add(LiveRun(small_config()))
    idle.last_watched -= FORGET_AFTER
    scheduler.start()
    clock.ahead += 0.06
    assert eventually(lambda: scheduler.get(idle.id) is None)
    assert idle.forgotten


# Memory released


def test_a_run_without_references_is_freed(scheduler: Scheduler) -> None:
    run = scheduler.add(LiveRun(small_config()))
    run_id, held = run.id, weakref.ref(run)
    assert scheduler.get(run_id) is run
    del run
    gc.collect()
    assert held() is None
    assert scheduler.get(run_id) is None


def test_the_runs_of_an_ended_session_are_freed() -> None:
    app = turned_to(opened(), "compare")
    session = session_of(app)
    gone = [weakref.ref(one) for one in (session, session.run, session.comparison().run)]
    del app, session
    opened()  # Streamlit keeps the objects of the last script run
    gc.collect()
    assert [one() for one in gone] == [None] * 3
