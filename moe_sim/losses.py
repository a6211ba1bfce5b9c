"""Router losses beside the task loss: pure functions, each naming its paper.

float16 and bfloat16 are counted and summed in float32, and the loss is float32. Otherwise the loss has the type of its
input. NaN passes through: a run that diverges reports it.

Those whose names end in `_each` take what a router has made unchecked and return one loss for each leading index; the
others check what they are given.

L layers, T tokens, E experts, K choices per token.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Convention = Literal["per_choice", "first_choice", "huggingface"]
CONVENTIONS = get_args(Convention)

SMALLEST_STD = 1e-10
"""Noise with a smaller σ counts as noise with this one. It is far below any gap between two logits, and what is divided
by its square stays finite in float32."""
SUM_TOLERANCE = 0.01
"""How far the probabilities of a token may be from a sum of 1: bfloat16 rounds each by up to 0.4 %."""


def load_balancing_loss(
    *, router_probs: Tensor, expert_index: Tensor, convention: Convention = "per_choice",
    token_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """E · Σ f_i P_i (Fedus et al. 2021, Switch Transformer, eq. 4). Only P carries gradient.

    Args:
        router_probs: (T, E) probabilities, or (L, T, E) of several layers; P_i is their mean over tokens.
        expert_index: (T, K) or (L, T, K) integers, the chosen experts before capacity; f is counted from it.
        convention: what f counts. `per_choice`: all choices / (T·K), 1 at balance (Megatron-LM, OLMo-core).
            `first_choice`: first choices / T, 1 at balance (GShard, DeepSpeed for K ≤ 2, ST-MoE).
            `huggingface`: all choices / T, K at balance (transformers, Mixtral).
        token_mask: (T,) bool, True for real tokens: others, the padding, count in neither f nor P. None if all are.

    Returns:
        A differentiable scalar. Of several layers, the mean of their losses; under `huggingface` f and P are means over
        the layers instead, as in transformers, so that layers that collapse onto different experts can look balanced.

    Raises:
        ValueError: for an unknown convention, rows of `router_probs` that are no probabilities, an `expert_index` that
            does not name experts of these tokens, or a mask of another shape or without a token.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"convention must be per_choice, first_choice or huggingface, not {convention!r}")
    probs = _layers(router_probs, "router_probs")
    _check_choices(expert_index, probs)
    kept = _real_tokens(token_mask, probs.shape[-2])
    probs, expert_index = probs[..., kept, :], expert_index[..., kept, :]
    _check_probabilities(probs)
    _check_experts(expert_index, probs.shape[-1])
    if convention == "huggingface":
        probs, expert_index = probs.flatten(0, -2), expert_index.flatten(0, -2)
    return load_balancing_each(probs, expert_index, convention).mean()


def load_balancing_each(probs: Tensor, expert_index: Tensor, convention: Convention) -> Tensor:
    """`load_balancing_loss` of (..., T, E) probabilities and (..., T, K) choices → (...)."""
    return weighted_load(choice_shares(probs, expert_index, convention), probs)


def weighted_load(shares: Tensor, probs: Tensor) -> Tensor:
    """E · Σ f_i P_i of (..., E) f and (..., T, E) probabilities → (...)."""
    return probs.shape[-1] * (shares * probs.mean(-2)).sum(-1)


def choice_shares(probs: Tensor, expert_index: Tensor, convention: Convention) -> Tensor:
    """(..., T, E) probabilities and (..., T, K) choices → (..., E) f, of the type of the probabilities."""
    num_experts, (tokens, top_k) = probs.shape[-1], expert_index.shape[-2:]
    if convention == "first_choice":
        expert_index, top_k = expert_index[..., :1], 1
    pairs = tokens if convention == "huggingface" else tokens * top_k
    # Experts of different leading indices are counted as different ones.
    leading = torch.arange(expert_index[..., 0, 0].numel()).view(*probs.shape[:-2], 1, 1)
    counts = torch.bincount((expert_index + num_experts * leading).flatten(), minlength=leading.numel() * num_experts)
    return counts.to(probs.dtype).view(*probs.shape[:-2], num_experts) / pairs


