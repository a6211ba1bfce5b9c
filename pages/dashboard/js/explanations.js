// What each tab says in words, with the run's own numbers in the formulas.

import { capacity, coactivation, devices, inference, prompt, text, variance } from "./explanations_of_systems.js";
import { fixed, percent, significant } from "./format.js";

/** @import { Explanation, RunData } from "./types.js" */
/** @import { Store } from "./store.js" */

/** @typedef {(store: Store, data: RunData) => Explanation} Explain */

/** @param {number[]} values */
const indexOfLargest = (values) => values.indexOf(Math.max(...values));

const GRADIENT =
  "The gradient on the logits z of a token with probabilities p is E/T · pᵢ (fᵢ − Σⱼ fⱼ pⱼ): it vanishes for an " +
  "expert that the router never considers (pᵢ ≈ 0) and where all f are equal. Only p depends on the token.";

/** @type {Record<string, Explain>} */
export const EXPLANATIONS = {
  why, mechanism, specialization, feedback, router, capacity, devices, variance, coactivation, inference, names, text,
  prompt,
};

/** @type {Explain} */
function why(store, { level }) {
  return level === "beginner" ? whyInPlainWords(store) : whyInFormulas(store, level === "expert");
}

/**
 * @param {Store} store
 * @returns {Explanation}
 */
function whyInPlainWords(store) {
  const { numExperts: count, message, steps } = store;
  const load = store.now("load");
  const busiest = indexOfLargest(load);
  const [total, , alone] = message.now.terms;
  return {
    text: [
      "f is each expert's share of the tokens. P is how much the router likes each expert, on average. The " +
        "load-balancing loss multiplies the two for every expert and adds up: it is large where experts are both " +
        "busy and liked. Training lowers it by making the busiest experts less liked, and α says how hard.",
      steps
        ? `Now expert ${busiest + 1} is the busiest: it has ${percent(load[busiest])} of the tokens and adds ` +
          `${(count * alone).toFixed(2)} to a loss of ${(count * total).toFixed(2)}. An even load has a loss of 1.`
        : "Train to see the run's own numbers here.",
      "A loss near 1 does not prove that the load is even: a router without preferences has it too. Look at the bars.",
    ],
  };
}

/**
 * @param {Store} store
 * @param {boolean} withGradient
 * @returns {Explanation}
 */
function whyInFormulas(store, withGradient) {
  const { numExperts: count, message, steps, encoding } = store;
  const load = store.now("load");
  const k = message.live.top_k;
  const [total, first, alone] = message.now.terms; // Σ f·P, the same with first choices, the busiest expert's f·P
  const busiest = indexOfLargest(load);
  /** @type {(name: string, formula: string, product: number, factor: number, users: string) => string[]} */
  const row = (name, formula, product, factor, users) => {
    const formulaNow = `${count} × ${product.toFixed(4)}${factor > 1 ? ` × ${factor}` : ""}`;
    const value = (count * product * factor).toFixed(2);
    return [name, formula, steps ? `${formulaNow} = ${value}` : "–", String(factor), users];
  };
  return {
    text: [
      "f counts where tokens went. It comes from an argmax and carries no gradient. P is what the router prefers, " +
        "and carries the gradient. In E·Σ f·P, f aims the push: the busiest expert's P is pushed down hardest.",
      steps
        ? `E·Σ f·P = ${count} × ${total.toFixed(4)} = ${(count * total).toFixed(2)}, mean of ${encoding.horizon} ` +
          `steps. Expert ${busiest + 1} alone, with f = ${fixed(load[busiest])}, adds ` +
          `${count} × ${alone.toFixed(4)} = ${(count * alone).toFixed(2)}.`
        : "Train to see the run's own numbers in the formula.",
      "A value near 1 does not prove balance: while P is nearly uniform, the loss is about 1 however uneven f is. " +
        "Look at f.",
      ...(withGradient ? [GRADIENT] : []),
    ],
    tables: [{
      head: ["convention", "f counts", "this routing, now", "balanced", "used by"],
      rows: [
        row("per choice", "all choices / (T·K)", total, 1, "Megatron-LM, OLMo-core, MegaBlocks, DeepSpeed for k > 2"),
        row("first choice", "first choices / T", first, 1, "GShard, DeepSpeed for k ≤ 2, Tutel, ST-MoE"),
        row("huggingface", "all choices / T", total, k, "transformers, Mixtral"),
      ],
    }],
  };
}

