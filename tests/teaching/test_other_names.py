"""Names in other tools: metrics worked out by hand, and knobs that exist."""

from __future__ import annotations

import re

import numpy as np
import pytest

from moe_sim import KNOBS
from moe_sim.teaching.other_names import KNOB_NAMES, METRICS

BY_HAND = {
    # f = (1/2, 1/4, 1/8, 1/8), mean 1/4; squared deviations 1/16, 0, 1/64, 1/64 sum to 6/64.
    "imbalance ratio": 4,
    "max violation": 1,
    "max / mean": 2,
    "min / mean": 0.5,
    "load CV": np.sqrt(6 / 64 / 4) / 0.25,
    "load CV, sample": np.sqrt(6 / 64 / 3) / 0.25,
    "load entropy": (1 / 2 * 1 + 1 / 4 * 2 + 1 / 8 * 3 + 1 / 8 * 3) / 2,  # in bits, of at most 2
    "expert-parallel efficiency": 0.5,
}


def compute(name: str, load: list[float] | np.ndarray) -> float:
    return next(metric for metric in METRICS if metric.name == name).compute(np.asarray(load, dtype=float))


def test_every_metric_has_a_value_worked_out_by_hand() -> None:
    assert [metric.name for metric in METRICS] == list(BY_HAND)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_metric_equals_its_value_worked_out_by_hand(name: str) -> None:
    value = compute(name, [0.5, 0.25, 0.125, 0.125])
    assert value == pytest.approx(BY_HAND[name])
    assert isinstance(value, float)


@pytest.mark.parametrize("num_experts", [2, 3, 8, 64])
@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_at_balance_a_metric_has_its_stated_value(metric, num_experts: int) -> None:
    assert metric.compute(np.full(num_experts, 1 / num_experts)) == pytest.approx(float(metric.balanced), abs=1e-9)


def test_with_everything_on_one_expert_only_the_imbalance_ratio_is_infinite() -> None:
    for metric in METRICS:
        value = metric.compute(np.array([0.0, 1.0, 0.0, 0.0]))
        assert np.isinf(value) if metric.name == "imbalance ratio" else np.isfinite(value), metric.name


def test_the_sample_cv_equals_numpys_with_ddof_1() -> None:
    load = np.random.default_rng(0).dirichlet(np.ones(8))
    assert compute("load CV, sample", load) == pytest.approx(load.std(ddof=1) / load.mean())
    assert compute("load CV, sample", load) == pytest.approx(np.sqrt(8 / 7) * compute("load CV", load))


def test_metric_names_are_unique_and_every_metric_has_names_elsewhere() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(metric.formula and metric.elsewhere for metric in METRICS)
    words = " ".join(metric.elsewhere for metric in METRICS)
    for tool in ("OLMo-core", "Megatron-LM", "NeMo", "MaxVio"):
        assert tool in words


@pytest.mark.parametrize(("knob", "elsewhere"), KNOB_NAMES, ids=[knob for knob, _ in KNOB_NAMES])
def test_a_knob_with_other_names_exists(knob: str, elsewhere: str) -> None:
    named = re.search(r"\((\w+)\)$", knob)
    assert (named[1] if named else knob) in KNOBS
    assert elsewhere