def importance_loss(*, router_probs: Tensor) -> Tensor:
    """CV² of the importance Σ_tokens p_i, population variance (Shazeer et al. 2017, eq. 6-7). 0 at balance.

    Args:
        router_probs: (T, E) probabilities.

    Returns:
        A differentiable scalar.

    Raises:
        ValueError: if the rows of `router_probs` are no probabilities.
    """
    probs = _matrix(router_probs, "router_probs")
    _check_probabilities(probs)
    return importance_each(probs)


def importance_each(probs: Tensor) -> Tensor:
    """`importance_loss` of (..., T, E) probabilities → (...)."""
    return _squared_coefficient_of_variation(probs.sum(-2))


def load_loss(*, router_logits: Tensor, noisy_logits: Tensor, noise_std: float | Tensor, top_k: int) -> Tensor:
    """CV² of the smooth load Σ_tokens Φ((z_i − threshold_i)/σ) (Shazeer et al. 2017, eq. 8-10; V-MoE).

    Φ(…) is the probability that expert i is in the top-k if its own noise is redrawn; threshold_i is the k-th
    largest noisy logit among the *other* experts.

    Args:
        router_logits: (T, E) logits without noise.
        noisy_logits: (T, E) the same plus Gaussian noise of standard deviation `noise_std`.
        noise_std: σ > 0, one number or (T, E). Below `SMALLEST_STD` it counts as that.
        top_k: K, from 1 to E. With K = E every expert is always chosen and the loss is 0.

    Returns:
        A differentiable scalar.

    Raises:
        ValueError: for logits of another or of different shapes, `noise_std` that is not positive, or `top_k` out of
            range.
    """
    logits, noisy = _matrix(router_logits, "router_logits"), _matrix(noisy_logits, "noisy_logits")
    if logits.shape != noisy.shape:
        raise ValueError(
            f"router_logits and noisy_logits must have one shape, not {tuple(logits.shape)} and {tuple(noisy.shape)}"
        )
    std = _positive_std(noise_std, logits)
    if not 1 <= top_k <= logits.shape[1]:
        raise ValueError(f"top_k must be from 1 to {logits.shape[1]}, the number of experts, not {top_k}")
    return load_each(logits, noisy, std, top_k)


def load_each(logits: Tensor, noisy: Tensor, std: float | Tensor, top_k: int) -> Tensor:
    """`load_loss` of (..., T, E) logits and noisy logits → (...); σ is one number or (..., T, E)."""
    if top_k == logits.shape[-1]:
        return logits.sum((-2, -1)) * 0.0
    std = std.clamp_min(SMALLEST_STD) if isinstance(std, Tensor) else max(std, SMALLEST_STD)
    best, index = noisy.topk(top_k + 1, dim=-1)
    chosen = torch.zeros_like(noisy, dtype=torch.bool).scatter_(-1, index[..., :top_k], True)
    # The k-th largest among the others: for a chosen expert the (k+1)-th of all, else the k-th of all.
    threshold = torch.where(chosen, best[..., top_k, None], best[..., top_k - 1, None])
    probability = torch.special.ndtr((logits - threshold) / std)
    return _squared_coefficient_of_variation(probability.sum(-2))


def router_z_loss(*, router_logits: Tensor, token_mask: Tensor | None = None) -> Tensor:
    """Mean over tokens of logsumexp(z)² (Zoph et al. 2022, ST-MoE, eq. 5).

    Args:
        router_logits: (T, E) logits, or (L, T, E) of several layers, over which the mean is taken too.
        token_mask: (T,) bool, True for real tokens; None if all are.

    Returns:
        A differentiable scalar.

    Raises:
        ValueError: for logits of another shape, or a mask of another shape or without a token.
    """
    logits = _layers(router_logits, "router_logits")
    return router_z_each(logits[..., _real_tokens(token_mask, logits.shape[-2]), :]).mean()


