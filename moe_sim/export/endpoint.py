"""A chart of a live run as a slide, for the browser to draw as SVG or PNG."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moe_sim.charts import Scene
from moe_sim.comparison import Comparison
from moe_sim.export.slides import comparison_slide, shown_figures, slide_figure
from moe_sim.live import LiveRun
from moe_sim.playback import Playback
from moe_sim.variants import difference_in_words

LONGEST_LINK = 2_000


def slide_endpoint(find: Callable[[str], Playback | None]) -> Callable[[Request], Any]:
    """The handler of `GET /slide/{run_id}/{name}?link=…`: a Plotly figure as JSON. `find` looks runs up."""

    async def endpoint(request: Request) -> Response:
        run = find(request.path_params["run_id"])
        text = await asyncio.to_thread(_slide, run, request.path_params["name"], request.query_params.get("link", ""))
        if text is None:
            return JSONResponse({"error": "There is no such chart (any more)."}, status_code=404)
        return Response(text, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    return endpoint


def scene_of(run: LiveRun) -> Scene:
    """What there is to draw of a run as it is now."""
    return Scene(run.history, run.config, run.probe, run.task, run.thresholds)


def _slide(run: Playback | None, name: str, link: str) -> str | None:
    if isinstance(run, Comparison):
        scenes = [scene_of(member) for member in run.members]
        figure = comparison_slide(name, scenes, difference_in_words(run.variants), link[:LONGEST_LINK])
    elif isinstance(run, LiveRun):
        figure = _slide_of_run(run, name, link[:LONGEST_LINK])
    else:
        return None
    return None if figure is None else str(figure.to_json())


def _slide_of_run(run: LiveRun, name: str, link: str) -> go.Figure | None:
    scene = scene_of(run)
    figure = shown_figures(scene).get(name)
    return None if figure is None else slide_figure(figure, scene, link)
