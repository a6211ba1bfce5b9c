"""Charts of live runs as slides, which the browser renders as SVG or PNG."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moe_sim.charts.compare import comparison_drawings
from moe_sim.charts.page import figure_names
from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import comparison_slide, shown_figure, slide_figure
from moe_sim.config.run_plan import difference_in_words
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.server.turns import Turns

LONGEST_LINK = 2_000
MOST_WAITING = 8
"""Limit of pending chart requests per run."""
MOST_IN_ALL = 500
"""Limit of all pending chart requests."""
REST = 3.0
"""Rest between two charts, as a multiple of the time that drawing the first one took."""
NO_CHART = "There is no such chart (any more)."
CLIENT_GONE = 499
"""The status, as in nginx' log, of a request whose client has disconnected; nobody receives it."""


def slide_endpoint(find: Callable[[str], BackgroundRun | None]) -> Callable[[Request], Any]:
    """The handler of `GET /slide/{run_id}/{name}?link=…`: a Plotly figure as JSON. `find` looks runs up.

    Drawing takes a few tenths of a second of CPU time that pages and training need too, so one chart is drawn at a
    time, for one run after the other, and at most a quarter of the time. Requests that need no drawing do not wait: an
    unknown name gives 404, and more than `MOST_WAITING` requests for one run, or `MOST_IN_ALL`, 503 and `Retry-After`.
    A request whose client disconnects leaves the queue.
    """
    turns = Turns()

    async def endpoint(request: Request) -> Response:
        run, name = find(request.path_params["run_id"]), request.path_params["name"]
        if run is None or not has_slide(run, name):
            return JSONResponse({"error": NO_CHART}, status_code=404)
        if turns.waiting(run.id) >= MOST_WAITING or turns.all_waiting >= MOST_IN_ALL:
            return JSONResponse({"error": "Too many charts at once."}, status_code=503, headers={"Retry-After": "2"})
        if not await _turn_has_come(turns, run.id, request):
            return Response(status_code=CLIENT_GONE)
        begun, loop = time.monotonic(), asyncio.get_running_loop()
        drawing = asyncio.ensure_future(asyncio.to_thread(_slide, run, name, request.query_params.get("link", "")))
        # Even if this request is cancelled, the turn lasts that long, and then others have the interpreter for a while.
        drawing.add_done_callback(lambda _: loop.call_later(REST * (time.monotonic() - begun), turns.end))
        text = await asyncio.shield(drawing)
        if text is None:
            return JSONResponse({"error": NO_CHART}, status_code=404)
        return Response(text, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    return endpoint


async def _turn_has_come(turns: Turns, key: str, request: Request) -> bool:
    """Waits for a turn. False if the client disconnects first; the turn is then given up."""
    turn, gone = turns.ask(key), asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait([turn, gone], return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        turns.withdraw(key, turn)
        raise
    finally:
        gone.cancel()
    if not turn.done() or gone.done():
        turns.withdraw(key, turn)
        return False
    return True


async def _disconnected(request: Request) -> None:
    """Returns once the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def has_slide(run: BackgroundRun, name: str) -> bool:
    """Whether a run's page has a figure of this name. Draws nothing."""
    if isinstance(run, Comparison):
        return name in comparison_drawings([scene_of(member) for member in run.members], "light")
    return isinstance(run, LiveRun) and name in figure_names(scene_of(run))


def scene_of(run: LiveRun) -> Scene:
    """The current state of a run, for its charts."""
    return Scene(run.history, run.config, run.probe, run.task, run.thresholds)


def _slide(run: BackgroundRun, name: str, link: str) -> str | None:
    if isinstance(run, Comparison):
        scenes = [scene_of(member) for member in run.members]
        figure = comparison_slide(name, scenes, difference_in_words(run.plans), link[:LONGEST_LINK])
    elif isinstance(run, LiveRun):
        figure = _slide_of_run(run, name, link[:LONGEST_LINK])
    else:
        return None
    return None if figure is None else str(figure.to_json())


def _slide_of_run(run: LiveRun, name: str, link: str) -> go.Figure | None:
    scene = scene_of(run)
    figure = shown_figure(scene, name)
    return None if figure is None else slide_figure(figure, scene, link)
