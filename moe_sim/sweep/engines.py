"""The engines by name, and which one is meant when nobody says."""

from __future__ import annotations

import os

from moe_sim.sweep.dask_engine import Dask
from moe_sim.sweep.engine import Engine, EngineError, InProcess, SerialExecutor
from moe_sim.sweep.loky_engine import Loky

ENGINES = ("serial", "loky", "dask")
ADDRESS_VARIABLE = "MOE_SIM_DASK"
"""Environment variable with the address of a Dask scheduler; the operator's to set, never a visitor's."""


def engine_named(name: str, workers: int | None = None) -> Engine:
    """One of `ENGINES`.

    Args:
        name: which.
        workers: processes of loky; as many as there are cores if not given.

    Raises:
        EngineError: if there is no such engine, if it takes no number of workers, or if dask has no address.
    """
    if workers is not None and name != "loky":
        raise EngineError(f"Only the engine loky takes a number of workers, not {name[:40]}.")
    if name == "serial":
        return InProcess("serial", SerialExecutor)
    if name == "loky":
        return Loky(workers or os.cpu_count() or 1)
    if name == "dask":
        address = os.environ.get(ADDRESS_VARIABLE)
        if not address:
            raise EngineError(f"The engine dask needs the scheduler's address in the variable {ADDRESS_VARIABLE}.")
        return Dask(address)
    raise EngineError(f"There is no engine {name[:40]!r}; there are {', '.join(ENGINES)}.")


def default_engine() -> Engine:
    """The Dask cluster where the operator has set one, else worker processes on this machine."""
    return engine_named("dask" if os.environ.get(ADDRESS_VARIABLE) else "loky")
