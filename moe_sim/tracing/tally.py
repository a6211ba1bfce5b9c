"""What one layer has routed since the last record, counted on the layer's own device.

T tokens, K choices, E experts, G groups of tokens.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from moe_sim.history.trace_format import Scores


class Tally:
    """Sums over tokens. They stay on the device until `vector` is read, so counting does not wait for it.

    Args:
        num_experts: E.
        scores: what the router of the layer offers.
        num_groups: G.
        device: of the layer's tensors.
    """

    def __init__(self, num_experts: int, scores: Scores, num_groups: int, device: torch.device) -> None:
        self.num_experts, self._scores, self._num_groups = num_experts, scores, num_groups
        # Counts are exact in float64 up to 2⁵³; Apple's devices have none.
        precision = torch.float32 if device.type == "mps" else torch.float64
        self._sums = torch.zeros(width(num_experts, num_groups), dtype=precision, device=device)
        self._largest = torch.zeros((), device=device)

    @property
    def vector(self) -> Tensor:
        """All sums, laid end to end; `read` takes them apart."""
        return self._sums

    @property
    def largest(self) -> Tensor:
        """The largest absolute logit."""
        return self._largest

    def clear(self) -> None:
        """Begins again from zero."""
        self._sums.zero_()
        self._largest.zero_()

    @torch.no_grad()
    def count(self, selection: Tensor, mask: Tensor | None, groups: Tensor | None) -> None:
        """Counts the choices of a forward pass.

        Args:
            selection: (T, K) indices of experts; negative ones and E mean none.
            mask: (T,) bool, False for tokens that do not count; None if all do.
            groups: (T,) the group of each token; None without groups.
        """
        experts = self.num_experts
        nobody = (selection < 0) | (selection > experts)
        if mask is not None:
            nobody |= ~mask[:, None]
        chosen = torch.where(nobody, experts, selection).long()
        self._sums[:experts] += _counts(chosen, experts + 1)[:experts]
        self._sums[experts] += len(selection) if mask is None else mask.sum()
        if groups is not None and self._num_groups:
            known = (groups >= 0) & (groups < self._num_groups)
            row = torch.where(known, groups, self._num_groups).long()
            cell = row[:, None] * (experts + 1) + chosen
            table = _counts(cell, (self._num_groups + 1) * (experts + 1)).view(-1, experts + 1)
            self._sums[2 * experts + 4 :] += table[: self._num_groups, :experts].reshape(-1)

    @torch.no_grad()
    def score(self, scores: Tensor, mask: Tensor | None) -> None:
        """Adds what the router offers for a forward pass.

        Args:
            scores: (T, E), of the kind that the layer's router offers.
            mask: as in `count`.
        """
        experts, values = self.num_experts, scores.detach().float()
        if mask is not None:
            values = values[mask] if values.device.type == "cpu" else torch.where(mask[:, None], values, 0)
        weight = None if mask is None or values.device.type == "cpu" else mask.float()
        share = _probabilities(values, self._scores)
        entropy = -torch.special.xlogy(share, share).sum(1)
        if weight is not None:
            share, entropy = share * weight[:, None], entropy * weight
        self._sums[experts + 1] += len(values) if weight is None else weight.sum()
        self._sums[experts + 2 : 2 * experts + 2] += share.sum(0)
        self._sums[2 * experts + 2] += entropy.sum()
        if self._scores in ("logits", "sigmoid") and len(values):
            self._sums[2 * experts + 3] += values.square().sum()
            torch.maximum(self._largest, values.abs().max(), out=self._largest)


def width(num_experts: int, num_groups: int) -> int:
    """The length of a tally's vector: the counts, the tokens, the scored tokens, P, entropy, squares, the groups."""
    return 2 * num_experts + 4 + num_groups * num_experts


class Reading:
    """A tally's vector, taken apart.

    Args:
        vector: the sums of a tally, or of the same tally in all processes.
        largest: the largest absolute logit.
        num_experts: E.
        scores: what the router offers.
    """

    def __init__(self, vector: np.ndarray, largest: float, num_experts: int, scores: Scores) -> None:
        experts = num_experts
        self.counts = np.rint(vector[:experts]).astype(np.int64)
        """(E,) token choices."""
        self.tokens = round(float(vector[experts]))
        scored = float(vector[experts + 1])
        sums = vector[experts + 2 : 2 * experts + 4] / scored if scored else np.full(experts + 2, np.nan)
        self.importance = sums[:experts]
        """(E,) mean probability; NaN if the router offered nothing."""
        self.entropy = sums[experts] / math.log(experts) if experts > 1 else math.nan
        """Of the probabilities, mean over tokens, as a fraction of ln E."""
        offers_logits = scored and scores in ("logits", "sigmoid")
        self.logit_rms = math.sqrt(sums[experts + 1] / experts) if offers_logits else math.nan
        self.logit_max = largest if offers_logits else math.nan
        self.groups = np.rint(vector[2 * experts + 4 :]).astype(np.int64).reshape(-1, experts)
        """(G, E) token choices by group."""


def _counts(indices: Tensor, length: int) -> Tensor:
    """(length,) how often each index occurs. Does not wait for the device."""
    flat = indices.reshape(-1)
    if flat.device.type == "cpu":
        return torch.bincount(flat, minlength=length)
    return torch.zeros(length, dtype=torch.int64, device=flat.device).scatter_add_(0, flat, torch.ones_like(flat))


def _probabilities(values: Tensor, scores: Scores) -> Tensor:
    """(T, E) that sum to 1 for each token."""
    if scores == "logits":
        return values.softmax(1)
    if scores == "probabilities":
        return values
    positive = values.sigmoid() if scores == "sigmoid" else values
    return positive / positive.sum(1, keepdim=True).clamp_min(1e-20)