/** @type {Explain} */
function mechanism(store, { mechanisms }) {
  const { balancing, aux_loss_coef: alpha } = store.message.live;
  const { label, explanation, weighs_a_loss: weighsLoss } = mechanisms[balancing];
  const preferred = store.now("preferred_load");
  const favourite = indexOfLargest(preferred);
  const lines = [`${label[0].toUpperCase()}${label.slice(1)}. ${explanation}`];
  if (weighsLoss && alpha === 0) lines.push("With α = 0 this loss has no effect. Raise α to see it work.");
  const share = store.lastSignal("loss_share");
  if (weighsLoss && share) {
    const dotted = store.lastSignal("other_loss") === null ? "" : ", the dotted line in the chart of the losses,";
    lines.push(`Now α times this loss${dotted} is ${significant(100 * share)}\u00a0% of the total loss.`);
  }
  if (store.steps)
    lines.push(
      `Left to itself, the router would now send ${percent(preferred[favourite])} of the choices to expert ` +
        `${favourite + 1}; after selection this expert gets ${percent(store.now("load")[favourite])}. Where the two ` +
        "agree, the router itself has changed; where they differ, the selection balances and the router does not.",
    );
  if (balancing === "expert_choice")
    lines.push(`No expert computes ${percent(store.tile("unserved"))} of the tokens; they skip the layer.`);
  return { text: lines };
}

/** @type {Explain} */
function specialization(store, { group_noun: noun }) {
  return {
    text: [
      `How well the chosen expert predicts a token's ${noun}: ${fixed(store.message.now.specialization, 2)} out of 1 ` +
        `(mutual information divided by the entropy of the ${noun}s).`,
      "One filled column is collapse. Single strong cells are specialists. If all cells look alike, the router has " +
        "stopped telling tokens apart, as with too large an α.",
    ],
  };
}

/** @type {Explain} */
function feedback({ encoding }) {
  return {
    text: [
      "More tokens, more gradient, faster improvement, more tokens. An expert that gets none has no gradient: its " +
        `weights stand still, and it stays bad because it is never used. Means of ${encoding.block} steps; a line ` +
        "ends where the value is 0.",
    ],
  };
}

/** @type {Explain} */
function router(store) {
  const task = store.lastSignal("router_task_gradient");
  const push = store.lastSignal("router_balance_push");
  const cosine = store.lastSignal("router_gradient_cosine");
  const lines = [
    "α is a ratio of gradients, not of losses. What counts is how hard each of them pulls at the router's weights, " +
      "and whether they pull the same way (cosine 1) or against each other (−1).",
  ];
  if (task !== null)
    lines.push(
      push
        ? `Now the task pulls with ${task.toPrecision(2)} and α × the balancing loss with ${push.toPrecision(2)}: ` +
          `${(push / task).toPrecision(2)} times as hard, at a cosine of ${fixed(cosine, 2)}.`
        : `Now the task pulls with ${task.toPrecision(2)} and no balancing loss pulls at all.`,
    );
  lines.push(
    `The z-loss, mean(logsumexp(z)²) = ${fixed(store.lastSignal("z_loss"), 2)}, keeps logits small. Beyond a gap of ` +
      "about 15 a softmax is saturated: probabilities are 0 or 1, and neither the task nor α moves the router any " +
        "more.",
  );
  return { text: lines };
}

/** @type {Explain} */
function names(store, { metrics, knob_names }) {
  const values = store.message.now.metrics;
  /** @type {(value: number | null) => string} */
  const inWords = (value) => (value !== null ? significant(value) : store.steps ? "∞" : "–");
  return {
    text: [
      `One quantity, many names: the same load, mean of the last ${store.encoding.horizon} steps, as different tools ` +
        "would report it.",
    ],
    tables: [
      {
        head: ["here", "formula", "now", "balanced", "elsewhere"],
        rows: metrics.map(([name, formula, balanced, elsewhere], i) => [
          name, formula, inWords(values[i]), balanced, elsewhere,
        ]),
      },
      { head: ["knob", "elsewhere"], rows: knob_names },
    ],
  };
}
