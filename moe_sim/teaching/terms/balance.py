"""Terms for balancing losses."""

from __future__ import annotations

from moe_sim.teaching.level import by_level
from moe_sim.teaching.terms.term import Term, other_names

TERMS = (
    Term(
        "load-balancing loss", ("balance loss", "balancing loss", "auxiliary loss", "aux loss"), "beginner",
        "A penalty for uneven routing, added to the task loss with weight α.",
        by_level(
            "It grows when the router prefers experts that are already busy, so training pushes tokens towards the "
            "others. At perfect balance it is 1.",
            "E · Σ f_i P_i, from the Switch Transformer. f aims the push at the experts that are actually overloaded, "
            "P carries the gradient. 1 at balance, E/k with all tokens on the same k experts.",
            "1 is neither a floor nor a proof: f = (0.6, 0.4) with P = (0.31, 0.69) gives 0.924, and with tiny logits "
            "one expert takes 99.8\u00a0% at a loss of 1.004. Always read it together with the load.",
        ),
        formula="E · Σ f_i P_i", see=("α", "load", "importance", "convention"),
    ),
    Term(
        "α", ("load-balancing coefficient", "aux_loss_coef", "balancing coefficient"), "beginner",
        "The weight of the load-balancing loss relative to the task loss.",
        by_level(
            "At 0 nothing balances the router; the larger α, the harder it is pushed towards even loads. 0.01 to 0.1 "
            "works in this lab; libraries default to 0.001 to 0.01.",
            "Too small and nothing changes; too large and routing is even but ignores the token. With a task loss of "
            "2.0 and a load-balancing loss of 1.0, α = 0.01 adds 0.5\u00a0% to the total.",
            "What counts is the ratio of gradients on the router, not of losses, so the right α depends on the scale "
            "of the task's gradient. The convention of the loss scales it too: huggingface at top-2 pushes twice as "
            "hard.",
        ),
        formula="L = L_task + α · L_balance + c_z · L_z", elsewhere=other_names("α (aux_loss_coef)"),
        see=("load-balancing loss", "over-balanced", "convention"),
    ),
    Term(
        "balance scope", ("balance_scope", "sequence-wise loss", "global-batch loss"), "practitioner",
        "The tokens over which f and P are counted: a sequence, a micro-batch, the batch, or a running average.",
        by_level(
            "Balanced over a whole batch, an expert may keep one topic to itself. Balanced within every text, it may "
            "not.",
            "The loss is computed in each group and averaged. Where sequences are of one topic, a loss per sequence "
            "spreads every topic over all experts.",
            "At α = 0.1 with 16 tokens per sequence, specialization is 0.03 per sequence, 0.35 per micro-batch and "
            "0.61 over the batch, means of five seeds at step 600 (Qiu et al. 2025 find the same in large models).",
        ),
        formula="mean over groups g of E · Σ f_gi P_gi", elsewhere=other_names("balance scope (balance_scope)"),
        see=("load-balancing loss", "specialization", "micro-batch", "tokens per sequence"),
    ),
    Term(
        "micro-batch", ("micro-batches", "micro_batches"), "expert",
        "A part of the batch that a device computes by itself.",
        by_level(
            "Large batches are computed in parts.",
            "Each part of the batch is one: the first 64 of 256 tokens, the next 64, and so on. Few sequences are in "
            "each, so its topics are uneven.",
            "Under gradient accumulation and data parallelism the loss is easily computed per micro-batch without "
            "anybody deciding so. Pooling hides: two micro-batches that collapse onto different experts look balanced "
            "together.",
        ),
        see=("balance scope",),
    ),
    Term(
        "convention", ("convention of the load-balancing loss", "conventions"), "practitioner",
        "How f is counted under top-k: three ways are in use, and they give different numbers for the same routing.",
        by_level(
            "Tools count differently when a token has several experts, so a balanced router shows 1 in one tool and 2 "
            "in another. Compare numbers only within one convention.",
            "per_choice: all choices over T·K, 1 at balance. first_choice: first choices over T, 1 at balance. "
            "huggingface: all choices over T, k at balance.",
            "At E = 8, k = 2 with all tokens on the same two experts: 4, 4 (if P is one half on both and all first "
            "choices agree) and 8. first_choice ignores second choices.",
        ),
        see=("per_choice", "first_choice", "huggingface", "load-balancing loss"),
    ),
    Term(
        "per_choice", ("per choice",), "expert",
        "The convention that counts all choices over T·K: the balanced value is 1 for any k.",
        by_level(
            "The default of this app. Even routing gives 1.",
            "f sums to 1. The loss is 1 at balance and E/k with all tokens on the same k experts.",
            "Used by Megatron-LM, OLMo-core, MegaBlocks, and DeepSpeed for k > 2. The recorded load-balancing loss "
            "always uses this convention, whatever is being optimized, so that runs are comparable.",
        ),
        formula="f_i = choices of i / (T·K)", see=("convention", "load"),
    ),
    Term(
        "first_choice", ("first choice",), "expert",
        "The expert that a token prefers; also the convention that counts only these.",
        by_level(
            "With top-2 a token has a first and a second choice. Some tools count only first choices.",
            "f is first choices over T. The loss is 1 at balance, however lopsided the second choices are.",
            "Used by GShard, DeepSpeed for k ≤ 2, Tutel and ST-MoE. For k = 1 all three conventions agree.",
        ),
        formula="f_i = first choices of i / T", see=("convention", "top-k"),
    ),
    Term(
        "huggingface", ("Hugging Face convention",), "expert",
        "The convention that counts all choices over T, without dividing by k: the balanced value is k.",
        by_level(
            "In this convention even top-2 routing gives 2, not 1. That is no error.",
            "f sums to k. The loss is k at balance and E with all tokens on the same k experts.",
            "Used by transformers, including for Mixtral. It is k times per_choice, so the same α pushes k times as "
            "hard. f and P are pooled over all layers there, so layers that err in opposite ways can cancel out.",
        ),
        formula="f_i = choices of i / T", see=("convention", "α"),
    ),
    Term(
        "importance loss", (), "practitioner",
        "A penalty for uneven router preference, whatever the actual choices.",
        by_level(
            "It pushes the router to prefer all experts equally on average. It ignores where tokens actually went.",
            "The squared coefficient of variation of the importance (Shazeer et al. 2017). 0 at balance.",
            "Smooth, but a nearly uniform P satisfies it even if the argmax is lopsided: p = 0.251 against three times "
            "0.2497 has a CV² of 5·10⁻⁶, yet sends every token to the first expert.",
        ),
        formula="CV² of Σ over tokens of p_i", see=("importance", "load loss", "argmax"),
    ),
    Term(
        "load loss", ("smooth load",), "expert",
        "A penalty for uneven load, made smooth by counting how likely each choice is under noise.",
        by_level(
            "Token counts have no gradient. This loss measures how close each expert came to being chosen, which has "
            "one.",
            "With Gaussian noise on the logits, take the probability that an expert is chosen if its noise is drawn "
            "again; then CV² of its sum over tokens.",
            "Φ((z_i − threshold_i)/σ) with the k-th largest noisy logit among the others as threshold (Shazeer et al. "
            "2017; V-MoE takes σ = 1/E). A σ that is large compared with the logits costs task loss, since choices "
            "become random.",
        ),
        formula="CV² of Σ over tokens of Φ((z_i − threshold_i) / σ)", see=("noisy top-k", "importance loss", "load CV"),
    ),
    Term(
        "z-loss", ("router z-loss", "z_loss_coef"), "expert",
        "A penalty on large router logits that keeps the router able to learn.",
        by_level(
            "It keeps the router's scores small, so that the router can still change. It does not balance anything by "
            "itself.",
            "Mean over tokens of logsumexp(z)², from ST-MoE; 0.001 is the usual coefficient.",
            "Adding a constant to all logits changes no probability but does change this loss, so it also fixes their "
            "level. In the scenario Diverging router a coefficient of 1 from the start keeps the router from "
            "saturating.",
        ),
        formula="mean over tokens of (ln Σ_i e^z_i)²", elsewhere=other_names("router z-loss (z_loss_coef)"),
        see=("logits", "saturation", "divergence"),
    ),
    Term(
        "lumped loss", ("lumped",), "practitioner",
        "A load-balancing loss of several layers that takes f and P as means over the layers.",
        by_level(
            "One number for the whole model. If each layer uses only one expert, but each another one, it says that "
            "all is well.",
            "transformers computes its loss this way: it concatenates the layers and then counts. Layers that collapse "
            "onto different experts cancel out, and the loss reads 1 times K.",
            "E · Σ f̄_i P̄_i with means over the layers. Once f̄ is uniform its gradient vanishes, however uneven each "
            "layer is. The mean of the layers' own losses has no such blind spot.",
        ),
        formula="E · Σ_i mean_l f_li · mean_l P_li", see=("load-balancing loss", "collapse", "load"),
    ),
)  # fmt: skip
"""In learning order."""
