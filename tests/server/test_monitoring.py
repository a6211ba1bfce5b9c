"""Monitoring for the host: metrics in the Prometheus format, and logs with one line per record."""

from __future__ import annotations

import json
import logging
import math
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim import logs
from moe_sim.live.live_run import LiveRun
from moe_sim.live.scheduler import Scheduler
from moe_sim.logs import ErrorCount, ErrorLimit, JsonLines
from moe_sim.server.monitoring import Census, metrics_endpoint
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.queue import SweepQueue
from tests.support.asynchronous import run_to_end
from tests.support.inspecting import eventually, small_config
from tests.support.serving import ROOT


@pytest.fixture
def scheduler() -> Scheduler:
    """A scheduler that is not started, so nothing trains."""
    return Scheduler()


def scraped(
    scheduler: Scheduler, queues: dict[str, Callable[[], int]] | None = None, errors: int = 0
) -> dict[str, float]:
    """The values as Prometheus parses them, by name and, if present, label."""
    census = Census(scheduler, queues or {}, lambda: errors)
    server = Starlette(routes=[Route("/metrics", metrics_endpoint(census))])

    async def get() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://here") as client:
            return await client.get("/metrics")

    answer = run_to_end(get)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families)
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
    }


def test_runs_viewers_and_training_runs_are_counted(scheduler: Scheduler) -> None:
    watched, paused, left = (scheduler.add(LiveRun(small_config())) for _ in range(3))
    left.last_watched = -math.inf
    with watched.lease(), watched.lease(), paused.lease():
        watched.train()
        left.train()
        seen = scraped(scheduler)
        assert (seen["moe_runs"], seen["moe_runs_training"], seen["moe_viewers"]) == (3, 1, 3)
    scheduler.remove(watched)
    seen = scraped(scheduler)
    assert (seen["moe_runs"], seen["moe_runs_training"], seen["moe_viewers"]) == (2, 0, 0)


def test_the_steps_of_all_runs_are_counted_even_after_a_run_is_removed(scheduler: Scheduler) -> None:
    runs = [scheduler.add(LiveRun(small_config(), rate=math.inf)) for _ in range(2)]
    assert scraped(scheduler)["moe_steps_total"] == 0
    scheduler.start()
    try:
        for run in runs:
            run.touch()
            run.train()
        assert eventually(lambda: min(run.steps_done for run in runs) > 20)
        rate = scraped(scheduler)["moe_steps_per_second"]
        assert rate == pytest.approx(sum(run.measured_rate for run in runs), rel=0.9)
        assert rate > 0
    finally:
        scheduler.stop()
    total = sum(run.steps_done for run in runs)
    assert scraped(scheduler)["moe_steps_total"] == total
    scheduler.remove(runs[0])
    assert scraped(scheduler)["moe_steps_total"] == total


def test_queue_lengths_and_error_counts_are_current(scheduler: Scheduler) -> None:
    line = [1, 2, 3]
    queues = {"sweeps": line.__len__, "runs": lambda: 0}
    seen = scraped(scheduler, queues, errors=7)
    assert (seen["moe_queue sweeps"], seen["moe_queue runs"], seen["moe_errors_total"]) == (3, 0, 7)
    line.clear()
    assert scraped(scheduler, queues)["moe_queue sweeps"] == 0


def test_the_memory_of_the_process_is_reported(scheduler: Scheduler) -> None:
    assert scraped(scheduler)["process_resident_memory_bytes"] > 50e6


def test_sweeps_behind_the_running_one_count_as_waiting() -> None:
    leave = threading.Event()

    def start(cells: Sequence[Cell]) -> Sweep:
        leave.wait(20)
        raise RuntimeError("enough")

    queue = SweepQueue(start)
    cells = Grid(small_config(), {"top_k": (1, 2)}, 1, 10).cells()
    try:
        assert queue.waiting == 0
        sweeps = [queue.book(cells) for _ in range(3)]
        assert queue.waiting == 2
        sweeps[1].cancel()
        assert eventually(lambda: queue.waiting == 1)
    finally:
        leave.set()
        queue.stop()
    assert queue.waiting == 0


def record(message: str, **more: object) -> logging.LogRecord:
    return logging.LogRecord("moe_sim.x", logging.ERROR, "x.py", 1, message, (), **more)  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=())))
def test_any_message_becomes_one_line_of_json(message: str) -> None:
    line = JsonLines().format(record(message, exc_info=None))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    read = json.loads(line)
    assert read["message"] == message
    assert (read["level"], read["logger"]) == ("error", "moe_sim.x")


