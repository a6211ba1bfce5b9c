"""Hash routing: fixed, whatever the router says, and nothing learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from moe_sim import RunConfig, Trainer
from moe_sim.router.balancing import METHODS
from moe_sim.router.routing import route
from moe_sim.tasks.task import by_content
from tests.support.inspecting import small_config, weights


def test_a_token_goes_to_the_same_experts_whatever_the_router_says() -> None:
    # floor(token · 2654435769 / 2¹⁶) mod 8, by hand: 40503, 81006, 121510, so 7, 6, 6.
    mechanism, tokens = METHODS["hash"](8), torch.tensor([1, 2, 3, 1])
    for seed in range(3):
        logits = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
        routing = route(logits, RunConfig(top_k=3), mechanism.selector(tokens))
        assert routing.expert_index.tolist() == [[7, 0, 1], [6, 7, 0], [6, 7, 0], [7, 0, 1]]
        np.testing.assert_allclose(routing.combine_weights.numpy(), 1 / 3)


@pytest.mark.parametrize("task", ["topics", "text", "language"])
def test_the_router_learns_nothing_and_the_experts_do(task: str) -> None:
    trainer = Trainer(small_config(task=task, balancing="hash", top_k=2))
    before = weights(trainer)
    history = trainer.run(12)
    for name, value in weights(trainer).items():
        assert np.array_equal(value, before[name]) == ("router" in name), name
    assert not history.column("router_task_gradient").any()
    assert history.column("eval_task_loss")[9] > 0


def test_characters_decide_in_text_and_the_whole_vector_in_topics() -> None:
    for task in ("text", "language"):
        trainer = Trainer(RunConfig(task=task, balancing="hash", batch_tokens=512))
        batch = trainer.task.batch(512, trainer.shares, torch.Generator().manual_seed(0))
        ids = trainer.task.token_ids(batch.inputs)  # type: ignore[attr-defined]
        routing = trainer.network.routings(batch.inputs, trainer.config, trainer.mechanisms)[0]
        chosen = {int(one): set() for one in ids.unique()}
        for one, expert in zip(ids.tolist(), routing.expert_index[:, 0].tolist(), strict=True):
            chosen[one].add(expert)
        assert all(len(experts) == 1 for experts in chosen.values())
        assert len(set.union(*chosen.values())) == 8
    x = torch.randn(3000, 32, generator=torch.Generator().manual_seed(0))
    assert len(by_content(x).unique()) == 3000
    assert torch.equal(by_content(x), by_content(x.clone()))


def test_the_load_of_topics_is_even_by_chance_and_nothing_specializes() -> None:
    # Measured on seeds 0-4 at step 400: the busiest expert has 0.128 to 0.134, specialization 0.002.
    history = Trainer(RunConfig(balancing="hash")).run(60)
    load = history.layer().column("load").mean(0)
    assert load.max() < 0.14
    assert history.last("specialization") < 0.05
