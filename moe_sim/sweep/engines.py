"""The engines by name, and the default engine."""

from __future__ import annotations

import os

from moe_sim.config.suggestions import unknown
from moe_sim.sweep.dask_engine import Dask
from moe_sim.sweep.engine import Engine, EngineError, InProcess, SerialExecutor
from moe_sim.sweep.loky_engine import Loky

ENGINES = ("serial", "loky", "dask")


def engine_named(name: str, workers: int | None = None, dask: str | None = None) -> Engine:
    """Creates an engine.

    Args:
        name: one of `ENGINES`.
        workers: number of loky processes; one per core by default.
        dask: address of the Dask scheduler; set by the operator, never by a visitor.

    Raises:
        EngineError: for an unknown name, for `workers` with an engine other than loky, or for dask without an address.
    """
    if workers is not None and name != "loky":
        raise EngineError(f"Only the engine loky takes a number of workers, not {name[:40]}.")
    if name == "serial":
        return InProcess("serial", SerialExecutor)
    if name == "loky":
        return Loky(workers or os.cpu_count() or 1)
    if name == "dask":
        if not dask:
            raise EngineError("The engine dask needs the scheduler's address in the variable MOE_SIM_DASK.")
        return Dask(dask)
    raise EngineError(unknown("engine", name, ENGINES, f"; choose from {', '.join(ENGINES)}."))


def default_engine(dask: str | None) -> Engine:
    """Returns the Dask cluster if it has an address, else worker processes on this machine."""
    return engine_named("dask" if dask else "loky", dask=dask)
