"""`python -m moe_sim sweep`: files, resuming, interrupts, and a sentence for invalid arguments."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from moe_sim import RunConfig, Trainer
from moe_sim.cli.main import main
from moe_sim.history.from_json import run_from_json
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.store import LOCK_TIMEOUT, Store
from moe_sim.sweep.table import read_table
from tests.support.commands import interrupts, running, started
from tests.support.inspecting import eventually
from tests.support.sweeping import PATIENCE, is_alive, loky_workers

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("batch_tokens=32", "expert_hidden_size=4", "num_topics=3")
SERIAL = ("--engine", "serial", "--steps", "5")
SENT_UNDER_THE_LOCK = """
import signal
from pathlib import Path
from moe_sim.sweep.store import Store
def add_and_signal(store, row, add=Store.add, unlink=Path.unlink):
    def signal_and_unlink(path):
        Path.unlink = unlink
        signal.raise_signal(NUMBER)
        unlink(path)
    Store.add, Path.unlink = add, signal_and_unlink
    add(store, row)
Store.add = add_and_signal
"""
"""A program that makes a sweep get a signal once it has saved its first row, just before it releases the file."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configurations trained in this process, as they are trained."""
    configs: list[RunConfig] = []

    class Counted(Trainer):
        def __init__(self, config: RunConfig) -> None:
            configs.append(config)
            super().__init__(config)

    monkeypatch.setattr("moe_sim.sweep.worker.Trainer", Counted)
    return configs


def test_a_grid_is_trained_saved_and_summarized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "a.parquet", tmp_path / "b.csv"
    words = ["sweep", "aux_loss_coef=0,0.1", *SMALL, "num_experts=2,4", "--seeds", "2", *SERIAL]
    assert main([*words, *(word for file in files for word in ("--out", str(file)))]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, *lines = (line.split("  ") for line in out.splitlines())
    assert [word.strip() for word in head if word][:3] == ["aux_loss_coef", "num_experts", "runs"]
    assert len(lines) == 4
    table, copy = (read_table(file) for file in files)
    assert table.equals(copy)
    assert table["seed"].tolist() == [0, 1] * 4
    assert set(table["steps"]) == {5}
    chosen = table[(table["aux_loss_coef"] == 0.1) & (table["num_experts"] == 4)]
    loss = f"{chosen['task_loss'].mean():.3f} ± {chosen['task_loss'].std(ddof=0):.3f}"
    assert loss in out.splitlines()[-1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.parquet", "b.csv"]


def test_repeating_a_command_trains_only_the_missing_runs(tmp_path: Path, trained: list[RunConfig]) -> None:
    words = ["sweep", *SMALL, *SERIAL, "--out", str(tmp_path / "s.parquet")]
    assert main([*words, "num_experts=2,4"]) == 0
    assert len(trained) == 6
    assert main([*words, "num_experts=2,4,8"]) == 0
    assert {config.num_experts for config in trained[6:]} == {8}
    assert len(read_table(tmp_path / "s.parquet")) == 9
    assert main([*words, "num_experts=16", "--seeds", "1"]) == 0
    assert len(read_table(tmp_path / "s.parquet")) == 10


def test_presets_seed_lists_and_histories_work_together(tmp_path: Path) -> None:
    words = ["sweep", *SMALL, "--preset", "healthy", "seed=5,9", *SERIAL, "--out", str(tmp_path / "s.csv")]
    assert main([*words, "--histories", str(tmp_path / "runs")]) == 0
    table = read_table(tmp_path / "s.csv")
    assert table["seed"].tolist() == [5, 9]
    for row in table.itertuples():
        history, _ = run_from_json((tmp_path / "runs" / f"{row.run}.json").read_text())
        assert (history.initial_config.seed, len(history)) == (row.seed, 5)


def test_skipped_combinations_are_reported_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *SMALL, "num_experts=2,4", "top_k=1,4", "--seeds", "2", *SERIAL]) == 0
    assert "2 invalid runs skipped. Top-k (top_k) must be from 1 to 2" in capsys.readouterr().err


def test_failed_runs_are_listed_with_their_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def burst(config: RunConfig) -> Trainer:
        if config.num_experts == 4:
            raise MemoryError("no room")
        return Trainer(config)

    monkeypatch.setattr("moe_sim.sweep.worker.Trainer", burst)
    assert main(["sweep", *SMALL, "num_experts=2,4", "--seeds", "1", *SERIAL]) == 1
    out, err = capsys.readouterr()
    assert (
        "Failed: num_experts=4 num_topics=3 batch_tokens=32 expert_hidden_size=4 steps=5: MemoryError: no room" in err
    )
    assert len(out.splitlines()) == 2


def test_an_interrupt_saves_the_rows_and_reports_the_remaining_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, trained: list[RunConfig]
) -> None:
    words = ["sweep", *SMALL, "num_experts=2,4", *SERIAL, "--out", str(tmp_path / "s.parquet")]
    run = Sweep.run

    def interrupted(sweep: Sweep, on_row: Callable[[object], None]) -> object:
        def stop_at_two(row: object) -> None:
            on_row(row)
            if sweep.done == 2:
                raise KeyboardInterrupt

        return run(sweep, stop_at_two)

    with monkeypatch.context() as patch:
        patch.setattr(Sweep, "run", interrupted)
        assert main(words) == 130
    assert "4 of 6 runs left. Run the same command again to continue." in capsys.readouterr().err
    assert len(read_table(tmp_path / "s.parquet")) == 2
    trained.clear()
    assert main(words) == 0
    assert len(trained) == 4


