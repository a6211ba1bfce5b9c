"""Several MoE layers: each has a router, experts, a mechanism and numbers of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from moe_sim import History, RunConfig, Trainer, losses
from moe_sim.history.columns import BY_LAYER, OF_LAYERS, PER_EXPERT, SCALARS, WORST
from moe_sim.history.from_json import run_from_json
from moe_sim.history.series import layer_imbalances, signals, smoothed_imbalance
from moe_sim.history.to_json import run_to_json
from moe_sim.router.balancing import METHODS
from moe_sim.router.routing import Routing
from tests.support import oracles
from tests.support.inspecting import small_config, weights

LAYERS = 3
KINDS: list[dict[str, Any]] = [
    {"aux_loss_coef": 0.1},
    {"top_k": 2, "aux_loss_coef": 0.3, "convention": "huggingface", "z_loss_coef": 0.1},
    {"balancing": "bias", "bias_rate": 0.1, "top_k": 2},
    {"balancing": "expert_choice", "capacity_factor": 0.5, "top_k": 2},
    {"task": "language", "top_k": 2, "renormalize": True, "aux_loss_coef": 0.1},
]


class Deep:
    """A small run with three layers that keeps what its network did in the last step."""

    def __init__(self, **knobs: Any) -> None:
        self.trainer = Trainer(small_config(num_layers=LAYERS, **knobs))
        self.routings: list[Routing] = []
        self.logits = torch.zeros(0)
        self.trainer.network.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, network: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not kwargs.get("inference"):
            self.logits, self.routings = output


@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_each_layer_has_the_load_of_its_own_routing(knobs: dict[str, Any]) -> None:
    run = Deep(**knobs)
    for _ in range(4):
        record = run.trainer.step()
        assert record is not None
        for layer, routing in enumerate(run.routings):
            index, assigned = routing.expert_index, routing.assigned
            present = np.ones(index.shape, bool) if assigned is None else assigned.numpy()
            load = np.bincount(index.numpy()[present], minlength=4) / present.sum()
            np.testing.assert_allclose(record.load[layer], load, atol=1e-12)
            importance = routing.probs.detach().numpy().mean(0)
            np.testing.assert_allclose(record.importance[layer], importance, atol=1e-6)
            own = run.trainer.history.layer(layer)
            assert own.last("balance_loss") == pytest.approx(4 * (load * importance).sum(), abs=1e-5)
    assert len({tuple(row) for row in record.importance}) == LAYERS


@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_the_run_has_the_mean_of_the_layers_or_the_worst(knobs: dict[str, Any]) -> None:
    history = Trainer(small_config(num_layers=LAYERS, **knobs)).run(30)
    for name in OF_LAYERS:
        each = np.stack([history.layer(layer).column(name) for layer in range(LAYERS)], axis=1)
        np.testing.assert_array_equal(each, history.by_layer(name))
        expected = each.max(1) if name in WORST else each.mean(1)
        np.testing.assert_allclose(history.column(name), expected, rtol=1e-12, equal_nan=True, err_msg=name)
    assert {"imbalance_ratio", "dead_experts", "max_violation", "router_logit_max"} == set(WORST)
    for name in PER_EXPERT:
        assert history.column(name).shape == (30, LAYERS, 4)
        np.testing.assert_array_equal(history.layer(1).column(name), history.column(name)[:, 1])
        np.testing.assert_allclose(history.layer().column(name), history.column(name).mean(1), equal_nan=True)


def test_a_single_layer_is_its_own_mean() -> None:
    history = Trainer(small_config()).run(12)
    for name in PER_EXPERT + SCALARS:
        np.testing.assert_array_equal(history.layer().column(name), history.layer(0).column(name))
    assert history.column("load").shape == (12, 1, 4)
    with pytest.raises(IndexError, match="no layer 1"):
        history.layer(1)


@pytest.mark.parametrize("convention", ["per_choice", "first_choice", "huggingface"])
def test_what_is_optimized_is_the_loss_of_all_layers(convention: str) -> None:
    run = Deep(top_k=2, aux_loss_coef=0.3, convention=convention)
    run.trainer.run(3)
    record = run.trainer.step()
    assert record is not None
    probs, index = (torch.stack([getattr(routing, name).detach() for routing in run.routings])
                    for name in ("probs", "expert_index"))  # fmt: skip
    loss = losses.load_balancing_loss(router_probs=probs, expert_index=index, convention=convention)  # type: ignore[arg-type]
    assert record.auxiliary_loss == pytest.approx(loss.item(), rel=1e-5)


def test_the_gradient_on_each_router_is_that_of_the_whole_loss_and_of_its_own_balancing_loss() -> None:
    trainer = Trainer(small_config(num_layers=LAYERS, top_k=2, aux_loss_coef=0.3, z_loss_coef=0.1))
    trainer.run(2)
    twin = trainer.copy(History(trainer.config))
    batch = twin.task.batch(64, twin.shares, twin.random["data"])
    logits, routings = twin.network(batch.inputs, twin.config, twin.mechanisms)
    balance = [
        4 * (losses.choice_shares(r.probs, r.expert_index, "per_choice") * r.probs.mean(0)).sum() for r in routings
    ]
    z = [r.logits.logsumexp(1).square().mean() for r in routings]
    total = F.cross_entropy(logits, batch.labels) + 0.3 * sum(balance) / 3 + 0.1 * sum(z) / 3
    routers = [moe.router.weight for moe in twin.network.layers]
    whole = torch.autograd.grad(total, routers, retain_graph=True)
    own, own_z = (
        [torch.autograd.grad(loss, router, retain_graph=True)[0] for loss, router in zip(each, routers, strict=True)]
        for each in (balance, z)
    )
    trainer.step()
    for layer, moe in enumerate(trainer.network.layers):
        assert torch.allclose(moe.router.weight.grad, whole[layer], atol=1e-6)
        record = trainer.history.layer(layer)
        assert record.last("router_balance_gradient") == pytest.approx(own[layer].norm().item(), rel=1e-4)
        task = whole[layer] - 0.1 * own[layer] - 0.1 / 3 * own_z[layer]
        assert record.last("router_task_gradient") == pytest.approx(task.norm().item(), rel=1e-4)


def test_every_layer_balances_by_its_own_bias() -> None:
    trainer = Trainer(small_config(num_layers=LAYERS, balancing="bias", bias_rate=0.1))
    bias = np.zeros((LAYERS, 4))
    for _ in range(5):
        record = trainer.step()
        assert record is not None
        np.testing.assert_allclose(record.selection_bias, bias, atol=1e-6)
        bias = np.stack([oracles.updated_bias(one, load, 0.1) for one, load in zip(bias, record.load, strict=True)])
    assert len({tuple(row) for row in bias.round(6)}) > 1


@pytest.mark.parametrize("task", ["topics", "language"])
def test_every_layer_begins_even(task: str) -> None:
    # Measured on seeds 0-11: at most 26 % (topics, 256 tokens), 24 % (language, 2048, in sequences that vary more).
    for seed in range(4):
        config = RunConfig(num_layers=LAYERS, task=task, seed=seed, batch_tokens=256 if task == "topics" else 2048)
        load = Trainer(config).step().load  # type: ignore[union-attr]
        assert load.max() <= 0.27, (seed, load.max(1))


@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_initial_weights_do_not_depend_on_live_knobs(knobs: dict[str, Any]) -> None:
    live = {name: value for name, value in knobs.items() if name != "task"}
    one = weights(Trainer(small_config(num_layers=LAYERS, **knobs)))
    other = weights(Trainer(small_config(num_layers=LAYERS, **{k: v for k, v in knobs.items() if k not in live})))
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_the_probe_routes_the_held_out_tokens_through_all_layers() -> None:
    trainer = Trainer(small_config(num_layers=LAYERS, top_k=2))
    trainer.run(5)
    probe = trainer.probe()
    with torch.no_grad():
        _, routings = trainer.network(trainer.held_out.batch.inputs, trainer.config, trainer.mechanisms)
    assert probe.expert.shape == (LAYERS, 400)
    assert probe.joint.shape == (LAYERS, 12, 4)
    for layer, routing in enumerate(routings):
        np.testing.assert_array_equal(probe.layer(layer).expert, routing.expert_index[:, 0].numpy())
        shares = probe.layer(layer).first_choices()
        np.testing.assert_allclose(shares, np.bincount(routing.expert_index[:, 0].numpy(), minlength=4) / 400)


@pytest.mark.parametrize("knobs", KINDS, ids=str)
def test_a_run_with_several_layers_survives_its_file(knobs: dict[str, Any]) -> None:
    trainer = Trainer(small_config(num_layers=LAYERS, **knobs))
    history = trainer.run(13)
    again, probe = run_from_json(run_to_json(history, trainer.probe()))
    np.testing.assert_array_equal(again.rows(), history.rows())
    assert probe is not None
    for name, value in vars(trainer.probe()).items():
        np.testing.assert_array_equal(getattr(probe, name), value, err_msg=name)
    assert again.to_frame().equals(history.to_frame())


def test_the_frame_names_layers_before_experts() -> None:
    history = Trainer(small_config(num_layers=2)).run(3)
    frame = history.to_frame()
    for layer in range(2):
        for expert in range(4):
            np.testing.assert_array_equal(frame[f"load_{layer}_{expert}"], history.column("load")[:, layer, expert])
        np.testing.assert_array_equal(frame[f"balance_loss_{layer}"], history.by_layer("balance_loss")[:, layer])
    assert "load_0" not in frame
    assert not any(BY_LAYER in name for name in frame.columns)
    assert frame["balance_loss"].tolist() == pytest.approx(
        frame[["balance_loss_0", "balance_loss_1"]].mean(axis=1).tolist()
    )


def test_series_of_all_layers_are_the_worst_or_the_mean() -> None:
    history = Trainer(small_config(num_layers=2, aux_loss_coef=0.1)).run(30)
    each = layer_imbalances(history)
    np.testing.assert_array_equal(smoothed_imbalance(history.layer()), each.max(1))
    np.testing.assert_array_equal(smoothed_imbalance(history.layer(1)), each[:, 1])
    whole, parts = signals(history.layer()), [signals(history.layer(layer)) for layer in range(2)]
    for name in ("routing_std", "step_time", "router_balance_push"):
        np.testing.assert_allclose(whole[name], (parts[0][name] + parts[1][name]) / 2, err_msg=name)
    worst = np.maximum(*(part["eval_max_load"] for part in parts))
    np.testing.assert_array_equal(whole["eval_max_load"], worst)


@pytest.mark.parametrize("name", METHODS)
def test_every_mechanism_works_in_every_layer(name: str) -> None:
    history = Trainer(small_config(num_layers=2, balancing=name, aux_loss_coef=0.1)).run(12)
    assert len(history) == 12
    assert np.isfinite(history.column("grad_norm")).all()
