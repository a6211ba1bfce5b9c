"""SGLang's expert distribution recorder, in its mode `stat` (`--expert-distribution-recorder-mode stat`).

`expert_distribution_recorder_*.pt` holds a dictionary with `logical_count`, (forward passes, layers, experts), summed
over all ranks: so in SGLang 0.5, 2025 and 2026. The modes `per_pass` and `per_token` write something else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from moe_sim.config.errors import InvalidInput
from moe_sim.history.trace_format import MOST_CELLS
from moe_sim.tracing.importing.imported import LARGEST_TOTAL, MOST_COUNTS, Counts, Imported, Options, check_size


def read_distribution(path: Path, options: Options) -> Imported:
    """A file of the recorder. Layers that never route, such as dense ones, are left out; passes without tokens too.

    Raises:
        InvalidInput: with a sentence, if it is something else.
    """
    try:
        check_size(path)
        document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InvalidInput(f"Cannot read {path}: {(error.strerror or 'unknown error').lower()}.") from None
    except InvalidInput:
        raise
    except Exception:  # of the many kinds that torch raises for files that are damaged or hold other objects
        raise InvalidInput(f"{path.name} is not a file that torch.save has written with numbers only.") from None
    count = document.get("logical_count") if isinstance(document, dict) else None
    if isinstance(document, dict) and "records" in document:
        raise InvalidInput(f"{path.name} was recorded per pass or per token; only the mode `stat` can be read.")
    if not isinstance(count, torch.Tensor) or not _is_plain(count) or count.ndim != 3:
        raise InvalidInput(f"{path.name} has no logical_count of whole numbers (forward passes, layers, experts).")
    if count.numel() > MOST_COUNTS or count.shape[1] * count.shape[2] > MOST_CELLS:
        raise InvalidInput(f"The logical_count of {path.name} is too large.")
    if (count < 0).any() or count.sum(dtype=torch.float64) > LARGEST_TOTAL:
        raise InvalidInput(f"The logical_count of {path.name} has negative or impossibly large numbers.")
    table = count.numpy().astype(np.int64)
    routes = np.flatnonzero(table.sum((0, 2)))
    counts = Counts()
    for step in np.flatnonzero(table.sum((1, 2))).tolist():
        for layer in routes.tolist():
            counts.add(step + 1, layer, table[step, layer], int(table[step, layer].sum()))
    known = Options(num_experts=options.num_experts or int(count.shape[2]))
    imported = counts.imported({layer: f"layers.{layer}" for layer in routes.tolist()}, "SGLang", known)
    imported.notices.append("A step is a forward pass of the server; tokens are not told from choices.")
    return imported


def _is_plain(count: torch.Tensor) -> bool:
    """Whether it is what NumPy can read: whole numbers in memory, neither sparse nor quantized."""
    whole = count.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    return whole and count.layout is torch.strided and count.device.type == "cpu" and not count.is_neg()
