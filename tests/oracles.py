"""Independent answers to compare the program with: the definitions written out in NumPy and plain Python, slowly.

Nothing here shares code with `moe_sim`.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row by row, (T, E) → (T, E)."""
    rows = []
    for row in np.asarray(logits, dtype=float):
        exponentials = np.exp(row - row.max())
        rows.append(exponentials / exponentials.sum())
    return np.array(rows)


def choices(scores: np.ndarray, top_k: int) -> np.ndarray:
    """The `top_k` experts of highest score for each token, the highest first, (T, K)."""
    return np.argsort(-np.asarray(scores, dtype=float), axis=1, kind="stable")[:, :top_k]


def load(expert_index: np.ndarray, num_experts: int) -> np.ndarray:
    """f: pairs sent to each expert / (T·K)."""
    counts = np.zeros(num_experts)
    for token in expert_index:
        for expert in token:
            counts[expert] += 1
    return counts / np.asarray(expert_index).size


def load_balancing_loss(probs: np.ndarray, expert_index: np.ndarray, convention: str) -> float:
    """E · Σ f_i P_i with f as the convention counts it."""
    tokens, num_experts = probs.shape
    if convention == "first_choice":
        counted = load(expert_index[:, :1], num_experts)
    else:
        counted = load(expert_index, num_experts)
    if convention == "huggingface":
        counted = counted * expert_index.shape[1]
    importance = [sum(probs[t, i] for t in range(tokens)) / tokens for i in range(num_experts)]
    return num_experts * sum(f * p for f, p in zip(counted, importance, strict=True))


def squared_variation(amounts: np.ndarray) -> float:
    """CV² with the population variance."""
    mean = sum(amounts) / len(amounts)
    return sum((amount - mean) ** 2 for amount in amounts) / len(amounts) / mean**2


def load_loss(logits: np.ndarray, noisy_logits: np.ndarray, noise_std: float, top_k: int) -> float:
    """CV² of Σ_tokens Φ((z_i − threshold_i)/σ); threshold_i is the k-th largest noisy logit among the others."""
    tokens, num_experts = logits.shape
    expected = np.zeros(num_experts)
    for t in range(tokens):
        for i in range(num_experts):
            others = sorted((noisy_logits[t, j] for j in range(num_experts) if j != i), reverse=True)
            expected[i] += normal_cdf((logits[t, i] - others[top_k - 1]) / noise_std)
    return squared_variation(expected)


def normal_cdf(value: float) -> float:
    """Φ."""
    return 0.5 * (1 + math.erf(value / math.sqrt(2)))


def router_z_loss(logits: np.ndarray) -> float:
    """Mean over tokens of logsumexp(z)²."""
    return float(np.mean([math.log(sum(math.exp(z) for z in row)) ** 2 for row in logits]))


def entropy(shares: np.ndarray) -> float:
    """−Σ p ln p in nats."""
    return -sum(p * math.log(p) for p in shares if p > 0)


def specialization(joint: np.ndarray) -> float:
    """Mutual information Σ p ln(p / (p_group p_expert)) over the entropy of the groups."""
    joint = joint / joint.sum()
    group, expert = joint.sum(1), joint.sum(0)
    information = sum(
        joint[g, e] * math.log(joint[g, e] / (group[g] * expert[e]))
        for g in range(joint.shape[0])
        for e in range(joint.shape[1])
        if joint[g, e] > 0
    )
    return information / entropy(group)


def expert_capacity(tokens: int, num_experts: int, top_k: int, capacity_factor: Fraction) -> int:
    """⌈factor · T · K / E⌉ in exact arithmetic."""
    return math.ceil(capacity_factor * tokens * top_k / num_experts)


def within_capacity(expert_index: np.ndarray, capacity: int, priority: np.ndarray | None) -> np.ndarray:
    """Seat the pairs one after the other while there is room, (T, K) bool.

    By position: all first choices before all second ones, earlier tokens first. With a priority, larger ones first.
    """
    tokens, top_k = expert_index.shape
    pairs = [(t, k) for k in range(top_k) for t in range(tokens)]
    if priority is not None:
        pairs.sort(key=lambda pair: -priority[pair])
    seated: dict[int, int] = {}
    kept = np.zeros((tokens, top_k), dtype=bool)
    for pair in pairs:
        expert = int(expert_index[pair])
        if seated.get(expert, 0) < capacity:
            seated[expert] = seated.get(expert, 0) + 1
            kept[pair] = True
    return kept


def layer_norm(rows: np.ndarray) -> np.ndarray:
    """Each row to mean 0 and variance 1 (ε = 1e-5 under the root)."""
    return (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)


def topic_labels(noise: np.ndarray, topics: np.ndarray, w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
    """argmax W2[topic]·tanh(W1[topic]·ε) for each token."""
    return np.array([np.argmax(w2[g] @ np.tanh(w1[g] @ eps)) for eps, g in zip(noise, topics, strict=True)])
