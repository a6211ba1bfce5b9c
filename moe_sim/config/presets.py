"""Presets: a configuration and its planned changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.suggestions import ByName

Kind = Literal["scenario", "mechanism", "family"]
SCENARIO: Kind = "scenario"
MECHANISM: Kind = "mechanism"
FAMILY: Kind = "family"
"""A small copy of what the paper of a model sets."""


@dataclass(frozen=True)
class Preset:
    """A named starting point. `changes` holds what differs from the defaults, `plan` the planned changes."""

    label: str
    description: str
    changes: dict[str, Any] = field(default_factory=dict)
    plan: tuple[Event, ...] = ()
    kind: Kind = SCENARIO

    def config(self, seed: int = 0) -> RunConfig:
        """Returns the complete configuration at step 0."""
        return RunConfig(seed=seed, **self.changes)


def _mechanism(label: str, description: str, **changes: Any) -> Preset:
    return Preset(label, description, changes, kind=MECHANISM)


def _family(label: str, description: str, **changes: Any) -> Preset:
    return Preset(label, description, changes, kind=FAMILY)


PRESETS: dict[str, Preset] = ByName("preset", {
    "collapse": Preset(
        "Collapse", "No load-balancing loss: all experts begin even, and soon one takes most of the tokens."
    ),
    "healthy": Preset(
        "Healthy", "α = 0.03 from the start: hardly an expert dies, and the task loss is low.", {"aux_loss_coef": 0.03}
    ),
    "too-much-alpha": Preset(
        "Too much α",
        "α = 10: perfectly even, but the router no longer tells the topics apart.",
        {"aux_loss_coef": 10.0},
    ),
    "too-late": Preset(
        "Too late",
        "α rises to 0.1 only at step 400: the experts come back, the lost steps do not.",
        plan=(Event(400, {"aux_loss_coef": 0.1}),),
    ),
    "tight-capacity": Preset(
        "Tight capacity",
        "No load-balancing loss, but a capacity factor of 1: the cap balances by dropping tokens.",
        {"capacity_factor": 1.0},
    ),
    "top-2": Preset("Top-2", "Two experts per token, no load-balancing loss: two experts take over.", {"top_k": 2}),
    "diverging-router": Preset(
        "Diverging router",
        "The learning rate jumps to 0.1 for 50 steps: router logits explode, and not even α = 0.1 brings the router "
        "back. Reset, set the router z-loss coefficient to 1, and the same jump does little harm.",
        {"aux_loss_coef": 0.1, "router_init": "plain", "warmup_steps": 0},
        (Event(100, {"learning_rate": 0.1}), Event(150, {"learning_rate": 0.003})),
    ),
    "distribution-shift": Preset(
        "Distribution shift",
        "A healthy router is frozen at step 400. At step 450, rare topics become common.",
        {"aux_loss_coef": 0.03},
        (Event(400, {"frozen": True}), Event(450, {"topic_skew": 2.0, "topic_shift": 8})),
    ),
    "lopsided-start": Preset(
        "Lopsided start",
        "The router is drawn at random and the learning rate has no warm-up: most routers are born collapsed.",
        {"router_init": "plain", "warmup_steps": 0},
    ),
    "text": Preset(
        "Text",
        "Predict the next character of real text in four domains. Which expert takes arithmetic?",
        {"task": "text", "aux_loss_coef": 0.01, "batch_tokens": 512, "expert_hidden_size": 48},
    ),
    "language-model": Preset(
        "Language model",
        "A transformer of three layers, two of eight experts for each character of real text, no load-balancing loss. "
        "Each layer has a router of its own: watch them go different ways.",
        {
            "task": "language", "num_layers": 3, "top_k": 2, "renormalize": True, "batch_tokens": 512,
            "expert_hidden_size": 96, "warmup_steps": 100,
        },
    ),
    "load-balancing-loss": _mechanism("Load-balancing loss", "Switch's E·Σ f·P at α = 0.1.", aux_loss_coef=0.1),
    "importance-loss": _mechanism(
        "Importance loss", "CV² of P at α = 0.1.", balancing="importance", aux_loss_coef=0.1
    ),
    "load-loss": _mechanism(
        "Load loss", "CV² of the smooth load at α = 0.1, with noise of σ = 1/8.", balancing="load", aux_loss_coef=0.1
    ),
    "importance-and-load": _mechanism(
        "Importance and load", "V-MoE's mean of both at α = 0.1.", balancing="importance_and_load", aux_loss_coef=0.1
    ),
    "bias": _mechanism("Selection bias", "No loss: a selection bias that moves by 0.01 per step.", balancing="bias"),
    "expert-choice": _mechanism("Expert choice", "Each expert picks its tokens.", balancing="expert_choice"),
    "sinkhorn": _mechanism("Sinkhorn", "Selection from doubly normalized scores.", balancing="sinkhorn"),
    "hash": _mechanism("Hash", "A fixed map from token to expert. Nothing is learned.", balancing="hash"),
    "noise-alone": _mechanism(
        "Noise alone", "Gaussian noise with σ = 1, no balancing: it does not prevent collapse here.",
        router_noise="gaussian", noise_std=1.0,
    ),
    "switch": _family(
        "Switch",
        "One expert per token, α = 0.01, a capacity factor of 1.25, jitter of 0.01 (Fedus et al. 2021, Switch "
        "Transformer, sections 2.2 and 2.4).",
        aux_loss_coef=0.01, capacity_factor=1.25, router_noise="jitter", noise_std=0.01,
    ),
    "mixtral": _family(
        "Mixtral",
        "Two of eight experts, renormalized, no capacity limit, α = 0.02 in the convention of transformers (Jiang et "
        "al. 2024, and the configuration published with the weights).",
        top_k=2, renormalize=True, convention="huggingface", aux_loss_coef=0.02,
    ),
    "v-moe": _family(
        "V-MoE",
        "Two experts per token, the mean of importance and load loss at 0.01, noise of σ = 1/8, a capacity factor of "
        "1.05 that drops the least certain first (Riquelme et al. 2021, sections 2 and 4).",
        balancing="importance_and_load", aux_loss_coef=0.01, top_k=2, capacity_factor=1.05, drop_order="probability",
    ),
    "deepseek-v3": _family(
        "DeepSeek-V3",
        "Many small experts, one of them shared, sigmoid scores, a selection bias with its native rate of 0.001, and a "
        "loss per sequence of 0.0001: 4 of 32 here, 8 of 256 there (DeepSeek-AI 2024, sections 2.1.2 and 4.2).",
        num_experts=32, top_k=4, expert_hidden_size=8, shared_experts=1, score_function="sigmoid", renormalize=True,
        balancing="bias", bias_rate=0.001, aux_loss_coef=0.0001, balance_scope="sequence", sequence_tokens=16,
    ),
})  # fmt: skip
