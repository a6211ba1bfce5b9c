"""Router losses beside the task loss: pure functions, each naming its paper.

T tokens, E experts, K choices per token.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Convention = Literal["per_choice", "first_choice", "huggingface"]


def load_balancing_loss(*, router_probs: Tensor, expert_index: Tensor, convention: Convention = "per_choice") -> Tensor:
    """E · Σ f_i P_i (Fedus et al. 2021, Switch Transformer, eq. 4). Only P carries gradient.

    Args:
        router_probs: (T, E) probabilities; P_i is their mean over tokens.
        expert_index: (T, K) int64, the chosen experts before capacity; f is counted from it.
        convention: what f counts. `per_choice`: all choices / (T·K), 1 at balance (Megatron-LM, OLMo-core).
            `first_choice`: first choices / T, 1 at balance (GShard, DeepSpeed for K ≤ 2, ST-MoE).
            `huggingface`: all choices / T, K at balance (transformers, Mixtral).

    Returns:
        A differentiable scalar.

    Raises:
        ValueError: for an unknown convention.
    """
    tokens, num_experts = router_probs.shape
    if convention == "first_choice":
        expert_index = expert_index[:, :1]
    elif convention not in ("per_choice", "huggingface"):
        raise ValueError(f"convention must be per_choice, first_choice or huggingface, not {convention!r}")
    pairs = tokens if convention == "huggingface" else expert_index.numel()
    counts = torch.bincount(expert_index.flatten(), minlength=num_experts)
    load = counts.to(router_probs.dtype) / pairs
    return num_experts * (load @ router_probs.mean(0))


def importance_loss(*, router_probs: Tensor) -> Tensor:
    """CV² of the importance Σ_tokens p_i, population variance (Shazeer et al. 2017, eq. 6-7). 0 at balance.

    Args:
        router_probs: (T, E) probabilities.

    Returns:
        A differentiable scalar.
    """
    return _squared_coefficient_of_variation(router_probs.sum(0))


def load_loss(*, router_logits: Tensor, noisy_logits: Tensor, noise_std: float | Tensor, top_k: int) -> Tensor:
    """CV² of the smooth load Σ_tokens Φ((z_i − threshold_i)/σ) (Shazeer et al. 2017, eq. 8-10; V-MoE).

    Φ(…) is the probability that expert i is in the top-k if its own noise is redrawn; threshold_i is the k-th
    largest noisy logit among the *other* experts.

    Args:
        router_logits: (T, E) logits without noise.
        noisy_logits: (T, E) the same plus Gaussian noise of standard deviation `noise_std`.
        noise_std: σ > 0, one number or (T, E).
        top_k: K < E. With K = E every expert is always chosen and the loss is 0.

    Returns:
        A differentiable scalar.

    Raises:
        ValueError: if `noise_std` is not positive.
    """
    if not (isinstance(noise_std, Tensor) or noise_std > 0):
        raise ValueError(f"the load loss needs Gaussian noise: noise_std must be above 0, not {noise_std}")
    if top_k >= router_logits.shape[1]:
        return router_logits.sum() * 0.0
    best, index = noisy_logits.topk(top_k + 1, dim=1)
    chosen = torch.zeros_like(noisy_logits, dtype=torch.bool).scatter_(1, index[:, :top_k], True)
    # The k-th largest among the others: for a chosen expert the (k+1)-th of all, else the k-th of all.
    threshold = torch.where(chosen, best[:, top_k, None], best[:, top_k - 1, None])
    probability = torch.special.ndtr((router_logits - threshold) / noise_std)
    return _squared_coefficient_of_variation(probability.sum(0))


def router_z_loss(*, router_logits: Tensor) -> Tensor:
    """Mean over tokens of logsumexp(z)² (Zoph et al. 2022, ST-MoE, eq. 5).

    Args:
        router_logits: (T, E) logits.

    Returns:
        A differentiable scalar.
    """
    return router_logits.logsumexp(1).square().mean()


def _squared_coefficient_of_variation(amount: Tensor) -> Tensor:
    return amount.var(correction=0) / amount.mean().square()
