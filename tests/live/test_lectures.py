"""Lectures: how they begin, show another run and end."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from moe_sim import RunConfig
from moe_sim.live import background_run, lectures
from moe_sim.live.lectures import EXPIRY, Lectures, NoRoom
from moe_sim.live.live_run import LiveRun
from moe_sim.live.scheduler import Scheduler
from tests.support.inspecting import eventually


@pytest.fixture
def runs() -> list[LiveRun]:
    """Three runs that nobody watches."""
    made = [LiveRun(RunConfig(num_experts=2, seed=seed)) for seed in range(3)]
    for run in made:
        run.last_watched = -1e9
    return made


def left() -> bool:
    """A lecturer who is gone."""
    return False


def test_a_lecture_shows_the_run_it_began_with(runs: list[LiveRun]) -> None:
    all_of_them = Lectures()
    ids = [all_of_them.begin(run) for run in runs]
    assert [all_of_them.get(lecture_id) for lecture_id in ids] == runs


def test_a_lecture_keeps_its_address_when_it_shows_another_run(runs: list[LiveRun]) -> None:
    all_of_them = Lectures()
    mine, other = all_of_them.begin(runs[0]), all_of_them.begin(runs[1])
    all_of_them.show(mine, runs[2])
    assert all_of_them.get(mine) is runs[2]
    assert all_of_them.get(other) is runs[1]


@pytest.mark.parametrize("lecture_id", ["", "x", "../../etc/passwd", "é\x00", "x" * 100_000])
def test_an_unknown_lecture_is_none_and_showing_a_run_does_not_create_it(lecture_id: str, runs: list[LiveRun]) -> None:
    all_of_them = Lectures()
    all_of_them.begin(runs[0])
    assert all_of_them.get(lecture_id) is None
    all_of_them.show(lecture_id, runs[1])
    assert all_of_them.get(lecture_id) is None


def test_the_oldest_lecture_ends_when_there_are_too_many(runs: list[LiveRun], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lectures, "MOST_LECTURES", 3)
    all_of_them = Lectures()
    ids = [all_of_them.begin(runs[0]) for _ in range(3)]
    assert all(all_of_them.get(lecture_id) for lecture_id in ids)
    ids += [all_of_them.begin(runs[1]) for _ in range(2)]
    assert [all_of_them.get(lecture_id) for lecture_id in ids] == [None, None, runs[0], runs[1], runs[1]]
    all_of_them.show(ids[0], runs[2])
    assert all_of_them.get(ids[0]) is None


def test_a_watched_lecture_goes_on_however_many_others_begin(
    runs: list[LiveRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lectures, "MOST_LECTURES", 3)
    all_of_them = Lectures()
    with runs[0].lease():
        watched = all_of_them.begin(runs[0])
        for _ in range(20):
            all_of_them.begin(runs[1], left)
            assert all_of_them.get(watched) is runs[0]
    assert all_of_them.count == 3


def test_when_all_are_watched_another_one_is_refused_with_a_sentence(
    runs: list[LiveRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lectures, "MOST_LECTURES", 2)
    all_of_them = Lectures()
    with runs[0].lease(), runs[1].lease():
        ids = [all_of_them.begin(run) for run in runs[:2]]
        with pytest.raises(NoRoom, match=r"^There is no room for another lecture: .*\. Try again later\.$"):
            all_of_them.begin(runs[2])
        assert [all_of_them.get(lecture_id) for lecture_id in ids] == runs[:2]


def test_a_lecture_whose_lecturer_has_left_ends_before_one_whose_lecturer_is_there(
    runs: list[LiveRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lectures, "MOST_LECTURES", 2)
    all_of_them = Lectures()
    attended, deserted = all_of_them.begin(runs[0]), all_of_them.begin(runs[1], left)
    all_of_them.begin(runs[2])
    assert all_of_them.get(attended) is runs[0]
    assert all_of_them.get(deserted) is None


def test_the_memory_of_all_lectures_is_bounded(runs: list[LiveRun], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lectures, "MOST_BYTES", 2 * runs[0].nbytes)
    all_of_them = Lectures()
    ids = [all_of_them.begin(run) for run in runs]
    assert [all_of_them.get(lecture_id) for lecture_id in ids] == [None, *runs[1:]]
    monkeypatch.setattr(lectures, "MOST_BYTES", runs[0].nbytes)  # as if they had grown
    all_of_them.expire()
    assert [all_of_them.get(lecture_id) for lecture_id in ids] == [None, None, runs[2]]
    monkeypatch.setattr(lectures, "MOST_BYTES", 1)
    assert Lectures().begin(runs[0]), "a single lecture may show a run of any size"


def test_the_scheduler_ends_a_lecture_that_nobody_watches_minutes_after_its_lecturer_has_left(
    runs: list[LiveRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead[0])
    ahead = [0.0]
    for module in (lectures, background_run):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr("moe_sim.live.scheduler.IDLE_SWEEP_INTERVAL", 0.05)
    all_of_them = Lectures()
    scheduler = Scheduler(lectures=all_of_them)
    with runs[0].lease():
        watched, attended = all_of_them.begin(runs[0], left), all_of_them.begin(runs[1])
        deserted = all_of_them.begin(runs[2], left)
        scheduler.start()
        try:
            for _ in range(2):
                ahead[0] += 0.6 * EXPIRY
                ended = eventually(lambda: all_of_them.get(deserted) is None, 2)
        finally:
            scheduler.stop()
        assert ended
        assert all_of_them.get(watched) is runs[0]
        assert all_of_them.get(attended) is runs[1]


def test_lecture_ids_are_unguessable(runs: list[LiveRun]) -> None:
    all_of_them = Lectures()
    ids = {all_of_them.begin(runs[0]) for _ in range(200)}  # the earlier ones end
    assert len(ids) == 200
    assert all(len(lecture_id) >= 22 for lecture_id in ids)  # 16 bytes, 128 bits
    assert len({lecture_id[:4] for lecture_id in ids}) > 190
    assert runs[0].id not in ids


def test_lectures_can_begin_concurrently(runs: list[LiveRun]) -> None:
    all_of_them, ids = Lectures(), []
    threads = [
        threading.Thread(target=lambda: ids.extend(all_of_them.begin(runs[0]) for _ in range(25))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 100
    assert all(all_of_them.get(lecture_id) is runs[0] for lecture_id in ids)