def test_a_killed_driver_takes_its_workers_along_and_the_sweep_can_be_resumed(
    tmp_path: Path, trained: list[RunConfig]
) -> None:
    path = tmp_path / "s.parquet"
    words = ["sweep", *SMALL, "--seeds", "20", "--steps", "100", "--out", str(path)]
    command = [sys.executable, "-m", "moe_sim", *words, "--workers", "2"]
    journal = path.with_name("s.parquet.partial")
    with running(command, stderr=subprocess.DEVNULL) as driver:
        assert eventually(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3, PATIENCE)
        workers = loky_workers(psutil.Process(driver.pid))
    assert len(workers) == 2
    assert eventually(lambda: not any(is_alive(worker) for worker in workers), PATIENCE)
    kept = len(Store(path).rows)
    assert 3 <= kept < 20
    assert main([*words, "--engine", "serial"]) == 0
    assert len(trained) == 20 - kept
    assert sorted(read_table(path)["seed"]) == list(range(20))


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_sigterm_stops_a_real_sweep_and_its_workers(sent: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    words = ["sweep", *SMALL, "--steps", "300", "--seeds", "200", "--workers", "1", "--out", str(path)]
    journal = path.with_name("s.csv.partial")
    with running(started(*words), stderr=subprocess.PIPE, text=True, start_new_session=True) as driver:
        assert eventually(lambda: journal.exists() and journal.stat().st_size > 0, PATIENCE)
        start = time.monotonic()
        os.killpg(driver.pid, sent)  # as a terminal does, and a scheduler of jobs: the workers get it too
        _, err = driver.communicate(timeout=30)
    assert time.monotonic() - start < 15, "the sweep would take minutes"
    assert driver.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("Interrupted: ")
    assert not journal.exists()
    assert len(read_table(path)) >= 1


@interrupts
def test_ctrl_c_or_sigterm_while_the_file_is_locked_waits_for_nothing(
    sent: signal.Signals, background: bool, tmp_path: Path
) -> None:
    path = tmp_path / "s.csv"
    words = ["sweep", *SMALL, "--engine", "serial", "--steps", "100", "--seeds", "200", "--out", str(path)]
    command = started(*words, background=background, before=SENT_UNDER_THE_LOCK.replace("NUMBER", str(int(sent))))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=0.9 * LOCK_TIMEOUT)
    assert done.returncode == 130
    assert re.fullmatch(r"Interrupted: \d+ of 200 runs left\. .*\n", done.stderr)
    assert 1 <= len(read_table(path)) < 200


def test_two_sweeps_at_once_with_one_file_both_keep_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    words = [*SMALL, "--engine", "serial", "--steps", "60", "--seeds", "4", "--out", str(path)]
    commands = [[sys.executable, "-m", "moe_sim", "sweep", f"num_experts={number}", *words] for number in (2, 4)]
    with ExitStack() as stack:
        both = [stack.enter_context(running(command, stderr=subprocess.DEVNULL)) for command in commands]
        assert [sweep.wait(PATIENCE) for sweep in both] == [0, 0]
    table = read_table(path)
    assert sorted(zip(table["num_experts"], table["seed"], strict=True)) == [(e, s) for e in (2, 4) for s in range(4)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["num_experts=1"], "Experts (num_experts) must be a whole number from 2 to 64, not '1'."),
        (["nonsense=1"], "There is no knob named 'nonsense'; `python -m moe_sim knobs` lists them."),
        (["num_expert=4"], "There is no knob named 'num_expert'; did you mean num_experts?"),
        (["--engine", "locky"], "There is no engine 'locky'; did you mean loky?"),
        (["num_experts"], "'num_experts' is not of the form name=value."),
        (["num_experts=2", "top_k=4"], "Top-k (top_k) must be from 1 to 2, the number of experts"),
        (["--steps", "0"], "--steps must be a whole number from 1 to 100,000, not '0'."),
        (["--seeds", "x"], "--seeds must be a whole number from 1 to 100,000, not 'x'."),
        (["--workers", "-1"], "--workers must be a whole number from 1 to 1,000, not '-1'."),
        (["--workers", "2", "--engine", "serial"], "Only the engine loky takes a number of workers, not serial."),
        (["--engine", "ray"], "There is no engine 'ray'; choose from serial, loky, dask."),
        (["--preset", "x"], "There is no preset 'x'; choose from"),
        (["--out", "x.xlsx"], "'x.xlsx' must end in one of .parquet, .csv."),
        (["seed=1,2", "--seeds", "2"], "Give either values for seed or a number of seeds, not both."),
        (["aux_loss_coef=0..1:1000", "seed=0..999"], "That would be 1,000,000 runs; a sweep has at most 100,000."),
        (["--events", "5:top_k=2"], "sweep does not accept '--events'."),
    ],
)
def test_invalid_arguments_get_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], trained: list[RunConfig]
) -> None:
    assert main(["sweep", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(sentence)
    assert err.count("\n") == 1
    assert not trained


def test_a_file_that_is_not_a_sweep_is_left_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "thesis.csv"
    path.write_text("chapter,words\n1,5000\n")
    assert main(["sweep", *SMALL, *SERIAL, "--out", str(path)]) == 2
    assert "is not a table written by this program's sweeps" in capsys.readouterr().err
    assert path.read_text() == "chapter,words\n1,5000\n"
