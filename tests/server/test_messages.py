"""What a browser is told of runs side by side, and the slides that it can have of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim import RunConfig
from moe_sim.charts.compare import comparison_figures
from moe_sim.config.comparison_presets import COMPARISONS
from moe_sim.config.run_plan import RunPlan, difference_in_words
from moe_sim.diagnosis.deaths import deaths, in_words
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.comparison import Comparison
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.server import stream as stream_module
from moe_sim.server.messages import LETTERS, encode_comparison
from moe_sim.server.slides import scene_of, slide_endpoint
from moe_sim.server.stream import LiveStream
from tests.support.asynchronous import run_to_end
from tests.support.client import Client, letter_pairs
from tests.support.comparing import advance, side_by_side
from tests.support.inspecting import small_config

DIVERGING = {0: {"learning_rate": 1000.0}}
LARGEST = 2_000
"""Bytes for each run in a message at 60 steps/s, which is twelve steps five times a second; 1,550 were measured."""


class Clients:
    """Follows a comparison as pages/dashboard/js/compare.js does: one client for each run."""

    def __init__(self, comparison: Comparison) -> None:
        self.members = [Client(member.config.num_experts) for member in comparison.members]
        self.steps = 0

    def apply(self, text: str) -> dict[str, Any]:
        message = json.loads(text, parse_constant=pytest.fail)
        assert message["from"] <= self.steps, "a gap"
        for client, member in zip(self.members, message["members"], strict=True):
            client.apply(json.dumps(member))
        self.steps = message["to"]
        return message

    def check(self, comparison: Comparison) -> None:
        """That each run is known as it is."""
        for client, member in zip(self.members, comparison.members, strict=True):
            history = member.history
            assert client.steps == len(history)
            np.testing.assert_allclose(client.rows["task_loss"], history.column("task_loss"), rtol=1e-3)
            np.testing.assert_allclose(client.smoothed_load(), history.layer().column("smoothed_load"), atol=2e-4)
            told = deaths(history.layer(), comparison.thresholds.dead_share)
            assert client.latest["timeline"]["words"] == in_words(history.layer(), told)
            assert client.latest["timeline"]["spells"] == [[[*spell] for spell in spells] for spells in told.spells]


def decoded(comparison: Comparison, start: int) -> dict[str, Any]:
    stop, text = encode_comparison(comparison, start)
    message = json.loads(text)
    assert message["to"] == stop
    return message


def test_a_message_tells_state_and_steps_of_all_and_the_rows_of_each() -> None:
    comparison = advance(side_by_side({0: {"num_experts": 6}}, {3: {"aux_loss_coef": 0.1}}), 12)
    message = decoded(comparison, 0)
    assert (message["from"], message["to"], message["state"]) == (0, 12, "paused")
    assert (message["budget"], message["rate"]) == (2000, 60)
    assert [member["to"] for member in message["members"]] == [12, 12, 12]
    assert [member["events"] for member in message["members"]] == [[], [], [{"step": 3, "label": "α 0 → 0.1"}]]
    for member in message["members"]:
        assert not {"now", "joint", "together"} & set(member), "pictures that nobody sees"
        assert member["diagnosis"]["state"]
    later = decoded(comparison, 10)
    assert [member["from"] for member in later["members"]] == [10, 10, 10]
    assert [len(member["rows"]["task_loss"]) for member in later["members"]] == [2, 2, 2]


def test_a_comparison_that_has_not_begun_can_be_told() -> None:
    comparison = side_by_side({})
    clients = Clients(comparison)
    message = clients.apply(encode_comparison(comparison, 0)[1])
    assert (message["to"], message["state"]) == (0, "ready")
    clients.check(comparison)


@pytest.mark.parametrize("start", [-5, 13, 10**9])
def test_who_asks_for_steps_that_are_not_there_is_told_everything(start: int) -> None:
    assert decoded(advance(side_by_side({}), 12), start)["from"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_messages_join_without_a_gap_whenever_they_are_made(seed: int) -> None:
    random = np.random.default_rng(seed)
    comparison = side_by_side({0: {"num_experts": 9}}, DIVERGING, {5: {"top_k": 2}})
    clients = Clients(comparison)
    for _ in range(12):
        advance(comparison, int(random.integers(0, 9)))
        ahead = [member for member in comparison.members[: random.integers(0, 3)] if not member.diverged]
        for member in ahead:  # a message may be made amid a step
            member.advance_by(1)
        clients.apply(encode_comparison(comparison, max(0, clients.steps - int(random.integers(0, 4))))[1])
        for member in comparison.members:
            if member not in ahead and ahead and not member.diverged:
                member.advance_by(1)
    clients.apply(encode_comparison(comparison, clients.steps)[1])
    clients.check(comparison)


def test_a_step_that_only_some_have_done_is_not_yet_done() -> None:
    comparison = advance(side_by_side({}), 4)
    comparison.members[0].advance_by(1)
    message = decoded(comparison, 0)
    assert message["to"] == 4
    assert [member["to"] for member in message["members"]] == [5, 4]


def test_a_diverged_run_is_told_to_its_end_while_the_others_go_on() -> None:
    comparison = advance(side_by_side(DIVERGING), 40)
    end = comparison.members[1].steps_done
    message = decoded(comparison, 0)
    assert message["state"] == "paused"
    assert message["to"] == message["members"][0]["to"] == 40
    assert (message["members"][1]["to"], message["members"][1]["state"]) == (end, "diverged")
    later = decoded(comparison, 40)
    assert (later["members"][1]["from"], later["members"][1]["to"]) == (end, end)
    assert later["members"][1]["rows"]["task_loss"] == []


def test_when_all_have_diverged_the_message_ends_with_the_last_of_them() -> None:
    comparison = advance(side_by_side({0: {"seed": 1}}, learning_rate=1000.0), 60)
    assert comparison.diverged
    assert decoded(comparison, 0)["to"] == comparison.steps_done
    assert decoded(comparison, comparison.steps_done)["from"] == comparison.steps_done


def test_messages_stay_small() -> None:
    comparison = advance(Comparison(COMPARISONS["four-alphas"].plans()), 40)
    start = comparison.steps_done
    sizes = []
    for _ in range(3):
        advance(comparison, 12)
        start, text = encode_comparison(comparison, start)
        sizes.append(len(text.encode()))
    assert max(sizes) <= LARGEST * len(comparison.members)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stream that does not let one wait."""
    monkeypatch.setattr(stream_module, "INTERVAL", 0.02)
    monkeypatch.setattr(stream_module, "TICK", 0.005)


