"""Prompts over HTTP: answered by the process that computes the run, in turn, and refused with a sentence."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from moe_sim import RunConfig
from moe_sim.config.run_plan import RunPlan
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.live.runners.pool import Pool
from moe_sim.live.shared_runs import SharedRuns
from moe_sim.processes.nursery import Nursery
from moe_sim.server import http, prompts
from moe_sim.server.prompts import MOST_WAITING, prompt_endpoint
from moe_sim.tasks.own_text import own_text
from tests.support.inspecting import eventually, small_config
from tests.tasks.test_language import TALE

MODEL = dict(task="language", num_layers=2, top_k=2, batch_tokens=64, num_experts=4)


def ask(runs: dict[str, Any], *queries: dict[str, Any], run: str = "it") -> list[httpx.Response]:
    """The responses to requests that are sent at once."""
    app = Starlette(routes=[Route(http.PROMPT_PATH, prompt_endpoint(runs.get))])

    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://lab", timeout=60) as client:
            return await asyncio.gather(*(client.get(f"/prompt/{run}", params=query) for query in queries))

    return asyncio.run(all_of_them())


def test_a_run_answers_and_a_switched_off_expert_is_weighed() -> None:
    run = LiveRun(RunConfig(**MODEL))
    run.advance_by(3)
    plain, weighed = ask({"it": run}, {"text": "The "}, {"text": "The ", "layer": 2, "expert": 4})
    assert plain.status_code == weighed.status_code == 200
    assert plain.json()["text"].startswith("The ")
    assert plain.json()["step"] == 3
    assert "loss" not in plain.json()
    assert weighed.json()["other"] in range(3)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [({"text": ""}, "Type 1 to 200"), ({}, "Type 1 to 200"), ({"text": "y" * 201}, "Type 1 to 200"),
     ({"text": "ж"}, "none of these characters"),
     ({"text": "The", "layer": "3", "expert": "1"}, "no expert 1 in layer 3"),
     ({"text": "The", "layer": "1", "expert": "9" * 8}, "no expert")],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_answered_gets_a_sentence(query: dict[str, str], sentence: str) -> None:
    [response] = ask({"it": LiveRun(RunConfig(**MODEL))}, query)
    assert response.status_code == 400
    assert sentence in response.json()["error"]


def test_other_runs_get_a_sentence_too() -> None:
    recorded = LiveRun.recorded(LiveRun(RunConfig(**MODEL)).history, None)
    for run, status, sentence in (
        (LiveRun(small_config()), 400, "Only a language model"),
        (recorded, 400, "without its model"),
        (Comparison([RunPlan(small_config())] * 2), 404, "does not exist"),
        (None, 404, "does not exist"),
    ):
        [response] = ask({"it": run}, {"text": "The"})
        assert response.status_code == status
        assert sentence in response.json()["error"]


def test_one_prompt_is_answered_at_a_time_and_more_than_a_few_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "REST", 0.0)
    busy, at_once, most = threading.Lock(), [0], [0]

    class Slow(LiveRun):
        def prompt(self, prompt: Any) -> dict[str, Any]:
            with busy:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
            threading.Event().wait(0.05)
            at_once[0] -= 1
            return {"text": prompt.text}

    responses = ask({"it": Slow(RunConfig(**MODEL))}, *({"text": str(number)} for number in range(12)))
    statuses = [response.status_code for response in responses]
    assert statuses.count(200) == MOST_WAITING + 1
    assert statuses.count(503) == 12 - MOST_WAITING - 1
    assert all("retry-after" in response.headers for response in responses if response.status_code == 503)
    assert most[0] == 1


def test_a_worker_process_learns_a_visitors_text_and_answers(nursery: Nursery) -> None:
    pool = Pool(nursery)
    pool.use(1)
    try:
        pool.begin(small_config(), ())
        assert eventually(lambda: bool(pool.processes))
        text = own_text(TALE)
        run = LiveRun(RunConfig(**MODEL, own_text=text.key), runs=SharedRuns(pool))
        assert run.worker == 1
        run.advance_by(5)
        [response] = ask({"it": run}, {"text": "Köln ж"})
        assert response.json()["text"].startswith("Köln ")
        assert set(response.json()["text"]) <= set(text.alphabet)
        alone = LiveRun(RunConfig(**MODEL, own_text=text.key))
        alone.advance_by(5)
        np.testing.assert_array_equal(alone.history.rows(), run.history.rows())
        [refused] = ask({"it": run}, {"text": "ж"})
        assert "none of these characters" in refused.json()["error"]
    finally:
        pool.stop()
