"""What to try on somebody's own model, by the names that its framework gives to its settings."""

from __future__ import annotations

from moe_sim.history.trace_format import Setting, TraceHeader

USUAL_COEFFICIENT = 0.01
"""Of the load-balancing loss: the value of Switch and ST-MoE, and in the middle of what models are trained with."""
RENORMALIZING = (
    "mixtral", "minimax", "minimax_m2", "qwen3_5_moe_text", "qwen3_vl_moe_text", "gpt_oss", "jetmoe", "granitemoe",
    "granitemoeshared", "granitemoehybrid", "granitemoe_swa",
)  # fmt: skip
"""Model types of transformers that always divide the weights of the chosen experts by their sum: of the probabilities,
or, which is the same, in a softmax of the chosen logits."""


def more_balancing(header: TraceHeader) -> str:
    """How to balance the load of this model more."""
    framework, settings = header.framework.partition(" ")[0], header.settings
    match framework:
        case "transformers":
            return _for_transformers(settings, len(header.layers))
        case "Megatron-LM":
            return (
                "Raise --moe-aux-loss-coeff (with --moe-router-load-balancing-type aux_loss), or balance by selection: "
                "--moe-router-enable-expert-bias."
            )
        case "SGLang":
            return "Serving cannot change the router; --enable-eplb moves busy experts to more devices."
        case "vLLM":
            return "Serving cannot change the router; --enable-eplb copies busy experts to more devices."
    return (
        "Raise the weight of its load-balancing loss, or add one: moe_sim.losses.load_balancing_loss of this layer's "
        f"probabilities and choices, times {USUAL_COEFFICIENT}."
    )


def no_gradient(header: TraceHeader) -> str:
    """A warning, if this router learns nothing from the task: with one expert for each token, a weight that is divided
    by its own sum is always 1. Empty otherwise."""
    settings = header.settings
    name = next((name for name in ("num_experts_per_tok", "moe_k") if name in settings), "")
    renormalizes = settings.get("norm_topk_prob") is True or settings.get("model_type") in RENORMALIZING
    if not name or settings[name] != 1 or not renormalizes:
        return ""
    return (
        f"With {name}=1 and weights that are divided by their sum, every weight is 1: the router gets no gradient from "
        "the task. Use 2, or keep the probability as the weight."
    )


def _for_transformers(settings: dict[str, Setting], num_layers: int) -> str:
    if settings.get("e_score_correction_bias"):
        return (
            "This model balances by e_score_correction_bias, which transformers does not update: after each step, add "
            "0.001·sign(mean load − load) to each expert's."
        )
    coefficient = settings.get("router_aux_loss_coef")
    if not isinstance(coefficient, int | float):  # a file may say anything
        return (
            "This model adds no load-balancing loss of its own in transformers; add one to its loss: "
            "moe_sim.losses.load_balancing_loss."
        )
    if settings.get("output_router_logits") is False:
        return (
            f"Set output_router_logits=True: without it, transformers adds no load-balancing loss, whatever "
            f"router_aux_loss_coef is (now {coefficient:g})."
        )
    if coefficient < USUAL_COEFFICIENT:
        return f"Raise router_aux_loss_coef, now {coefficient:g}, to {USUAL_COEFFICIENT} or {2 * USUAL_COEFFICIENT}."
    raise_it = f"Raise router_aux_loss_coef, now {coefficient:g}, two- to threefold"
    if num_layers == 1:
        return f"{raise_it}."
    return (
        f"{raise_it}, or, since transformers computes this loss over all layers together, add a loss of each layer: "
        "moe_sim.losses.load_balancing_loss."
    )
