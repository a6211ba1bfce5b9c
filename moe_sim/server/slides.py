"""Charts of live runs as slides, which the browser renders as SVG or PNG."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moe_sim.charts.scene import Scene
from moe_sim.charts.slides import comparison_slide, shown_figure, slide_figure
from moe_sim.config.run_plan import difference_in_words
from moe_sim.live.background_run import BackgroundRun
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun

LONGEST_LINK = 2_000
MOST_WAITING = 8
"""Limit of pending chart requests per run."""
NO_CHART = "There is no such chart (any more)."


def slide_endpoint(find: Callable[[str], BackgroundRun | None]) -> Callable[[Request], Any]:
    """The handler of `GET /slide/{run_id}/{name}?link=…`: a Plotly figure as JSON. `find` looks runs up.

    Drawing takes a few tenths of a second of CPU time that training needs too, so one chart is drawn at a time. To keep
    one run from filling the queue, more than `MOST_WAITING` requests for it are rejected with 503 and `Retry-After`.
    """
    drawing = asyncio.Lock()
    waiting: Counter[str] = Counter()

    async def endpoint(request: Request) -> Response:
        run = find(request.path_params["run_id"])
        if run is None:
            return JSONResponse({"error": NO_CHART}, status_code=404)
        if waiting[run.id] >= MOST_WAITING:
            return JSONResponse({"error": "Too many charts at once."}, status_code=503, headers={"Retry-After": "2"})
        waiting[run.id] += 1
        try:
            async with drawing:
                name, link = request.path_params["name"], request.query_params.get("link", "")
                text = await asyncio.to_thread(_slide, run, name, link)
        finally:
            waiting[run.id] -= 1
            if not waiting[run.id]:
                del waiting[run.id]
        if text is None:
            return JSONResponse({"error": NO_CHART}, status_code=404)
        return Response(text, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    return endpoint


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
