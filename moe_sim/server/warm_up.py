"""Does the slow first-time work before a visitor waits for it, or after the first one has their page."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable
from importlib import import_module

from moe_sim.charts.blank import blank_figures
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.tasks.catalogue import make_task

PANDAS_DELAY = 8.0
"""Seconds after which pandas is loaded. It takes two seconds, and the first page does not need it."""


def draw_default_figures(names: Iterable[str]) -> None:
    """Draws figures of the default run, which most visitors open; they are cached."""
    config = RunConfig()
    blank_figures(names, config, make_task(config), "light", Thresholds())


async def load_pandas_later() -> None:
    """Loads pandas once the first visitor has their page."""
    await asyncio.sleep(PANDAS_DELAY)
    await asyncio.to_thread(load_pandas)


def load_pandas() -> None:
    """Loads pandas; waits if another thread does."""
    import_module("pandas")


def is_of_half_loaded_pandas(error: AttributeError) -> bool:
    """Whether a figure could not be drawn because another thread was loading pandas. Plotly asks of every value whether
    it is a pandas one as soon as the module exists. `load_pandas`, then try again."""
    return error.obj is not None and error.obj is sys.modules.get("pandas")
