"""Messages for the live page: their content, their size, and that consecutive ones join without a gap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.diagnosis.verdict import diagnose
from moe_sim.history.markers import markers
from moe_sim.history.series import SIGNALS, recent_mean, signals, smoothed_imbalance
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.server import stream as stream_module
from moe_sim.server.messages import ALL_PARTS, LETTERS, encode
from moe_sim.server.stream import LiveStream
from moe_sim.teaching.other_names import METRICS
from tests.support.asynchronous import run_to_end
from tests.support.client import Client
from tests.support.inspecting import small_config

PICTURE, VIEWS = frozenset({"picture"}), frozenset({"views"})
PART_KEYS = {"picture": {"map", "dropped"}, "views": {"now", "joint", "together"}}
EXPECTED_ALWAYS = {
    "from", "to", "state", "budget", "extendable", "rate", "speed", "live", "diagnosis", "tiles",
    "rows", "coarse",
}  # fmt: skip
PAIR = 0.5 / 4095 + 1e-9
"""Rounding error of a share sent as a pair of letters."""
LETTER = 0.5 / 63 + 1e-9
"""Rounding error of a share sent as a single letter."""


def trained(config: RunConfig, steps: int) -> LiveRun:
    """A run trained without a scheduler."""
    run = LiveRun(config)
    advance(run, steps)
    return run


def advance(run: LiveRun, steps: int) -> None:
    """Continues training, then probes the routing."""
    run.advance_by(steps)
    run._computed.look(run.steps_done)


def read(run: LiveRun) -> Client:
    """A client that has just connected."""
    client = Client(run.config.num_experts)
    client.apply(encode(run, 0)[1])
    return client


@pytest.fixture(scope="module")
def run() -> LiveRun:
    return trained(RunConfig(aux_loss_coef=0.03), 45)


@pytest.fixture(scope="module")
def crowded() -> LiveRun:
    """Two experts per token and too little capacity, from a lopsided start."""
    lopsided = {"router_init": "plain", "warmup_steps": 0}
    return trained(RunConfig(top_k=2, capacity_factor=0.5, balancing="bias", **lopsided), 45)


def decoded(run: LiveRun, start: int, parts: frozenset[str] = ALL_PARTS) -> dict[str, Any]:
    return json.loads(encode(run, start, parts)[1], parse_constant=pytest.fail)


def test_the_first_message_holds_everything(run: LiveRun) -> None:
    message, client, history = decoded(run, 0), read(run), run.history
    assert (message["from"], message["to"]) == (0, 45)
    assert set(message) == EXPECTED_ALWAYS | {"events"} | PART_KEYS["picture"] | PART_KEYS["views"]
    np.testing.assert_allclose(client.rows["task_loss"], history.column("task_loss"), rtol=1e-3)
    np.testing.assert_allclose(client.rows["balance_loss"], history.column("balance_loss"), rtol=1e-3)
    ratio = smoothed_imbalance(history.layer())
    received = np.array(client.rows["imbalance"], dtype=float)  # null: ∞
    np.testing.assert_allclose(received, np.where(np.isfinite(ratio), ratio, np.nan), rtol=0.006)
    np.testing.assert_allclose(client.smoothed_load(), history.layer().column("smoothed_load"), atol=PAIR)
    for name, rounding in (("grad_norm", 0.051), ("weight_change", 0.051), ("weight_distance", 0.0051)):
        blocks = history.column(name)[:40].reshape(4, 10, 8).mean(1)
        np.testing.assert_allclose(client.blocks(name), blocks, rtol=rounding)


def test_signals_are_sent_as_one_table_in_their_order(run: LiveRun) -> None:
    # The cosine between the gradients of task loss and load-balancing loss is included, and so is the absent noise.
    received, derived = read(run).signals(), signals(run.history.layer())
    assert set(received) == set(derived)
    for name, values in derived.items():
        np.testing.assert_allclose(received[name], values, rtol=0.006, err_msg=name)
    assert np.isfinite(received["router_gradient_cosine"]).all()
    assert not received["router_noise_std"].any()


def test_an_undefined_cosine_is_null_and_the_message_stays_valid_json() -> None:
    run = trained(small_config(balancing="none"), 10)
    assert np.isnan(read(run).signals()["router_gradient_cosine"]).all()


@pytest.mark.parametrize("fixture", ["run", "crowded"])
def test_current_values_are_means_of_the_last_twenty_steps(request: pytest.FixtureRequest, fixture: str) -> None:
    run = request.getfixturevalue(fixture)
    client, history = read(run), run.history.layer()
    for name in ("load", "first_load", "importance", "processed", "preferred_load", "dropped_by_choice"):
        expected = history.column(name)[25:45].mean(0)
        expected = expected[: run.config.top_k] if name == "dropped_by_choice" else expected
        np.testing.assert_allclose(client.now(name), expected, atol=PAIR, err_msg=name)
    # The last evaluation was after step 40.
    np.testing.assert_allclose(client.now("eval_load"), history.column("eval_load")[39], atol=PAIR)
    now = client.latest["now"]
    assert now["specialization"] == pytest.approx(history.last("specialization"), rel=0.006)
    expected = [metric.compute(recent_mean(history, "load")) for metric in METRICS]
    for received, value in zip(now["metrics"], expected, strict=True):
        assert received == pytest.approx(value, rel=0.006) if np.isfinite(value) else received is None


def test_the_selection_bias_is_sent_only_if_there_is_one(run: LiveRun, crowded: LiveRun) -> None:
    assert read(run).latest["now"]["selection_bias"] == []
    bias = crowded.history.layer().last("selection_bias")
    assert np.abs(bias).max() > 0.05
    np.testing.assert_allclose(read(crowded).latest["now"]["selection_bias"], bias, rtol=0.006)


def test_tiles_are_in_thousandths_and_follow_the_thresholds(crowded: LiveRun) -> None:
    history = crowded.history
    tiles = read(crowded).latest["tiles"]
    assert tiles["dropped"] == round(1000 * history.column("dropped_fraction")[25:].mean()) > 100
    assert tiles["unserved"] == round(1000 * history.column("unserved_fraction")[25:].mean()) > 0
    collapsed = trained(RunConfig(), 100)
    load = collapsed.history.layer().last("smoothed_load")
    assert read(collapsed).latest["tiles"]["dead"] == (load < 0.1 / 8).sum() > 0
    collapsed.thresholds = Thresholds(dead_share=0.5)
    assert read(collapsed).latest["tiles"]["dead"] == (load < 0.5 / 8).sum()
    collapsed.thresholds = Thresholds(dead_share=0)
    assert read(collapsed).latest["tiles"]["dead"] == 0


def test_knobs_that_the_charts_depend_on_are_sent_with_their_current_values(crowded: LiveRun) -> None:
    assert read(crowded).latest["live"] == {
        "top_k": 2, "capacity_factor": 0.5, "capacity": 32, "balancing": "bias", "aux_loss_coef": 0, "frozen": False,
    }  # fmt: skip


@pytest.mark.parametrize("steps", [0, 1, 9])
def test_a_run_with_few_or_no_steps_gives_a_valid_message(steps: int) -> None:
    client = read(trained(small_config(top_k=2), steps))
    assert client.steps == steps
    assert client.coarse == {}
    np.testing.assert_array_equal(client.now("eval_load"), np.zeros(4))
    assert all(value is None for value in client.latest["now"]["metrics"]) == (steps == 0)
    assert (client.latest["now"]["specialization"] is None) == (steps == 0)


@pytest.mark.parametrize("cut", [1, 9, 10, 11, 30, 39, 40, 44])
def test_two_messages_join_to_the_whole_run(cut: int) -> None:
    config = small_config(aux_loss_coef=0.03, top_k=2)
    run, client = trained(config, cut), Client(4)
    client.apply(encode(run, 0)[1])
    advance(run, 45 - cut)
    client.apply(encode(run, cut)[1])
    whole = read(run)
    assert client.rows == whole.rows
    assert client.coarse == whole.coarse
    assert len(whole.rows["task_loss"]) == 45
    assert {name: len(values) for name, values in whole.coarse.items()} == {
        "grad_norm": 16, "weight_change": 16, "weight_distance": 16, "signals": 4 * len(SIGNALS),
    }  # fmt: skip


def test_a_message_without_a_new_block_of_ten_has_no_coarse_rows(run: LiveRun) -> None:
    assert decoded(run, 40)["coarse"] == {}
    assert set(decoded(run, 39)["coarse"]) == {"grad_norm", "weight_change", "weight_distance", "signals"}


@pytest.mark.parametrize("start", [-1, 46, 10**8])
def test_an_impossible_start_gives_the_whole_run(run: LiveRun, start: int) -> None:
    assert decoded(run, start)["from"] == 0


@pytest.mark.parametrize(
    "parts", [frozenset(), PICTURE, VIEWS, ALL_PARTS], ids=lambda parts: "+".join(sorted(parts)) or "none"
)
def test_a_message_holds_the_parts_that_were_asked_for(run: LiveRun, parts: frozenset[str]) -> None:
    keys = set().union(*(PART_KEYS[part] for part in parts))
    assert set(decoded(run, 40, parts)) == EXPECTED_ALWAYS | keys


def test_infinite_values_are_sent_as_null() -> None:
    run = trained(RunConfig(num_experts=64), 3)
    assert decoded(run, 0)["rows"]["imbalance"] == [None, None, None]


@pytest.mark.parametrize(
    "changes",
    [{}, {"capacity_factor": 0.5}, {"num_experts": 2}, {"num_experts": 9, "capacity_factor": 0.5}, {"num_experts": 64},
     {"task": "text", "capacity_factor": 0.5}, {"balancing": "expert_choice"}],
    ids=str,
)  # fmt: skip
def test_the_map_holds_the_expert_of_each_held_out_token_and_the_dropped_tokens(changes: dict[str, Any]) -> None:
    run = trained(RunConfig(**changes), 5)
    client, probe = read(run), run.probe.layer(0)
    tokens = len(probe.expert)
    assert len(client.latest["map"]) == (tokens if run.config.num_experts > 8 else (tokens + 1) // 2)
    assert client.experts()[:tokens] == probe.expert.tolist()
    np.testing.assert_array_equal(client.dropped(tokens), probe.dropped)
    assert probe.dropped.any() == ("capacity_factor" in changes or "balancing" in changes)


@pytest.mark.parametrize("num_experts", [8, 9])
def test_an_odd_number_of_tokens_is_sent_completely(num_experts: int) -> None:
    run = trained(RunConfig(num_experts=num_experts), 5)
    probe = replace(run.probe, expert=run.probe.expert[:, :399], dropped=np.arange(399)[None] == 398)
    run = LiveRun.recorded(run.history, probe)
    client = read(run)
    assert client.experts()[:399] == probe.expert[0].tolist()
    assert np.flatnonzero(client.dropped(399)).tolist() == [398]


def test_matrices_of_shares_are_sent_in_units_of_one_sixty_third(run: LiveRun, crowded: LiveRun) -> None:
    joint = run.probe.joint[0] / run.probe.joint[0].sum(1, keepdims=True)
    np.testing.assert_allclose(read(run).matrix("joint"), joint, atol=LETTER)
    together = crowded.probe.together[0]
    shares = read(crowded).matrix("together")
    used = np.diagonal(together) > 0
    expected = together[used] / np.diagonal(together)[used, None]
    np.testing.assert_allclose(shares[used], expected, atol=LETTER)
    # Each token has exactly one expert besides the row's, so a row without its diagonal sums to 1.
    np.testing.assert_allclose(expected.sum(1) - 1, 1)


def test_coactivation_is_sent_only_if_a_token_can_have_two_experts(run: LiveRun) -> None:
    assert decoded(run, 0)["together"] == ""
    assert decoded(trained(small_config(balancing="expert_choice"), 5), 0)["together"] != ""


RUNS = {
    "loss": {},
    "loss, top-2, capped": {"top_k": 2, "capacity_factor": 1.0},
    "bias": {"balancing": "bias", "bias_rate": 0.0},
    "bias, top-2, capped": {"balancing": "bias", "bias_rate": 0.0, "top_k": 2, "capacity_factor": 1.0},
    "expert choice, top-2": {"balancing": "expert_choice", "top_k": 2},
    "V-MoE, learned noise, top-2, capped": {
        "balancing": "importance_and_load", "router_noise": "learned", "top_k": 2, "capacity_factor": 1.0,
    },
    "Sinkhorn, capped": {"balancing": "sinkhorn", "capacity_factor": 1.0},
    "text, top-2, capped": {"task": "text", "top_k": 2, "capacity_factor": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_twelve_steps_of_eight_experts_fit_in_two_kilobytes(changes: dict[str, Any]) -> None:
    # 12 steps are a message's share at 60 steps/s and five messages a second. Measured here, the largest with the
    # picture: 1,638 (bias) to 1,803 bytes (text); with the views: 1,856 (expert choice) to 2,027 (V-MoE), and 2,043
    # for bias, top-2, capped: two blocks of ten, a marker and the longest sentences. Each further marker adds about 40
    # bytes to the messages of the 30 steps after a change.
    rescue = {"bias_rate": 0.01} if changes.get("balancing") == "bias" else {"aux_loss_coef": 0.1}
    run, sizes, start = LiveRun(RunConfig(**changes)), {}, 0
    run.train()
    with run.lease():
        for number in range(16):
            if number == 8:
                run.update(**rescue)
            run.advance_by(12)
            markers_sent = run.history.events and start < run.history.events[-1].step + 60
            for parts in (PICTURE,) if markers_sent else (PICTURE, VIEWS):  # as `messages` does
                stop, text = encode(run, start, parts)
                assert stop - start == 12
                if start:
                    sizes[parts, start] = len(text.encode())
            start = stop
    assert max(sizes.values()) <= 2_048, {(*parts, start): size for (parts, start), size in sizes.items()}
    assert min(sizes.values()) > 1_000, "the messages are nearly empty"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Streams with short intervals."""
    monkeypatch.setattr(stream_module, "INTERVAL", 0.02)
    monkeypatch.setattr(stream_module, "TICK", 0.005)


