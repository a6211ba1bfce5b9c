"""Charts of live runs as slides, which the browser renders as SVG or PNG."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from moe_sim.server.messages import shown_layer
from moe_sim.server.stream import layer_in
from moe_sim.server.turns import Turns
from moe_sim.server.warm_up import load_pandas

LONGEST_LINK = 2_000
MOST_WAITING = 8
"""Limit of pending chart requests per run."""
MOST_IN_ALL = 500
"""Limit of all pending chart requests."""
REST = 6.0
"""Rest between two charts, as a multiple of the time that drawing the first one took."""
NO_CHART = "There is no such chart (any more)."
CLIENT_GONE = 499
"""The status, as in nginx' log, of a request whose client has disconnected; nobody receives it."""


def slide_endpoint(find: Callable[[str], BackgroundRun | None]) -> Callable[[Request], Any]:
    """The handler of `GET /slide/{run_id}/{name}?link=…&layer=…`: a Plotly figure as JSON. `find` looks runs up.

    Drawing takes a few tenths of a second of CPU time that pages and training need too, so one chart is drawn at a
    time, for one run after the other, and at most a seventh of the time. A class that asks for the same chart at once
    gets one drawing. Requests that need none do not wait: an unknown name gives 404, and more than `MOST_WAITING`
    charts of one run, or `MOST_IN_ALL`, 503 and `Retry-After`. What no client waits for any more leaves the queue.
    """
    drawings = _Drawings()

    async def endpoint(request: Request) -> Response:
        run, name = find(request.path_params["run_id"]), request.path_params["name"]
        layer = layer_in(request)
        if run is None or not has_slide(run, name):
            return JSONResponse({"error": NO_CHART}, status_code=404)
        drawing = drawings.of(run, name, request.query_params.get("link", ""), layer)
        if drawing is None:
            return JSONResponse({"error": "Too many charts at once."}, status_code=503, headers={"Retry-After": "2"})
        with drawing.wanted():
            gone = asyncio.ensure_future(_disconnected(request))
            await asyncio.wait([drawing.task, gone], return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not drawing.task.done():
                return Response(status_code=CLIENT_GONE)
            text = await drawing.task
        if text is None:
            return JSONResponse({"error": NO_CHART}, status_code=404)
        return Response(text, media_type="application/json", headers={"X-Content-Type-Options": "nosniff"})

    return endpoint


class _Drawing:
    """A chart that is being drawn, or waits for its turn, while some client wants it."""

    task: asyncio.Task[str | None]

    def __init__(self, turn: asyncio.Future[None]) -> None:
        self.turn = turn
        self.begun = False
        """Whether it has used its turn."""
        self._clients = 0

    @contextmanager
    def wanted(self) -> Iterator[None]:
        """Counts a client until the context ends."""
        self._clients += 1
        try:
            yield
        finally:
            self._clients -= 1
            if not self._clients:
                self.task.cancel()


class _Drawings:
    """The charts that clients wait for."""

    def __init__(self) -> None:
        self._turns = Turns()
        self._known: dict[tuple[str, str, str, int | None], _Drawing] = {}

    def of(self, run: BackgroundRun, name: str, link: str, layer: int | None) -> _Drawing | None:
        """A chart of a run, the one that is being drawn already if there is one; None if too many wait."""
        key = (run.id, name, link, layer)
        known = self._known.get(key)
        if known is not None and not known.task.cancelling():
            return known
        if self._turns.waiting(run.id) >= MOST_WAITING or self._turns.all_waiting >= MOST_IN_ALL:
            return None
        drawing = self._known[key] = _Drawing(self._turns.ask(run.id))
        drawing.task = asyncio.ensure_future(self._draw(run, name, link, layer, drawing))

        def end(_: asyncio.Task[str | None]) -> None:
            if not drawing.begun:
                self._turns.withdraw(run.id, drawing.turn)
            if self._known.get(key) is drawing:
                del self._known[key]

        drawing.task.add_done_callback(end)
        return drawing

    async def _draw(
        self, run: BackgroundRun, name: str, link: str, layer: int | None, drawing: _Drawing
    ) -> str | None:  # fmt: skip
        await asyncio.wait([drawing.turn])
        drawing.begun = True
        begun, loop = time.monotonic(), asyncio.get_running_loop()
        text = asyncio.ensure_future(asyncio.to_thread(_slide, run, name, link, layer))
        # Even if this task is cancelled, the turn lasts that long, and then others have the interpreter for a while.
        text.add_done_callback(lambda _: loop.call_later(REST * (time.monotonic() - begun), self._turns.end))
        return await asyncio.shield(text)


async def _disconnected(request: Request) -> None:
    """Returns once the client has disconnected."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def has_slide(run: BackgroundRun, name: str) -> bool:
    """Whether a run's page has a figure of this name. Draws nothing."""
    if isinstance(run, Comparison):
        return name in comparison_drawings([scene_of(member) for member in run.members], "light")
    return isinstance(run, LiveRun) and name in figure_names(scene_of(run))


def scene_of(run: LiveRun, layer: int | None = None) -> Scene:
    """The current state of a run, for the charts of a layer or of all."""
    history = run.history
    return Scene(history, run.config, run.probe, run.task, run.thresholds, shown_layer(history, layer))


def _slide(run: BackgroundRun, name: str, link: str, layer: int | None) -> str | None:
    load_pandas()  # a curve is smoothed with it, and Plotly must not meet it half loaded
    if isinstance(run, Comparison):
        scenes = [scene_of(member, layer) for member in run.members]
        figure = comparison_slide(name, scenes, difference_in_words(run.plans), link[:LONGEST_LINK])
    elif isinstance(run, LiveRun):
        figure = _slide_of_run(run, name, link[:LONGEST_LINK], layer)
    else:
        return None
    return None if figure is None else str(figure.to_json())


def _slide_of_run(run: LiveRun, name: str, link: str, layer: int | None) -> go.Figure | None:
    scene = scene_of(run, layer)
    figure = shown_figure(scene, name)
    return None if figure is None else slide_figure(figure, scene, link)
