"""Tiny random models of many transformers families, and an instrument that counts their routing another way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

VOCABULARY = 120
COMMON = dict(
    vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
SPARSE = dict(num_experts_per_tok=2, moe_intermediate_size=16)
FAMILIES: dict[str, dict[str, Any]] = {
    "mixtral": dict(num_local_experts=8, num_experts_per_tok=2),
    "olmoe": dict(num_experts=8, num_experts_per_tok=3),
    "qwen3_moe": dict(num_experts=8, decoder_sparse_step=1, head_dim=8, **SPARSE),
    "qwen2_moe": dict(num_experts=8, decoder_sparse_step=1, shared_expert_intermediate_size=16, **SPARSE),
    "deepseek_v3": dict(
        n_routed_experts=8, n_group=4, topk_group=2, first_k_dense_replace=1, q_lora_rank=16, kv_lora_rank=16,
        qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, n_shared_experts=1, **SPARSE,
    ),
    "glm4_moe": dict(n_routed_experts=8, n_group=2, topk_group=1, first_k_dense_replace=1, head_dim=8, **SPARSE),
    "gpt_oss": dict(num_local_experts=8, num_experts_per_tok=2, head_dim=8),
    "phimoe": dict(num_local_experts=8, num_experts_per_tok=2),
    "granitemoe": dict(num_local_experts=8, num_experts_per_tok=2),
    "jetmoe": dict(num_local_experts=8, num_experts_per_tok=2, kv_channels=8),
    "ernie4_5_moe": dict(moe_num_experts=8, moe_k=2, moe_intermediate_size=16, moe_layer_start_index=0),
    "flex_olmo": dict(num_experts=8, num_experts_per_tok=2),
    "dbrx": {},
}  # fmt: skip
"""Settings by `model_type`."""


def make_model(family: str, **settings: Any) -> Any:
    """A model of 3 layers with random weights, the same each time."""
    from transformers import AutoConfig, AutoModelForCausalLM, DbrxConfig

    torch.manual_seed(0)
    if family == "dbrx":
        config = DbrxConfig(
            d_model=32, n_heads=4, n_layers=3, max_seq_len=128, vocab_size=VOCABULARY, pad_token_id=0,
            attn_config=dict(kv_n_heads=2, clip_qkv=8, rope_theta=1e4),
            ffn_config=dict(ffn_hidden_size=48, moe_num_experts=8, moe_top_k=2),
        )  # fmt: skip
    else:
        config = AutoConfig.for_model(family, **COMMON, **FAMILIES[family], **settings)
    return AutoModelForCausalLM.from_config(config)


def make_batch(seed: int, rows: int = 2, length: int = 16) -> dict[str, Tensor]:
    """Token ids with padding at the end of the first row."""
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
    mask = torch.ones_like(ids)
    mask[0, length // 2 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids}


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[str, list[np.ndarray]]]:
    """Independent counts while the context lasts: for each layer the (T, K) choices of every forward pass, from what
    the experts' own `forward` receives or, where that is no index, from the router's logits."""
    seen: dict[str, list[np.ndarray]] = {}
    replaced: list[tuple[nn.Module, Any]] = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        if kind.endswith("Experts") and not kind.endswith("ParallelExperts"):
            layer, record = name.rpartition(".")[0], _of_indices
        elif kind.endswith("TopKGating"):
            layer, record = name.rpartition(".")[0], _of_logits
        else:
            continue
        seen[layer] = []
        replaced.append((module, module.forward))
        module.forward = record(module, module.forward, seen[layer])  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        for module, forward in replaced:
            module.forward = forward  # type: ignore[method-assign]


def _of_indices(module: nn.Module, forward: Any, seen: list[np.ndarray]) -> Any:
    def wrapped(hidden: Tensor, indices: Tensor, *rest: Any) -> Any:
        seen.append(indices.numpy(force=True).copy())
        return forward(hidden, indices, *rest)

    return wrapped


def _of_logits(module: Any, forward: Any, seen: list[np.ndarray]) -> Any:
    def wrapped(hidden: Tensor) -> Any:
        logits = module.layer(hidden).float().numpy(force=True)
        seen.append(np.argsort(-logits, axis=1, kind="stable")[:, : module.top_k])
        return forward(hidden)

    return wrapped


def counts_of(choices: list[np.ndarray], masks: list[np.ndarray], num_experts: int) -> list[int]:
    """How often each expert was chosen by tokens that count."""
    total = np.zeros(num_experts, dtype=int)
    for one, mask in zip(choices, masks, strict=True):
        np.add.at(total, one[mask.ravel().astype(bool)].ravel(), 1)
    return total.tolist()