async def next_message(stream: AsyncIterator[Any]) -> dict[str, Any]:
    return json.loads(str((await asyncio.wait_for(anext(stream), 5)).data))


def parts_of(message: dict[str, Any]) -> set[str]:
    """The parts of a message, each of which must be complete."""
    parts = {part for part, keys in PART_KEYS.items() if keys & set(message)}
    assert all(PART_KEYS[part] <= set(message) for part in parts)
    return parts


def watch(run: LiveRun, story: Callable[[AsyncIterator[Any]], Any], start: int = 0) -> None:
    """Runs `story` on the stream of a run."""

    async def listen() -> None:
        stream = LiveStream(lambda _: run, Lectures()).messages(run, start)
        await story(stream)
        await stream.aclose()  # type: ignore[attr-defined]

    run_to_end(listen)


@pytest.mark.usefixtures("quick")
def test_map_and_views_alternate_during_training_and_otherwise_come_together() -> None:
    run = trained(small_config(), 3)

    async def story(stream: AsyncIterator[Any]) -> None:
        run.train()
        assert parts_of(await next_message(stream)) == ALL_PARTS
        for number in range(1, 8):
            advance(run, 2)
            assert parts_of(await next_message(stream)) == (VIEWS if number % 3 == 0 else PICTURE)
        run.pause()
        assert parts_of(await next_message(stream)) == ALL_PARTS
        advance(run, 1)  # a single step
        assert parts_of(await next_message(stream)) == ALL_PARTS

    watch(run, story)


