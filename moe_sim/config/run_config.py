"""RunConfig: the one definition of every knob, with its bounds, its help and whether it is live.

The sidebar, the address bar, the command line and the tests use `moe_sim.config.knobs.KNOBS`, which is built from
`RunConfig`. To add a knob, add a field here.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator
from pydantic_core import PydanticCustomError

from moe_sim.config.knob import KnobModel, knob

MAIN = "Main"
BALANCING = "Balancing"
CAPACITY = "Routing and capacity"
NOISE = "Noise"
TASK = "Task and data"
OPTIMIZER = "Optimizer and size"
INTERVENTIONS = "Interventions"


MOST_HIDDEN = 64 * 256
"""Hidden units of all experts in all layers: what one layer may have. It bounds the memory of a run."""
MOST_WORK = 2048 * 8 * 256
"""Hidden units that a step computes, in all layers: again what one layer may. It bounds the time that a step takes."""
LANGUAGE_SEQUENCE = 64
"""Tokens of a sequence of the language task."""
PAIR = r"([1-9]\d?)-([1-9]\d?)"
"""The text of a pair of experts, numbered from 1."""


def expert_pair(text: str | None) -> tuple[int, int] | None:
    """The two experts that `text` names, numbered from 0; None for None."""
    if text is None:
        return None
    first, second = text.split("-")
    return int(first) - 1, int(second) - 1


class RunConfig(KnobModel):
    """Everything that determines a run. The defaults collapse.

    Raises:
        ValueError: (pydantic's ValidationError) for an unknown knob, a value out of bounds, `top_k` above
            `num_experts`, a swap of experts that are not two of `num_experts`, or `renormalize` with `top_k=1`
            or expert choice. It says so in sentences; `moe_sim.config.knobs.problems` returns them.
    """

    aux_loss_coef: float = knob(
        0.0,
        "Load-balancing coefficient α",
        "Weight of the load-balancing loss in the total loss. 0 leaves the router to itself.",
        group=MAIN,
        live=True,
        ge=0,
        le=10,
        stops=(0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10),
    )
    balancing: Literal[
        "load_balancing",
        "importance",
        "load",
        "importance_and_load",
        "bias",
        "expert_choice",
        "sinkhorn",
        "hash",
        "none",
    ] = knob(
        "load_balancing",
        "Balancing mechanism",
        "A loss weighted by α, or another way to select experts. The Mechanism tab shows what it does in this run.",
        group=MAIN,
        live=True,
    )
    num_experts: int = knob(8, "Experts", "E, the number of experts in a layer.", group=MAIN, live=False, ge=2, le=64)
    top_k: int = knob(1, "Top-k", "K, the number of experts each token is sent to.", group=MAIN, live=True, ge=1, le=8)
    capacity_factor: float | None = knob(
        None,
        "Capacity factor",
        "Each expert takes at most ⌈factor · T · K / E⌉ token choices per step; the rest are dropped. Off: no limit. "
        "Expert choice fills exactly a factor of 1, so more changes nothing.",
        group=MAIN,
        live=True,
        ge=0.25,
        le=4,
        stops=(0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, None),
    )
    eval_capacity_factor: float | None = knob(
        None,
        "Capacity factor in evaluation",
        "Held-out tokens are evaluated without a limit, and beside that in batches of 256 with this one: mixed, and "
        "sorted by topic or domain. Off: as in training.",
        group=CAPACITY,
        live=True,
        ge=0.25,
        le=4,
        stops=(0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4, None),
    )
    convention: Literal["per_choice", "first_choice", "huggingface"] = knob(
        "per_choice",
        "Convention of the load-balancing loss",
        "What f counts under top-k: all choices / (T·K), first choices / T, or all choices / T as in transformers.",
        group=BALANCING,
        live=True,
    )
    balance_scope: Literal["sequence", "micro_batch", "batch", "running"] = knob(
        "batch",
        "Balance scope",
        "The tokens that a balancing loss counts together: those of a sequence (the batch, if tokens stand alone), of "
        "a micro-batch or of the batch; the loss is the mean over these groups. running: f of the load-balancing loss "
        "is an average over the last steps. With a selection bias, sequence and micro_batch add a loss, weighted by α, "
        "as in DeepSeek-V3.",
        group=BALANCING,
        live=True,
    )
    micro_batches: int = knob(
        4,
        "Micro-batches",
        "The number of micro-batches of a step, each balanced by itself if the balance scope says so.",
        group=BALANCING,
        live=True,
        ge=2,
        le=32,
        stops=(2, 4, 8, 16, 32),
    )
    bias_rate: float = knob(
        0.01,
        "Bias rate",
        "How far each step moves an expert's selection bias towards an even load.",
        group=BALANCING,
        live=True,
        ge=0,
        le=1,
        stops=(0, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1),
    )
    bias_update: Literal["sign", "proportional"] = knob(
        "sign",
        "Bias update",
        "sign: the bias of an expert below the mean load rises by the rate, and of one above it falls by the rate. "
        "proportional: by the rate times how far the load is from the mean, relative to it.",
        group=BALANCING,
        live=True,
    )
    z_loss_coef: float = knob(
        0.0,
        "Router z-loss coefficient",
        "Weight of mean(logsumexp(z)²), which keeps router logits small.",
        group=BALANCING,
        live=True,
        ge=0,
        le=10,
        stops=(0, 0.0001, 0.001, 0.01, 0.1, 0.3, 1, 10),
    )
    score_function: Literal["softmax", "sigmoid"] = knob(
        "softmax",
        "Score function",
        "What makes scores of the router's logits. softmax: experts compete for a total of 1. sigmoid: each is scored "
        "by itself, as in DeepSeek-V3.",
        group=CAPACITY,
        live=False,
    )
    shared_experts: int = knob(
        0,
        "Shared experts",
        "Experts that every token passes, besides those that the router chooses. Nothing routes to them.",
        group=CAPACITY,
        live=False,
        ge=0,
        le=2,
    )
    renormalize: bool = knob(
        False,
        "Renormalize the kept weights",
        "Scale a token's K combine weights to sum to 1. Needs top-k of 2 or more, and not expert "
        "choice: with one expert the weight would always be 1 and the router would get no task gradient.",
        group=CAPACITY,
        live=True,
    )
    overflow: Literal["drop", "reroute"] = knob(
        "drop",
        "Overflow",
        "Pairs over capacity are dropped, or sent to the token's next-best expert with room.",
        group=CAPACITY,
        live=True,
    )
    drop_order: Literal["position", "probability"] = knob(
        "position",
        "Drop order",
        "Pairs dropped first over capacity: those of later tokens (position) or those with the lowest combine weight "
        "(probability). Under expert choice always the latter.",
        group=CAPACITY,
        live=True,
    )
    router_noise: Literal["none", "jitter", "gaussian", "learned"] = knob(
        "none",
        "Router noise",
        "In training, multiply the router's input by U(1−ε, 1+ε) (jitter), or add N(0, σ²) to its logits, with σ fixed "
        "(gaussian) or learned as softplus(x·W) (learned). The load loss always adds Gaussian noise.",
        group=NOISE,
        live=True,
    )
    noise_std: float = knob(
        0.125,
        "Noise strength",
        "ε of the jitter (capped at 1) or σ of the Gaussian noise.",
        group=NOISE,
        live=True,
        ge=0,
        le=10,
        stops=(0, 0.01, 0.03, 0.125, 0.3, 1, 3, 10),
    )
    task: Literal["topics", "text", "language"] = knob(
        "topics",
        "Task",
        "Topics: synthetic tokens, one teacher network per topic. Text: predict the next character of real text. "
        "Language: the same with a small transformer, whose attention sees the earlier characters.",
        group=TASK,
        live=False,
    )
    seed: int = knob(
        0,
        "Seed",
        "Determines the data, their order and the initial weights.",
        group=TASK,
        live=False,
        ge=0,
        le=2**31 - 1,
    )
    num_topics: int = knob(
        12, "Topics", "The number of topics.", group=TASK, live=False, ge=2, le=32, tasks=("topics",)
    )
    topic_skew: float = knob(
        0.5,
        "Topic skew",
        "Topic frequencies follow Zipf's law with this exponent. 0: all equal.",
        group=TASK,
        live=True,
        ge=0,
        le=3,
        step=0.1,
        tasks=("topics",),
    )
    topic_shift: int = knob(
        0,
        "Topic rotation",
        "Rotate the frequency ranking of the topics by this many places. At 0, topic 1 is the most frequent.",
        group=TASK,
        live=True,
        ge=0,
        le=31,
        tasks=("topics",),
    )
    shared_direction: float = knob(
        2.0,
        "Shared direction",
        "Length, in units of √width, of a component that all tokens share. It drives the collapse: at 0, nothing "
        "collapses.",
        group=TASK,
        live=False,
        ge=0,
        le=4,
        step=0.1,
        tasks=("topics",),
    )
    sequence_tokens: int = knob(
        1,
        "Tokens per sequence",
        "How many tokens in a row have one topic, as those of a text have. 1: each is drawn by itself.",
        group=TASK,
        live=False,
        ge=1,
        le=32,
        stops=(1, 2, 4, 8, 16, 32),
        tasks=("topics",),
    )
    domain_mix: Literal["usual", "even", "reversed", "code", "arithmetic", "prose"] = knob(
        "usual",
        "Domain mix",
        "Shares of prose, code, names and arithmetic: 0.4/0.3/0.2/0.1 (usual), all equal (even), the usual ones in "
        "reverse (reversed), 0.7 for one and 0.1 for each other (code, arithmetic), or prose alone (prose).",
        group=TASK,
        live=True,
        tasks=("text", "language"),
    )
    own_text: str | None = knob(
        None,
        "Text of your own",
        "The key of a text that a visitor has pasted, for the router to see in place of the one that comes with the "
        "task. Its groups are its quarters.",
        group=TASK,
        live=False,
        pattern=r"[0-9a-f]{12}",
        words="the key of a text, 12 hexadecimal digits",
        tasks=("language",),
        has_widget=False,
    )
    num_layers: int = knob(
        1,
        "Layers",
        "L, the number of MoE layers, one after the other, each with a router and experts of its own.",
        group=OPTIMIZER,
        live=False,
        ge=1,
        le=6,
    )
    batch_tokens: int = knob(
        256,
        "Tokens per step",
        "T, the number of tokens in a batch.",
        group=OPTIMIZER,
        live=False,
        ge=32,
        le=2048,
        step=32,
    )
    learning_rate: float = knob(
        0.003,
        "Learning rate",
        "Step size of Adam.",
        group=OPTIMIZER,
        live=True,
        ge=0.00001,
        le=1000,
        stops=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1, 1000),
    )
    warmup_steps: int = knob(
        200,
        "Warm-up",
        "Updates over which the learning rate rises linearly to its full value. 0: none.",
        group=OPTIMIZER,
        live=False,
        ge=0,
        le=2000,
        stops=(0, 50, 100, 200, 400, 1000, 2000),
    )
    expert_hidden_size: int = knob(
        24,
        "Expert hidden size",
        "Hidden units of each expert.",
        group=OPTIMIZER,
        live=False,
        ge=4,
        le=256,
        step=4,
    )
    frozen: bool = knob(
        False,
        "Freeze",
        "Everything stops learning; routing continues.",
        group=INTERVENTIONS,
        live=True,
    )
    frozen_experts: bool = knob(
        False,
        "Freeze the experts",
        "The experts stop learning; router and head continue.",
        group=INTERVENTIONS,
        live=True,
    )
    frozen_router: bool = knob(
        False,
        "Freeze the router",
        "The router stops learning; experts and head continue.",
        group=INTERVENTIONS,
        live=True,
    )
    frozen_head: bool = knob(
        False,
        "Freeze the head",
        "The output layer stops learning, and for text the embedding; router and experts continue.",
        group=INTERVENTIONS,
        live=True,
    )
    router_blind: bool = knob(
        False,
        "Blind router",
        "The router cannot see the direction that all tokens have in common: after each step, its weights lose their "
        "component along the mean token.",
        group=INTERVENTIONS,
        live=True,
    )
    swap_columns: str | None = knob(
        None,
        "Swap router columns",
        "Two experts exchange their router columns: each gets the tokens of the other. Off exchanges them back.",
        group=INTERVENTIONS,
        live=True,
        pattern=PAIR,
        words="two different experts such as 1-3",
    )
    swap_weights: str | None = knob(
        None,
        "Swap expert weights",
        "Two experts exchange their weights and keep their router columns. Off exchanges them back.",
        group=INTERVENTIONS,
        live=True,
        pattern=PAIR,
        words="two different experts such as 1-3",
    )
    router_init: Literal["even", "plain"] = knob(
        "even",
        "Router start",
        "even: the router starts blind to the direction that all tokens have in common, with equally long columns, so "
        "that every expert gets about as many tokens. plain: drawn at random.",
        group=INTERVENTIONS,
        live=False,
    )
    expert_init: Literal["independent", "copies"] = knob(
        "independent",
        "Expert start",
        "Every expert is drawn at random, or all start as copies of one, as when a dense model is upcycled.",
        group=INTERVENTIONS,
        live=False,
    )

    mistake: Literal[
        "none", "constant_weight", "softmax_twice", "chosen_only", "not_divided", "detached", "never_added", "lumped",
        "summed", "noisy_evaluation", "limited_evaluation", "first_choices_only",
    ] = knob(
        "none",
        "Mistake",
        "What goes wrong in this run, for one of the reasons of the Museum. Each still trains.",
        group=INTERVENTIONS,
        live=False,
        has_widget=False,
    )  # fmt: skip

    @field_validator("swap_columns", "swap_weights", mode="before")
    @classmethod
    def _order_pair(cls, value: Any) -> Any:
        """The lower number first, so that one swap has one name."""
        match = re.fullmatch(PAIR, value) if isinstance(value, str) else None
        return f"{min(match.groups(), key=int)}-{max(match.groups(), key=int)}" if match else value

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.top_k > self.num_experts:
            raise PydanticCustomError(
                "knobs",
                "Top-k (top_k) must be from 1 to {num_experts}, the number of experts (num_experts), not {top_k}.",
                {"knob": "top_k", "top_k": self.top_k, "num_experts": self.num_experts},
            )
        for name, label in (("swap_columns", "Swap router columns"), ("swap_weights", "Swap expert weights")):
            pair = expert_pair(getattr(self, name))
            if pair and not pair[0] < pair[1] < self.num_experts:
                raise PydanticCustomError(
                    "knobs",
                    "{label} ({knob}) must be two different experts from 1 to {num_experts}, not {value}.",
                    {"knob": name, "label": label, "num_experts": self.num_experts, "value": getattr(self, name)},
                )
        if self.renormalize and self.top_k == 1:
            raise PydanticCustomError(
                "knobs",
                "Renormalize (renormalize) needs a Top-k (top_k) of 2 or more: with one expert the kept weight would "
                "always be 1 and the router would get no gradient from the task.",
                {"knob": "renormalize"},
            )
        if self.renormalize and self.balancing == "expert_choice":
            raise PydanticCustomError(
                "knobs",
                "Renormalize (renormalize) does not go with expert choice (balancing): the kept weight of a token with "
                "one expert would always be 1 and the router would get no gradient from the task.",
                {"knob": "renormalize"},
            )
        if self.task == "language" and self.batch_tokens % LANGUAGE_SEQUENCE:
            raise PydanticCustomError(
                "knobs",
                "Tokens per step (batch_tokens) must be a multiple of 64 for the language task, whose sequences have "
                "64 tokens, not {batch_tokens}.",
                {"knob": "batch_tokens", "batch_tokens": self.batch_tokens},
            )
        for name, label, count, matters in (
            ("sequence_tokens", "Tokens per sequence", self.sequence_tokens, self.task == "topics"),
            ("micro_batches", "Micro-batches", self.micro_batches, self.balance_scope == "micro_batch"),
        ):
            if matters and self.batch_tokens % count:
                raise PydanticCustomError(
                    "knobs",
                    "{label} ({knob}) must divide the tokens per step (batch_tokens), {batch_tokens}, which {count} "
                    "does not.",
                    {"knob": name, "label": label, "batch_tokens": self.batch_tokens, "count": count},
                )
        hidden = self.num_layers * (self.num_experts + self.shared_experts) * self.expert_hidden_size
        if hidden > MOST_HIDDEN:
            raise PydanticCustomError(
                "knobs",
                "Layers × Experts × Expert hidden size (num_layers, num_experts + shared_experts, expert_hidden_size) "
                "may be at most {most}, not {hidden}.",
                {"knob": "num_layers", "most": f"{MOST_HIDDEN:,}", "hidden": f"{hidden:,}"},
            )
        chosen = self.top_k + self.shared_experts
        work = self.num_layers * self.batch_tokens * chosen * self.expert_hidden_size
        if work > MOST_WORK:
            raise PydanticCustomError(
                "knobs",
                "Layers × Tokens per step × Top-k × Expert hidden size (num_layers, batch_tokens, top_k + "
                "shared_experts, expert_hidden_size) may be at most {most}, not {work}.",
                {"knob": "num_layers", "most": f"{MOST_WORK:,}", "work": f"{work:,}"},
            )
        return self

    @property
    def sequence_length(self) -> int:
        """The number of tokens in a row that belong together; 1 if each stands alone."""
        if self.task == "language":
            return LANGUAGE_SEQUENCE
        return self.sequence_tokens if self.task == "topics" else 1

    @property
    def balance_groups(self) -> int:
        """The number of groups of tokens in a batch of which a balancing loss is computed by itself."""
        if self.balance_scope == "sequence" and self.sequence_length > 1:
            return self.batch_tokens // self.sequence_length
        return self.micro_batches if self.balance_scope == "micro_batch" else 1

    def replace(self, **changes: Any) -> RunConfig:
        """Returns a validated copy with these changes."""
        return RunConfig(**{**self.model_dump(), **changes})
