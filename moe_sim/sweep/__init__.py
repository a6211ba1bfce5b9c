"""Grids of runs on any `concurrent.futures.Executor`: in this process, on this machine's cores, on a Dask cluster.

Nothing here loads loky, distributed, pandas or pyarrow before it is needed.
"""

from __future__ import annotations

from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engine import Engine, EngineError, InProcess
from moe_sim.sweep.engines import ENGINES, default_engine, engine_named
from moe_sim.sweep.grid import Cell, Grid, parse_values
from moe_sim.sweep.store import Histories, Store
from moe_sim.sweep.table import read_table, rows_to_frame, table_bytes, write_table
from moe_sim.sweep.untrusted_files import NotASweepError
from moe_sim.sweep.worker import Row, run_cell

__all__ = [
    "ENGINES",
    "Cell",
    "Engine",
    "EngineError",
    "Grid",
    "Histories",
    "InProcess",
    "NotASweepError",
    "Row",
    "Store",
    "Sweep",
    "default_engine",
    "engine_named",
    "parse_values",
    "read_table",
    "rows_to_frame",
    "run_cell",
    "table_bytes",
    "write_table",
]
