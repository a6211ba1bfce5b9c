"""Every column of a record against its definition, recomputed from the routing, the weights and the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from moe_sim import StepRecord, Trainer
from moe_sim.history.columns import MOST_CHOICES, PER_CHOICE, PER_EXPERT, SCALARS
from moe_sim.history.smoothed import Smoothed
from moe_sim.router.balancing import METHODS
from tests.support import oracles
from tests.support.inspecting import Watched, small_config, weights

KINDS: list[dict[str, Any]] = [
    {},
    {"top_k": 3},
    {"top_k": 2, "balancing": "bias", "bias_rate": 0.1},
    {"balancing": "expert_choice"},
    {"top_k": 2, "balancing": "expert_choice"},
    {"balancing": "sinkhorn"},
    {"top_k": 2, "router_noise": "gaussian", "noise_std": 1.0},
    {"router_noise": "learned"},
    {"top_k": 2, "capacity_factor": 0.5},
    {"top_k": 2, "capacity_factor": 1.0, "overflow": "reroute", "drop_order": "probability"},
    {"top_k": 3, "capacity_factor": 0.75, "overflow": "reroute", "balancing": "bias"},
]

LOPSIDED = {"router_init": "plain", "warmup_steps": 0}
"""A start from which the first steps are far from even."""


def test_a_record_is_plain_numbers_and_arrays_without_a_graph() -> None:
    record = Watched().step()
    for name, value in vars(record).items():
        if name in SCALARS:
            assert isinstance(value, (int, float)), name
        else:
            assert isinstance(value, np.ndarray), name
            assert value.shape == (1, 4 if name in PER_EXPERT else MOST_CHOICES), name
    assert {*SCALARS, *PER_EXPERT, *PER_CHOICE} == set(vars(record))


def test_the_first_record_matches_the_definitions() -> None:
    run = Watched(top_k=2, seed=3)
    record = run.step()
    logits = run.batches[0].inputs.numpy() @ run.before["chain.0.moe.router.weight"]
    probs, chosen = oracles.softmax(logits), oracles.choices(logits, 2)
    load, importance = oracles.load(chosen, 4), probs.mean(0)
    np.testing.assert_allclose(record.load[0], load)
    np.testing.assert_allclose(record.importance[0], importance, rtol=1e-5)
    assert record.z_loss == pytest.approx(oracles.router_z_loss(logits), rel=1e-5)
    assert record.balance_loss == pytest.approx(4 * (load * importance).sum(), rel=1e-5)
    assert record.router_entropy == pytest.approx(
        np.mean([oracles.entropy(row) for row in probs]) / np.log(4), rel=1e-5
    )
    assert record.router_logit_rms == pytest.approx(np.sqrt((logits.astype(float) ** 2).mean()), rel=1e-5)
    assert record.router_logit_max == pytest.approx(np.abs(logits).max(), rel=1e-5)
    joint = np.zeros((12, 4))
    np.add.at(joint, (run.batches[0].groups.numpy(), chosen[:, 0]), 1)
    assert record.specialization == pytest.approx(oracles.specialization(joint[joint.sum(1) > 0]))
    np.testing.assert_allclose(run.trainer.probe().joint[0], joint / 64)


@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_shares_of_experts_are_counted_from_the_routing(knobs: dict[str, Any]) -> None:
    run = Watched(**knobs)
    for _ in range(5):
        record = run.step()
        chosen, kept = run.chosen(), run.kept()
        pairs = sum(map(len, chosen))
        expected = {"load": np.zeros(4), "first_load": np.zeros(4), "processed": np.zeros(4)}
        for experts in chosen:
            for expert in experts:
                expected["load"][expert] += 1 / pairs
            if experts:
                expected["first_load"][experts[0]] += 1 / sum(map(bool, chosen))
        for expert in run.routing.dispatch_index.numpy()[kept]:
            expected["processed"][expert] += 1 / pairs
        # The router's own preference: its logits, without noise and without the mechanism.
        preferred = oracles.choices(run.routing.logits.detach().numpy(), run.trainer.config.top_k)
        expected["preferred_load"] = oracles.load(preferred, 4)
        for name, shares in expected.items():
            np.testing.assert_allclose(getattr(record, name)[0], shares, atol=1e-12, err_msg=name)
        assert record.dropped_fraction == pytest.approx(1 - expected["processed"].sum(), abs=1e-12)
        assert record.unserved_fraction == pytest.approx(oracles.unserved(kept), abs=1e-12)


def test_the_kinds_of_runs_make_the_columns_differ() -> None:
    shares = {}
    for knobs in KINDS:
        history = Trainer(small_config(**knobs)).run(5)
        for name in ("first_load", "processed", "preferred_load"):
            shares.setdefault(name, []).append((history.column(name) != history.column("load")).any())
    assert all(any(differs) and not all(differs) for differs in shares.values())


@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize("overflow", ["drop", "reroute"])
@pytest.mark.parametrize("drop_order", ["position", "probability"])
def test_dropped_pairs_are_recorded_by_choice(top_k: int, overflow: str, drop_order: str) -> None:
    run = Watched(top_k=top_k, overflow=overflow, drop_order=drop_order, capacity_factor=0.5)
    for _ in range(5):
        record = run.step()
        np.testing.assert_allclose(record.dropped_by_choice[0], oracles.dropped_by_choice(run.kept()), atol=1e-12)
        assert record.dropped_by_choice[0].sum() / top_k == pytest.approx(record.dropped_fraction, abs=1e-12)
        # There are half as many seats as pairs.
        assert record.dropped_fraction >= 0.5 - 1e-12


@pytest.mark.parametrize("overflow", ["drop", "reroute"])
@pytest.mark.parametrize("drop_order", ["position", "probability"])
@pytest.mark.parametrize("top_k", [1, 2])
def test_pairs_that_are_not_dropped_are_processed(top_k: int, drop_order: str, overflow: str) -> None:
    config = small_config(top_k=top_k, capacity_factor=0.75, drop_order=drop_order, overflow=overflow)
    history = Trainer(config).run(20)
    processed, dropped = history.layer().column("processed"), history.column("dropped_fraction")
    np.testing.assert_allclose(processed.sum(1) + dropped, 1, atol=1e-12)
    np.testing.assert_allclose(history.layer().column("load").sum(1), 1, atol=1e-12)
    # C = ⌈0.75 · 64 · K / 4⌉ = 12 K of the 64 K pairs.
    assert (processed <= 12 / 64 + 1e-12).all()
    if overflow == "drop":
        np.testing.assert_allclose(processed, np.minimum(history.layer().column("load"), 12 / 64), atol=1e-12)
    elif top_k == 1:
        np.testing.assert_allclose(processed, 12 / 64, atol=1e-12)
    assert (dropped > 0).all()


def test_with_enough_seats_rerouting_drops_no_pair() -> None:
    drop, reroute = (
        Trainer(small_config(capacity_factor=1.0, overflow=overflow, **LOPSIDED)).run(20)
        for overflow in ("drop", "reroute")
    )
    assert (drop.column("dropped_fraction") > 0.1).all()
    assert not reroute.column("dropped_fraction").any()
    assert not reroute.column("unserved_fraction").any()
    assert (reroute.layer().column("processed") == 1 / 4).all()


def test_without_a_limit_nothing_is_dropped() -> None:
    history = Trainer(small_config(top_k=2)).run(10)
    for name in ("dropped_fraction", "unserved_fraction", "dropped_by_choice"):
        assert not history.column(name).any(), name
    np.testing.assert_array_equal(history.layer().column("processed"), history.layer().column("load"))


@pytest.mark.parametrize("shape", [{}, {"top_k": 2}, {"num_experts": 7, "top_k": 3, "batch_tokens": 96}], ids=str)
def test_under_expert_choice_the_load_is_exactly_even_and_some_tokens_have_no_expert(shape: dict[str, int]) -> None:
    run = Watched(balancing="expert_choice", **shape)
    experts = run.trainer.config.num_experts
    for _ in range(10):
        record = run.step()
        assert (record.load[0] == 1 / experts).all()
        assert record.imbalance_ratio == 1
        assert record.efficiency == pytest.approx(1)
        assert record.dropped_fraction == 0
        assert not record.dropped_by_choice[0].any()
        unserved = sum(not chosen for chosen in run.chosen()) / len(run.chosen())
        assert record.unserved_fraction == pytest.approx(unserved, abs=1e-12)
        # With one expert per token on average, some tokens have none; with more, that is rare.
        assert unserved > 0 or run.trainer.config.top_k > 1


@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_groups_and_pairs_of_experts_are_counted_from_the_routing(knobs: dict[str, Any]) -> None:
    run = Watched(**knobs)
    joints, togethers = [], []
    for _ in range(3):
        record = run.step()
        joint = np.zeros((12, 4))
        for group, experts in zip(run.batches[-1].groups.tolist(), run.chosen(), strict=True):
            if experts:
                joint[group, experts[0]] += 1
        joints.append(joint / joint.sum())
        togethers.append(oracles.together([set(experts) for experts in run.chosen()], 4))
    # Smoothed over three steps: the newest counts 1, the one before 0.95, the first 0.95².
    ages = np.array([0.95**2, 0.95, 1])
    joint, together = (np.average(values, axis=0, weights=ages) for values in (joints, togethers))
    probe = run.trainer.probe().layer(0)
    np.testing.assert_allclose(probe.joint, joint, atol=1e-12)
    np.testing.assert_allclose(probe.together, together, atol=1e-6)
    assert record.specialization == pytest.approx(oracles.specialization(joint[joint.sum(1) > 0]))
    for expert in range(4):
        if together[expert, expert] > 0:
            shares = together[expert] / together[expert, expert]
            np.testing.assert_allclose(probe.coactivation()[expert], shares, atol=1e-6)


def test_gradients_and_weight_changes_are_recorded_per_expert() -> None:
    run = Watched()
    start = weights(run.trainer)
    for _ in range(4):
        record = run.step()
    after = weights(run.trainer)
    names = [name for name in start if name.startswith("chain.0.moe.experts.")]
    gradients = {name: run.trainer.network.get_parameter(name).grad.numpy() for name in names}
    assert len(names) == 4
    for expert in range(4):
        now, before, first = ([arrays[name][expert] for name in names] for arrays in (after, run.before, start))
        norm = np.sqrt(sum((gradients[name][expert].astype(float) ** 2).sum() for name in names))
        assert record.grad_norm[0][expert] == pytest.approx(norm, rel=1e-4)
        assert record.weight_change[0][expert] == pytest.approx(oracles.distance(now, before), rel=1e-4)
        assert record.weight_distance[0][expert] == pytest.approx(oracles.distance(now, first), rel=1e-4)
    used = record.grad_norm[0] > 0
    assert (record.weight_distance[0] > record.weight_change[0])[used].all()
    assert used.sum() >= 2


WITH_LOSS: list[dict[str, Any]] = [
    *({"top_k": 2, "convention": convention} for convention in ("per_choice", "first_choice", "huggingface")),
    {"z_loss_coef": 0.1},
    {"balancing": "importance", "capacity_factor": 0.75, "overflow": "reroute"},
    {"balancing": "load", "noise_std": 0.5},
    {"balancing": "load", "router_noise": "learned", "top_k": 2},
    {"balancing": "importance_and_load", "router_noise": "jitter", "z_loss_coef": 0.01},
]


@pytest.mark.parametrize("alpha", [0.0, 0.03, 1.0])
@pytest.mark.parametrize("knobs", WITH_LOSS, ids=str)
def test_the_router_gradient_is_split_into_task_and_balancing(knobs: dict[str, Any], alpha: float) -> None:
    run = Watched(aux_loss_coef=alpha, **knobs)
    for _ in range(5):
        record = run.step()
        task, balance = run.gradients["task"], run.gradients["balance"]
        assert record.router_task_gradient == pytest.approx(task.norm().item(), rel=1e-4)
        assert record.router_balance_gradient == pytest.approx(balance.norm().item(), rel=1e-4)
        cosine = (task * balance).sum() / (task.norm() * balance.norm())
        assert record.router_gradient_cosine == pytest.approx(cosine.item(), abs=1e-3)
        # Together they make up the total gradient on the router.
        z = run.trainer.config.z_loss_coef * run.gradients["z"]
        total = run.trainer.network.layers[0].router.weight.grad
        np.testing.assert_allclose((task + alpha * balance + z).numpy(), total.numpy(), rtol=1e-5, atol=1e-5)
        t, b = record.router_task_gradient, alpha * record.router_balance_gradient
        length = np.sqrt(t**2 + b**2 + 2 * t * b * record.router_gradient_cosine)
        assert length == pytest.approx((total - z).norm().item(), rel=1e-3)


@pytest.mark.parametrize("name", ["none", "bias", "expert_choice", "sinkhorn"])
def test_without_a_balancing_loss_only_the_task_has_a_gradient_on_the_router(name: str) -> None:
    run = Watched(balancing=name, aux_loss_coef=1.0, z_loss_coef=0.1)
    record = run.step()
    assert record.router_task_gradient == pytest.approx(run.gradients["task"].norm().item(), rel=1e-4)
    assert record.router_task_gradient > 0
    assert record.router_balance_gradient == 0
    assert np.isnan(record.router_gradient_cosine)


@pytest.mark.parametrize("router_noise", ["none", "jitter", "gaussian", "learned"])
@pytest.mark.parametrize("name", METHODS)
def test_the_strength_of_the_noise_is_recorded(name: str, router_noise: str) -> None:
    run = Watched(balancing=name, router_noise=router_noise, noise_std=0.3, aux_loss_coef=0.1)
    strength: list[float] = []
    for _ in range(3):
        strength.append(run.step().router_noise_std)
        # The weights of the noise are trained only if the noise is learned.
        noise_weight = run.before["chain.0.moe.router.noise_weight"]
        expected = oracles.softplus(run.batches[-1].inputs.numpy() @ noise_weight).mean()
        if router_noise == "learned":
            assert strength[-1] == pytest.approx(expected, rel=1e-4)
        else:
            assert not noise_weight.any()
    if router_noise == "learned":
        assert strength[0] == pytest.approx(np.log(2), rel=1e-6)
        assert (strength[2] != strength[0]) == (name != "hash")  # which needs no router, so it does not learn
    else:
        needs = name in ("load", "importance_and_load")
        assert strength == [0.3 if router_noise == "gaussian" or needs else 0.0] * 3


def test_the_bias_used_for_selection_is_recorded() -> None:
    run = Watched(balancing="bias", bias_rate=0.01, top_k=2, **LOPSIDED)
    bias = np.zeros(4)
    for _ in range(20):
        record = run.step()
        np.testing.assert_allclose(record.selection_bias[0], bias, atol=1e-6)
        chosen = oracles.choices(run.routing.probs.detach().numpy() + record.selection_bias[0], 2)
        np.testing.assert_array_equal(run.routing.expert_index.numpy(), chosen)
        bias = oracles.updated_bias(bias, record.load[0], 0.01)
    assert np.abs(bias).max() > 0.02


@pytest.mark.parametrize("knobs", [*KINDS, {"top_k": 2, "convention": "huggingface"}], ids=str)
def test_the_recorded_balance_loss_is_per_choice_whatever_loss_is_optimized(knobs: dict[str, Any]) -> None:
    history = Trainer(small_config(**knobs)).run(10)
    expected = 4 * (history.layer().column("load") * history.layer().column("importance")).sum(1)
    np.testing.assert_allclose(history.column("balance_loss"), expected, rtol=1e-6)


@pytest.mark.parametrize("knobs", WITH_LOSS, ids=str)
def test_the_loss_that_alpha_weighs_is_recorded_too(knobs: dict[str, Any]) -> None:
    run = Watched(**knobs)
    for _ in range(3):
        record = run.step()
        config, routing = run.trainer.config, run.routing
        probs, chosen = routing.probs.detach().numpy(), routing.expert_index.numpy()
        logits, noisy = routing.logits.detach().numpy(), routing.noisy_logits.detach().numpy()
        std = routing.noise_std if isinstance(routing.noise_std, float) else routing.noise_std.detach().numpy()
        if config.balancing == "load_balancing":
            expected = oracles.load_balancing_loss(probs, chosen, config.convention)
        elif config.balancing == "importance":
            expected = oracles.squared_variation(probs.sum(0))
        elif config.balancing == "load":
            expected = oracles.load_loss(logits, noisy, std, config.top_k)
        else:
            expected = oracles.importance_and_load_loss(logits, noisy, std, config.top_k)
        assert record.auxiliary_loss == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_smoothed_load_equals_the_moving_average_of_pandas() -> None:
    history = Trainer(small_config(aux_loss_coef=0.01)).run(60)
    expected = pd.DataFrame(history.layer().column("load")).ewm(alpha=1 / 20).mean()
    np.testing.assert_allclose(history.layer().column("smoothed_load"), expected, atol=1e-12)
    np.testing.assert_array_equal(history.column("dead_experts"), (expected < 0.1 / 4).sum(axis=1))


def test_a_returned_average_does_not_change_later() -> None:
    smoothed = Smoothed(2)
    assert smoothed.value.tolist() == [0, 0]
    first = smoothed.update(np.array([1.0, 0.0]))
    second = smoothed.update(np.array([0.0, 1.0]))
    assert first.tolist() == [1, 0]
    # Weights 0.95 and 1, together 1.95.
    assert second.tolist() == pytest.approx([0.95 / 1.95, 1 / 1.95])


def test_records_of_a_run_do_not_share_memory() -> None:
    trainer = Trainer(small_config(balancing="bias", bias_rate=0.1))
    records: list[StepRecord] = [record for record in (trainer.step() for _ in range(3)) if record is not None]
    for name in (*PER_EXPERT, *PER_CHOICE):
        assert not np.shares_memory(getattr(records[0], name), getattr(records[1], name)), name
