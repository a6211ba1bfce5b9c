"""The commands under “On a cluster” in pages/README.md, followed in empty folders with the installed package."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client

from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engine import EngineError
from moe_sim.sweep.engines import engine_named
from moe_sim.sweep.table import read_table
from tests.support.installing import ROOT, Installed
from tests.support.serving import free_port
from tests.support.sweeping import small_grid

GUIDE = (ROOT / "pages" / "README.md").read_text()
SCHEDULER, WORKER, SWEEP = GUIDE.partition("On a cluster")[2].split("```bash\n")[2].partition("```")[0].splitlines()
ADDRESS = "tcp://scheduler:8786"


@contextmanager
def started(command: str, folder: Path, environment: dict[str, str], *options: str) -> Iterator[None]:
    """Run a command of Dask in an empty folder until the end of the block."""
    folder.mkdir()
    words = [sys.executable, "-m", *shlex.split(command), *options]
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def cluster(folder: Path, scheduler: dict[str, str], worker: dict[str, str]) -> Iterator[str]:
    """A scheduler and a worker on loopback, with these environment variables. Yields the scheduler's address."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        listen = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        stack.enter_context(started(SCHEDULER, folder / "scheduler", scheduler, *listen))
        stack.enter_context(started(WORKER.replace(ADDRESS, address), folder / "worker", worker, "--no-dashboard"))
        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield address


def test_the_readmes_commands_sweep_on_a_cluster(installed: Installed, tmp_path: Path) -> None:
    with cluster(tmp_path, installed.environment, installed.environment) as address:
        variable, *words = shlex.split(SWEEP.replace(ADDRESS, address))
        name, _, value = variable.partition("=")
        (tmp_path / "driver").mkdir()
        small = ("batch_tokens=32", "expert_hidden_size=4", "num_experts=4", "num_topics=3", "--steps", "3")
        done = subprocess.run(
            [sys.executable, *words[1:], *small], cwd=tmp_path / "driver", env={**installed.environment, name: value},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [path] = (tmp_path / "driver").iterdir()
    alphas = re.findall(r"aux_loss_coef=(\S+)", SWEEP)[0].split(",")
    cells = small_grid(seeds=5, steps=3, aux_loss_coef=tuple(map(float, alphas))).cells()
    assert read_table(path)["task_loss"].tolist() == [
        row["task_loss"] for row in Sweep(cells, engine_named("serial")).run()
    ]
    assert len(cells) == 15


@pytest.mark.parametrize("lacking", ["scheduler", "worker"])
def test_a_process_of_the_cluster_without_this_program_is_named(
    lacking: str, installed: Installed, tmp_path: Path
) -> None:
    (tmp_path / "moe_sim.py").write_text("raise ModuleNotFoundError(\"No module named 'moe_sim'\")")
    without = {**os.environ, "PYTHONPATH": str(tmp_path)}
    environments = [without if name == lacking else installed.environment for name in ("scheduler", "worker")]
    with (
        cluster(tmp_path, *environments) as address,
        pytest.raises(EngineError, match=f"{lacking}.* cannot import moe_sim"),
    ):
        Sweep(small_grid().cells(), engine_named("dask", dask=address)).run()
