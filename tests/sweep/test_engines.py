"""Real worker processes and a real Dask scheduler: the same rows, and none lost when workers die."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import dask
import psutil
import pytest
from distributed import Client, LocalCluster, utils

from moe_sim.config.errors import MissingPackage
from moe_sim.sweep import dask_engine
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engine import Engine, EngineError
from moe_sim.sweep.engines import default_engine, engine_named
from moe_sim.sweep.forked_engine import Forked
from moe_sim.sweep.grid import Cell
from moe_sim.sweep.loky_engine import NICENESS
from moe_sim.sweep.worker import Row
from tests.support.inspecting import eventually
from tests.support.sweeping import (
    PATIENCE,
    POISON_SEED,
    first_two_short,
    forked_workers,
    in_background,
    loky_workers,
    plain,
    poisoned,
    small_grid,
)

TWO_HUNDRED = small_grid(seeds=10, steps=2, aux_loss_coef=(0.0, 0.01, 0.1, 1.0), num_experts=(2, 3, 4, 8, 16)).cells()
SOME = small_grid(seeds=12, steps=40).cells()
QUIET = 0.2
"""Share of a core below which a process is not training."""


@contextmanager
def as_main(module: ModuleType) -> Iterator[None]:
    """Replace the main module, which spawned workers run again: after page tests it is a page's script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", module)
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A scheduler with two worker processes. It does not retry a run whose worker died."""
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        # A local cluster gives up a worker that it sees missing some time after its death, also if it has come back and
        # died again. On a loaded machine, that is while the next test uses it.
        "distributed.deploy.lost-worker-timeout": "1 hour",
        "distributed.logging.distributed": "critical",
    }
    with (
        as_main(ModuleType("__main__")),
        dask.config.set(settings),
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def address(cluster: LocalCluster) -> str:
    """The cluster's address."""
    return cluster.scheduler_address


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Callable[..., Engine]:
    """Makes the engine that the name of a test ends with, for a number of workers; the cluster has two."""

    def forked(workers: int = 2) -> Engine:
        return Forked(request.getfixturevalue("nursery"), workers)

    def loky(workers: int = 2) -> Engine:
        return engine_named("loky", workers)

    def dask(workers: int = 2) -> Engine:
        return engine_named("dask", None, request.getfixturevalue("address"))

    return {"forked": forked, "loky": loky, "dask": dask}[request.node.callspec.id]


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Callable[[], list[psutil.Process]]:
    """Finds the worker processes of that engine."""
    finders = {"forked": forked_workers, "loky": loky_workers}
    return finders.get(request.node.callspec.id, lambda: dask_workers(request.getfixturevalue("cluster")))


@cache
def serial_rows(cells: tuple[Cell, ...]) -> list[str]:
    """The rows of the runs, computed one after another."""
    return plain(Sweep(cells, engine_named("serial")).run())