@pytest.mark.usefixtures("quick")
def test_the_stream_tells_the_rest_of_a_step_that_it_looked_into() -> None:
    comparison = advance(side_by_side({}), 4)

    async def story() -> None:
        stream = LiveStream(lambda _: comparison, Lectures()).messages(comparison, 0)

        async def told() -> list[int]:
            message = json.loads(str((await asyncio.wait_for(anext(stream), 5)).data))
            return [member["to"] for member in message["members"]]

        assert await told() == [4, 4]
        assert comparison._viewers == 1
        comparison.members[0].advance_by(1)
        assert await told() == [5, 4]
        comparison.members[1].advance_by(1)
        assert await told() == [5, 5]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(stream), 0.2)

    run_to_end(story)


@pytest.mark.usefixtures("quick")
def test_a_knob_moved_in_any_run_is_told_at_once() -> None:
    comparison = advance(side_by_side({}), 4)

    async def story() -> None:
        stream: AsyncIterator[Any] = LiveStream(lambda _: comparison, Lectures()).messages(comparison, 4)
        await asyncio.wait_for(anext(stream), 5)
        comparison.update(1, aux_loss_coef=0.1)
        message = json.loads(str((await asyncio.wait_for(anext(stream), 5)).data))
        assert [member["events"] for member in message["members"]] == [[], [{"step": 4, "label": "α 0 → 0.1"}]]
        await stream.aclose()  # type: ignore[attr-defined]

    run_to_end(story)
    assert comparison._viewers == 0


