"""RunConfig: every knob has what the page needs to show it, and invalid values are rejected."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from moe_sim import KNOBS, RunConfig
from moe_sim.config.knobs import problems
from moe_sim.router.balancing import METHODS, PARTICULAR_KNOBS
from moe_sim.tasks.catalogue import TASKS

NUMBERS = [name for name, knob in KNOBS.items() if knob.kind in (int, float)]
CONTRACT_BOUNDS = {
    "num_experts": (2, 64),
    "top_k": (1, 8),
    "capacity_factor": (0.25, 4),
    "aux_loss_coef": (0, 10),
    "batch_tokens": (32, 2048),
    "expert_hidden_size": (4, 256),
}


@pytest.mark.parametrize("name", KNOBS)
def test_every_knob_has_a_label_help_and_bounds(name: str) -> None:
    knob = KNOBS[name]
    assert knob.label
    assert knob.group
    assert knob.help.endswith(".")
    assert knob.help.count("\n") == 0
    assert isinstance(knob.live, bool)
    assert knob.default == getattr(RunConfig(), name)
    if knob.kind in (int, float):
        assert knob.minimum is not None
        assert knob.maximum is not None
        assert knob.minimum < knob.maximum
    elif knob.kind is str and not knob.optional:
        assert len(knob.choices) >= 2
        assert knob.default in knob.choices


def test_the_knobs_are_the_fields_of_the_configuration() -> None:
    assert list(KNOBS) == list(RunConfig.model_fields)


def test_no_two_knobs_share_a_label() -> None:
    assert len({knob.label for knob in KNOBS.values()}) == len(KNOBS)


@pytest.mark.parametrize("name", CONTRACT_BOUNDS)
def test_the_bounds_match_the_contract(name: str) -> None:
    assert (KNOBS[name].minimum, KNOBS[name].maximum) == CONTRACT_BOUNDS[name]


@pytest.mark.parametrize("name", NUMBERS)
def test_both_bounds_are_valid_and_values_beyond_them_are_not(name: str) -> None:
    knob = KNOBS[name]
    others = {"num_experts": 8} if name == "top_k" else {}
    beyond = 1 if knob.kind is int else 1e-6 * knob.maximum
    for value in (knob.minimum, knob.maximum):
        assert getattr(RunConfig(**{**others, name: value}), name) == value
    for value in (knob.minimum - beyond, knob.maximum + beyond):
        with pytest.raises(ValidationError):
            RunConfig(**{**others, name: value})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_rejected(name: str, value: float) -> None:
    with pytest.raises(ValidationError):
        RunConfig(**{name: value})


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if knob.stops])
def test_every_stop_of_a_slider_is_valid_and_the_default_is_one_of_them(name: str) -> None:
    knob = KNOBS[name]
    for stop in knob.stops:
        assert getattr(RunConfig(**{name: stop}), name) == stop
    assert knob.default in knob.stops
    numbers = [stop for stop in knob.stops if stop is not None]
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("name", [name for name in NUMBERS if KNOBS[name].kind is float])
def test_a_slider_can_be_set_to_the_default_and_to_its_end(name: str) -> None:
    knob = KNOBS[name]
    if not knob.stops:
        assert knob.step, "a number needs stops or a step"
        for value in (knob.default, knob.maximum):
            stops = (value - knob.minimum) / knob.step
            assert stops == pytest.approx(round(stops))


def test_every_mechanism_can_be_chosen_and_every_particular_knob_is_live() -> None:
    assert set(KNOBS["balancing"].choices) == set(METHODS)
    assert {
        "aux_loss_coef", "bias_rate", "bias_update", "convention", "balance_scope", "micro_batches"
    } == PARTICULAR_KNOBS  # fmt: skip
    assert all(KNOBS[name].live for name in PARTICULAR_KNOBS)


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if knob.tasks])
def test_a_knob_of_a_task_names_existing_tasks(name: str) -> None:
    assert set(KNOBS[name].tasks) <= set(TASKS)


def test_the_data_of_both_tasks_can_be_shifted_live_and_a_run_can_be_frozen() -> None:
    for name in ("topic_skew", "topic_shift", "domain_mix", "frozen", "balancing", "convention", "router_noise"):
        assert KNOBS[name].live, name
    assert RunConfig().frozen is False


def test_the_defaults_are_the_setup_that_collapses() -> None:
    config = RunConfig()
    assert (config.task, config.num_experts, config.top_k, config.batch_tokens) == ("topics", 8, 1, 256)
    assert (config.aux_loss_coef, config.capacity_factor, config.balancing) == (0, None, "load_balancing")
    assert (config.convention, config.overflow, config.router_noise) == ("per_choice", "drop", "none")
    assert (config.topic_shift, config.domain_mix, config.frozen) == (0, "usual", False)
    assert (config.num_topics, config.topic_skew, config.shared_direction) == (12, 0.5, 2)
    assert (config.learning_rate, config.expert_hidden_size, config.renormalize) == (0.003, 24, False)
    assert (config.router_noise, config.z_loss_coef, config.convention) == ("none", 0, "per_choice")
    assert (config.topic_shift, config.domain_mix, config.frozen) == (0, "usual", False)


def test_sizes_are_structural_and_coefficients_are_live() -> None:
    structural = {name for name, knob in KNOBS.items() if not knob.live}
    assert {"task", "seed", "num_experts", "batch_tokens", "expert_hidden_size", "num_topics"} <= structural
    assert not structural & {"aux_loss_coef", "z_loss_coef", "top_k", "capacity_factor", "learning_rate"}


@pytest.mark.parametrize(
    "name",
    ["balancing", "convention", "bias_rate", "overflow", "router_noise", "frozen", "topic_skew", "topic_shift",
     "domain_mix"],
)  # fmt: skip
def test_knobs_of_mechanisms_data_and_freezing_are_live(name: str) -> None:
    assert KNOBS[name].live


def test_knobs_of_a_single_task_name_it() -> None:
    of_task = {name: knob.tasks for name, knob in KNOBS.items() if knob.tasks}
    assert of_task == {
        "num_topics": ("topics",),
        "topic_skew": ("topics",),
        "topic_shift": ("topics",),
        "shared_direction": ("topics",),
        "sequence_tokens": ("topics",),
        "domain_mix": ("text", "language"),
        "own_text": ("language",),
    }


def test_a_configuration_is_immutable() -> None:
    config = RunConfig()
    with pytest.raises(ValidationError):
        config.top_k = 2
    assert config.top_k == 1


def test_replace_returns_a_new_validated_configuration() -> None:
    config = RunConfig(seed=7)
    assert config.replace(top_k=2) == RunConfig(seed=7, top_k=2)
    assert config.top_k == 1
    with pytest.raises(ValidationError):
        config.replace(top_k=9)


def test_more_choices_than_experts_are_rejected() -> None:
    assert RunConfig(num_experts=4, top_k=4).top_k == 4
    with pytest.raises(ValidationError) as caught:
        RunConfig(num_experts=4, top_k=5)
    sentence = problems(caught.value)["top_k"]
    assert sentence == ("Top-k (top_k) must be from 1 to 4, the number of experts (num_experts), not 5.")


def test_renormalizing_a_single_choice_is_rejected() -> None:
    # The only weight would always be 1, and the router would have no task gradient.
    assert RunConfig(top_k=2, renormalize=True).renormalize
    with pytest.raises(ValidationError) as caught:
        RunConfig(renormalize=True)
    assert list(problems(caught.value)) == ["renormalize"]


def test_renormalizing_under_expert_choice_is_rejected() -> None:
    # A token that one expert chose would have the weight 1.
    with pytest.raises(ValidationError) as caught:
        RunConfig(balancing="expert_choice", top_k=2, renormalize=True)
    sentence = problems(caught.value)["renormalize"]
    assert "does not go with expert choice" in sentence


def test_unknown_knobs_are_rejected_by_name() -> None:
    with pytest.raises(ValidationError) as caught:
        RunConfig(alpha=0.1)
    assert problems(caught.value) == {"alpha": "There is no knob named 'alpha'; did you mean aux_loss_coef?"}


def test_the_error_in_python_says_what_was_probably_meant() -> None:
    with pytest.raises(ValueError, match="no knob named 'aux_los_coef'; did you mean aux_loss_coef\\?") as caught:
        RunConfig(aux_los_coef=1)
    assert "Extra inputs" not in str(caught.value)


def test_the_error_in_python_names_the_knob_and_what_is_allowed() -> None:
    sentence = r"Experts \(num_experts\) must be a whole number from 2 to 64, not '1'\."
    with pytest.raises(ValueError, match=sentence) as caught:
        RunConfig(num_experts=1, seed=-1)
    assert list(problems(caught.value)) == ["num_experts", "seed"]
    with pytest.raises(ValueError, match=sentence):
        RunConfig().replace(num_experts=1)


def test_a_value_with_braces_is_repeated_as_it_is() -> None:
    with pytest.raises(ValueError, match=re.escape("not '{knob}'.")):
        RunConfig(top_k="{knob}")


@pytest.mark.parametrize("name", KNOBS)
def test_an_invalid_value_gets_one_sentence_with_knob_and_range(name: str) -> None:
    knob = KNOBS[name]
    with pytest.raises(ValidationError) as caught:
        RunConfig(**{name: "nonsense"})
    sentences = problems(caught.value)
    assert list(sentences) == [name]
    assert name in sentences[name]
    assert knob.label in sentences[name]
    limits = knob.choices or ([f"{knob.minimum:g}"] if knob.kind in (int, float) else ["on", "off"])
    assert all(limit in sentences[name] for limit in limits)
    assert "nonsense" in sentences[name]


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"num_layers": 2, "num_experts": 64, "expert_hidden_size": 132}, r"at most 16,384, not 16,896"),
        ({"num_layers": 6, "num_experts": 8, "top_k": 8, "batch_tokens": 2048, "expert_hidden_size": 44},
         r"at most 4,194,304, not 4,325,376"),
    ],
    ids=["memory", "time"],
)  # fmt: skip
def test_layers_cost_no_more_than_one_may(knobs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        RunConfig(**knobs)
    RunConfig(**{**knobs, "expert_hidden_size": knobs["expert_hidden_size"] - 4})
    RunConfig(num_experts=64, top_k=8, batch_tokens=2048, expert_hidden_size=256)