def router_z_each(logits: Tensor) -> Tensor:
    """`router_z_loss` of (..., T, E) logits → (...)."""
    return logits.logsumexp(-1).square().mean(-1)


def _squared_coefficient_of_variation(amount: Tensor) -> Tensor:
    return amount.var(-1, correction=0) / amount.mean(-1).square()


def _matrix(values: Tensor, name: str) -> Tensor:
    """The (T, E) values in float32 or wider."""
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"{name} must be (T, E) with at least one token and one expert, not {tuple(values.shape)}")
    return _wide(values, name)


def _layers(values: Tensor, name: str) -> Tensor:
    """The (T, E) or (L, T, E) values in float32 or wider."""
    if values.ndim not in (2, 3) or not values.numel():
        raise ValueError(
            f"{name} must be (T, E), or (L, T, E) of several layers, with at least one token and one expert, not "
            f"{tuple(values.shape)}"
        )
    return _wide(values, name)


def _wide(values: Tensor, name: str) -> Tensor:
    if not values.is_floating_point():
        raise ValueError(f"{name} must be floating-point numbers, not {values.dtype}")
    return values if values.dtype == torch.float32 else values.to(torch.promote_types(values.dtype, torch.float32))


def _real_tokens(token_mask: Tensor | None, tokens: int) -> Tensor | slice:
    """What selects the real ones of T tokens."""
    if token_mask is None:
        return slice(None)
    if token_mask.dtype != torch.bool or token_mask.shape != (tokens,):
        raise ValueError(
            f"token_mask must be ({tokens},) bool, one for each token, not {tuple(token_mask.shape)} {token_mask.dtype}"
        )
    if not token_mask.any():
        raise ValueError("token_mask must be True for at least one token")
    return token_mask


def _check_probabilities(probs: Tensor) -> None:
    values = probs.detach()
    # NaN compares as False, so it passes.
    lowest, highest = (total.item() for total in torch.aminmax(values.sum(-1)))
    if lowest < 1 - SUM_TOLERANCE or highest > 1 + SUM_TOLERANCE or values.min().item() < 0:
        raise ValueError("each row of router_probs must be probabilities, not negative and of sum 1; are these logits?")


def _check_choices(expert_index: Tensor, probs: Tensor) -> None:
    if expert_index.ndim != probs.ndim or expert_index.shape[:-1] != probs.shape[:-1] or not expert_index.numel():
        shape = "(T, K)" if probs.ndim == 2 else "(L, T, K)"
        raise ValueError(
            f"expert_index must be {shape} for the same {probs.shape[-2]} tokens as router_probs, not "
            f"{tuple(expert_index.shape)}"
        )
    if expert_index.is_floating_point() or expert_index.dtype == torch.bool:
        raise ValueError(f"expert_index must be integers, not {expert_index.dtype}")


def _check_experts(expert_index: Tensor, num_experts: int) -> None:
    lowest, highest = (index.item() for index in torch.aminmax(expert_index))
    if lowest < 0 or highest >= num_experts:
        raise ValueError(f"expert_index must be from 0 to {num_experts - 1}, not from {lowest} to {highest}")


def _positive_std(noise_std: float | Tensor, logits: Tensor) -> float | Tensor:
    """σ of noise on these logits, checked."""
    if not isinstance(noise_std, Tensor):
        if not 0 < noise_std < math.inf:
            raise ValueError(f"the load loss needs Gaussian noise: noise_std must be above 0, not {noise_std}")
        return noise_std
    if noise_std.ndim and noise_std.shape != logits.shape:
        raise ValueError(f"noise_std must be one number or {tuple(logits.shape)}, not {tuple(noise_std.shape)}")
    lowest = noise_std.detach().min().item()
    if lowest <= 0:
        raise ValueError(f"the load loss needs Gaussian noise: noise_std must be above 0, not {lowest}")
    return noise_std.to(logits.dtype)
