"""One visitor who takes all they can get, from outside, against a real server with small limits; and others beside."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.bench.load_clients import Viewer
from tests.support.asynchronous import run_to_end
from tests.support.raw_session import RawSession, raw_session
from tests.support.serving import launch, wait_until_healthy
from tests.support.sweeping import PATIENCE

SLOTS, LECTURES, GRACE, TURN, SWEEP_TURN = 4, 4, 2.0, 6.0, 3.0
LARGEST_RUN = "num_experts=64&top_k=8&batch_tokens=2048&expert_hidden_size=256"
SMALL_LIMITS = f"""
import os
os.environ |= {{"MOE_SIM_RUNS": "{SLOTS}", "MOE_SIM_WORKERS": "1", "MOE_SIM_SWEEP_SECONDS": "240"}}
from moe_sim.live import admission, background_run, lectures
from moe_sim.sweep import queue
lectures.MOST_LECTURES, background_run.DESERTED_AFTER, admission.TIME_LIMIT = {LECTURES}, {GRACE}, {TURN}
queue.TURN = {SWEEP_TURN}
from streamlit.web.cli import main
main()
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with launch(log, starter=("-c", SMALL_LIMITS)) as (address, server):
        wait_until_healthy(address, server)
        yield address
        assert "Traceback" not in Path(log).read_text(encoding="utf-8")


def watching(address: str, run_id: str, seconds: float = 60) -> tuple[Viewer, asyncio.Task[None]]:
    """A stream of a run that stays open."""
    viewer, parts = Viewer(), urlsplit(address)
    return viewer, asyncio.create_task(viewer.watch(str(parts.hostname), int(parts.port or 80), run_id, seconds))


async def steps_within(viewer: Viewer, steps: int, seconds: float) -> bool:
    """Whether a viewer has seen so many steps within the time."""
    for _ in range(int(20 * seconds)):
        if viewer.arrivals and viewer.arrivals[-1][1] >= steps:
            return True
        await asyncio.sleep(0.05)
    return False


async def lecture_of(session: RawSession) -> str:
    """Starts a lecture as the Share dialog does, and returns the query of its link; empty if there is none."""
    for label in ("Share", "Start a lecture", "Share"):
        await session.run(press=label)
    found = re.search(r"follow=[\w-]+", " ".join(session.texts))
    return found.group() if found else ""


def test_a_lecture_that_a_class_watches_outlasts_those_of_a_visitor_who_begins_many(address: str) -> None:
    async def story() -> None:
        async with raw_session(address) as teacher:
            link = await lecture_of(teacher)
            async with raw_session(address, link) as student:
                assert student.run_id == teacher.run_id
                _, stream = watching(address, student.run_id)
                begun = 0
                for seed in range(2 * LECTURES):
                    async with raw_session(address, f"seed={seed}") as spoiler:
                        begun += bool(await lecture_of(spoiler))
                assert begun == 2 * LECTURES, "the ones that nobody watches make room for one another"
                await student.run()
                assert student.run_id == teacher.run_id
                assert not [text for text in student.texts if "lecture has ended" in text]
                async with raw_session(address, link) as late:
                    assert late.run_id == teacher.run_id
                stream.cancel()

    run_to_end(story)


def test_when_all_lectures_are_watched_the_next_lecturer_reads_a_sentence(address: str) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            streams = []
            for seed in range(LECTURES):
                lecturer = await stack.enter_async_context(raw_session(address, f"seed={seed}"))
                streams.append(watching(address, lecturer.run_id)[1])
                assert await lecture_of(lecturer)
            async with raw_session(address) as another:
                assert await lecture_of(another) == ""
                assert [text for text in another.texts if text.startswith("There is no room for another lecture")]
            for stream in streams:
                stream.cancel()

    run_to_end(story)


