"""The optional packages, and the extras of the distribution that install them."""

from __future__ import annotations

from importlib import import_module

from moe_sim.config.errors import MissingPackage

EXTRA_OF = {
    "plotly": "figures",
    "kaleido": "figures",
    "loky": "sweep",
    "pyarrow": "sweep",
    "distributed": "dask",
    "transformers": "demo",
}
"""The extra that installs each package which `moe_sim` loads when it is needed."""


def require(package: str, purpose: str) -> None:
    """Checks that an optional package can be loaded.

    Args:
        package: one of `EXTRA_OF`.
        purpose: what needs it, as the subject of a sentence.

    Raises:
        MissingPackage: if it cannot.
    """
    try:
        import_module(package)
    except ImportError:
        raise MissingPackage(
            f'{purpose} needs the package {package}: pip install "expert-collapse-lab[{EXTRA_OF[package]}]".'
        ) from None
