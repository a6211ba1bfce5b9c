"""Advice on somebody's own model: what its framework can do, by the framework's names, never by those of our page."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from moe_sim.diagnosis.model_advice import USUAL_COEFFICIENT, more_balancing, no_gradient
from moe_sim.diagnosis.traces import diagnose_trace
from moe_sim.history.trace import open_trace
from moe_sim.history.trace_format import Setting, TracedLayer, TraceHeader
from tests.support.traces import COLLAPSED, EVEN, UNEVEN, write_trace

OURS = re.compile("α|load-balancing coefficient|(?<![-_])aux_loss_coef|slider|knob", re.IGNORECASE)
"""The names of our own settings. `router_aux_loss_coef` is transformers'."""


def header(framework: str = "", num_layers: int = 2, **settings: Setting) -> TraceHeader:
    layers = tuple(TracedLayer(f"layers.{index}", 8) for index in range(num_layers))
    return TraceHeader(layers, "Model", framework, settings)


def transformers(num_layers: int = 2, **settings: Setting) -> str:
    return more_balancing(header("transformers 5.24.0", num_layers, **settings))


def test_a_small_coefficient_of_transformers_is_raised_to_the_usual_one() -> None:
    for num_layers in (1, 32):
        advice = transformers(num_layers, router_aux_loss_coef=0.001)
        assert advice == "Raise router_aux_loss_coef, now 0.001, to 0.01 or 0.02."
    assert "now 0, to 0.01" in transformers(router_aux_loss_coef=0)


@pytest.mark.parametrize("coefficient", [USUAL_COEFFICIENT, 0.02, 1])
def test_a_large_coefficient_of_transformers_alone_may_not_help_several_layers(coefficient: float) -> None:
    of_one = transformers(1, router_aux_loss_coef=coefficient, output_router_logits=True)
    assert of_one == f"Raise router_aux_loss_coef, now {coefficient:g}, two- to threefold."
    assert transformers(2, router_aux_loss_coef=coefficient, output_router_logits=True) == (
        f"Raise router_aux_loss_coef, now {coefficient:g}, two- to threefold, or, since transformers computes this "
        "loss over all layers together, add a loss of each layer: moe_sim.losses.load_balancing_loss."
    )


def test_without_the_logits_of_the_router_transformers_adds_no_loss() -> None:
    advice = transformers(router_aux_loss_coef=0.02, output_router_logits=False)
    assert advice.startswith("Set output_router_logits=True: ")
    assert "router_aux_loss_coef is (now 0.02)" in advice
    assert "Set output" not in transformers(router_aux_loss_coef=0.02)


def test_a_model_of_transformers_without_a_coefficient_gets_a_loss_of_its_own() -> None:
    for settings in ({}, {"router_aux_loss_coef": None}, {"output_router_logits": False}):
        advice = transformers(**settings)
        assert "adds no load-balancing loss of its own" in advice
        assert "moe_sim.losses.load_balancing_loss" in advice


def test_a_model_that_balances_by_a_selection_bias_gets_its_update_and_no_loss() -> None:
    advice = transformers(e_score_correction_bias=True, router_aux_loss_coef=0.001)
    assert "add 0.001·sign(mean load − load)" in advice
    assert "router_aux_loss_coef" not in advice
    assert "e_score" not in transformers(e_score_correction_bias=False)


@pytest.mark.parametrize("coefficient", ["0.02", "<script>", True, float("nan"), float("inf"), -1, 10**30])
def test_no_setting_of_a_file_breaks_the_advice(coefficient: Setting) -> None:
    for logits in (True, False, None, "yes", 0):
        advice = transformers(router_aux_loss_coef=coefficient, output_router_logits=logits)
        assert advice.endswith(".") or "now" in advice
        assert "<script>" not in advice


