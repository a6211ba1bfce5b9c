"""Lectures: how they begin, show another run and end."""

from __future__ import annotations

import threading

import pytest

from moe_sim import RunConfig
from moe_sim.live import lectures
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun


@pytest.fixture(scope="module")
def runs() -> list[LiveRun]:
    return [LiveRun(RunConfig(num_experts=2, seed=seed)) for seed in range(3)]


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


def test_lecture_ids_are_unguessable(runs: list[LiveRun]) -> None:
    all_of_them = Lectures()
    ids = {all_of_them.begin(runs[0]) for _ in range(200)}
    assert len(ids) == 200
    assert all(len(lecture_id) >= 22 for lecture_id in ids)  # 16 bytes, 128 bits
    assert len({lecture_id[:4] for lecture_id in ids}) > 190
    assert runs[0].id not in ids


def test_lectures_can_begin_concurrently(runs: list[LiveRun]) -> None:
    all_of_them, ids = Lectures(), []
    threads = [
        threading.Thread(target=lambda: ids.extend(all_of_them.begin(runs[0]) for _ in range(50))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 200
    assert all(all_of_them.get(lecture_id) is runs[0] for lecture_id in ids)