def test_streams_whose_sessions_are_closed_keep_nobody_from_training(address: str) -> None:
    async def story() -> None:
        streams = []
        for seed in range(3 * SLOTS):
            async with raw_session(address, f"autoplay=1&seed={seed}") as spoiler:
                streams.append(watching(address, spoiler.run_id)[1])
        async with raw_session(address, "autoplay=1&seed=99") as newcomer:
            viewer, stream = watching(address, newcomer.run_id)
            assert await steps_within(viewer, 5, GRACE + 2)
            for one in (*streams, stream):
                one.cancel()

    run_to_end(story)


def test_a_newcomer_trains_in_turn_while_others_hold_every_place(address: str) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            viewers, streams = [], []
            for seed in range(SLOTS + 1):
                session = await stack.enter_async_context(raw_session(address, f"autoplay=1&seed={100 + seed}"))
                viewer, stream = watching(address, session.run_id)
                viewers.append(viewer)
                streams.append(stream)
            newcomer = viewers[-1]
            assert not await steps_within(newcomer, 1, TURN / 3), "all places are taken"
            assert await steps_within(newcomer, 5, TURN + 2)
            before = [viewer.arrivals[-1][1] for viewer in viewers]
            await asyncio.sleep(2 * TURN)
            after = [viewer.arrivals[-1][1] for viewer in viewers]
            assert all(now > then for now, then in zip(after, before, strict=True)), "and they have theirs again"
            for one in streams:
                one.cancel()

    run_to_end(story)


async def until_it_says(session: RawSession, words: str, seconds: float) -> bool:
    """Runs the script of the page until it has written some words."""
    deadline = time.monotonic() + seconds
    while not (said := any(words in text for text in session.texts)) and time.monotonic() < deadline:
        await asyncio.sleep(0.25)
        await session.run()
    return said


async def until_all_have_said(words: str, sessions: Sequence[RawSession], seconds: float) -> bool:
    """Runs the scripts of all pages, as their browsers do, until each has written some words at some time."""
    deadline, silent = time.monotonic() + seconds, list(sessions)
    while silent and time.monotonic() < deadline:
        await asyncio.gather(*(session.run() for session in sessions))
        silent = [session for session in silent if not any(words in text for text in session.texts)]
        await asyncio.sleep(0.25)
    return not silent


async def until_started(session: RawSession, seconds: float) -> bool:
    """Presses Start until the sweep is queued: that may have to wait until its duration is measured."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        await session.run(press="Start")
        if any("of 84 runs" in text or "Queued: " in text for text in session.texts):
            return True
        await asyncio.sleep(1)
    return False


def test_the_sweep_page_of_the_largest_configuration_comes_at_once_and_says_what_it_measures(address: str) -> None:
    async def story() -> None:
        async with raw_session(address, f"{LARGEST_RUN}&seed=1") as first, raw_session(address) as second:
            await first.run(page="sweep", seconds=4)
            assert await until_it_says(first, "measuring how long they take …", 0.1)
            await second.run(seconds=2)
            assert await until_it_says(first, "would take", PATIENCE)
        async with raw_session(address, f"{LARGEST_RUN}&seed=2") as third:
            await third.run(page="sweep", seconds=4)
            assert await until_it_says(third, "would take", 0.1), "measured already, for another seed"

    run_to_end(story)


def test_nobody_waits_for_the_whole_sweep_of_another_and_one_that_is_too_long_is_refused(address: str) -> None:
    async def story() -> None:
        async with raw_session(address, f"{LARGEST_RUN}&seed=1") as spoiler, raw_session(address) as busy, \
                raw_session(address, "num_experts=4&batch_tokens=64") as other:  # fmt: skip
            await spoiler.run(page="sweep")
            await spoiler.run(press="Start")
            assert await until_it_says(spoiler, "would take", PATIENCE)
            sessions = (busy, other)
            for session in sessions:
                await session.run(page="sweep")
                assert await until_started(session, PATIENCE)
            # Both have their turn, and wait for the other again.
            for words in ("of 84 runs, ", "of 84 runs so far.", "of 84 runs, ", "of 84 runs so far."):
                assert await until_all_have_said(words, sessions, PATIENCE)
            for session in sessions:
                await session.run(press="Cancel")

    run_to_end(story)
