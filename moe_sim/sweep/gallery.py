"""A precomputed sweep that the Sweep page shows first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from moe_sim.config.run_config import RunConfig
from moe_sim.sweep.grid import Grid, parse_values
from moe_sim.sweep.table import read_table

if TYPE_CHECKING:
    import pandas as pd

FILE = Path(__file__).with_name("gallery.parquet")
GRID = Grid(
    RunConfig(),
    {
        "aux_loss_coef": parse_values("aux_loss_coef", "0,0.001,0.003,0.01,0.03,0.1,0.3,1,3,10"),
        "num_experts": parse_values("num_experts", "4,8,16,32"),
        "top_k": parse_values("top_k", "1,2,4"),
    },
    seeds=5,
    steps=600,
)


def gallery() -> pd.DataFrame:
    """Returns the gallery's table, one row per run."""
    return read_table(FILE)