@pytest.mark.usefixtures("quick")
def test_a_client_that_reconnects_gets_all_parts_from_its_last_step() -> None:
    run = trained(small_config(), 30)
    run.train()

    async def story(stream: AsyncIterator[Any]) -> None:
        message = await next_message(stream)
        assert (message["from"], message["to"]) == (20, 30)
        assert parts_of(message) == ALL_PARTS

    watch(run, story, 20)


def test_watching_holds_a_lease_and_a_changed_knob_is_sent_at_once() -> None:
    run = LiveRun(RunConfig())

    async def story(stream: AsyncIterator[Any]) -> None:
        assert (await next_message(stream))["events"] == []
        assert run._viewers == 1
        run.update(aux_loss_coef=0.1)
        assert (await next_message(stream))["events"] == [{"step": 0, "label": "α 0 → 0.1"}]

    watch(run, story)
    assert run._viewers == 0


@pytest.mark.usefixtures("quick")
def test_a_second_change_at_the_same_step_is_sent_too() -> None:
    run = trained(small_config(), 3)

    async def story(stream: AsyncIterator[Any]) -> None:
        await next_message(stream)
        for top_k in (2, 3):
            run.update(top_k=top_k)
            message = await next_message(stream)
            assert message["live"]["top_k"] == top_k
            assert message["events"] == [{"step": 3, "label": f"k 1 → {top_k}"}]

    watch(run, story)


