"""Test oracles: slow, independent implementations of the definitions in NumPy and plain Python.

They share no code with `moe_sim`.
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
    """The `top_k` highest-scoring experts of each token, highest first, (T, K)."""
    return np.argsort(-np.asarray(scores, dtype=float), axis=1, kind="stable")[:, :top_k]


def load(expert_index: np.ndarray, num_experts: int) -> np.ndarray:
    """f: pairs sent to each expert / (T·K)."""
    counts = np.zeros(num_experts)
    for token in expert_index:
        for expert in token:
            counts[expert] += 1
    return counts / np.asarray(expert_index).size


def load_balancing_loss(probs: np.ndarray, expert_index: np.ndarray, convention: str) -> float:
    """E · Σ f_i P_i with f as counted by the convention."""
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


def load_loss(logits: np.ndarray, noisy_logits: np.ndarray, noise_std: float | np.ndarray, top_k: int) -> float:
    """CV² of Σ_tokens Φ((z_i − threshold_i)/σ); threshold_i is the k-th largest noisy logit among the others. σ is one
    number or (T, E)."""
    tokens, num_experts = logits.shape
    std = np.full((tokens, num_experts), noise_std) if np.ndim(noise_std) == 0 else np.asarray(noise_std)
    expected = np.zeros(num_experts)
    for t in range(tokens):
        for i in range(num_experts):
            others = sorted((noisy_logits[t, j] for j in range(num_experts) if j != i), reverse=True)
            expected[i] += normal_cdf((logits[t, i] - others[top_k - 1]) / std[t, i])
    return squared_variation(expected)


def importance_and_load_loss(
    logits: np.ndarray, noisy_logits: np.ndarray, noise_std: float | np.ndarray, top_k: int
) -> float:
    """The mean of both losses, as in V-MoE."""
    importance = squared_variation(softmax(logits).sum(0))
    return 0.5 * importance + 0.5 * load_loss(logits, noisy_logits, noise_std, top_k)


def softplus(values: np.ndarray) -> np.ndarray:
    """ln(1 + e^v), elementwise."""
    return np.array([[math.log1p(math.exp(value)) for value in row] for row in np.asarray(values, dtype=float)])


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


Pair = tuple[int, int]
"""A token and the index of its choice."""


def seating(assigned: np.ndarray, priority: np.ndarray | None) -> list[Pair]:
    """The pairs in seating order. By position: all first choices before all second ones, earlier tokens first. With a
    priority: larger ones first, ties by position. An empty slot is not a pair."""
    tokens, slots = assigned.shape
    pairs = [(t, k) for k in range(slots) for t in range(tokens) if assigned[t, k]]
    if priority is not None:
        pairs.sort(key=lambda pair: -priority[pair])
    return pairs


def within_capacity(expert_index: np.ndarray, capacity: int, pairs: list[Pair]) -> np.ndarray:
    """Seats the pairs one by one while there is room, (T, K) bool."""
    seated: dict[int, int] = {}
    kept = np.zeros(expert_index.shape, dtype=bool)
    for pair in pairs:
        expert = int(expert_index[pair])
        if seated.get(expert, 0) < capacity:
            seated[expert] = seated.get(expert, 0) + 1
            kept[pair] = True
    return kept


def reroute(
    expert_index: np.ndarray, capacity: int, pairs: list[Pair], logits: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Seats the pairs that the drop rule keeps. Then, one by one in the same order, each remaining pair goes to the
    expert of its token's highest logit that has room and does not serve the token; without one it is dropped.

    Returns the computing experts, (T, K), and which pairs are computed, (T, K) bool.
    """
    num_experts = logits.shape[1]
    kept = within_capacity(expert_index, capacity, pairs)
    computing = expert_index.copy()
    served_by = [{int(e) for e, k in zip(*row, strict=True) if k} for row in zip(expert_index, kept, strict=True)]
    for t, k in pairs:
        if kept[t, k]:
            continue
        seated = [sum(expert in experts for experts in served_by) for expert in range(num_experts)]
        possible = [e for e in range(num_experts) if seated[e] < capacity and e not in served_by[t]]
        if possible:
            best = max(possible, key=lambda e: logits[t, e])
            computing[t, k], kept[t, k] = best, True
            served_by[t].add(best)
    return computing, kept


def expert_choice(probs: np.ndarray, top_k: int) -> np.ndarray:
    """Each expert takes its ⌈T·K/E⌉ most probable tokens, ties to the earlier token: (T, E) bool."""
    tokens, num_experts = probs.shape
    picks = -(-tokens * top_k // num_experts)
    has = np.zeros((tokens, num_experts), dtype=bool)
    for expert in range(num_experts):
        ranking = sorted(range(tokens), key=lambda t: (-probs[t, expert], t))
        has[ranking[:picks], expert] = True
    return has


def sinkhorn(logits: np.ndarray, rounds: int = 20) -> np.ndarray:
    """exp(z); each round scales the rows to sum to 1/T, then the columns to 1/E. Computed in logarithms."""
    tokens, num_experts = logits.shape
    log = np.array(logits, dtype=float)
    for _ in range(rounds):
        for t in range(tokens):
            log[t] -= log_sum(log[t]) + math.log(tokens)
        for e in range(num_experts):
            log[:, e] -= log_sum(log[:, e]) + math.log(num_experts)
    return np.exp(log)


def log_sum(values: np.ndarray) -> float:
    """ln Σ e^v."""
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))


def updated_bias(bias: np.ndarray, load: np.ndarray, rate: float) -> np.ndarray:
    """Up by the rate where the load is below the mean, down where it is above; then centred."""
    mean = sum(load) / len(load)
    moved = np.array([b + rate * (int(f < mean) - int(f > mean)) for b, f in zip(bias, load, strict=True)])
    return moved - sum(moved) / len(moved)


def dropped_by_choice(kept: np.ndarray, slots: int = 8) -> list[float]:
    """The share of first, second … choices that no expert computes; 0 beyond K."""
    tokens, top_k = kept.shape
    return [sum(not kept[t, k] for t in range(tokens)) / tokens if k < top_k else 0.0 for k in range(slots)]


def unserved(kept: np.ndarray) -> float:
    """The share of tokens without a computed pair."""
    return sum(not any(row) for row in kept) / len(kept)


def together(has: list[set[int]], num_experts: int) -> np.ndarray:
    """(E, E) the share of tokens that have both experts, from the experts of each token."""
    shares = np.zeros((num_experts, num_experts))
    for experts in has:
        for i in experts:
            for j in experts:
                shares[i, j] += 1 / len(has)
    return shares


def distance(now: list[np.ndarray], start: list[np.ndarray]) -> float:
    """‖w − w₀‖ / ‖w₀‖ over all arrays together."""
    moved = sum(float(((a.astype(float) - b) ** 2).sum()) for a, b in zip(now, start, strict=True))
    return math.sqrt(moved / sum(float((b.astype(float) ** 2).sum()) for b in start))


def layer_norm(rows: np.ndarray) -> np.ndarray:
    """Each row to mean 0 and variance 1 (ε = 1e-5 under the root)."""
    return (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)


def topic_labels(noise: np.ndarray, topics: np.ndarray, w1: np.ndarray, w2: np.ndarray) -> np.ndarray:
    """argmax W2[topic]·tanh(W1[topic]·ε) for each token."""
    return np.array([np.argmax(w2[g] @ np.tanh(w1[g] @ eps)) for eps, g in zip(noise, topics, strict=True)])
