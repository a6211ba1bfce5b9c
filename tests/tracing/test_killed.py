"""A training process that is killed in the middle of writing a record."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import moe_sim
from tests.tracing.test_handwritten import EXPERTS, WIDTH, Loop, Model

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from tests.tracing.test_killed import kill_within, train
kill_within(int(sys.argv[2]), int(sys.argv[3]))
train(sys.argv[1], 10)
"""


def train(folder: str | Path, steps: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Model(Loop)
    with moe_sim.watch(model, folder) as trace:
        for _ in range(steps):
            x = torch.randn(6, WIDTH)
            model(x)
            trace.step(task_loss=0.5)


def kill_within(step: int, written: int) -> None:
    """Lets this process die by SIGKILL when that many bytes of the record of a step are in the file."""
    from moe_sim.history.trace_format import TraceRecord, record_line
    from moe_sim.history.trace_writer import TraceWriter

    write = TraceWriter.write

    def write_or_die(writer: TraceWriter, record: TraceRecord) -> None:
        if record.step != step:
            write(writer, record)
            return
        writer._file.write(record_line(record)[:written])
        os.kill(os.getpid(), signal.SIGKILL)

    TraceWriter.write = write_or_die  # type: ignore[method-assign]


@pytest.mark.parametrize("written", [0, 1, 40, -1])
def test_every_complete_record_is_read_and_the_next_run_appends(written: int, tmp_path: Path) -> None:
    """Killed before the first byte of the record of step 5, within it, and before the end of its line."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), "5", str(written)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    content = (tmp_path / "trace.jsonl").read_bytes()
    assert content.endswith(b"\n") == (written == 0)
    killed = moe_sim.open_trace(tmp_path)
    assert killed.column("step").tolist() == [1, 2, 3, 4]
    train(tmp_path, 3)  # the lock of the killed process does not hinder it
    assert (tmp_path / "trace.jsonl").read_bytes().startswith(content)
    assert killed.refresh()
    for history in (killed, moe_sim.open_trace(tmp_path)):
        assert history.column("step").tolist() == [1, 2, 3, 4, 5, 6, 7]
        assert history.skipped == (written > 0)  # what lacks only the end of its line is whole once that is added
        assert history.column("task_loss").tolist() == [0.5] * 7
        np.testing.assert_array_equal(history._tables["load"][:7].reshape(-1, 2, EXPERTS).sum(2), 12)
        np.testing.assert_array_equal(history.column("load")[:3], history.column("load")[4:7])
