"""The exported runs."""

from __future__ import annotations

import pytest

from moe_sim import Trainer
from tests.support.exported import RUNS, train


@pytest.fixture(scope="module", params=RUNS)
def trainer(request: pytest.FixtureRequest) -> Trainer:
    return train(*RUNS[request.param])
