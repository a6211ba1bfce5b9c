"""Names that other tools give to the metrics and knobs of this app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moe_sim import metrics


@dataclass(frozen=True)
class Metric:
    """A load statistic and its names in other tools."""

    name: str
    formula: str
    balanced: str
    elsewhere: str
    compute: Callable[[np.ndarray], float]
    """Computes it from the (E,) load."""


def _sample_cv(load: np.ndarray) -> float:
    experts = load.shape[-1]
    return float(metrics.coefficient_of_variation(load) * np.sqrt(experts / (experts - 1)))


METRICS = (
    Metric("imbalance ratio", "max f / min f", "1", "the ratio most texts quote; ∞ if an expert got nothing",
           lambda load: float(metrics.imbalance_ratio(load))),
    Metric("max violation", "E·max f − 1", "0", "DeepSeek: MaxVio",
           lambda load: float(metrics.max_violation(load))),
    Metric("max / mean", "E·max f", "1",
           "OLMo-core: load imbalance. Megatron-LM: overload factor. NeMo: largest utilization ratio (load / ideal)",
           lambda load: float(metrics.max_violation(load)) + 1),
    Metric("min / mean", "E·min f", "1", "NeMo: smallest utilization ratio; 0 is a dead expert there",
           lambda load: float(load.min() * load.shape[-1])),
    Metric("load CV", "population std f / mean f", "0", "NeMo: cv",
           lambda load: float(metrics.coefficient_of_variation(load))),
    Metric("load CV, sample", "× √(E / (E − 1))", "0", "tools that divide by E − 1 (torch.std does)", _sample_cv),
    Metric("load entropy", "−Σ f ln f / ln E", "1", "NeMo takes exp(entropy) / E and calls it expert diversity",
           lambda load: float(metrics.normalized_entropy(load))),
    Metric("expert-parallel efficiency", "1 / (E·max f)", "1", "the inverse of max / mean",
           lambda load: float(metrics.parallel_efficiency(load))),
)  # fmt: skip
"""In display order."""

KNOB_NAMES = (
    ("α (aux_loss_coef)", "Megatron-LM moe_aux_loss_coeff · transformers router_aux_loss_coef · NeMo aux_loss_coeff"),
    ("router z-loss (z_loss_coef)", "Megatron-LM moe_z_loss_coeff"),
    ("bias rate (bias_rate)", "Megatron-LM moe_router_bias_update_rate · NeMo gate_bias_update_factor"),
    ("score function (score_function)", "Megatron-LM moe_router_score_function · transformers scoring_func"),
    (
        "shared experts (shared_experts)",
        "transformers n_shared_experts · Megatron-LM moe_shared_expert_intermediate_size",
    ),
    (
        "balance scope (balance_scope)",
        "Megatron-LM moe_router_load_balancing_type: aux_loss, seq_aux_loss, global_aux_loss · DeepSeek-V2 seq_aux",
    ),
    ("top-k (top_k)", "Megatron-LM moe_router_topk · transformers num_experts_per_tok · NeMo n_activated_experts"),
    ("renormalize", "NeMo norm_topk_prob; Mixtral always does"),
)
"""Knobs and their names in other tools."""
