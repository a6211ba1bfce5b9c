"""`python -m moe_sim`: the numbers of a trainer, a sentence for invalid arguments, no incomplete files."""

from __future__ import annotations

import asyncio
import csv
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import plotly.graph_objects as go
import psutil
import pytest
from kaleido.errors import BrowserFailedError
from playwright.sync_api import sync_playwright

from moe_sim import KNOBS, PRESETS, Event, RunConfig, Trainer
from moe_sim.charts import images
from moe_sim.charts.page import PAGE_FIGURES
from moe_sim.cli.main import COMMANDS, main
from moe_sim.cli.run import deferred_interrupt
from moe_sim.config.codec import events_to_text
from moe_sim.history.column_meanings import COLUMN_MEANINGS, TABLES
from moe_sim.history.files import locked, write_whole
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_json import run_to_json
from tests.support.commands import interrupts, running, started
from tests.support.inspecting import eventually
from tests.support.sweeping import is_alive

ROOT = Path(__file__).resolve().parents[2]
SENT_WHILE_HIDDEN = """
import signal, time
from moe_sim.cli import trace
class Last:
    def __del__(self):
        signal.raise_signal(NUMBER)
        for _ in range(2):
            pass
def signal_and_go_on(path):
    Last()
    while True:
        time.sleep(0.01)
trace.traces_in = signal_and_go_on
"""
"""A program that makes `trace show` get a signal where Python hides what is raised."""


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "moe_sim", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> str:
    """The browser that tests/run.sh found, or else Playwright's own."""
    path = os.environ.get("CHROME") or next(filter(None, map(shutil.which, images.BROWSERS)), None)
    if path is None:
        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    monkeypatch.setenv("BROWSER_PATH", path)
    return path


