// The words of the tabs about machines, batches and inference.

import { percent } from "./format.js";

/** @import { Explain } from "./explanations.js" */

/** @param {number[]} values */
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** @type {Explain} */
export function capacity(store, { batch_tokens: tokens }) {
  const { top_k: k, capacity_factor: factor, capacity: room } = store.message.live;
  const choices = tokens * k;
  if (factor === null)
    return {
      text: [
        "The capacity factor is off: every expert takes all tokens that it gets. Expert-parallel hardware then waits " +
          `for the busiest expert, which has ${percent(Math.max(...store.now("load")))} of the ${choices} token ` +
          "choices of a step.",
      ],
    };
  return {
    text: [
      `C = ⌈factor · T · K / E⌉ = ⌈${factor} × ${tokens} × ${k} / ${store.numExperts}⌉ = ` +
        `${room} token choices per expert and step.`,
      `Dropped now: ${percent(store.tile("dropped"))} of ${choices}. A dropped token skips the layer and passes on ` +
        "unchanged, on the residual path. α is the soft push, capacity the hard cap.",
      "Second choices are seated after all first choices, so they are dropped first. Overflow can be rerouted " +
        "instead, to the token's next-best expert with room.",
    ],
  };
}

/** @type {Explain} */
export function devices(store, { batch_tokens: tokens }) {
  const share = store.capacityShare(tokens);
  const processed = store.now("processed");
  const busiest = Math.max(...processed) * store.numExperts;
  return {
    text: [
      "Large models put each expert on a device of its own, and a step ends when the busiest device is done. Here " +
        "that is modelled: an expert's time is the number of choices it computes.",
      store.steps
        ? `Now a step takes ${busiest.toFixed(2)} times as long as a balanced one. The devices work ` +
          `${percent(sum(processed) / busiest)} of the time and are idle otherwise.`
        : "Train to see how long they wait.",
      share === null
        ? "A capacity limit would cap the step, at the price of dropped tokens."
        : `The capacity of ${store.message.live.capacity} caps the step at ` +
          `${(share * store.numExperts).toFixed(2)} times a balanced one, ` +
          "at the price of dropped tokens.",
    ],
  };
}

/** @type {Explain} */
export function variance(store) {
  const now = store.lastSignal("routing_std");
  return {
    text: [
      "How much an expert's load differs from batch to batch. Some of it is chance, since a batch is finite. The " +
        "dotted line shows the chance level: every token draws its expert at random, evenly.",
      now === null ? "Train to see it." : `Now ${(100 * now).toFixed(1)} percentage points, mean of all experts.`,
      "Above that line, the router is being pushed back and forth, or the mixture of tokens keeps changing. Well " +
        "below it, with one expert taking everything, nothing varies any more.",
    ],
  };
}

/** @type {Explain} */
export function coactivation(store) {
  const { top_k: k, balancing } = store.message.live;
  const choosing = balancing === "expert_choice";
  if (k === 1 && !choosing)
    return { text: ["Every token has one expert. Raise Top-k to 2 or more to see which experts work together."] };
  const atRandom = choosing ? k / store.numExperts : (k - 1) / (store.numExperts - 1);
  return {
    text: [
      "Which experts share tokens: of the tokens of the row's expert, the share that the column's expert also has.",
      `With ${k} of ${store.numExperts} experts at random, every cell would be ${percent(atRandom)}. One filled ` +
        "column is an expert that comes with every other. Strong blocks are teams that always work together and " +
        "might as well be one expert.",
    ],
  };
}

/** @type {Explain} */
export function inference(store, { mechanisms, group_noun: noun, shift, evaluation_tokens }) {
  const load = store.now("eval_load");
  const { balancing, frozen } = store.message.live;
  const lines = [
    `Every ${store.encoding.block} steps ${evaluation_tokens} held-out tokens are routed as in inference: no noise, ` +
      "no capacity limit, each token by itself.",
  ];
  if (sum(load) > 0)
    lines.push(
      `There the busiest expert takes ${percent(Math.max(...load))} of the choices; in training ` +
        `${percent(Math.max(...store.now("load")))}.`,
    );
  if (mechanisms[balancing].looks_at_batch)
    lines.push(
      "This mechanism compares the tokens of a batch. A token that comes alone gets the router's own choice, which " +
        "nothing has balanced.",
    );
  lines.push(
    frozen
      ? `Frozen: now move the ${noun}s' shares in the sidebar (${shift}) and see what a shift of the data does to a ` +
        "router that no longer learns."
      : `Press Freeze, then move the ${noun}s' shares (${shift}): a shift of the data unbalances a router that was ` +
        "fine.",
  );
  return { text: lines };
}

/** @type {Explain} */
export function text() {
  return {
    text: ["Held-out text. The colour of each character shows the expert that gets it to predict the next one."],
  };
}

/** @type {Explain} */
export function prompt() {
  return {
    text: [
      "The model continues your text, one character after the other. Each line is a layer: the colour of a character " +
        "is the expert that layer sends it to. Your text is bold.",
      "Switch off an expert, and it adds nothing to any token. The table says what that costs on held-out text, " +
        "beside another expert of the layer, drawn at random.",
    ],
  };
}
