"""Shared experts: their outputs are added for every token, and the router has no part in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from moe_sim import RunConfig, Trainer
from moe_sim.config.run_config import MOST_HIDDEN
from moe_sim.trainer.moe import SharedExperts
from tests.support.inspecting import small_config, weights


@pytest.mark.parametrize("count", [1, 2])
def test_the_output_is_the_sum_of_the_experts_one_by_one(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shared = SharedExperts(count, 6, 5, generator)
    for parameter in shared.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    x = torch.randn(40, 6, generator=generator)
    expected = shared.bias_out + sum(
        F.relu(x @ shared.weight_in[:, unit] + shared.bias_in[unit]) @ shared.weight_out[unit]
        for unit in (slice(5 * number, 5 * number + 5) for number in range(count))
    )
    torch.testing.assert_close(shared(x), expected)


def test_a_layer_adds_them_to_the_chosen_experts_also_for_dropped_tokens() -> None:
    trainer = Trainer(small_config(shared_experts=1, capacity_factor=0.25))
    (moe,), config = trainer.network.layers, trainer.config
    assert moe.shared is not None
    x = trainer.task.batch(64, trainer.shares, torch.Generator().manual_seed(0)).inputs
    out, routing = moe(x, config, trainer.mechanisms[0])
    torch.testing.assert_close(out, moe.experts(x, routing) + moe.shared(x))
    dropped = ~routing.served()
    assert dropped.any()
    torch.testing.assert_close(out[torch.from_numpy(dropped)], moe.shared(x)[torch.from_numpy(dropped)])


def test_without_them_a_run_has_the_numbers_that_it_had() -> None:
    assert not any("shared" in name for name in weights(Trainer(small_config())))
    routed = {name: value for name, value in weights(Trainer(small_config(shared_experts=2))).items() if "moe" in name}
    for name, value in weights(Trainer(small_config())).items():
        if "moe" in name:
            np.testing.assert_array_equal(routed[name], value, err_msg=name)


def test_they_learn_and_freeze_with_the_experts() -> None:
    trainer = Trainer(small_config(shared_experts=1))
    before = weights(trainer)
    trainer.run(3)
    learnt = weights(trainer)
    shared = [name for name in before if "shared" in name]
    assert len(shared) == 4
    assert all(not np.array_equal(before[name], learnt[name]) for name in shared)
    trainer.update(frozen_experts=True)
    trainer.run(3)
    for name, value in weights(trainer).items():
        if "noise" not in name:  # whose weights learn only with learned noise
            assert np.array_equal(value, learnt[name]) == ("experts" in name or "shared" in name), name


@pytest.mark.parametrize(
    "knobs", [{"num_experts": 64, "expert_hidden_size": 256, "shared_experts": 1}, {"batch_tokens": 2048, "top_k": 7,
              "expert_hidden_size": 256, "shared_experts": 2}],
)  # fmt: skip
def test_they_count_in_what_a_run_may_cost(knobs: dict[str, Any]) -> None:
    assert RunConfig(**{**knobs, "shared_experts": 0}).num_experts * 256 <= MOST_HIDDEN
    with pytest.raises(ValueError, match=r"shared_experts.* may be at most"):
        RunConfig(**knobs)
