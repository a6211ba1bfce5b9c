"""Exhibits whose mistake is in the router, in the evaluation or in what is monitored."""

from __future__ import annotations

from moe_sim.config.events import Event
from moe_sim.teaching.museum import signals
from moe_sim.teaching.museum.exhibit import Exhibit, Report

FROZEN_AT, OPENED_AT = 100, 130

CONSTANT_WEIGHT = Exhibit(
    mistake="constant_weight",
    title="The chosen expert's weight is always 1",
    wanted="One expert per token, weights that sum to 1, balanced with α = 0.1.",
    start={"aux_loss_coef": 0.1},
    tab="router",
    giveaway="Pulls on the router: the pull of the task is 0 in every step. The load is even, and specialization stays "
    "low.",
    explanation=(
        "The weights of the chosen experts are divided by their sum. With one expert that is p / p = 1: a constant, "
        "through which no gradient flows. The router is trained by the load-balancing loss alone.",
        "It spreads tokens evenly and has no reason to send a token to one expert rather than to another. The task "
        "loss still falls, because the experts, and everything else, learn.",
    ),
    wrong="weight, index = probs.topk(1)\nweight = weight / weight.sum(-1, keepdim=True)",
    right="weight, index = probs.topk(1)  # with k = 1 the probability itself is the weight",
    reports=(Report("jingyaogong/minimind", 858),),
    signal=signals.no_task_gradient,
)

NOISY_EVALUATION = Exhibit(
    mistake="noisy_evaluation",
    title="Noise stays on in the evaluation",
    wanted="Noise in the router while it trains, α = 0.1. Everything is frozen at step 100, to evaluate at leisure.",
    start={"aux_loss_coef": 0.1, "router_noise": "gaussian", "noise_std": 1.0},
    plan=(Event(FROZEN_AT, {"frozen": True}),),
    tab="inference",
    giveaway="After step 100 nothing changes any more: not the weights, not the tokens that are evaluated. Yet the "
    "held-out task loss differs from evaluation to evaluation.",
    explanation=(
        "Noise makes a router explore in training. In the evaluation it must be off, or each token goes to an expert "
        "that was drawn, the loss is worse than the model is, and no number can be reproduced.",
        "The usual cause is a router that does not look at self.training, or a call of eval() that does not reach it.",
    ),
    wrong="logits = self.gate(x) + sigma * torch.randn_like(logits)",
    right="logits = self.gate(x)\nif self.training:\n    logits = logits + sigma * torch.randn_like(logits)",
    reports=(Report("deepspeedai/DeepSpeed", 8620), Report("hpcaitech/ColossalAI", 419)),
    signal=signals.varying_evaluations,
)

LIMITED_EVALUATION = Exhibit(
    mistake="limited_evaluation",
    title="The capacity limit stays on in the evaluation",
    wanted="A capacity factor of 0.75 while it trains, α = 0.1. Everything is frozen at step 100; at step 130 the "
    "limit is lifted for training batches.",
    start={"aux_loss_coef": 0.1, "capacity_factor": 0.75},
    plan=(Event(FROZEN_AT, {"frozen": True}), Event(OPENED_AT, {"capacity_factor": None})),
    tab="inference",
    giveaway="The held-out task loss jumps at step 130, where only a setting of training changes and no weight does.",
    explanation=(
        "Capacity drops tokens so that a training step has a fixed size. Evaluated with the same limit, the model is "
        "charged for tokens that it never saw, and more so the more alike the tokens of an evaluation batch are.",
        "Perplexity then depends on the batch size and on the order of the data. Whoever compares two models by it "
        "compares their capacity factors.",
    ),
    wrong="capacity = math.ceil(capacity_factor * tokens * k / num_experts)",
    right="capacity = math.ceil(capacity_factor * tokens * k / num_experts) if self.training else tokens",
    reports=(Report("marin-community/marin", 8134),),
    signal=signals.evaluations_that_depend_on_capacity,
)

FIRST_CHOICES_ONLY = Exhibit(
    mistake="first_choices_only",
    title="Monitoring counts first choices only",
    wanted="Two experts per token, balanced with α = 0.1.",
    start={"aux_loss_coef": 0.1, "top_k": 2},
    tab="capacity",
    giveaway="Capacity: what the experts compute is not what the load says, although nothing is dropped. And the load "
    "is that of the first choices, to the last digit.",
    explanation=(
        "An argmax counts which expert each token likes best. With k = 2 every second choice is missing, with k = 8 "
        "seven of eight. Experts that are mostly second choices look dead and are busy.",
        "Nothing is wrong with the model; what was wrong is what somebody looked at. A rescue that is not needed, such "
        "as a larger α, then does the damage.",
    ),
    wrong="load = torch.bincount(probs.argmax(-1), minlength=num_experts)",
    right="load = torch.bincount(probs.topk(k).indices.flatten(), minlength=num_experts)",
    signal=signals.load_of_first_choices,
)
