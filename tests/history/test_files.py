"""Locks of output files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from moe_sim.history.files import CannotWriteError, locked
from tests.support.commands import running

HOLD = """
import sys, time
from pathlib import Path
from moe_sim.history.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_refused_to_another_process_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with running([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CannotWriteError, match=r"^Another process is writing .*run\.json\.$"), locked(path):
            pass
    with locked(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_its_symlink_have_one_lock(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "link.csv"
    link.symlink_to(real)
    with locked(real), pytest.raises(CannotWriteError), locked(link):
        pass


def test_a_directory_is_locked_from_inside(tmp_path: Path) -> None:
    directory = tmp_path / "slides"
    directory.mkdir()
    with locked(directory):
        assert [path.name for path in tmp_path.iterdir()] == ["slides"]
        with pytest.raises(CannotWriteError), locked(directory):
            pass
    assert list(directory.iterdir()) == []


def acquired_but_interrupted(lock: FileLock, acquire: Callable[..., None] = FileLock.acquire, **options: float) -> None:
    acquire(lock, **options)
    raise KeyboardInterrupt


def interrupted(path: Path) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("owner", "name", "call"), [(FileLock, "acquire", acquired_but_interrupted), (Path, "unlink", interrupted)]
)
def test_ctrl_c_while_a_lock_is_taken_or_released_leaves_nothing_locked(
    owner: type, name: str, call: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.json"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, call)
        with pytest.raises(KeyboardInterrupt) as held, locked(path):
            pass
    with locked(path):  # while the error still holds what it passed through
        assert held
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_created_gets_a_sentence() -> None:
    with pytest.raises(CannotWriteError, match=r"^Cannot write /sys/run\.json: "), locked(Path("/sys/run.json")):
        pass
