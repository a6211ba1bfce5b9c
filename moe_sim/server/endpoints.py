"""The server's endpoints besides the pages: the stream, slides, prompts and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from moe_sim.server import http
from moe_sim.server.monitoring import Census, metrics_endpoint
from moe_sim.server.prompts import prompt_endpoint
from moe_sim.server.server import Server
from moe_sim.server.slides import slide_endpoint
from moe_sim.server.stream import LiveStream

Endpoint = Callable[[Request], Awaitable[Response]]


def endpoints(server: Server, errors: Callable[[], int]) -> dict[str, Endpoint]:
    """Returns the handler of each path.

    Args:
        server: the runs, queues and lectures.
        errors: the number of errors logged so far.
    """
    find = server.scheduler.get
    queues = {"runs": lambda: server.scheduler.admission.waiting, "sweeps": lambda: server.sweeps.waiting}
    return {
        http.LIVE_PATH: LiveStream(find, server.lectures).endpoint,
        http.SLIDE_PATH: slide_endpoint(find),
        http.PROMPT_PATH: prompt_endpoint(find),
        http.METRICS_PATH: metrics_endpoint(Census(server.scheduler, queues, errors)),
    }