def test_a_line_of_json_includes_the_traceback() -> None:
    try:
        raise KeyError("lost\nand gone")
    except KeyError:
        line = JsonLines().format(record("failed", exc_info=sys.exc_info()))
    assert "\n" not in line
    exception = json.loads(line)["exception"]
    assert exception.startswith("Traceback")
    assert "KeyError: 'lost\\nand gone'" in exception


NOISE = """
import logging, sys, threading, warnings
import uvicorn
from streamlit.logger import get_logger
from moe_sim.logs import ProcessLog
process_log = ProcessLog("json")
process_log.install()
get_logger("streamlit.late")
get_logger("uvicorn.error")
uvicorn.Config("x:y", access_log=False)
process_log.install()
logging.getLogger("uvicorn.error").error("one of the server")
logging.getLogger("uvicorn.error").info("198.51.100.7 came")
get_logger("streamlit.late").error("one of Streamlit")
logging.getLogger("moe_sim.live.background_run").error("one of ours")
logging.getLogger("moe_sim.app").info("ours, no error")
logging.getLogger("elsewhere").warning("a library's")
warnings.warn("mind the gap")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
assert process_log.errors == 4, process_log.errors
raise RuntimeError("the last one")
"""
"""What servers do to loggers before and after our setup, followed by every kind of log record."""


def test_with_json_logs_every_line_of_the_process_is_json() -> None:
    done = subprocess.run([sys.executable, "-c", NOISE], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    messages = [line["message"] for line in lines]
    said = ["one of the server", "one of Streamlit", "one of ours", "ours, no error", "a library's"]
    assert messages[:5] == said
    assert "mind the gap" in messages[5]
    assert messages[6:] == ["Uncaught error"] * 2
    assert "ZeroDivisionError" in lines[6]["exception"]
    assert "the last one" in lines[7]["exception"]


def test_errors_are_counted_from_several_threads() -> None:
    count, logger = ErrorCount(), logging.getLogger("tests.counted")
    logger.propagate = False
    logger.addHandler(count)
    threads = [threading.Thread(target=lambda: [logger.error("x") for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    logger.warning("not one")
    assert count.count == 800


def raised(message: str = "failed") -> logging.LogRecord:
    """The record of an error that is always raised at the same place."""
    try:
        raise KeyError("x")
    except KeyError:
        return record(message, exc_info=sys.exc_info())


def test_a_session_logs_a_few_errors_and_the_last_one_says_so() -> None:
    here: list[str | None] = ["a"]
    limit = ErrorLimit(lambda: here[0])
    records = [raised() for _ in range(5)]
    assert [limit.filter(one) for one in records] == [True, True, True, False, False]
    assert [one.getMessage() for one in records[:3]] == [
        "failed", "failed", "failed (further errors of this session are not logged)"
    ]  # fmt: skip
    assert limit.filter(records[0]), "asked again by another handler, it gives the same answer"
    assert not limit.filter(records[4])
    here[0] = "b"
    assert limit.filter(raised())
    here[0] = None
    assert all(limit.filter(raised()) for _ in range(20)), "an error of the server is always logged"
    warning = logging.LogRecord("moe_sim.x", logging.WARNING, "x.py", 1, "a warning", (), None)
    here[0] = "a"
    assert limit.filter(warning)


def test_the_same_traceback_is_logged_a_few_times_an_hour_and_then_in_one_line() -> None:
    now = [0.0]
    limit = ErrorLimit(lambda: None, lambda: now[0])
    records = [raised() for _ in range(logs.MOST_TRACEBACKS + 2)]
    assert all(limit.filter(one) for one in records)
    assert [one.exc_info is not None for one in records] == [True] * logs.MOST_TRACEBACKS + [False] * 2
    assert re.fullmatch(r"failed: KeyError, raised at .*test_monitoring\.py:\d+", records[-1].getMessage())
    try:
        raise ValueError("elsewhere")
    except ValueError:
        other = record("failed", exc_info=sys.exc_info())
    assert limit.filter(other)
    assert other.exc_info
    now[0] += logs.PERIOD + 1
    later = raised()
    assert limit.filter(later)
    assert later.exc_info


def test_the_sessions_remembered_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_SESSIONS", 10)
    sessions = iter(str(number) for number in range(100))
    limit = ErrorLimit(lambda: next(sessions))
    assert all(limit.filter(raised()) for _ in range(100))
    assert len(limit._errors) == 10