def fetch(run: BackgroundRun | None, *paths: str) -> list[httpx.Response]:
    """Ask the endpoints for things of a run that is known as `it`."""

    def find(run_id: str) -> BackgroundRun | None:
        return run if run_id == "it" else None

    app = Starlette(
        routes=[
            Route("/slide/{run_id}/{name}", slide_endpoint(find)),
            Route("/live/{run_id}", LiveStream(find, Lectures()).endpoint),
        ]
    )

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return [await client.get(path) for path in paths]

    return run_to_end(ask)


@pytest.mark.parametrize("count", [2, 4])
def test_every_figure_of_a_comparison_can_be_had_as_a_slide(count: int) -> None:
    others: list[dict[int, dict[str, Any]]] = [DIVERGING, {0: {"num_experts": 20}}, {5: {"top_k": 2}}]
    comparison = advance(side_by_side(*others[: count - 1]), 12)
    drawn = comparison_figures([scene_of(member) for member in comparison.members])
    names = [name for name in drawn if count == 2 or not name.endswith(("_A", "_B", "_C"))]
    answers = fetch(
        comparison, *(f"/slide/it/{name}?link=https%3A%2F%2Flab.example%2F%3Fb%3D%3Ci%3E" for name in names)
    )
    for name, answer in zip(names, answers, strict=True):
        assert answer.status_code == 200, name
        slide = answer.json()
        assert (slide["layout"]["width"], slide["layout"]["height"]) == (1600, 900)
        small_print = slide["layout"]["annotations"][-1]["text"].replace("<br>", " ")
        assert "b=&lt;i&gt;" in small_print
        if name.startswith("compare_"):
            assert difference_in_words(comparison.plans).split(" (")[0] in small_print
        else:
            letter = name[-1]
            assert slide["layout"]["title"]["text"].startswith(f"{letter}: ")
            assert f"step {comparison.members['ABCD'.index(letter)].steps_done}" in small_print


def test_slides_that_are_not_there_are_not_found() -> None:
    comparison = side_by_side({})
    unknown = fetch(comparison, "/slide/it/utilization", "/slide/it/utilization_C", "/slide/nobody/compare_timeline")
    assert [answer.status_code for answer in unknown] == [404] * 3
    assert fetch(LiveRun(small_config()), "/slide/it/compare_timeline")[0].status_code == 404
    assert fetch(comparison, "/live/nobody")[0].status_code == 404


def test_a_slide_of_runs_that_have_not_begun_can_be_had() -> None:
    comparison = Comparison([RunPlan(small_config())] * 2)
    names = comparison_figures([scene_of(member) for member in comparison.members])
    assert {answer.status_code for answer in fetch(comparison, *(f"/slide/it/{name}" for name in names))} == {200}


def test_every_run_with_positions_sends_the_experts_of_its_tokens() -> None:
    comparison = advance(Comparison([RunPlan(RunConfig(seed=2)), RunPlan(RunConfig(seed=2, aux_loss_coef=0.1))]), 30)
    parts = json.loads(encode_comparison(comparison, comparison.steps_done)[1])["members"]
    for part, member in zip(parts, comparison.members, strict=True):
        pairs = [LETTERS.index(letter) for letter in part["map"]]
        assert [expert for pair in pairs for expert in divmod(pair, 8)] == member.probe.layer(0).expert.tolist()
    assert parts[0]["map"] != parts[1]["map"]


def test_before_the_first_step_every_run_says_where_its_tokens_would_go() -> None:
    comparison = Comparison(COMPARISONS["top-k"].plans(3))
    _, text = encode_comparison(comparison, 0)
    for part, member in zip(json.loads(text)["members"], comparison.members, strict=True):
        shares = np.bincount(member.probe.layer(0).expert, minlength=8) / 400
        np.testing.assert_allclose(letter_pairs(part["start_load"]), shares, atol=2e-4)
    advance(comparison, 1)
    assert "start_load" not in encode_comparison(comparison, 0)[1]