def dask_workers(cluster: LocalCluster) -> list[psutil.Process]:
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)  # one may have been killed a moment ago
        return [psutil.Process(pid) for pid in client.run(os.getpid).values()]


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds that a process has used so far; on a loaded machine they grow slowly."""
    times = process.cpu_times()
    return times.user + times.system


def is_busy(process: psutil.Process) -> bool:
    try:
        return process.cpu_percent(interval=0.3) > 100 * QUIET
    except psutil.NoSuchProcess:
        return False


each_engine = pytest.mark.parametrize("name", ["forked", "loky", "dask"])
"""For tests with `make` or `workers`."""


@each_engine
def test_two_hundred_runs_are_each_computed_once_and_equal_row_for_row(name: str, make: Callable[..., Engine]) -> None:
    delivered: list[Row] = []
    sweep = Sweep(TWO_HUNDRED, make())
    rows = sweep.run(delivered.append)
    assert len(TWO_HUNDRED) == 200
    assert plain(rows) == serial_rows(TWO_HUNDRED)
    assert sorted(plain(delivered)) == sorted(plain(rows))
    assert eventually(lambda: not loky_workers() and not forked_workers(), 20)


# One process where that can be set, since each takes a second or two to start. A second run is in flight all the same
# and dies with it.
@each_engine
def test_killing_a_worker_during_a_sweep_loses_nothing(
    name: str, make: Callable[..., Engine], workers: Callable[[], list[psutil.Process]]
) -> None:
    killed: list[int] = []

    def kill_one(row: Row) -> None:
        if not killed:
            victim = workers()[0]
            killed.append(victim.pid)
            os.kill(victim.pid, signal.SIGKILL)

    rows = Sweep(SOME, make(1)).run(kill_one)
    assert killed
    assert plain(rows) == serial_rows(SOME)


@each_engine
def test_only_the_run_that_crashes_its_worker_is_reported(name: str, make: Callable[..., Engine]) -> None:
    delivered: list[Row] = []
    rows = Sweep(SOME, make(1), work=poisoned).run(delivered.append)
    [failed] = [row for row in rows if row["status"] == "failed"]
    assert (failed["seed"], failed["error"]) == (POISON_SEED, "the run crashed its worker process")
    assert len(delivered) == len(SOME)
    others = [text for text, cell in zip(serial_rows(SOME), SOME, strict=True) if cell.config.seed != POISON_SEED]
    assert plain(row for row in rows if row["seed"] != POISON_SEED) == others


@each_engine
def test_no_worker_is_busy_two_seconds_after_cancelling(
    name: str, make: Callable[..., Engine], workers: Callable[[], list[psutil.Process]]
) -> None:
    sweep = Sweep(first_two_short(), make())
    with in_background(sweep):
        assert eventually(lambda: sweep.done == 2, PATIENCE)  # before that, loky workers are busy importing
        both = workers()
        assert len(both) == 2
        before = {worker: cpu_seconds(worker) for worker in both}
        assert eventually(lambda: all(cpu_seconds(worker) - before[worker] > 0.5 for worker in both), PATIENCE)
        sweep.cancel()
        assert eventually(lambda: not any(is_busy(worker) for worker in both), 2)
    assert sweep.state == "cancelled"
    assert sweep.done <= 2


def test_workers_have_low_priority_and_leave_interrupts_to_the_driver() -> None:
    nice: list[int] = []

    def interrupt(row: Row) -> None:
        for worker in loky_workers():
            nice.append(worker.nice())
            worker.send_signal(signal.SIGINT)

    rows = Sweep(SOME, engine_named("loky", 1)).run(interrupt)
    assert {row["status"] for row in rows} == {"done"}
    assert min(nice) >= min(psutil.Process().nice() + NICENESS, 19)


def test_the_default_engine_is_dask_if_the_operator_set_a_scheduler() -> None:
    assert default_engine(None).name == "loky"
    assert default_engine("tcp://127.0.0.1:8786").name == "dask"


@pytest.mark.parametrize(
    ("name", "workers", "words"),
    [
        ("dask", None, "MOE_SIM_DASK"),
        ("ray", None, "choose from serial, loky, dask"),
        ("serial", 2, "Only the engine loky"),
    ],
)
def test_an_invalid_engine_gets_a_sentence(name: str, workers: int | None, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        engine_named(name, workers)


def test_a_scheduler_that_does_not_answer_gets_a_sentence_without_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_sim.sweep.dask_engine.TIMEOUT", 0.2)

    def event_loops() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "IO loop"}

    before = event_loops()  # of the cluster that this module shares, which may start other threads at any time
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(EngineError) as error:
            Sweep(SOME, engine_named("dask", dask=address)).run()
        assert str(error.value) == "No Dask scheduler answers at the address in MOE_SIM_DASK."
        assert event_loops() <= before, "a thread is left"


def test_a_client_that_is_collected_while_another_one_starts_does_not_stop_it(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    factory = utils.get_loop_factory
    gc.disable()  # until the thread of the second client's event loop begins
    try:
        with pytest.raises(EngineError):
            engine_named("dask", dask="nonsense://x").open(lambda: False)
        monkeypatch.setattr(utils, "get_loop_factory", lambda: (gc.collect(), factory())[1])
        engine_named("dask", dask=address).open(lambda: False).close()
    finally:
        gc.enable()


def test_a_cluster_without_workers_gets_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moe_sim.sweep.dask_engine.TIMEOUT", 3)
    with (
        LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=":0", silence_logs=50) as empty,
        pytest.raises(EngineError, match="no workers"),
    ):
        Sweep(SOME, engine_named("dask", dask=empty.scheduler_address)).run()


@pytest.mark.parametrize("moment", ["_check_scheduler", "_check_workers", "a row"])
def test_a_cluster_that_goes_away_gets_a_sentence_without_its_address(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_sim.sweep.dask_engine.TIMEOUT", 1)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s", "distributed.logging.distributed": "critical"}),
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, host="127.0.0.1", protocol="tcp",
            dashboard_address=":0", silence_logs=50,
        ) as cluster,
    ):  # fmt: skip

        def go_away(*_: object) -> None:
            cluster.close()

        connect, clients = dask_engine._connect, []
        monkeypatch.setattr(dask_engine, "_connect", lambda to: clients.append(connect(to)) or clients[-1])
        if moment != "a row":
            check = getattr(dask_engine, moment)
            monkeypatch.setattr(dask_engine, moment, lambda client: (go_away(), check(client)))
        sweep = Sweep(SOME, engine_named("dask", dask=cluster.scheduler_address))
        with pytest.raises(EngineError) as error:
            sweep.run(go_away)
    assert "Dask" in str(error.value)
    assert "://" not in str(error.value)
    assert sweep.state == "cancelled"
    assert not any(client._loop_runner.is_started() for client in clients), "a thread is left"


@pytest.mark.parametrize(
    ("name", "here"), [("torch.__version__", "moe_sim .* with torch 0"), ("__version__", "moe_sim 0 with torch .*")]
)
def test_another_version_on_the_workers_gets_a_sentence(
    name: str, here: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"moe_sim.sweep.dask_engine.{name}", "0")
    with pytest.raises(EngineError, match=rf"workers have moe_sim .* with torch .*; this machine has {here}\.$"):
        Sweep(SOME, engine_named("dask", dask=address)).run()


def test_without_distributed_a_sentence_says_how_to_install_it(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingPackage, match=r"pip install \"expert-collapse-lab\[dask\]\""):
        Sweep(SOME, engine_named("dask", dask=address)).run()
