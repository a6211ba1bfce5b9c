"""A visitor's prompt to the language model of a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moe_sim.config.errors import UserError
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.live_run import LiveRun
from moe_sim.server.stream import whole_number
from moe_sim.server.turns import Turns
from moe_sim.trainer.prompting import Prompt

MOST_WAITING = 4
"""Limit of pending prompts per run."""
MOST_IN_ALL = 200
"""Limit of all pending prompts."""
REST = 4.0
"""Rest between two answers, as a multiple of the time that the first one took."""


def prompt_endpoint(find: Callable[[str], BackgroundRun | None]) -> Callable[[Request], object]:
    """The handler of `GET /prompt/{run_id}?text=…&layer=…&expert=…`, where layer and expert, counted from 1, name one
    that is switched off. `find` looks runs up.

    An answer takes some tenths of a second of the time in which the run's process trains. So one prompt is answered at
    a time, in turn over runs, and at most a fifth of the time; more than `MOST_WAITING` of one run, or `MOST_IN_ALL`,
    get 503 and `Retry-After`. A prompt that cannot be answered gets 400 and a sentence.
    """
    turns = Turns()

    async def endpoint(request: Request) -> Response:
        run, query = find(request.path_params["run_id"]), request.query_params
        if not isinstance(run, LiveRun):
            return JSONResponse({"error": "This run does not exist or has ended."}, status_code=404)
        layer, expert = (whole_number(query.get(name, "")) for name in ("layer", "expert"))
        try:
            prompt = Prompt(query.get("text", ""), (layer - 1, expert - 1) if layer and expert else None)
        except UserError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        if turns.waiting(run.id) >= MOST_WAITING or turns.all_waiting >= MOST_IN_ALL:
            return JSONResponse({"error": "Too many prompts at once."}, status_code=503, headers={"Retry-After": "2"})
        turn = turns.ask(run.id)
        try:
            await turn
        except asyncio.CancelledError:
            turns.withdraw(run.id, turn)
            raise
        begun, loop = time.monotonic(), asyncio.get_running_loop()
        work = asyncio.ensure_future(asyncio.to_thread(run.prompt, prompt))
        work.add_done_callback(lambda _: loop.call_later(REST * (time.monotonic() - begun), turns.end))
        try:
            return JSONResponse(await asyncio.shield(work))
        except UserError as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return endpoint
