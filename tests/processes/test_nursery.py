"""Children of a nursery compute what this process would, share its memory, and end when they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from moe_sim import RunConfig, Trainer
from moe_sim.processes import nursery as module
from moe_sim.processes.calls import Caller, ProcessEnded
from moe_sim.processes.nursery import Nursery, close_pipes
from tests.support.commands import running
from tests.support.inspecting import eventually, small_config

SHARED = 100 << 20
"""Bytes of torch that a child shares with the nursery, at least. Measured: 143 MB shared, 12 MB of its own."""


@pytest.fixture
def caller(nursery: Nursery) -> Iterator[Caller]:
    caller = Caller(nursery, "moe-test", 0)
    yield caller
    caller.stop()
    caller.close()


def losses(config: RunConfig, steps: int) -> list[float]:
    return Trainer(config).run(steps).column("task_loss").tolist()


def memory() -> tuple[int, int]:
    """Bytes of this process that are its own, and all that it uses."""
    info = psutil.Process().memory_full_info()
    return info.uss, info.rss


def priority() -> int:
    return psutil.Process().nice()


def fail() -> None:
    raise ZeroDivisionError("on purpose")


def exit_at_once() -> None:
    os._exit(3)


def test_a_child_computes_the_same_numbers_to_the_last_digit(caller: Caller) -> None:
    for config in (small_config(), small_config(task="text")):
        assert caller.call(losses, config, 10) == losses(config, 10)


def test_a_child_starts_at_once_and_shares_the_memory_of_torch(nursery: Nursery, caller: Caller) -> None:
    caller.call(losses, small_config(), 2)
    took = []
    for _ in range(5):
        another = Caller(nursery, "moe-test", 7)
        nice = another.call(priority)
        took.append(another.call(time.process_time))
        own, whole = another.call(memory)
        another.close()
        assert nice >= min(psutil.Process().nice() + 7, 19)
        assert whole - own > SHARED
    assert min(took) < 0.5, "to load torch takes two seconds of computing or more"


def test_an_error_reaches_the_caller_and_the_child_goes_on(caller: Caller) -> None:
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        caller.call(fail)
    assert caller.call(os.getppid) != os.getpid()


def test_a_child_that_ends_during_a_call_is_reported_and_others_go_on(nursery: Nursery, caller: Caller) -> None:
    other = Caller(nursery, "moe-test", 0)
    with pytest.raises(ProcessEnded):
        other.call(exit_at_once)
    with pytest.raises(ProcessEnded):
        other.call(os.getpid)
    other.close()
    assert caller.call(os.getpid) > 0


def test_stopping_ends_a_child_during_a_call(caller: Caller) -> None:
    pid = caller.call(os.getpid)
    with ThreadPoolExecutor(1) as threads:
        endless = threads.submit(caller.call, losses, small_config(), 10**9)
        caller.stop()
        with pytest.raises(ProcessEnded):
            endless.result(10)
    assert eventually(lambda: not psutil.pid_exists(pid))


def test_closing_the_pipes_ends_a_child(nursery: Nursery) -> None:
    caller = Caller(nursery, "moe-test", 0)
    pid = caller.call(os.getpid)
    caller.close()
    assert eventually(lambda: not psutil.pid_exists(pid))


def test_the_exit_code_of_a_child_is_known(nursery: Nursery) -> None:
    child = nursery.start("tests.processes.test_nursery:exit_at_once", "moe-test", 0)
    assert eventually(lambda: child.poll() == 3)
    assert child.pid
    close_pipes(child)


def test_a_nursery_that_is_killed_starts_again() -> None:
    nursery = Nursery()
    caller = Caller(nursery, "moe-test", 0)
    lost = caller.call(os.getppid)
    os.kill(lost, signal.SIGKILL)
    assert eventually(lambda: not psutil.pid_exists(lost) or psutil.Process(lost).status() == "zombie")
    caller.close()
    another = Caller(nursery, "moe-test", 0)
    assert another.call(os.getppid) != lost
    another.close()
    nursery.stop()


def test_stopping_leaves_no_process_and_no_thread_behind() -> None:
    threads = set(threading.enumerate())
    nursery = Nursery()
    callers = [Caller(nursery, "moe-test", 0) for _ in range(2)]
    pids = [caller.call(os.getpid) for caller in callers] + [callers[0].call(os.getppid)]
    nursery.stop()
    assert not any(map(psutil.pid_exists, pids))
    assert set(threading.enumerate()) <= threads
    for caller in callers:
        caller.close()
    nursery.stop()


def test_stopping_while_torch_is_loaded_does_not_wait_for_it() -> None:
    nursery = Nursery(delay=60.0)
    child = nursery.start("moe_sim.processes.calls:answer", "moe-test", 0)
    begun = time.monotonic()
    nursery.stop()
    assert time.monotonic() - begun < 4
    assert child.poll() is not None
    close_pipes(child)


def test_children_end_with_the_server_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, time\nfrom moe_sim.processes.calls import Caller\nfrom moe_sim.processes.nursery import Nursery\n"
        "caller = Caller(Nursery(), 'moe-test', 0)\nprint(caller.call(os.getpid), flush=True)\n"
        "caller.call(time.sleep, 600)"
    )
    with running([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as server:
        pid = int(server.stdout.readline())
    assert eventually(lambda: not psutil.pid_exists(pid))


def test_without_forks_each_child_is_a_new_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORKS", False)
    nursery = Nursery()
    caller = Caller(nursery, "moe-test", 3)
    assert caller.call(losses, small_config(), 3) == losses(small_config(), 3)
    assert caller.call(os.getppid) == os.getpid()
    assert caller.call(priority) >= min(psutil.Process().nice() + 3, 19)
    caller.close()
    nursery.stop()