@pytest.mark.usefixtures("quick")
def test_a_changed_threshold_is_sent_at_once_even_if_nothing_else_changes() -> None:
    run = trained(RunConfig(), 100)

    async def story(stream: AsyncIterator[Any]) -> None:
        first = await next_message(stream)
        assert first["diagnosis"]["state"] == "Collapsed"
        assert first["tiles"]["dead"] > 0
        run.thresholds = Thresholds(collapse_share=1, dead_share=0)
        second = await next_message(stream)
        assert (second["from"], second["to"]) == (100, 100)
        assert second["diagnosis"]["state"] == diagnose(run.history, run.config, run.thresholds).state != "Collapsed"
        assert second["tiles"]["dead"] == 0

    watch(run, story)


@pytest.mark.parametrize("seed", range(3))
def test_a_client_that_applies_deltas_has_the_same_markers_as_a_new_client(seed: int) -> None:
    random = np.random.default_rng(seed)
    run, client, resent = LiveRun(small_config()), Client(4), 0
    client.apply(encode(run, 0)[1])
    choices = {"aux_loss_coef": (0.0, 0.01, 0.1), "capacity_factor": (None, 1.0), "frozen": (False, True)}
    for _ in range(30):
        for _ in range(random.integers(0, 3)):
            name = random.choice(list(choices))
            run.update(**{name: choices[name][random.integers(len(choices[name]))]})
            advance(run, int(random.integers(0, 3)))
        advance(run, int(random.choice([0, 1, 12, 35])))
        text = encode(run, client.steps, PICTURE)[1]
        resent += "events" in json.loads(text)
        client.apply(text)
        assert client.latest["events"] == read(run).latest["events"] == [vars(one) for one in markers(run.history)]
    assert 0 < resent < 30, "markers must be sent when they change, not with every message"
    assert client.latest["events"]


