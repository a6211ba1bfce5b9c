"""Data-parallel training: two processes write the trace that one process with the whole batch writes."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from moe_sim.history.trace import TraceHistory, open_trace
from tests.support.commands import running

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import os
import sys
import torch
from torch import distributed, nn
import moe_sim
from moe_sim.history import trace_writer
from tests.tracing.test_handwritten import Loop, Model

path, processes, rank = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
if len(sys.argv) > 4:  # from that size on, records become rarer
    trace_writer.THINNED_FROM = int(sys.argv[4])
model = Model(Loop)
if processes > 1:
    distributed.init_process_group("gloo", rank=rank, world_size=processes)
    model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), 0.5)
with moe_sim.watch(model, path) as trace:
    for step in range(4):
        batch = torch.randn(16, 5, 12, generator=torch.Generator().manual_seed(step))
        share = batch[rank::processes]
        loss = model(share).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trace.step(task_loss=loss)
if processes > 1:
    distributed.destroy_process_group()
    # DistributedDataParallel alone, unwatched, aborts in every third ending: gloo's thread drops a Python object while
    # the interpreter ends. So it does not end.
    os._exit(0)
"""


def train(path: Path, processes: int, *more: str) -> TraceHistory:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ExitStack() as stack:
        commands = ([sys.executable, "-c", PROGRAM, str(path), str(processes), str(rank), *more]
                    for rank in range(processes))  # fmt: skip
        ranks = [stack.enter_context(running(command, env=environment)) for command in commands]
        assert [process.wait(timeout=240) for process in ranks] == [0] * processes
    return open_trace(path)


def test_the_trace_of_two_processes_equals_that_of_one(tmp_path: Path) -> None:
    one, two = train(tmp_path / "one", 1), train(tmp_path / "two", 2)
    assert len(one) == len(two) == 4
    np.testing.assert_array_equal(one._tables["load"][:4], two._tables["load"][:4])
    np.testing.assert_array_equal(one._tables["tokens"][:4], two._tables["tokens"][:4])
    for name in ("task_loss", "importance", "router_entropy", "router_logit_rms", "router_logit_max"):
        np.testing.assert_allclose(one.column(name), two.column(name), rtol=1e-5)


def test_all_processes_go_on_together_when_records_become_rarer(tmp_path: Path) -> None:
    whole, rarer = train(tmp_path / "whole", 1), train(tmp_path / "rarer", 2, "600")
    assert 1 < len(rarer) < len(whole) == 4
    kept = np.isin(whole.column("step"), rarer.column("step"))
    np.testing.assert_array_equal(rarer.column("load"), whole.column("load")[kept])
