"""Errands: each is done once, one at a time, in another process, and nobody's page computes meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest

from moe_sim.processes import errands as module
from moe_sim.processes.calls import ProcessEnded
from moe_sim.processes.errands import Errands
from moe_sim.processes.nursery import Nursery
from tests.support.inspecting import eventually


@pytest.fixture
def errands(nursery: Nursery) -> Iterator[Errands]:
    before = {*threading.enumerate()}  # other tests leave servers, each with a thread for errands
    errands = Errands(nursery)
    yield errands
    errands.stop()
    assert not [one for one in {*threading.enumerate()} - before if one.name.startswith("errands")]


def note(file: str, number: int, seconds: float = 0.0) -> tuple[int, int]:
    """Notes that it was called, and returns its process and the number."""
    with open(file, "a", encoding="utf-8") as notes:
        notes.write(f"{number} ")
    time.sleep(seconds)
    return os.getpid(), number


def fail_once(file: str) -> str:
    """Fails the first time."""
    path = Path(file)
    if not path.exists():
        path.touch()
        raise ValueError("not yet")
    return "done"


def test_what_many_ask_for_at_once_is_computed_once_and_in_another_process(errands: Errands, tmp_path: Path) -> None:
    file = str(tmp_path / "notes")
    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(lambda _: errands.wait_for(note, file, 7, 0.2), range(8)))
    ((process, number),) = answers
    assert number == 7
    assert process != os.getpid()
    assert errands.wait_for(note, file, 8)[0] == process
    assert Path(file).read_text(encoding="utf-8") == "7 8 "


def test_whoever_asks_does_not_wait(errands: Errands, tmp_path: Path) -> None:
    file = str(tmp_path / "notes")
    errands.wait_for(note, file, 0)
    begun = time.monotonic()
    assert errands.ask(note, file, 1, 1.0) is None
    assert errands.ask(note, file, 2) is None
    assert time.monotonic() - begun < 0.5
    assert errands.waiting == 2
    assert eventually(lambda: errands.ask(note, file, 2) is not None)
    assert errands.waiting == 0
    assert errands.ask(note, file, 1, 1.0)[1] == 1
    assert Path(file).read_text(encoding="utf-8") == "0 1 2 ", "one after the other"


def test_what_failed_is_tried_again_when_somebody_asks(errands: Errands, tmp_path: Path) -> None:
    file = str(tmp_path / "tried")
    with pytest.raises(ValueError, match="not yet"):
        errands.wait_for(fail_once, file)
    assert errands.wait_for(fail_once, file) == "done"
    other = str(tmp_path / "other")
    assert errands.ask(fail_once, other) is None
    assert eventually(lambda: errands.ask(fail_once, other) == "done")


def test_after_the_process_was_killed_another_one_computes(errands: Errands, tmp_path: Path) -> None:
    file = str(tmp_path / "notes")
    process, _ = errands.wait_for(note, file, 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(errands.wait_for, note, file, 2, 30.0)
        assert eventually(lambda: Path(file).read_text(encoding="utf-8") == "1 2 ")
        os.kill(process, signal.SIGKILL)
        with pytest.raises(ProcessEnded):
            waiting.result()
    assert errands.wait_for(note, file, 3)[0] != process


def test_a_stop_ends_the_call_in_progress_and_begins_no_other(nursery: Nursery, tmp_path: Path) -> None:
    errands, file = Errands(nursery), str(tmp_path / "notes")
    errands.wait_for(note, file, 0)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(errands.wait_for, note, file, 1, 30.0)
        assert eventually(lambda: Path(file).read_text(encoding="utf-8") == "0 1 ")
        queued = pool.submit(errands.wait_for, note, file, 2)
        assert eventually(lambda: errands.waiting == 2)
        begun = time.monotonic()
        errands.stop()
        assert time.monotonic() - begun < 5
        with pytest.raises(ProcessEnded):
            running.result()
        with pytest.raises(CancelledError):
            queued.result()


def test_only_the_newest_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KNOWN", 2)
    errands, file = Errands(None), str(tmp_path / "notes")
    for number in (1, 2, 3, 3, 2, 1):
        errands.wait_for(note, file, number)
    errands.stop()
    assert Path(file).read_text(encoding="utf-8") == "1 2 3 1 "
