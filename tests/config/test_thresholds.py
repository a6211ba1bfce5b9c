"""The diagnosis thresholds: each can be set within its bounds, and none is a knob of the run."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from moe_sim import KNOBS, RunConfig
from moe_sim.config.knobs import THRESHOLDS, problems
from moe_sim.config.thresholds import GROUP, Thresholds, high_balance_loss
from moe_sim.losses import load_balancing_loss


def test_the_thresholds_are_the_fields_of_the_model() -> None:
    assert list(THRESHOLDS) == list(Thresholds.model_fields)


def test_the_defaults_are_the_definitions_most_texts_agree_on() -> None:
    # Collapse: one expert above half of the tokens. Dead: below 0.1/E. Healthy: max/min up to 2:1 around 1/E, so from
    # half of it to twice.
    lines = Thresholds()
    assert (lines.collapse_share, lines.dead_share) == (0.5, 0.1)
    assert (lines.healthy_low, lines.healthy_high) == (0.5, 2)
    assert (lines.many_dropped, lines.undecided_entropy, lines.large_logits) == (0.2, 0.95, 15)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_every_threshold_has_a_slider_that_can_be_set_to_its_default(name: str) -> None:
    line = THRESHOLDS[name]
    assert line.group == GROUP
    assert line.live, "no threshold may restart a run"
    assert line.label
    assert line.help.endswith(".")
    assert line.kind is float
    assert line.minimum < line.default < line.maximum, "it must be adjustable in both directions"
    for value in (line.default, line.maximum):
        stops = (value - line.minimum) / line.step
        assert stops == pytest.approx(round(stops)), f"{value} lies between two stops"


def test_a_threshold_and_a_knob_share_neither_name_nor_label() -> None:
    # Both are in the address bar and the sidebar.
    assert not set(THRESHOLDS) & set(KNOBS)
    labels = [knob.label for knob in (*KNOBS.values(), *THRESHOLDS.values())]
    assert len(set(labels)) == len(labels)
    assert not set(THRESHOLDS) & set(RunConfig.model_fields)


@pytest.mark.parametrize("name", THRESHOLDS)
def test_both_bounds_are_valid_and_values_beyond_them_are_not(name: str) -> None:
    line = THRESHOLDS[name]
    for value in (line.minimum, line.maximum):
        assert getattr(Thresholds(**{name: value}), name) == value
    for value in (line.minimum - 1e-6, line.maximum + 1e-6, float("nan"), float("inf")):
        with pytest.raises(ValidationError):
            Thresholds(**{name: value})


@pytest.mark.parametrize("name", THRESHOLDS)
def test_an_invalid_value_gets_one_sentence_with_threshold_and_range(name: str) -> None:
    line = THRESHOLDS[name]
    with pytest.raises(ValidationError) as caught:
        Thresholds(**{name: "nonsense"})
    sentences = problems(caught.value)
    assert list(sentences) == [name]
    for words in (line.label, f"({name})", f"from {line.minimum:g} to {line.maximum:g}", "nonsense"):
        assert words in sentences[name]


def test_unknown_thresholds_are_rejected() -> None:
    with pytest.raises(ValidationError) as caught:
        Thresholds(dead_shares=0.1)
    assert "'dead_shares'" in problems(caught.value)["dead_shares"]


def test_thresholds_are_immutable_and_hashable() -> None:
    # The stream caches encoded messages under keys that contain the thresholds.
    lines = Thresholds()
    with pytest.raises(ValidationError):
        lines.dead_share = 0
    assert {lines: "usual"}[Thresholds()] == "usual"
    assert hash(Thresholds(dead_share=0.2)) != hash(lines)


def test_the_healthy_band_always_contains_the_uniform_share() -> None:
    assert THRESHOLDS["healthy_low"].maximum <= 1 <= THRESHOLDS["healthy_high"].minimum


@pytest.mark.parametrize("num_experts", [2, 3, 4, 5, 8, 16, 64])
@pytest.mark.parametrize("top_k", range(1, 9))
def test_a_full_collapse_is_alarming_and_balance_is_not_whatever_the_number_of_experts(
    num_experts: int, top_k: int
) -> None:
    high = high_balance_loss(num_experts, top_k)
    if top_k >= num_experts:
        assert high is None, "every token goes to every expert"
        return
    tokens = 32
    chosen = torch.arange(top_k).repeat(tokens, 1)
    sure = torch.zeros(tokens, num_experts)
    sure[:, :top_k] = 1 / top_k
    leaning = 0.9 * sure + 0.1 / num_experts
    for probs in (sure, leaning):
        loss = load_balancing_loss(router_probs=probs, expert_index=chosen, convention="per_choice")
        assert loss > high
    assert high > 1.05
    if num_experts >= 4 * top_k:
        assert high == 2