@pytest.mark.parametrize(
    ("framework", "names", "others"),
    [
        ("Megatron-LM", ["--moe-aux-loss-coeff", "--moe-router-enable-expert-bias"], ["router_aux", "eplb"]),
        ("SGLang", ["Serving cannot change the router", "--enable-eplb"], ["loss"]),
        ("SGLang 0.5", ["--enable-eplb"], ["loss"]),
        ("vLLM", ["Serving cannot change the router", "--enable-eplb"], ["loss"]),
        ("", ["load_balancing_loss", "0.01"], ["router_aux", "--moe", "eplb"]),
        ("mycompany 1.0", ["load_balancing_loss", "0.01"], ["router_aux", "--moe", "eplb"]),
        ("transformersish 1.0", ["load_balancing_loss"], ["transformers", "router_aux"]),
    ],
)  # fmt: skip
def test_each_framework_hears_its_own_names(framework: str, names: list[str], others: list[str]) -> None:
    advice = more_balancing(header(framework, router_aux_loss_coef=0.001))
    assert all(name in advice for name in names)
    assert not any(name in advice for name in others)


@pytest.mark.parametrize("framework", ["", "transformers 5.0", "Megatron-LM", "SGLang", "vLLM", "else"])
def test_no_advice_on_a_model_names_our_sliders(tmp_path: Path, framework: str) -> None:
    for number, layers in enumerate([(COLLAPSED,), (UNEVEN, EVEN), (EVEN, EVEN), ((120, 120, 120, 40),)]):
        verdict = diagnose_trace(open_trace(write_trace(tmp_path / str(number), *layers, framework=framework)))
        assert bool(verdict.advice) == (verdict.state != "Balanced")
        assert not OURS.search(f"{verdict.evidence} {verdict.advice}")
    for coefficient in (None, 0.001, 0.02):
        for logits in (True, False):
            settings: dict[str, Setting] = {"router_aux_loss_coef": coefficient, "output_router_logits": logits}
            assert not OURS.search(more_balancing(header(framework, **settings)))
    for ours in ("Raise α", "set aux_loss_coef", "the Load-balancing coefficient"):
        assert OURS.search(ours)


def test_a_mixtral_with_one_expert_per_token_learns_nothing_from_its_task() -> None:
    warning = no_gradient(header("transformers 5.0", model_type="mixtral", num_experts_per_tok=1))
    assert warning.startswith("With num_experts_per_tok=1 and weights that are divided by their sum, every weight is 1")
    assert no_gradient(header(model_type="qwen3_moe", norm_topk_prob=True, num_experts_per_tok=1)) == warning
    assert "With moe_k=1" in no_gradient(header(norm_topk_prob=True, moe_k=1))


@pytest.mark.parametrize(
    ("model_type", "router", "config"),
    [
        ("mixtral", "MixtralTopKRouter", "MixtralConfig"),
        ("minimax", "MiniMaxTopKRouter", "MiniMaxConfig"),
        ("gpt_oss", "GptOssTopKRouter", "GptOssConfig"),
        ("granitemoe", "GraniteMoeTopKRouter", "GraniteMoeConfig"),
        ("qwen3_5_moe_text", "Qwen3_5MoeTopKRouter", "Qwen3_5MoeTextConfig"),
        ("qwen3_vl_moe_text", "Qwen3VLMoeTextTopKRouter", "Qwen3VLMoeTextConfig"),
    ],
)  # fmt: skip
def test_routers_of_transformers_give_one_chosen_expert_a_weight_of_one(
    model_type: str, router: str, config: str
) -> None:
    module = f"transformers.models.{model_type.removesuffix('_text')}"
    modeling = import_module(f"{module}.modeling_{model_type.removesuffix('_text')}")
    small = getattr(import_module(module), config)(hidden_size=8, num_experts_per_tok=1)
    layer = getattr(modeling, router)(small)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    _, weights, chosen = layer(torch.randn(16, 8))
    assert chosen.shape == (16, 1)
    torch.testing.assert_close(weights, torch.ones(16, 1))
    assert "every weight is 1" in no_gradient(header(model_type=small.model_type, num_experts_per_tok=1))
    assert small.model_type == model_type


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model_type": "mixtral"},
        {"model_type": "mixtral", "num_experts_per_tok": 2},
        {"model_type": "qwen3_moe", "num_experts_per_tok": 1},
        {"model_type": "qwen3_moe", "num_experts_per_tok": 1, "norm_topk_prob": False},
        {"norm_topk_prob": True, "num_experts_per_tok": 8},
        {"norm_topk_prob": True, "num_experts_per_tok": "1"},
    ],
)  # fmt: skip
def test_other_routers_learn_from_their_task(settings: dict[str, Setting]) -> None:
    assert no_gradient(header(**settings)) == ""
