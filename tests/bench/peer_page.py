"""The baseline page: the charts of the first screen as keyed `st.plotly_chart` elements in a fragment that reruns."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import streamlit as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from moe_sim import RunConfig, Trainer
from moe_sim.charts.overview import imbalance, routing_map, task_and_balance_loss, utilization, utilization_over_time
from moe_sim.charts.scene import Scene
from moe_sim.server.warm_up import load_pandas

INTERVAL, RATE, STEPS = 0.2, 60, 2_000
"""As on the live page: five updates a second at 60 steps/s."""


@st.cache_resource
def trained() -> tuple[Trainer, float]:
    """A finished run to replay as if it were training, so that only drawing is measured; and the start time."""
    load_pandas()  # before Plotly looks for it
    trainer = Trainer(RunConfig())
    trainer.run(STEPS)
    return trainer, time.monotonic()


@st.fragment(run_every=INTERVAL)
def charts() -> None:
    """Draw one tick."""
    trainer, started = trained()
    history = trainer.history.until(int(RATE * (time.monotonic() - started)) % STEPS)
    scene = Scene(history, trainer.config, trainer.probe(), trainer.task)
    for draw in (routing_map, utilization, utilization_over_time, imbalance, task_and_balance_loss):
        st.plotly_chart(draw(scene, "light"), key=draw.__name__)


st.set_page_config(layout="wide")
charts()