def test_markers_that_no_longer_change_are_not_resent() -> None:
    run = trained(small_config(), 10)
    run.update(aux_loss_coef=0.1)
    advance(run, 40)
    assert "events" in decoded(run, 10)
    assert "events" in decoded(run, 40)
    assert "events" not in decoded(run, 41)
    assert decoded(run, 0)["events"] == [{"step": 10, "label": "α 0 → 0.1"}]


def test_an_unknown_run_gives_404() -> None:
    app = Starlette(routes=[Route("/live/{run_id}", LiveStream(lambda _: None, Lectures()).endpoint)])

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/live/nobody")

    assert run_to_end(ask).status_code == 404


def test_an_event_stream_of_an_unknown_run_says_that_it_is_gone() -> None:
    """A 404 would be an error in the visitor's console whenever a run is replaced while its stream opens."""
    app = Starlette(routes=[Route("/live/{run_id}", LiveStream(lambda _: None, Lectures()).endpoint)])

    async def ask(method: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, "/live/nobody?from=7", headers={"Accept": "text/event-stream"})

    opened = run_to_end(lambda: ask("GET"))
    assert (opened.status_code, opened.text.split()[:2]) == (200, ["event:", "gone"])
    assert run_to_end(lambda: ask("HEAD")).status_code == 404, (
        "by which the page tells a lost run from a blocked stream"
    )


def test_a_new_lecture_is_offered_to_viewers_in_the_queue() -> None:
    run, shown = LiveRun(small_config()), LiveRun(small_config(seed=1))
    run.queue_position = 1

    async def listen() -> list[list[str]]:
        offered = []
        async with aclosing(LiveStream(lambda _: run, lectures).messages(run, 0)) as stream:
            for _ in range(2):
                message = await asyncio.wait_for(anext(stream), 10)
                offered.append(json.loads(message.data)["lectures"])
                shown.touch()
                ids.append(lectures.begin(shown))
        return offered

    ids: list[str] = []
    lectures = Lectures()
    before, after = run_to_end(listen)
    assert ids[0] in after
    assert ids[0] not in before


def test_a_client_that_reads_nothing_no_longer_counts_as_a_viewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "SEND_TIMEOUT", 0.2)
    run = LiveRun(small_config())
    app = Starlette(routes=[Route("/live/{run_id}", LiveStream(lambda _: run, Lectures()).endpoint)])
    scope = {"type": "http", "method": "GET", "path": f"/live/{run.id}", "query_string": b"", "headers": []}
    sent = []

    async def send(message: Any) -> None:
        sent.append(run.viewers)
        if len(sent) > 1:  # blocks after the headers
            await asyncio.Event().wait()

    asyncio.run(asyncio.wait_for(app(scope, asyncio.Event().wait, send), 10))
    assert sent == [0, 1]
    assert run.viewers == 0


def test_every_encoded_number_has_its_own_letter() -> None:
    assert len(LETTERS) == len(set(LETTERS)) == 64
