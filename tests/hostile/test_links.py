"""Every link gives a valid run, quickly, with few and short notices."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from moe_sim import KNOBS, RunConfig
from moe_sim.config.codec import (
    MOST_EVENTS,
    events_from_text,
    events_to_text,
    from_query,
    thresholds_from_query,
    thresholds_to_query,
    to_query,
)
from moe_sim.config.errors import InvalidInput
from moe_sim.config.knobs import THRESHOLDS
from moe_sim.config.run_plan import RunPlan, changes_between, run_plan_from_text
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.sweep.grid import MOST_RUNS, parse_values
from pages.visitor.view import view_from_query
from tests.support.hostile import KEYS, TEXTS, links

TIMEOUT = 2.0
"""Time limit in seconds for the worst link of a megabyte; an idle machine takes a tenth of that."""
MOST_NOTICES = len(KNOBS) + len(THRESHOLDS) + 4 + 4 * (MOST_EVENTS + 1)
"""One for each knob, threshold and part of the view, and for each event of four runs."""
LONGEST_NOTICE = 600


def read(query: Mapping[str, str]) -> tuple[RunConfig, list[str]]:
    """Parse a link as the page does; everything parsed must survive a round trip."""
    config, notices = from_query(query)
    assert from_query(to_query(config)) == (config, [])
    plan, refused = events_from_text(query.get("events", ""), config)
    notices += refused
    assert events_from_text(events_to_text(plan), config) == (plan, [])
    thresholds, refused = thresholds_from_query(query)
    notices += refused
    assert thresholds_from_query(thresholds_to_query(thresholds)) == (thresholds, [])
    view, refused = view_from_query(query)
    notices += refused
    assert view_from_query(view.to_query()) == (view, [])
    base = RunPlan(config, plan)
    for key in "bcd":
        if key in query:
            plan, refused = run_plan_from_text(base, query[key])
            notices += refused
            assert base.changed(changes_between(base, plan)) == plan
    assert Lectures().get(query.get("follow", "")) is None
    return config, notices


def assert_few_short_notices(notices: list[str]) -> None:
    assert len(notices) <= MOST_NOTICES
    assert all(len(notice) <= LONGEST_NOTICE for notice in notices)
    # No lone surrogates, which no protocol carries, and no marks that reverse the text direction.
    assert all(notice.isprintable() for notice in notices)


@pytest.mark.parametrize("seed", range(6))
def test_a_thousand_hostile_links_each_give_a_valid_run_and_few_notices(seed: int) -> None:
    rejected = 0
    for query in links(seed, 1_000):
        _, notices = read(query)
        assert_few_short_notices(notices)
        rejected += bool(notices)
    assert rejected > 600, "hardly any link was hostile"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_can_hold_every_hostile_text(key: str) -> None:
    for text in TEXTS:
        assert_few_short_notices(read({key: text})[1])


@pytest.mark.parametrize(
    "text",
    ["9" * 1_000_000, "x" * 1_000_000, ";" * 1_000_000, "," * 1_000_000, "1:top_k=2;" * 100_000, "1:" * 500_000,
     "seed," * 200_000, "\x00" * 1_000_000, "1:top_k=" + "9" * 1_000_000, "e" + "\u0301" * 500_000],
    ids=lambda text: ascii(text[:12]),
)  # fmt: skip
def test_a_megabyte_in_any_key_is_read_quickly_and_gives_short_notices(text: str) -> None:
    for key in ("aux_loss_coef", "seed", "task", "dead_share", "events", "b", "tab", "log", "hide", "follow"):
        start = time.perf_counter()
        _, notices = read({key: text})
        assert time.perf_counter() - start < TIMEOUT, key
        assert_few_short_notices(notices)
        assert sum(map(len, notices)) < 30_000


def test_the_maximum_number_of_events_in_all_runs_is_read_quickly() -> None:
    good = ";".join(f"{7 * i}:{name}" for i in range(50) for name in ("top_k=2", "aux_loss_coef=0.1"))
    bad = ";".join(f"{7 * i + 1}:top_k={99 if i % 2 else 3}" for i in range(200))
    start = time.perf_counter()
    _, notices = read({"events": good, "b": bad, "c": bad, "d": good})
    assert time.perf_counter() - start < TIMEOUT
    assert 100 <= len(notices) <= MOST_NOTICES


@pytest.mark.parametrize("task", ["topics", "text"])
def test_the_most_expensive_run_that_a_link_can_request_takes_a_step(task: str) -> None:
    query = {"task": task, "num_experts": "64", "top_k": "8", "batch_tokens": "2048", "expert_hidden_size": "256"}
    config, notices = read(query)
    assert notices == []
    run = LiveRun(config)
    run.advance_by(1)
    assert len(run.history) == 1


@pytest.mark.parametrize(
    "text",
    ["0..1:1000," * 2_000, "0..1:1000:log", "0..1:99999", "0..10:" + "9" * 5000, "," * 1_000_000, "0.." * 300_000,
     "9" * 1_000_000],
    ids=lambda text: ascii(text[:12]),
)  # fmt: skip
def test_an_oversized_list_of_sweep_values_is_rejected_quickly(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InvalidInput) as error:
        parse_values("aux_loss_coef", text)
    assert time.perf_counter() - start < 4 * TIMEOUT
    assert_few_short_notices([str(error.value)])


def test_a_list_of_values_is_limited_to_the_maximum_number_of_runs() -> None:
    assert len(parse_values("seed", f"0..{MOST_RUNS - 1}")) == MOST_RUNS
    with pytest.raises(InvalidInput, match=f"more than {MOST_RUNS:,} values"):
        parse_values("seed", f"0..{MOST_RUNS - 1},7")
