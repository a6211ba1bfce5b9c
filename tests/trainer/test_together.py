"""Many runs in one computation: the numbers of each are those that it has alone, to the last digit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_sim import RunConfig, Trainer, advance
from moe_sim.router.balancing import METHODS
from moe_sim.trainer.together import FREE, MOST_TOGETHER, most_together
from tests.support.inspecting import small_config, weights

KINDS: list[dict[str, Any]] = [
    {},
    {"aux_loss_coef": 0.1},
    {"top_k": 3, "aux_loss_coef": 0.03, "convention": "huggingface"},
    {"task": "text", "aux_loss_coef": 0.01},
    {"capacity_factor": 0.75},
    {"capacity_factor": 0.5, "top_k": 2, "overflow": "reroute", "drop_order": "probability"},
    {"top_k": 2, "renormalize": True, "capacity_factor": 1.0},
    {"balancing": "bias", "bias_rate": 0.1, "top_k": 2},
    {"balancing": "expert_choice", "top_k": 2, "capacity_factor": 0.5},
    {"balancing": "expert_choice", "capacity_factor": 0.5, "overflow": "reroute"},
    {"balancing": "sinkhorn"},
    {"balancing": "importance", "aux_loss_coef": 0.1, "router_noise": "gaussian"},
    {"balancing": "load", "aux_loss_coef": 0.1},
    {"balancing": "importance_and_load", "aux_loss_coef": 0.1, "router_noise": "learned"},
    {"router_noise": "jitter", "z_loss_coef": 0.1},
    {"router_blind": True, "frozen_experts": True},
    {"num_layers": 3, "top_k": 2, "aux_loss_coef": 0.1, "convention": "huggingface", "z_loss_coef": 0.1},
    {"num_layers": 2, "balancing": "bias", "bias_rate": 0.1, "router_blind": True},
    {"num_layers": 2, "balancing": "expert_choice", "top_k": 2, "capacity_factor": 0.5},
    {"num_layers": 2, "balancing": "importance_and_load", "aux_loss_coef": 0.1, "router_noise": "learned"},
    {"task": "language", "num_layers": 2, "top_k": 2, "renormalize": True, "batch_tokens": 128, "aux_loss_coef": 0.1},
    {"frozen": True},
    {"score_function": "sigmoid", "balancing": "bias", "bias_update": "proportional", "top_k": 2, "renormalize": True},
    {"shared_experts": 2, "sequence_tokens": 16, "balance_scope": "sequence", "aux_loss_coef": 0.1},
    {"num_layers": 2, "balance_scope": "running", "aux_loss_coef": 0.1, "convention": "huggingface", "top_k": 2},
    {"balancing": "load", "aux_loss_coef": 0.1, "balance_scope": "micro_batch", "micro_batches": 2},
    {"balancing": "hash", "top_k": 2},
    {"balancing": "hash", "task": "text"},
    # Sizes that are no multiples of what a processor computes at once.
    {"num_experts": 3, "top_k": 3, "expert_hidden_size": 4, "batch_tokens": 32, "aux_loss_coef": 0.1},
]


def assert_equal(one: Trainer, other: Trainer) -> None:
    """Assert that two runs have the same history, weights and state, to the last digit."""
    np.testing.assert_array_equal(one.history.rows(), other.history.rows())
    for name, value in weights(one).items():
        np.testing.assert_array_equal(value, weights(other)[name], err_msg=name)
    for (first, second), (third, fourth) in zip(
        map(one.optimizer.state_of, one.network.parameters()),
        map(other.optimizer.state_of, other.network.parameters()),
        strict=True,
    ):
        assert torch.equal(first, third)
        assert torch.equal(second, fourth)
    for name, value in vars(one.probe()).items():
        np.testing.assert_array_equal(value, getattr(other.probe(), name), err_msg=name)
    for name, generator in one.random.items():
        assert torch.equal(generator.get_state(), other.random[name].get_state()), name


def variations(kind: dict[str, Any]) -> list[RunConfig]:
    """Three runs of one shape that differ in whatever they may."""
    alpha = kind.get("aux_loss_coef", 0.0)
    return [
        small_config(**kind, seed=3),
        small_config(**{**kind, "aux_loss_coef": 2 * alpha}, seed=4, topic_skew=2.0, topic_shift=5, warmup_steps=0),
        small_config(**{**kind, "aux_loss_coef": alpha / 3}, learning_rate=0.01, shared_direction=3.0,
                     domain_mix="even", router_init="plain", expert_init="copies"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_runs_have_the_same_numbers_together_as_alone(kind: dict[str, Any]) -> None:
    configs = variations(kind)
    alone, together = ([Trainer(config) for config in configs] for _ in range(2))
    for trainer in alone:
        trainer.run(24)
    # In changing company, and not all at the same step.
    together[1].run(3)
    advance(together[:2], 4)
    advance(together, 17)
    advance([*together[1:], Trainer(configs[0])], 0)
    for trainer in together:
        advance([Trainer(configs[1]), trainer], 24 - trainer.steps_done)
    for one, other in zip(alone, together, strict=True):
        assert_equal(one, other)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_runs_of_any_kinds_have_the_same_numbers_together_as_alone(data: st.DataObject) -> None:
    configs = data.draw(st.lists(st.builds(
        small_config, seed=st.integers(0, 3), aux_loss_coef=st.sampled_from([0.0, 0.1, 10.0]),
        top_k=st.sampled_from([1, 2]), balancing=st.sampled_from(sorted(METHODS)),
        capacity_factor=st.sampled_from([None, 1.0]), num_experts=st.sampled_from([4, 5]),
    ), min_size=1, max_size=6))  # fmt: skip
    alone, together = ([Trainer(config) for config in configs] for _ in range(2))
    for trainer in alone:
        trainer.run(11)
    advance(together, 11)
    for one, other in zip(alone, together, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("kind", [{}, {"capacity_factor": 0.5, "drop_order": "probability"}], ids=str)
def test_a_run_that_diverges_ends_alone_and_leaves_the_others_as_they_are(kind: dict[str, Any]) -> None:
    configs = [
        small_config(**kind), small_config(**kind, learning_rate=1000.0, warmup_steps=0), small_config(**kind, seed=1),
    ]  # fmt: skip
    alone, together = ([Trainer(config) for config in configs] for _ in range(2))
    for trainer in alone:
        trainer.run(30)
    advance(together, 30)
    assert [trainer.diverged for trainer in together] == [trainer.diverged for trainer in alone] == [False, True, False]
    assert 0 < together[1].steps_done < 30
    for one, other in zip(alone, together, strict=True):
        assert_equal(one, other)


def test_what_is_not_a_number_in_one_run_does_not_reach_another() -> None:
    alone, together = ([Trainer(small_config(capacity_factor=0.5, seed=seed)) for seed in (0, 1)] for _ in range(2))
    for trainers in (alone, together):
        with torch.no_grad():
            trainers[0].network.layers[0].experts.weight_in[:] = torch.nan
    alone[1].run(5)
    advance(together, 5)
    assert together[0].diverged
    assert together[0].steps_done == 0
    assert_equal(alone[1], together[1])


def test_changes_between_two_advances_act_on_their_run_alone() -> None:
    alone, together = ([Trainer(small_config(seed=seed)) for seed in range(3)] for _ in range(2))
    moves = ({"aux_loss_coef": 0.1}, {"swap_weights": "1-2", "swap_columns": "2-3"}, {"balancing": "bias", "top_k": 2})
    for trainer in alone:
        trainer.run(8)
    advance(together, 8)
    for trainers in (alone, together):
        for trainer, move in zip(trainers, moves, strict=True):
            trainer.update(**move)
    for trainer in alone:
        trainer.run(8)
    advance(together, 8)
    for one, other in zip(alone, together, strict=True):
        assert_equal(one, other)


def test_more_runs_than_one_computation_takes_and_a_run_that_is_named_twice() -> None:
    count = MOST_TOGETHER + 2
    together = [Trainer(small_config(seed=seed)) for seed in range(count)]
    advance([*together, together[0]], 2)
    assert [trainer.steps_done for trainer in together] == [2] * count
    assert_equal(together[-1], _alone(small_config(seed=count - 1), 2))


@pytest.mark.parametrize(
    ("knobs", "most"),
    [
        ({}, 24),
        ({"batch_tokens": 1024, "top_k": 2}, 4),  # 8,192 / 2,048 pairs
        ({"batch_tokens": 2048, "top_k": 8}, 1),
        ({"num_experts": 64}, 8),  # 12,288 / (64 · 24) hidden units
        ({"num_experts": 64, "expert_hidden_size": 256}, 1),
    ],
    ids=str,
)
def test_large_runs_are_computed_with_few_others_or_alone(knobs: dict[str, Any], most: int) -> None:
    assert most_together(RunConfig(**knobs)) == most


def _alone(config: RunConfig, steps: int) -> Trainer:
    trainer = Trainer(config)
    trainer.run(steps)
    return trainer


def test_the_variations_differ_in_every_free_knob_but_those_that_change_weights() -> None:
    configs = variations({"aux_loss_coef": 0.1})
    differ = {name for name in RunConfig.model_fields if len({getattr(config, name) for config in configs}) > 1}
    assert differ == FREE - {"z_loss_coef", "swap_columns", "swap_weights"}


def test_a_negative_number_of_steps_is_rejected() -> None:
    with pytest.raises(ValueError, match="steps must be 0 or more, not -1"):
        advance([Trainer(small_config())], -1)
