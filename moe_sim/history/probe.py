"""How the held-out tokens of the routing map are routed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Probe:
    """How the held-out tokens of the routing map are routed after `step` steps: as in training, but without noise."""

    step: int
    expert: np.ndarray
    """(N,) the first-choice expert of each token."""
    dropped: np.ndarray
    """(N,) bool, no expert takes the token: capacity left none, or, where experts choose, none chose it."""
    joint: np.ndarray
    """(G, E) smoothed shares of training tokens by group and first choice; sums to 1, or to 0 at step 0."""
    together: np.ndarray
    """(E, E) smoothed shares of training tokens that have both experts; on the diagonal, that have the expert."""

    def group_shares(self) -> np.ndarray:
        """(G, E) which share of a group's tokens goes to each expert first; a row of zeros for a group not yet seen."""
        return _rows_of_shares(self.joint, self.joint.sum(1))

    def coactivation(self) -> np.ndarray:
        """(E, E) which share of the tokens of expert i (row) also has expert j; a row of zeros where i has none."""
        return _rows_of_shares(self.together, np.diagonal(self.together))


def _rows_of_shares(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(counts, total[:, None], out=np.zeros_like(counts), where=total[:, None] > 0)
