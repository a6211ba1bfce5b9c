"""Messages about runs with several layers: of one layer or of their mean, and a picture of all."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from moe_sim import PRESETS, RunConfig
from moe_sim.config.run_plan import RunPlan
from moe_sim.diagnosis.verdict import diagnose
from moe_sim.history.series import layer_imbalances
from moe_sim.live.comparison import Comparison
from moe_sim.live.live_run import LiveRun
from moe_sim.server.messages import encode, encode_comparison, shown_layer
from tests.support.client import letter_pairs
from tests.support.inspecting import small_config

LAYERS, EXPERTS = 3, 4
PAIR = 0.5 / 4095 + 1e-9


@pytest.fixture(scope="module")
def run() -> LiveRun:
    run = LiveRun(small_config(num_layers=LAYERS))
    run.advance_by(45)
    return run


def decoded(run: LiveRun, start: int, layer: int | None = None) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(encode(run, start, layer=layer)[1])
    return message


@pytest.mark.parametrize("layer", [None, 0, 2])
def test_a_message_is_about_the_layer_that_is_asked_for(run: LiveRun, layer: int | None) -> None:
    message, history = decoded(run, 0, layer), run.history.layer(layer)
    assert message["layer"] == (0 if layer is None else layer + 1)
    load = np.reshape(letter_pairs(message["rows"]["smoothed_load"]), (45, EXPERTS))
    np.testing.assert_allclose(load, history.column("smoothed_load"), atol=PAIR)
    np.testing.assert_allclose(message["rows"]["balance_loss"], history.column("balance_loss"), rtol=1e-3)
    assert message["tiles"]["dead"] == history.last("dead_experts")
    probed = run.history.most_uneven_layer() if layer is None else layer
    assert message["layers"]["probed"] == probed + 1
    pairs = run.probe.layer(probed).first_choices()
    np.testing.assert_allclose(letter_pairs(decoded(LiveRun(run.config), 0, layer)["start_load"]).sum(), 1, atol=0.01)
    assert pairs.sum() == pytest.approx(1)


def test_every_message_has_the_picture_and_the_imbalance_of_all_layers(run: LiveRun) -> None:
    for layer in (None, 1):
        message = decoded(run, 0, layer)
        newest = np.reshape(letter_pairs(message["layers"]["load"]), (LAYERS, EXPERTS))
        np.testing.assert_allclose(newest, run.history.last("smoothed_load"), atol=PAIR)
        blocks = np.reshape(letter_pairs(message["layers"]["blocks"]), (4, LAYERS, EXPERTS))
        np.testing.assert_allclose(blocks, run.history.column("smoothed_load")[[9, 19, 29, 39]], atol=PAIR)
        told = np.array(message["rows"]["layer_imbalance"], dtype=float)
        expected = layer_imbalances(run.history).ravel()
        np.testing.assert_allclose(told, np.where(np.isfinite(expected), expected, np.nan), rtol=6e-3)
    later = decoded(run, 40)
    assert later["layers"]["blocks"] == ""
    assert len(later["rows"]["layer_imbalance"]) == 5 * LAYERS


def test_the_verdict_names_the_worst_layer(run: LiveRun) -> None:
    verdict = diagnose(run.history, run.config)
    assert verdict.layer is not None
    assert decoded(run, 0)["diagnosis"]["layer"] == verdict.layer + 1
    assert verdict.evidence.startswith(f"Layer {verdict.layer + 1}: ")


def test_a_run_with_one_layer_says_nothing_of_layers() -> None:
    run = LiveRun(small_config())
    run.advance_by(12)
    plain = decoded(run, 0)
    assert not {"layer", "layers"} & set(plain)
    assert "layer_imbalance" not in plain["rows"]
    assert "layer" not in plain["diagnosis"]
    assert decoded(run, 0, 2) == plain


@pytest.mark.parametrize("layer", [-1, 3, 99, None])
def test_a_layer_that_does_not_exist_is_all_of_them(run: LiveRun, layer: int | None) -> None:
    assert shown_layer(run.history, layer) is None
    assert decoded(run, 0, layer) == decoded(run, 0)


def test_a_comparison_follows_the_layer_too() -> None:
    comparison = Comparison([RunPlan(small_config(num_layers=2)), RunPlan(small_config())])
    comparison.advance_by(25)
    message = json.loads(encode_comparison(comparison, 0, layer=1)[1])
    deep, flat = message["members"]
    assert message["layer"] == deep["layer"] == 2
    assert "layer" not in flat
    load = np.reshape(letter_pairs(deep["rows"]["smoothed_load"]), (25, EXPERTS))
    np.testing.assert_allclose(load, comparison.members[0].history.layer(1).column("smoothed_load"), atol=PAIR)


@pytest.mark.parametrize("config", [
    PRESETS["language-model"].config(), RunConfig(num_layers=3, top_k=2, capacity_factor=1.0),
], ids=["language model", "topics"])  # fmt: skip
def test_twelve_steps_of_three_layers_fit_in_two_and_a_half_kilobytes(config: RunConfig) -> None:
    # Measured: at most 2,366 bytes.
    run = LiveRun(config)
    run.advance_by(60)
    for _ in range(3):
        start = run.steps_done
        run.advance_by(12)
        for part in ("picture", "views"):
            for layer in (None, 2):
                assert len(encode(run, start, frozenset({part}), layer=layer)[1].encode()) <= 2_500
