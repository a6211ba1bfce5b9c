"""A run with moved knobs, for pages and slides."""

from __future__ import annotations

import pytest

from moe_sim.charts.scene import Scene
from moe_sim.cli.run import scene_of
from tests.support.exported import train


@pytest.fixture(scope="module")
def moved() -> Scene:
    return scene_of(train({"seed": 3, "num_experts": 4}, 40, {20: {"aux_loss_coef": 0.1, "capacity_factor": 1.0}}))