def rejection(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence on stderr that rejects a command line."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    sentence = err.removesuffix("\n")
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence


# Runs


def test_a_run_has_the_numbers_of_a_trainer_to_the_last_digit(tmp_path: Path) -> None:
    done = run("train", "aux_loss_coef=0.03", "--steps", "30", "--out", str(tmp_path / "run.json"), "seed=42")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    trainer = Trainer(RunConfig(aux_loss_coef=0.03, seed=42))
    trainer.run(30)
    assert (tmp_path / "run.json").read_text() == run_to_json(trainer.history, trainer.probe())
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    assert f"step 30, task loss {trainer.history.column('task_loss')[-20:].mean():.3f}" in lines[0]


def test_one_run_writes_every_kind_of_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / name for name in ("a.json", "b.csv", "c.HTML")]
    assert main(["train", "--steps", "12", *(word for path in paths for word in ("--out", str(path)))]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.csv", "c.HTML"]
    history, probe = run_from_json(paths[0].read_text())
    assert len(history) == 12
    assert probe is not None
    with paths[1].open(newline="") as table:
        losses = [float(row["task_loss"]) for row in csv.DictReader(table)]
    np.testing.assert_array_equal(losses, history.column("task_loss"))
    assert "<h2>Configuration</h2>" in paths[2].read_text()
    assert capsys.readouterr().out.startswith("Starting.")


def test_without_a_file_the_summary_is_still_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--steps", "1", "num_experts=4"]) == 0
    assert "dead experts" in capsys.readouterr().out


def test_an_existing_file_is_replaced_and_its_symlink_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real.csv", tmp_path / "run.csv"
    real.write_text("old")
    link.symlink_to(real)
    assert main(["train", "--steps", "1", "--out", str(link)]) == 0
    assert link.is_symlink()
    assert real.read_text().startswith("step,")


def test_planned_changes_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    words = ["--events", "5:aux_loss_coef=0.03;7:top_k=2", "--events", "5:capacity_factor=off", "capacity_factor=2"]
    assert main(["train", "--steps", "12", "--out", str(path), *words]) == 0
    trainer = Trainer(RunConfig(capacity_factor=2))
    trainer.run(5)
    trainer.update(aux_loss_coef=0.03, capacity_factor=None)
    trainer.run(2)
    trainer.update(top_k=2)
    trainer.run(5)
    assert trainer.history.events[0] == Event(5, {"aux_loss_coef": 0.03, "capacity_factor": None})
    assert path.read_text() == run_to_json(trainer.history, trainer.probe())


@pytest.mark.parametrize("added", [(), ("seed=3", "--events", "110:top_k=2", "--events", "150:learning_rate=0.01")])
def test_the_plan_of_a_preset_is_applied_and_can_be_extended(added: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    words = ["train", "--preset", "diverging-router", "--steps", "160", "--out", str(path), *added]
    assert main(words) == 0
    history, _ = run_from_json(path.read_text())
    assert history.initial_config == PRESETS["diverging-router"].config(3 if added else 0)
    if added:
        assert events_to_text(history.events) == "100:learning_rate=0.1;110:top_k=2;150:learning_rate=0.01"
    else:
        assert history.events == PRESETS["diverging-router"].plan


def test_a_short_run_of_a_preset_ends_before_its_plan() -> None:
    assert main(["train", "--preset", "too-late", "--steps", "2"]) == 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs(name: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert main(["train", "--preset", name, "--steps", "1", "--out", str(path)]) == 0
    assert run_from_json(path.read_text())[0].initial_config == PRESETS[name].config()


def test_a_diverged_run_says_so_and_writes_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "run.json", tmp_path / "run.html"]
    words = ["train", "learning_rate=1000", "--steps", "400", "--out", str(paths[0]), "--out", str(paths[1])]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out.startswith("Diverged.")
    history, _ = run_from_json(paths[0].read_text())
    assert 0 < len(history) < 400
    assert err == f"The run diverged after step {len(history)} of 400.\n"
    assert "Diverged." in paths[1].read_text()


# Invalid arguments

REJECTED = {
    "no command": ([], "command"),
    "no such command": (["fly"], "fly"),
    "a misspelled command": (["trian"], "There is no command 'trian'; did you mean train?"),
    "a command like no other": (["fly"], "There is no command 'fly'; choose from train, figures, sweep, trace"),
    "a misspelled action": (["trace", "shwo"], "There is no action 'shwo'; did you mean show?"),
    "a misspelled option of an action": (["trace", "show", "x", "--al"], "not accept '--al'; did you mean --all?"),
    "a misspelled option of two words": (
        ["trace", "import", "x", "--format", "vllm", "--out", "y", "--token-per-step", "3"],
        "not accept '--token-per-step'; did you mean --tokens-per-step?",
    ),
    "an option like what is none": (["train", "--comand"], "train does not accept '--comand'."),
    "an unknown option": (["train", "--fast"], "train does not accept '--fast'"),
    "a knob where none is accepted": (["presets", "seed=1"], "'seed=1'"),
    "an option without a value": (["train", "--steps"], "--steps"),
    "no equals sign": (["train", "seed"], "'seed' is not of the form name=value"),
    "an unknown knob": (["train", "alpha=1"], "no knob named 'alpha'"),
    "a misspelled knob": (["train", "aux_los_coef=1"], "no knob named 'aux_los_coef'; did you mean aux_loss_coef?"),
    "a misspelled knob of an event": (["train", "--events", "5:topk=2"], "no knob named 'topk'; did you mean top_k?"),
    "a misspelled preset": (["train", "--preset", "healty"], "no preset 'healty'; did you mean healthy?"),
    "a misspelled option": (["train", "--step", "3"], "train does not accept '--step'; did you mean --steps?"),
    "a misspelled figure": (["figures", "--out", "x", "--only", "utilisation"], "did you mean utilization?"),
    "a bad value": (["train", "num_experts=99"], "from 2 to 64, not '99'"),
    "a bad value after an option": (["train", "--steps", "3", "aux_loss_coef=nan"], "from 0 to 10"),
    "knobs that contradict each other": (["train", "num_experts=2", "top_k=3"], "from 1 to 2"),
    "an unknown preset": (["train", "--preset", "doom"], "no preset 'doom'; choose from collapse, healthy"),
    "a malformed event": (["train", "--events", "soon"], "'soon' is not of the form step:knob=value"),
    "an event of a structural knob": (["train", "--events", "5:seed=1"], "with a live knob"),
    "an event out of bounds": (["train", "--events", "5:top_k=9"], "Event at step 5"),
    "an event too late": (["train", "--steps", "9", "--events", "9:top_k=2"], "step 9 would never happen"),
    "a bad event beside a preset": (["train", "--preset", "top-2", "--events", "5:renormalize=maybe"], "on or off"),
    "no steps": (["train", "--steps", "0"], "from 1 to 100,000, not '0'"),
    "too many steps": (["train", "--steps", "100001"], "from 1 to 100,000"),
    "half a step": (["train", "--steps", "1.5"], "from 1 to 100,000"),
    "non-ASCII digits": (["train", "--steps", "٣"], "from 1 to 100,000"),
    "an endless number": (["train", "--steps", "9" * 5000], "from 1 to 100,000"),
    "an unknown suffix": (["train", "--out", "run.pickle"], "'run.pickle' must end in one of .json, .csv, .html"),
    "no suffix": (["train", "--out", "run"], "must end in one of"),
    "a directory that is not there": (["train", "--out", "/no/such/run.json"], "/no/such/run.json: No such file"),
    "a directory that is not writable": (["train", "--out", "/proc/run.json"], "Cannot write /proc/run.json"),
    "figures without a directory": (["figures"], "--out"),
    "figures into a file": (["figures", "--out", "/proc/version/x"], "Cannot write /proc/version/x"),
    "an unknown format": (["figures", "--out", "x", "--format", "gif"], "no format 'gif'; choose from svg, png"),
    "an unknown figure": (["figures", "--out", "x", "--only", "utilization,pie"], "no figure 'pie'; choose from"),
    "a figure that the task lacks": (["figures", "task=text", "--out", "x", "--only", "routing_map"], "no figure"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_invalid_arguments_get_one_sentence(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: str
) -> None:
    words, expected = REJECTED[name]
    monkeypatch.chdir(tmp_path)
    assert expected in rejection(capsys, *words)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_cannot_be_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").mkdir()
    assert "it is a directory" in rejection(capsys, "train", "--out", str(tmp_path / "run.json"))


@pytest.mark.parametrize("words", [["train", "--out", "run.json"], ["figures", "--out", "."]])
def test_output_that_another_command_is_writing_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, browser: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with locked(Path(words[-1])):
        assert rejection(capsys, *words) == f"Another process is writing {words[-1]}."
    assert list(tmp_path.iterdir()) == []


def test_one_file_named_twice_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    assert main(["train", "--steps", "1", "--out", str(path), "--out", str(tmp_path / "." / "run.csv")]) == 0
    assert list(tmp_path.iterdir()) == [path]


def test_exit_codes_and_messages_reach_the_shell() -> None:
    done = run("train", "alpha=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "There is no knob named 'alpha'; did you mean aux_loss_coef?\n"
    helped = run("train", "--help")
    assert (helped.returncode, "--preset" in helped.stdout) == (0, True)


# Ctrl-C


def on_a_terminal(*words: str, ends_after: bytes, sent: signal.Signals, background: bool = False) -> tuple[int, str]:
    """Run a command with its stderr on a terminal, and send it a signal once what it shows matches a pattern.

    Returns:
        The exit code, and what the terminal shows.
    """
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (24, 80))  # a progress bar needs room
    with running(started(*words, background=background), stdout=end, stderr=end) as process:
        os.close(end)
        shown, is_sent = b"", False
        with suppress(OSError):  # Linux reports the end of a terminal as an error
            while read := os.read(terminal, 1000):
                shown += read
                if not is_sent and re.search(ends_after, shown):
                    process.send_signal(sent)
                    is_sent = True
        os.close(terminal)
    return process.returncode, shown.decode().replace("\r", "\n")


@interrupts
def test_ctrl_c_or_sigterm_during_a_run_exits_130_and_writes_the_steps_so_far(
    sent: signal.Signals, background: bool, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("run.json", "run.csv")]
    outs = [word for path in paths for word in ("--out", str(path))]
    words = ("train", "--steps", "100000", *outs)
    code, shown = on_a_terminal(*words, ends_after=rb" [1-9]\d*/100000", sent=sent, background=background)
    assert code == 130
    history, _ = run_from_json(paths[0].read_text())
    again = Trainer(RunConfig())
    again.run(len(history))
    assert paths[0].read_text() == run_to_json(again.history, again.probe())
    last = shown.strip().splitlines()[-1]
    assert last == f"Interrupted after step {len(history):,} of 100,000. The files hold the steps so far."
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@interrupts
def test_ctrl_c_or_sigterm_is_not_lost_where_python_hides_exceptions(sent: signal.Signals, background: bool) -> None:
    before = SENT_WHILE_HIDDEN.replace("NUMBER", str(int(sent)))
    command = started("trace", "show", "runs", background=background, before=before)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_before_the_first_step_leaves_the_file_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    monkeypatch.setattr("moe_sim.cli.run.progress", lambda *words: signal.raise_signal(signal.SIGINT) or nullcontext())
    assert main(["train", "--out", str(path)]) == 130
    assert capsys.readouterr().err.endswith("Interrupted.\n")
    assert path.read_text() == "old"


@pytest.mark.usefixtures("interruptible")
def test_a_second_ctrl_c_does_not_wait_for_the_step() -> None:
    with deferred_interrupt() as pressed:
        signal.raise_signal(signal.SIGINT)
        assert pressed.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Pipes


@pytest.mark.parametrize(
    "words", [["knobs"], ["presets"], ["columns"], ["settings"], ["train", "--steps", "1"], ["train", "--help"]]
)
def test_output_that_nobody_reads_to_its_end_is_no_error(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "moe_sim", *words], cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 141 or "--help" in words  # argparse ignores the error of an unbuffered stdout


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt, whatever started the tests."""
    before = {sent: signal.signal(sent, signal.default_int_handler) for sent in (signal.SIGINT, signal.SIGTERM)}
    yield
    for sent, handler in before.items():
        signal.signal(sent, handler)


@pytest.fixture
def ctrl_c(interruptible: None) -> Iterator[Callable[..., None]]:
    """Returns a function that presses Ctrl-C after some seconds, or sends another signal."""
    timers: list[threading.Timer] = []

    def press(seconds: float, sent: signal.Signals = signal.SIGINT) -> None:
        timers.append(threading.Timer(seconds, os.kill, (os.getpid(), sent)))
        timers[-1].start()

    yield press
    for timer in timers:
        timer.join()


class Session:
    """A slow browser that, like kaleido's, raises its own error when it is cancelled."""

    def __init__(self, starting: float = 0.0, drawing: float = 0.0) -> None:
        self.starting, self.drawing, self.cancelled, self.ended = starting, drawing, False, False

    async def __aenter__(self) -> Session:
        await self.wait(self.starting)
        return self

    async def calc_fig(self, figure: go.Figure, opts: dict[str, Any]) -> bytes:
        await self.wait(self.drawing)
        return b"picture"

    async def wait(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise BrowserFailedError("cancelled") from None

    async def __aexit__(self, *error: object) -> None:
        self.ended = True
        await asyncio.sleep(self.drawing)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("starting", "drawing", "limit"), [(60.0, 0.0, 0.1), (0.5, 0.0, 5.0), (0.0, 0.5, 0.1)])
def test_ctrl_c_is_not_reported_as_a_browser_error_and_cancels_no_drawing_and_no_start(
    sent: signal.Signals,
    starting: float,
    drawing: float,
    limit: float,
    ctrl_c: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(starting, drawing)
    monkeypatch.setattr("kaleido.Kaleido", lambda **options: session)
    monkeypatch.setattr(images, "LONGEST_CLOSING", limit)  # which does not limit a drawing
    drawings = {str(i): go.Figure() for i in range(100)}
    ctrl_c(0.2, sent)
    with pytest.raises(KeyboardInterrupt):
        images.draw(drawings, ("png",), "chromium", lambda name, picture: None)
    does_not_start = starting > limit
    assert (session.cancelled, session.ended) == (does_not_start, not does_not_start)


def test_ctrl_c_during_drawing_leaves_only_complete_figures(
    tmp_path: Path,
    browser: str,
    ctrl_c: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def keep(path: Path, content: bytes) -> None:
        if not list(tmp_path.glob("*.png")):
            ctrl_c(0.05)
        write_whole(path, content)

    monkeypatch.setattr("moe_sim.cli.figures.write_whole", keep)
    assert main(["figures", "--steps", "1", "--out", str(tmp_path), "--format", "png"]) == 130
    err = capfd.readouterr().err
    assert err.endswith("Interrupted.\n")
    assert not [entry for entry in caplog.records if entry.levelname == "ERROR"]
    assert list(tmp_path.iterdir())
    for path in tmp_path.iterdir():
        assert path.suffix == ".png"
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def test_ctrl_c_while_the_browser_starts_leaves_neither_browser_nor_thread(
    browser: str, ctrl_c: Callable[..., None]
) -> None:
    me = psutil.Process()
    processes, threads = set(me.children(recursive=True)), set(threading.enumerate())
    ctrl_c(0.3)
    with pytest.raises(KeyboardInterrupt):
        images.draw({str(i): go.Figure() for i in range(100)}, ("png",), browser, lambda name, picture: None)
    assert eventually(lambda: not any(map(is_alive, set(me.children(recursive=True)) - processes)))
    assert eventually(lambda: not {one for one in threading.enumerate() if not one.daemon} - threads)


def test_a_browser_whose_end_is_read_with_its_last_answer_neither_hangs_nor_prints(
    browser: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pictures: dict[str, bytes] = {}
    ends: list[bytes] = []

    def at_once(pipe: int, size: int) -> bytes:
        content = os.read(pipe, size)
        if pictures and not ends:
            while not content.endswith(b"{bye}\n"):
                content += os.read(pipe, size)
            ends.append(content)
        return content

    monkeypatch.setattr("choreographer.channels.pipe.os", SimpleNamespace(**{**vars(os), "read": at_once}))
    monkeypatch.setattr(images, "LONGEST_CLOSING", 1)
    images.draw({"empty": go.Figure()}, ("png",), browser, pictures.__setitem__)
    assert pictures["empty.png"].endswith(b"IEND\xaeB`\x82")
    assert ends
    assert ends[0] != b"{bye}\n"
    assert capfd.readouterr().err == ""
    assert not [entry for entry in caplog.records if entry.levelname == "ERROR"]


def test_an_interrupted_write_leaves_the_old_file_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")

    def interrupted(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    assert main(["train", "--steps", "1", "--out", str(path)]) == 130
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("run.json", "old")]


def test_a_full_disk_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["train", "--steps", "1", "--out", str(tmp_path / "run.csv")]) == 2
    assert capsys.readouterr().err.endswith(f"Cannot write {tmp_path / 'run.csv'}: No space left on device.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_whole(tmp_path / "one", b"x")
    (tmp_path / "other").write_bytes(b"x")
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "other").stat().st_mode


# Lists


def test_the_columns_of_every_table_are_listed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["columns"]) == 0
    sections = capsys.readouterr().out.split("\n\n")
    assert len(sections) == len(COLUMN_MEANINGS)
    for section, (table, columns) in zip(sections, COLUMN_MEANINGS.items(), strict=True):
        title, *lines = section.splitlines()
        assert title == TABLES[table]
        assert [line for line in lines if not line.startswith(" ")] == list(columns)
    assert "task_loss\n    Cross-entropy.\n    nats; each step\n" in sections[0]
    assert "task_loss\n    Cross-entropy.\n    nats; mean of the last 50 steps\n" in sections[2]


def test_presets_and_knobs_are_listed_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name} " in out and preset.description in out for name, preset in PRESETS.items())
    assert "--events '400:aux_loss_coef=0.1'" in out
    assert main(["knobs"]) == 0
    out = capsys.readouterr().out
    for name, knob in KNOBS.items():
        assert f"{name}=" in out
        assert knob.help in out
        assert knob.allowed in out


def test_every_command_has_a_help_page(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit) as exited:
            main([command.name, "--help"])
        assert exited.value.code == 0
        assert command.help in capsys.readouterr().out


# Figures


def test_figures_are_1600_by_900_images(tmp_path: Path, browser: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "pictures"
    words = ["figures", "--preset", "too-late", "--steps", "12", "--out", str(out), "num_experts=4"]
    assert main([*words, "--only", "utilization, imbalance"]) == 0
    assert capsys.readouterr().out.startswith("Starting.")
    names = {f"{name}.{suffix}" for name in ("utilization", "imbalance") for suffix in ("png", "svg")}
    assert {path.name for path in out.iterdir()} == names
    for path in out.glob("*.png"):
        picture = path.read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert struct.unpack(">II", picture[16:24]) == (1600, 900)
    for path in out.glob("*.svg"):
        drawing = ElementTree.parse(path).getroot()
        assert (drawing.get("width"), drawing.get("height")) == ("1600", "900")
        text_in_it = " ".join("".join(text.itertext()) for text in drawing.iter("{http://www.w3.org/2000/svg}text"))
        assert "num_experts=4 · seed=0 · step 12" in text_in_it
        assert "http" not in text_in_it


def test_without_names_all_figures_are_drawn(tmp_path: Path, browser: str, monkeypatch: Any) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("moe_sim.charts.images.draw", lambda slides, formats, browser, keep: drawn.update(slides))
    assert main(["figures", "--steps", "1", "--out", str(tmp_path), "--format", "png"]) == 0
    assert {"routing_map", "feedback_share", *PAGE_FIGURES} - set(drawn) == {"selection_bias", "experts_by_layer"}


def test_figures_without_a_browser_give_a_sentence_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ["figures", "--steps", "100000", "--out", str(tmp_path / "pictures")]
    assert "none is on the PATH: install one" in rejection(capsys, *words)
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    assert "BROWSER_PATH must be the path or the name of a program, not '/no/such/browser'." in rejection(
        capsys, *words
    )
    assert list(tmp_path.iterdir()) == []


def test_a_broken_browser_is_reported_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROWSER_PATH", shutil.which("false") or "")
    assert main(["figures", "--steps", "1", "--out", str(tmp_path), "--only", "utilization"]) == 2
    assert capsys.readouterr().err.endswith("did not start, or broke off while it drew.\n")
    assert list(tmp_path.iterdir()) == []
