"""The routing of the held-out tokens on the routing map.

L layers, N tokens, G groups, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Probe:
    """The routing of the held-out tokens after `step` steps, as in training but without noise."""

    step: int
    expert: np.ndarray
    """(L, N) the first-choice expert of each token."""
    dropped: np.ndarray
    """(L, N) bool, True if no expert takes the token: capacity dropped it or, under expert choice, none chose it."""
    joint: np.ndarray
    """(L, G, E) smoothed shares of training tokens by group and first choice; sums to 1, or to 0 at step 0."""
    together: np.ndarray
    """(L, E, E) smoothed shares of training tokens that have both experts; on the diagonal, that have that expert."""

    def layer(self, index: int) -> LayerProbe:
        """The routing in one layer, counted from 0."""
        return LayerProbe(self.step, self.expert[index], self.dropped[index], self.joint[index], self.together[index])


@dataclass(frozen=True, eq=False)
class LayerProbe:
    """The routing of the held-out tokens in one layer: a `Probe` without its first dimension."""

    step: int
    expert: np.ndarray
    dropped: np.ndarray
    joint: np.ndarray
    together: np.ndarray

    def first_choices(self) -> np.ndarray:
        """(E,) the share of the held-out tokens whose first choice is each expert."""
        return np.bincount(self.expert, minlength=self.joint.shape[1]) / len(self.expert)

    def group_shares(self) -> np.ndarray:
        """(G, E) the share of each group's tokens by first choice; a row of zeros for a group not yet seen."""
        return _rows_of_shares(self.joint, self.joint.sum(1))

    def coactivation(self) -> np.ndarray:
        """(E, E) the share of the tokens of expert i (row) that also have expert j; a row of zeros if i has none."""
        return _rows_of_shares(self.together, np.diagonal(self.together))


def _rows_of_shares(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(counts, total[:, None], out=np.zeros_like(counts), where=total[:, None] > 0)
