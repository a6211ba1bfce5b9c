"""A chart of a live run as a slide, for the browser to draw as SVG or PNG."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moe_sim.charts import Scene
from moe_sim.export.slides import shown_figures, slide_figure
from moe_sim.live import LiveRun

LONGEST_LINK = 2_000


def slide_endpoint(find: Callable[[str], LiveRun | None]) -> Callable[[Request], Any]:
    """The handler of `GET /slide/{run_id}/{name}?link=…`: a Plotly figure as JSON. `find` looks runs up."""

    async def endpoint(request: Request) -> Response:
        run = find(request.path_params["run_id"])
        text = await asyncio.to_thread(_slide, run, request.path_params["name"], request.query_params.get("link", ""))
        if text is None:
            return JSONResponse({"error": "There is no such chart (any more)."}, status_code=404)
        return Response(text, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    return endpoint


def _slide(run: LiveRun | None, name: str, link: str) -> str | None:
    if run is None:
        return None
    scene = Scene(run.history, run.config, run.probe, run.trainer.task, run.thresholds)
    figure = shown_figures(scene).get(name)
    return None if figure is None else str(slide_figure(figure, scene, link[:LONGEST_LINK]).to_json())
