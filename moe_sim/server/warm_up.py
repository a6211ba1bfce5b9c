"""Does the slow first-time work before the first visitor waits for it."""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib import import_module

from moe_sim.charts.blank import blank_figures
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.server.http import plotly_body
from moe_sim.tasks.catalogue import make_task

_loading = threading.Lock()


def warm_up() -> None:
    """Load everything that is loaded on first use, and compress Plotly.js."""
    load()
    plotly_body(compressed=True)


def load() -> None:
    """Load pandas and what Plotly loads on first use. Concurrent callers wait.

    Plotly checks for each value whether pandas is loaded, and fails if another thread is importing pandas at that
    moment. So a server calls this before it draws the first chart.
    """
    with _loading:
        _load_once()


@lru_cache(maxsize=1)
def _load_once() -> None:
    import_module("pandas")
    config = RunConfig()
    blank_figures(config, make_task(config), "light", Thresholds())
