"""Exhibits whose mistake is in the balancing loss."""

from __future__ import annotations

from moe_sim.teaching.museum import signals
from moe_sim.teaching.museum.exhibit import Exhibit, Report

SOFTMAX_TWICE = Exhibit(
    mistake="softmax_twice",
    title="The loss takes the softmax twice",
    wanted="One expert per token, balanced with α = 0.02, which is usually enough here.",
    start={"aux_loss_coef": 0.02},
    tab="mechanism",
    giveaway="Task and load-balancing loss: whenever the load is uneven, the dotted line, the loss that α weighs, "
    "rises above 1 less than half as far as E·Σ f·P.",
    explanation=(
        "The router already returns probabilities, and the loss takes their softmax again. The softmax of numbers "
        "between 0 and 1 is nearly uniform: with eight experts, a probability of 1 becomes 0.28.",
        "So the loss reads almost 1 whatever happens, and its gradient on the router is a fraction of what α "
        "promises. It looks like a balanced model, and like an α that is too small.",
    ),
    wrong="router_logits = self.gate(x).softmax(-1)\nloss = load_balancing_loss(router_logits.softmax(-1), index)",
    right="router_logits = self.gate(x)\nloss = load_balancing_loss(router_logits.softmax(-1), index)",
    reports=(Report("huggingface/transformers", 45120),),
    signal=signals.too_flat_for_one_layer,
)

CHOSEN_ONLY = Exhibit(
    mistake="chosen_only",
    title="P counts only the chosen experts",
    wanted="Two experts per token, balanced with α = 0.1.",
    start={"aux_loss_coef": 0.1, "top_k": 2},
    tab="mechanism",
    giveaway="Task and load-balancing loss: the dotted line, the loss that α weighs, is below 1 while the load is "
    "even. At an even load E·Σ f·P is 1, whatever the probabilities are.",
    explanation=(
        "P must be the mean probability of every expert over all tokens. Here the probabilities of the experts that a "
        "token did not choose are left out: top-k ran first, and only its values were kept.",
        "The loss can then be lowered without balancing: by making the router less certain of what it chooses. And an "
        "expert that nobody chooses gets no gradient that would raise it.",
    ),
    wrong="weights, index = probs.topk(k)\nP = torch.zeros_like(probs).scatter(1, index, weights).mean(0)",
    right="weights, index = probs.topk(k)\nP = probs.mean(0)",
    reports=(Report("paiml/aprender", 2162),),
    signal=signals.too_small_for_one_layer,
)

NOT_DIVIDED = Exhibit(
    mistake="not_divided",
    title="f is not divided by k",
    wanted="Two experts per token, balanced with α = 0.1, f counted as a share of all choices.",
    start={"aux_loss_coef": 0.1, "top_k": 2},
    tab="mechanism",
    giveaway="Task and load-balancing loss: the dotted line, the loss that α weighs, is exactly twice E·Σ f·P in every "
    "step; at an even load it reads 2, not 1.",
    explanation=(
        "f counts choices, and there are k per token. Divided by the number of tokens alone, f sums to k. The loss is "
        "k times as large, and so is its gradient: α = 0.1 acts like 0.2.",
        "It trains, and better balanced than intended. The mistake shows when someone compares α with a paper, or "
        "raises k. Some libraries define the loss that way on purpose: then α has to be divided by k.",
    ),
    wrong="f = one_hot(index, num_experts).sum(1).float().mean(0)",
    right="f = one_hot(index, num_experts).sum(1).float().mean(0) / top_k",
    reports=(Report("huggingface/transformers", 43688), Report("allenai/OLMoE", 45)),
    signal=signals.times_choices,
)

