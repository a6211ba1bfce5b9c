"""`GET /metrics` for the host, in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from moe_sim.live.scheduler import Scheduler


class Census(Collector):
    """Counts runs, viewers, queues and errors at the moment of the request.

    Args:
        scheduler: whose runs to count.
        queues: the length of each queue, by kind.
        errors: the number of errors logged so far.
    """

    def __init__(
        self, scheduler: Scheduler, queues: Mapping[str, Callable[[], int]], errors: Callable[[], int]
    ) -> None:
        self._scheduler, self._queues, self._errors = scheduler, queues, errors

    def collect(self) -> Iterator[Metric]:
        """Yields one metric family per quantity."""
        runs = self._scheduler.runs
        for name, words, value in (
            ("moe_runs", "Runs in memory, comparisons included.", len(runs)),
            ("moe_runs_training", "Runs training now.", sum(run.wants_step for run in runs)),
            ("moe_viewers", "Viewers: open live streams.", sum(run.viewers for run in runs)),
            ("moe_steps_per_second", "Optimizer steps per second over the last two seconds.",
             sum(run.measured_rate for run in runs)),
        ):  # fmt: skip
            yield GaugeMetricFamily(name, words, value)
        queue = GaugeMetricFamily("moe_queue", "Visitors' runs and sweeps waiting in a queue.", labels=["kind"])
        for kind, waiting in self._queues.items():
            queue.add_metric([kind], waiting())
        yield queue
        yield CounterMetricFamily("moe_steps", "Optimizer steps taken by all runs.", self._scheduler.steps)
        yield CounterMetricFamily("moe_errors", "Errors logged.", self._errors())


def metrics_endpoint(census: Census) -> Callable[[Request], Any]:
    """The handler of `GET /metrics`: the census, and the memory and CPU time of the process (Linux)."""
    registry = CollectorRegistry()
    registry.register(census)
    ProcessCollector(registry=registry)

    async def endpoint(request: Request) -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    return endpoint
