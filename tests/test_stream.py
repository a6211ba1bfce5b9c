"""Messages for the live page: what is in them, that they join without a gap, that they stay small."""

import asyncio
import json
from base64 import b64decode

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim import RunConfig
from moe_sim.live import LiveRun
from moe_sim.stream import LETTERS, encode, live_endpoint, messages
from tests.asynchronous import run_to_end


@pytest.fixture(scope="module")
def run() -> LiveRun:
    run = LiveRun(RunConfig(aux_loss_coef=0.03))
    run.trainer.run(45)
    run.probe = run.trainer.probe()
    return run


def decoded(run: LiveRun, start: int) -> dict:
    return json.loads(encode(run, start)[1])


def test_the_first_message_holds_everything(run: LiveRun) -> None:
    message = decoded(run, 0)
    frame = run.history.to_frame()
    assert (message["from"], message["to"]) == (0, 45)
    np.testing.assert_allclose(message["rows"]["task_loss"], frame["task_loss"], rtol=1e-3)
    high, low = (np.array([LETTERS.index(c) for c in message["rows"]["smoothed_load"][i::2]]) for i in (0, 1))
    loads = np.reshape(64 * high + low, (45, 8)) / 4095
    np.testing.assert_allclose(loads, run.history.column("smoothed_load"), atol=0.5 / 4095 + 1e-9)
    assert len(message["coarse"]["grad_norm"]) == 4 * 8
    np.testing.assert_allclose(
        message["coarse"]["grad_norm"][:8], run.history.column("grad_norm")[:10].mean(0), rtol=0.005
    )


@pytest.mark.parametrize("cut", [1, 9, 10, 11, 30, 44])
def test_two_messages_join_to_the_whole(run: LiveRun, cut: int) -> None:
    whole, late = decoded(run, 0), decoded(run, cut)
    for table, width in (("rows", 1), ("coarse", 8)):
        for name, values in whole[table].items():
            tail = late[table][name]
            assert values[len(values) - len(tail) :] == tail
            assert len(tail) % width == 0
    assert len(late["rows"]["task_loss"]) == 45 - cut
    assert len(late["coarse"]["grad_norm"]) == (4 - cut // 10) * 8


@pytest.mark.parametrize("start", [-1, 46, 10**8])
def test_an_impossible_start_gives_the_whole(run: LiveRun, start: int) -> None:
    assert decoded(run, start)["from"] == 0


def test_no_message_holds_what_json_does_not_have() -> None:
    run = LiveRun(RunConfig(num_experts=64))
    run.trainer.run(3)
    text = encode(run, 0)[1]
    assert json.loads(text, parse_constant=pytest.fail)["rows"]["imbalance"] == [None, None, None]


def test_the_map_names_the_expert_of_each_held_out_token_and_who_is_dropped() -> None:
    run = LiveRun(RunConfig(capacity_factor=0.5))
    run.trainer.run(5)
    run.probe = run.trainer.probe()
    message = decoded(run, 0)
    assert [LETTERS.index(letter) for letter in message["map"]] == run.probe.expert.tolist()
    bits = np.unpackbits(np.frombuffer(b64decode(message["dropped"]), np.uint8))[:400].astype(bool)
    assert run.probe.dropped.any()
    np.testing.assert_array_equal(bits, run.probe.dropped)


@pytest.mark.parametrize("changes", [{"aux_loss_coef": 0.1}, {"capacity_factor": 0.5}, {"task": "text"}])
def test_twelve_steps_of_eight_experts_fit_in_two_kilobytes(changes: dict) -> None:
    # 12 steps are a message's share at 60 steps/s and five messages a second; 15 leave room for a late tick.
    run = LiveRun(RunConfig(**changes))
    run.trainer.run(300)
    run.probe = run.trainer.probe()
    sizes = [len(encode(run, start)[1].encode()) for start in (285, 288)]
    assert max(sizes) <= 2_000


def test_watching_holds_a_lease_and_a_moved_knob_is_sent_at_once() -> None:
    run = LiveRun(RunConfig())

    async def watch() -> None:
        stream = messages(run, 0)
        first = await anext(stream)
        assert json.loads(str(first.data))["events"] == []
        assert run._viewers == 1
        run.update(aux_loss_coef=0.1)
        second = await asyncio.wait_for(anext(stream), 5)
        assert json.loads(str(second.data))["events"][0]["label"] == "α 0 → 0.1"
        await stream.aclose()  # type: ignore[attr-defined]

    run_to_end(watch)
    assert run._viewers == 0


def test_an_unknown_run_is_not_found() -> None:
    app = Starlette(routes=[Route("/live/{run_id}", live_endpoint(lambda _: None))])

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.get("/live/nobody")

    assert run_to_end(ask).status_code == 404


def test_the_group_by_expert_matrix_is_told_in_sixty_thirds(run: LiveRun) -> None:
    shares = np.reshape([LETTERS.index(letter) / 63 for letter in decoded(run, 0)["joint"]], (12, 8))
    np.testing.assert_allclose(shares, run.probe.joint / run.probe.joint.sum(1, keepdims=True), atol=0.5 / 63 + 1e-9)
