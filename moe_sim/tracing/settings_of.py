"""What a model says of its own routing: its settings, by the names that its framework gives them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from moe_sim.history.trace_format import LONGEST_NAME, Setting

NAMES = (
    "model_type", "num_experts", "num_local_experts", "n_routed_experts", "num_experts_per_tok",
    "num_experts_per_token", "moe_k", "n_shared_experts", "norm_topk_prob", "router_aux_loss_coef", "aux_loss_alpha",
    "seq_aux", "router_z_loss_coef", "output_router_logits", "router_jitter_noise", "scoring_func", "topk_method",
    "n_group", "topk_group", "routed_scaling_factor", "expert_capacity", "hidden_size", "num_hidden_layers",
)  # fmt: skip
"""Names that transformers' configurations use."""


def settings_of(model: Any) -> dict[str, Setting]:
    """The settings of a model's `config` that concern routing; empty if it has none."""
    config = getattr(model, "config", None)
    config = getattr(config, "text_config", None) or config
    found: dict[str, Setting] = {}
    for name in NAMES:
        value = getattr(config, name, None)
        if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LONGEST_NAME):
            found[name] = value
    weights = (*model.named_buffers(), *model.named_parameters())
    if any(name.endswith("e_score_correction_bias") for name, _ in weights):
        found["e_score_correction_bias"] = True
    return found


def framework_of(model: Any) -> str:
    """The package that defines the model's class, with its version: “transformers 5.24.0”."""
    package = type(model).__module__.partition(".")[0]
    if package == "__main__":
        return ""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return ""