DETACHED = Exhibit(
    mistake="detached",
    title="The loss has no gradient",
    wanted="One expert per token, balanced with α = 0.1.",
    start={"aux_loss_coef": 0.1},
    tab="router",
    giveaway="Pulls on the router: the pull of the load-balancing loss is 0 in every step, though the loss is logged "
    "and is above 1.",
    explanation=(
        "f is a count and has no gradient. All of the gradient comes through P. Detach the probabilities, count them "
        "under no_grad, or multiply shapes that broadcast to a constant, and the loss is a number like any other.",
        "It is added to the total, it is logged, and it rises with the imbalance, as it should. It just does not pull.",
    ),
    wrong="P = probs.detach().mean(0)\nloss = num_experts * (f * P).sum()",
    right="P = probs.mean(0)\nloss = num_experts * (f * P).sum()",
    reports=(Report("mindspore-ai/hyper-parallel", 752),),
    signal=signals.no_balance_gradient,
)

NEVER_ADDED = Exhibit(
    mistake="never_added",
    title="The loss is never added",
    wanted="One expert per token, balanced with α = 0.1.",
    start={"aux_loss_coef": 0.1},
    tab="mechanism",
    giveaway="Weight of the balancing loss: 0\u00a0% of the total in every step, although α is 0.1. A load-balancing "
    "loss is 1 when everything is even; it is never 0.",
    explanation=(
        "The coefficient is set, and a switch that turns the loss on is not: router logits are not returned, so there "
        "is nothing to compute a loss from, and nobody is told.",
        "Every curve looks like that of a model without a load-balancing loss, because it is one.",
    ),
    wrong="model = AutoModelForCausalLM.from_pretrained(name, router_aux_loss_coef=0.1)",
    right="model = AutoModelForCausalLM.from_pretrained(\n"
    "    name, router_aux_loss_coef=0.1, output_router_logits=True\n)",
    reports=(Report("huggingface/transformers", 44242),),
    signal=signals.no_loss,
)

LUMPED = Exhibit(
    mistake="lumped",
    title="The layers are lumped together",
    wanted="Four layers, one expert per token in each, balanced with α = 0.1.",
    start={"aux_loss_coef": 0.1, "num_layers": 4},
    tab="router",
    giveaway="Task and load-balancing loss: the dotted line, the loss that α weighs, reads 1, a perfect value, while "
    "the diagnosis and the chart Experts by layer show collapsed layers.",
    explanation=(
        "The router logits of all layers are concatenated, and f and P are computed once for all. Layers that collapse "
        "onto different experts are even together.",
        "The loss does what it was told: it spreads the collapsed layers over different experts. Compute it of each "
        "layer and average.",
    ),
    wrong="probs = torch.cat(layers_of_logits).softmax(-1)\nloss = load_balancing_loss(probs, probs.topk(k).indices)",
    right="layers_of_probs = [z.softmax(-1) for z in layers_of_logits]\n"
    "loss = sum(load_balancing_loss(p, p.topk(k).indices) for p in layers_of_probs) / num_layers",
    reports=(Report("huggingface/transformers", 31464), Report("huggingface/transformers", 28255)),
    signal=signals.even_only_on_average,
)

SUMMED = Exhibit(
    mistake="summed",
    title="Losses of micro-batches are summed",
    wanted="One expert per token, four micro-batches a step, balanced in each with α = 0.1.",
    start={"aux_loss_coef": 0.1, "balance_scope": "micro_batch", "micro_batches": 4},
    tab="mechanism",
    giveaway="Task and load-balancing loss: the dotted line, the loss that α weighs, is about four times E·Σ f·P, as "
    "many times as there are micro-batches; at an even load it reads 4.",
    explanation=(
        "The task loss is divided by the number of micro-batches before backward, the auxiliary loss is not: each adds "
        "its full gradient. The same happens when ranks sum what they should average.",
        "α then depends on how the batch is cut. A run that is moved to twice as many devices changes its balance, "
        "without a line of the configuration changing.",
    ),
    wrong="(task_loss / num_micro_batches + alpha * aux_loss).backward()",
    right="((task_loss + alpha * aux_loss) / num_micro_batches).backward()",
    reports=(Report("NVIDIA/Megatron-LM", 3769),),
    signal=signals.times_groups,
)
