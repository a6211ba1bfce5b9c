"""The trainer's contract: what it records, what it lets be changed, and that the same run gives the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from moe_sim import KNOBS, PRESETS, Event, RunConfig, StepRecord, Trainer
from moe_sim.tasks import Batch
from tests import oracles

SMALL = {"batch_tokens": 64, "num_experts": 4, "expert_hidden_size": 8}
CONTRACT_COLUMNS = {
    "step", "task_loss", "balance_loss", "z_loss", "imbalance_ratio", "max_violation", "load_cv", "load_entropy",
    "dead_experts", "dropped_fraction", "efficiency", "specialization", "router_entropy",
}  # fmt: skip
CONTRACT_EXPERT_COLUMNS = ("load", "importance", "processed", "grad_norm", "weight_change")
LIVE_MOVES: list[dict[str, Any]] = [
    {"aux_loss_coef": 10.0},
    {"z_loss_coef": 1.0},
    {"top_k": 3},
    {"top_k": 2, "renormalize": True},
    {"capacity_factor": 0.5, "drop_order": "probability"},
    {"router_noise": "gaussian", "noise_std": 1.0},
    {"router_noise": "jitter", "noise_std": 0.5},
    {"balancing": "importance", "aux_loss_coef": 1.0},
    {"learning_rate": 0.1},
]


def small_config(**knobs: Any) -> RunConfig:
    return RunConfig(**{**SMALL, **knobs})


def keep_batches(trainer: Trainer) -> list[Batch]:
    """The batches that the trainer will train on, as they come."""
    batches, draw = [], trainer.task.batch

    def batch(tokens: int, generator: torch.Generator) -> Batch:
        batches.append(draw(tokens, generator))
        return batches[-1]

    trainer.task.batch = batch
    return batches


def weights(trainer: Trainer) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in trainer.network.state_dict().items()}


def step(trainer: Trainer) -> StepRecord:
    record = trainer.step()
    assert record is not None
    return record


def test_the_contract_as_it_is_written() -> None:
    trainer = Trainer(RunConfig(task="topics", num_experts=8, top_k=1, aux_loss_coef=0.0, seed=0))
    record = step(trainer)
    trainer.update(aux_loss_coef=0.03)
    history = trainer.run(steps=20)
    assert record.step == 1
    assert history is trainer.history
    assert len(history) == trainer.steps_done == 21
    assert history.events == (Event(1, {"aux_loss_coef": 0.03}),)
    assert trainer.config.aux_loss_coef == 0.03
    assert "collapse" in PRESETS


def test_the_frame_has_the_columns_of_the_contract() -> None:
    frame = Trainer(small_config()).run(3).to_frame()
    experts = {f"{name}_{expert}" for name in CONTRACT_EXPERT_COLUMNS for expert in range(4)}
    live = {name for name, knob in KNOBS.items() if knob.live}
    assert CONTRACT_COLUMNS | experts | live <= set(frame.columns)
    assert len(frame) == 3


def test_a_record_is_plain_numbers_and_arrays_without_a_graph() -> None:
    record = step(Trainer(small_config()))
    for name, value in vars(record).items():
        assert isinstance(value, (int, float, np.ndarray)), name
        if isinstance(value, np.ndarray):
            assert value.shape == (4,), name


@pytest.mark.parametrize("name", [name for name, knob in KNOBS.items() if not knob.live])
def test_a_structural_knob_cannot_move_and_is_named(name: str) -> None:
    trainer = Trainer(small_config())
    trainer.run(2)
    before = weights(trainer)
    with pytest.raises(ValueError, match=name):
        trainer.update(aux_loss_coef=0.5, **{name: KNOBS[name].default})
    assert trainer.config == small_config()
    assert trainer.history.events == ()
    for key, value in weights(trainer).items():
        np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize(
    "move",
    [{"aux_loss_coef": 11}, {"aux_loss_coef": float("nan")}, {"top_k": 5}, {"top_k": 0}, {"renormalize": True},
     {"balancing": "magic"}, {"capacity_factor": 0.0}, {"learning_rate": float("inf")}, {"speed": 3}],
    ids=str,
)  # fmt: skip
def test_a_value_that_is_not_allowed_is_refused_and_nothing_changes(move: dict[str, Any]) -> None:
    trainer = Trainer(small_config())
    # The message says “top_k” or, in a sentence of its own, “Top-k”.
    with pytest.raises(ValueError, match="(?i)" + next(iter(move)).replace("_", ".")):
        trainer.update(**{"z_loss_coef": 0.1, **move})
    assert trainer.config == small_config()
    assert trainer.history.events == ()


def test_moving_a_knob_to_where_it_stands_is_no_event() -> None:
    trainer = Trainer(small_config(aux_loss_coef=0.1))
    trainer.update(aux_loss_coef=0.1, top_k=1)
    assert trainer.history.events == ()


@pytest.mark.parametrize("task", ["topics", "text"])
def test_the_same_run_with_the_same_moves_gives_the_same_frame(task: str) -> None:
    def frame(neighbour: Trainer | None) -> pd.DataFrame:
        trainer = Trainer(small_config(task=task, router_noise="gaussian", capacity_factor=1.0))
        for number in range(30):
            if number == 10:
                trainer.update(aux_loss_coef=0.1, top_k=2)
            if number == 20:
                trainer.update(router_noise="jitter", capacity_factor=None)
            trainer.step()
            if neighbour is not None:
                neighbour.step()
                trainer.probe()
        return trainer.history.to_frame()

    pd.testing.assert_frame_equal(frame(None), frame(Trainer(small_config(seed=9))), check_exact=True)


def test_another_seed_is_another_run() -> None:
    losses = [Trainer(small_config(seed=seed)).run(5).column("task_loss") for seed in (0, 1)]
    assert not np.isclose(*losses).any()


@pytest.mark.parametrize("move", LIVE_MOVES, ids=str)
def test_data_order_and_initial_weights_do_not_depend_on_live_knobs(move: dict[str, Any]) -> None:
    plain, moved = Trainer(small_config()), Trainer(small_config(**move))
    for name, value in weights(plain).items():
        np.testing.assert_array_equal(weights(moved)[name], value)
    plain_batches, moved_batches = keep_batches(plain), keep_batches(moved)
    plain.run(5)
    moved.run(5)
    for one, other in zip(plain_batches, moved_batches, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)


def test_alpha_does_not_show_in_the_first_step_but_later() -> None:
    runs = [Trainer(RunConfig(aux_loss_coef=alpha)).run(10).column("task_loss") for alpha in (0.0, 0.1, 10.0)]
    assert runs[0][0] == runs[1][0] == runs[2][0]
    assert len({run[-1] for run in runs}) == 3


def test_the_first_record_is_what_the_definitions_say() -> None:
    trainer = Trainer(small_config(top_k=2, seed=3))
    batches, before = keep_batches(trainer), weights(trainer)
    record = step(trainer)
    logits = batches[0].inputs.numpy() @ before["moe.router.weight"]
    probs, chosen = oracles.softmax(logits), oracles.choices(logits, 2)
    load, importance = oracles.load(chosen, 4), probs.mean(0)
    np.testing.assert_allclose(record.load, load)
    np.testing.assert_allclose(record.importance, importance, rtol=1e-5)
    assert record.z_loss == pytest.approx(oracles.router_z_loss(logits), rel=1e-5)
    assert record.balance_loss == pytest.approx(4 * (load * importance).sum(), rel=1e-5)
    assert record.router_entropy == pytest.approx(
        np.mean([oracles.entropy(row) for row in probs]) / np.log(4), rel=1e-5
    )
    joint = np.zeros((12, 4))
    np.add.at(joint, (batches[0].groups.numpy(), chosen[:, 0]), 1)
    assert record.specialization == pytest.approx(oracles.specialization(joint[joint.sum(1) > 0]))
    np.testing.assert_allclose(trainer.probe().joint, joint / 64)


def test_gradient_and_weight_change_are_those_of_each_expert() -> None:
    trainer = Trainer(small_config())
    trainer.run(3)
    before = weights(trainer)
    record = step(trainer)
    after = weights(trainer)
    names = [name for name in before if name.startswith("moe.experts.")]
    gradients = {name: trainer.network.get_parameter(name).grad.numpy() for name in names}

    def norm(arrays: dict[str, np.ndarray], expert: int) -> float:
        return np.sqrt(sum((arrays[name][expert].astype(float) ** 2).sum() for name in names))

    assert len(names) == 4
    for expert in range(4):
        change = norm({name: after[name] - before[name] for name in names}, expert) / norm(before, expert)
        assert record.grad_norm[expert] == pytest.approx(norm(gradients, expert), rel=1e-4)
        assert record.weight_change[expert] == pytest.approx(change, rel=1e-4)


@pytest.mark.parametrize("move", LIVE_MOVES, ids=str)
def test_the_recorded_balance_loss_is_per_choice_whatever_is_optimized(move: dict[str, Any]) -> None:
    history = Trainer(small_config(**move)).run(10)
    expected = 4 * (history.column("load") * history.column("importance")).sum(1)
    np.testing.assert_allclose(history.column("balance_loss"), expected, rtol=1e-6)


def test_the_optimized_loss_is_recorded_beside_it() -> None:
    history = Trainer(small_config(balancing="importance", aux_loss_coef=0.1)).run(10)
    expected = [oracles.squared_variation(importance) for importance in history.column("importance")]
    np.testing.assert_allclose(history.column("auxiliary_loss"), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("drop_order", ["position", "probability"])
@pytest.mark.parametrize("top_k", [1, 2])
def test_what_is_not_dropped_is_processed(top_k: int, drop_order: str) -> None:
    config = small_config(top_k=top_k, capacity_factor=0.75, drop_order=drop_order)
    history = Trainer(config).run(20)
    processed, dropped = history.column("processed"), history.column("dropped_fraction")
    np.testing.assert_allclose(processed.sum(1) + dropped, 1, atol=1e-12)
    np.testing.assert_allclose(history.column("load").sum(1), 1, atol=1e-12)
    # C = ⌈0.75 · 64 · K / 4⌉ = 12 K of the 64 K pairs.
    np.testing.assert_allclose(processed, np.minimum(history.column("load"), 12 / 64), atol=1e-12)
    assert (dropped > 0).all()


def test_without_a_limit_nothing_is_dropped() -> None:
    history = Trainer(small_config(top_k=2)).run(10)
    assert not history.column("dropped_fraction").any()
    np.testing.assert_array_equal(history.column("processed"), history.column("load"))


def test_the_smoothed_load_is_the_moving_average_of_pandas() -> None:
    history = Trainer(small_config(aux_loss_coef=0.01)).run(60)
    expected = pd.DataFrame(history.column("load")).ewm(alpha=1 / 20).mean()
    np.testing.assert_allclose(history.column("smoothed_load"), expected, atol=1e-12)
    np.testing.assert_array_equal(history.column("dead_experts"), (expected < 0.1 / 4).sum(axis=1))


def test_the_probe_routes_the_held_out_tokens_as_they_are_now() -> None:
    trainer = Trainer(small_config())
    assert trainer.probe().step == 0
    assert trainer.probe().joint.shape == (12, 4)
    assert not trainer.probe().joint.any()
    assert not trainer.probe().group_shares().any()
    trainer.run(5)
    probe = trainer.probe()
    logits = trainer.held_out.batch.inputs.numpy() @ weights(trainer)["moe.router.weight"]
    np.testing.assert_array_equal(probe.expert, oracles.choices(logits, 1)[:, 0])
    assert probe.step == 5
    assert probe.joint.sum() == pytest.approx(1)
    assert not probe.dropped.any()
    # Rows of shares sum to 1 for every topic that has been seen: all twelve, after 320 tokens.
    np.testing.assert_allclose(probe.group_shares().sum(1), 1)


def test_the_probe_has_no_noise_but_the_capacity_limit() -> None:
    trainer = Trainer(small_config(router_noise="gaussian", noise_std=10.0, capacity_factor=0.5))
    first, second = trainer.probe(), trainer.probe()
    np.testing.assert_array_equal(first.expert, second.expert)
    # C = ⌈0.5 · 400 / 4⌉ = 50 tokens an expert.
    counts = np.bincount(first.expert, minlength=4)
    assert first.dropped.sum() == np.maximum(counts - 50, 0).sum() > 0
