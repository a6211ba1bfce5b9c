"""What computing many things at once is made of: rows in blocks, and runs along a leading dimension.

A single run has no leading dimension. The same functions compute it, with the same numbers to the last digit: torch's
batched matrix products, like its operations on elements and on rows, do not depend on how many there are. (Those below
400 multiplications do, and on some processors those whose rows are no multiple of 4; the program has neither.)

N rows, G groups, B blocks of S places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]
"""The source of a run's random numbers; with a leading dimension, one for each run."""

SMALLEST_BLOCK, LARGEST_BLOCK = 8, 64
"""Places."""


class Blocks:
    """Sorts rows into blocks, so that one batched product multiplies each row by the matrix of its group: the layout of
    MegaBlocks (Gale et al. 2022), with plain batched matrix products.

    Each block has rows of one group; the places that are left in it are padding. The number of places does not depend
    on how the rows are distributed. So the work stays near N rows whether all groups are equally large or one has
    nearly everything, and the product of a group does not depend on the others.
    """

    def __init__(self, group_N: np.ndarray, groups: int, size: int) -> None:
        """
        Args:
            group_N: (N,) integers, the group of each row.
            groups: G.
            size: S.
        """
        counts_G = np.bincount(group_N, minlength=groups)
        blocks_G = -(-counts_G // size)
        self.size = size
        self.group_B = np.repeat(np.arange(groups), blocks_G)
        """(B,) the group of each block."""
        self.place_N = ((blocks_G.cumsum() - blocks_G) * size)[group_N] + rank_within_group(group_N, counts_G)
        """(N,) the place of each row, from 0 to B·S − 1."""
        self._one_block_each = bool((blocks_G == 1).all())

    def gather(self, rows: Tensor, index_N: np.ndarray, padding_B: np.ndarray | int = 0) -> Tensor:
        """Returns (B, S, …): in the place of each row, the row of (M, …) `rows` that `index_N` names; elsewhere the one
        that `padding_B` names for the block."""
        index = np.repeat(np.broadcast_to(padding_B, len(self.group_B)), self.size)
        index[self.place_N] = index_N
        return rows.index_select(0, torch.from_numpy(index)).unflatten(0, (-1, self.size))

    def of_groups(self, values: Tensor) -> Tensor:
        """(G, …) → (B, …), what belongs to each block's group; no copy if every group has one block."""
        return values if self._one_block_each else values.index_select(0, torch.from_numpy(self.group_B))


def block_size(rows: int, groups: int) -> int:
    """The number of places for this many rows in so many groups: their mean, rounded up to a power of two, within
    `SMALLEST_BLOCK` and `LARGEST_BLOCK`."""
    mean = max(1, -(-rows // groups))
    return min(max(1 << (mean - 1).bit_length(), SMALLEST_BLOCK), LARGEST_BLOCK)


def rank_within_group(group_N: np.ndarray, counts_G: np.ndarray) -> np.ndarray:
    """Counts, for each entry, the earlier ones of the same group.

    Args:
        group_N: (N,) integers.
        counts_G: (G,) how often each group occurs.

    Returns:
        (N,) int64.
    """
    small = np.uint8 if len(counts_G) <= 2**8 else np.uint16  # NumPy sorts these by radix
    order = np.argsort(group_N.astype(small), kind="stable")
    rank = np.empty(group_N.size, dtype=np.int64)
    rank[order] = np.arange(group_N.size) - np.repeat(counts_G.cumsum() - counts_G, counts_G)
    return rank


def number_apart(index: np.ndarray, count: int, dimensions: int) -> np.ndarray:
    """Numbers what several runs have so that each has its own numbers: those of run r from r · count.

    Args:
        index: integers below `count`, with leading dimensions or without.
        count: what one run has.
        dimensions: of `index` without the leading ones.
    """
    leading = index.shape[: index.ndim - dimensions]
    if not leading:
        return index
    return index + count * np.arange(math.prod(leading)).reshape(*leading, *dimensions * (1,))


def softmax(z_TE: Tensor) -> Tensor:
    """(..., T, E) → (..., T, E), along the last dimension.

    Computed column by column: for the few entries of a row, torch takes up to ten times as long the usual way.
    """
    return z_TE.mT.contiguous().softmax(-2).mT


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(..., T, D), (..., D, C), (..., C) → (..., T, C)."""
    return torch.addmm(bias, x, weight) if x.ndim == 2 else torch.baddbmm(bias.unsqueeze(-2), x, weight)


def drawn(draw: Callable[..., Tensor], generators: Generators, *of_runs: Any) -> Tensor:
    """What `draw` draws with a generator and the other arguments; for several runs, each with its own, stacked."""
    if isinstance(generators, torch.Generator):
        return draw(generators, *of_runs)
    return torch.stack([draw(*one) for one in zip(generators, *of_runs, strict=True)])
