// From a trace's `meta` (documented in moe_sim/charts/page.py) to the arrays that it shows now.

/** @import { Binding, Column, Context, Trace } from "./types.js" */
/** @import { Store } from "./store.js" */

import { percent } from "./format.js";

const MAX_POINTS = 400;

/**
 * Indices of the rows to draw: all, or every 2nd, 4th … so that drawn points stay where they are; always the last one.
 * @param {number} length
 */
export function thinned(length) {
  let stride = 1;
  while (length / stride > MAX_POINTS) stride *= 2;
  const indices = [];
  for (let i = stride - 1; i < length; i += stride) indices.push(i);
  if (length && indices.at(-1) !== length - 1) indices.push(length - 1);
  return indices;
}

/**
 * The trace with the data that it shows now.
 * @param {Trace} trace
 * @param {Store} store
 * @param {Context} context
 * @returns {Trace}
 */
export function bind(trace, store, context) {
  if (!trace.meta) return trace;
  const bindKind = /** @type {Bind<any>} */ (BINDINGS[trace.meta.kind]);
  return { ...trace, ...bindKind(trace.meta, store, trace, context) };
}

/**
 * @template {Binding["kind"]} Kind
 * @typedef {(
 *   meta: Extract<Binding, { kind: Kind }>, store: Store, trace: Trace, context: Context,
 * ) => Partial<Trace>} Bind
 */

/** @type {{ [Kind in Binding["kind"]]: Bind<Kind> }} */
const BINDINGS = {
  rows: ({ column }, store) => overSteps(store.rows[column]),
  smoothed: ({ column }, store) => overSteps(store.smoothed[column]),
  difference: bindDifference,
  ratio: bindRatio,
  expert: bindExpert,
  coarse: bindCoarse,
  heat: bindHeat,
  signal: bindSignal,
  now: ({ column }, store) => ({ y: percents(store.now(column)) }),
  choices: ({ column }, store) => ({ y: percents(store.now(column)).slice(0, store.message.live.top_k) }),
  devices: ({ column }, store) => ({ x: store.now(column).map((share) => share * store.numExperts) }),
  plain: ({ column }, store) => ({ y: store.message.now[column] }),
  limit: bindLimit,
  spells: bindSpells,
  joint: (_, store) => ({ z: store.matrix(store.message.joint).map(percents) }),
  together: bindTogether,
  map: bindMap,
  layers: bindLayers,
  layer_ratio: bindLayerRatio,
};

/** @param {number[]} shares */
const percents = (shares) => shares.map((share) => 100 * share);

/** @param {Column} column */
function overSteps(column) {
  const indices = thinned(column.length);
  return { x: indices.map((i) => i + 1), y: indices.map((i) => column[i]) };
}

/** @type {Bind<"difference">} */
function bindDifference({ column, baseline }, store) {
  const own = store.smoothed[column];
  const other = store.peers[baseline].smoothed[column];
  const indices = thinned(own.length).filter((i) => i < other.length);
  return { x: indices.map((i) => i + 1), y: indices.map((i) => own[i] - other[i]) };
}

/** @type {Bind<"ratio">} */
function bindRatio({ column, infinity }, store) {
  return ratioLine(store.rows[column], infinity);
}

/**
 * @param {Column} column
 * @param {number} infinity where ∞ is drawn
 */
function ratioLine(column, infinity) {
  const { x, y } = overSteps(column);
  return {
    x,
    y: y.map((value) => value ?? infinity),
    text: y.map((value) => (value === null ? "∞" : String(value))),
  };
}

/** @type {Bind<"expert">} */
function bindExpert({ expert }, { load, numExperts }) {
  const indices = thinned(load.length / numExperts);
  return { x: indices.map((i) => i + 1), y: indices.map((i) => 100 * load[i * numExperts + expert]) };
}

/** @type {Bind<"coarse">} */
function bindCoarse({ column, expert }, { coarse, numExperts, encoding }) {
  const values = coarse[column] ?? [];
  const indices = thinned(values.length / numExperts);
  return {
    x: indices.map((i) => (i + 1) * encoding.block),
    y: indices.map((i) => values[i * numExperts + expert] || null), // 0 has no place on a log axis
  };
}

/** @type {Bind<"heat">} */
function bindHeat(_, { load, numExperts }) {
  const indices = thinned(load.length / numExperts);
  const z = Array.from({ length: numExperts }, (__, expert) => indices.map((i) => 100 * load[i * numExperts + expert]));
  return { x: indices.map((i) => i + 1), z };
}

/** @type {Bind<"signal">} */
function bindSignal({ signal, factor, log }, { signals, encoding }) {
  const column = signals[signal] ?? [];
  const indices = thinned(column.length);
  return {
    x: indices.map((i) => (i + 1) * encoding.block),
    y: indices.map((i) => {
      const value = column[i];
      return value === null || (log && value <= 0) ? null : value * factor;
    }),
  };
}

/** @type {Bind<"limit">} */
function bindLimit({ batch_tokens }, store, trace) {
  const share = store.capacityShare(batch_tokens);
  return { y: (trace.x ?? []).map(() => (share === null ? null : 100 * share)) };
}

/**
 * The steps at which an expert was dead, as pieces of a line.
 * @type {Bind<"spells">}
 */
function bindSpells({ expert, height }, store) {
  const x = (store.message.timeline.spells[expert] ?? []).flatMap(([first, last]) => [first, last, null]);
  return { x, y: x.map((step) => (step === null ? null : height)) };
}

/**
 * Experts × experts, empty on the diagonal.
 * @type {Bind<"together">}
 */
function bindTogether(_, store) {
  const rows = store.matrix(store.message.together).map(percents);
  return { z: rows.map((row, i) => row.map((value, j) => (i === j ? null : value))) };
}

/**
 * Layers × experts, with a mark for dead experts and, if there is room, a number for the others.
 * @type {Bind<"layers">}
 */
function bindLayers({ numbers, dead }, store, _, { dead_share, settling_steps }) {
  const rows = store.layerShares();
  const step = store.shownBlock === null ? store.steps : (store.shownBlock + 1) * store.encoding.block;
  const isDead = (/** @type {number} */ share) => step >= settling_steps && share < dead_share / store.numExperts;
  const text = rows.map((row) => row.map((share) => (isDead(share) ? dead : numbers ? percent(share) : "")));
  return { z: rows.map(percents), text };
}

/** @type {Bind<"layer_ratio">} */
function bindLayerRatio({ layer, infinity }, store) {
  return ratioLine(store.rows.layer_imbalance.filter((_, i) => i % store.numLayers === layer), infinity);
}

/** @type {Bind<"map">} */
function bindMap(meta, store, trace, context) {
  const { expert, dropped } = store.routing();
  const { background } = context.palette;
  const colours = expert.map((one) => meta.colours[one]);
  return {
    text: expert.map((one, i) => `expert ${one + 1}` + (dropped[i] ? ", dropped" : "")),
    marker: {
      ...trace.marker,
      color: colours.map((colour, i) => (dropped[i] ? background : colour)),
      line: {
        width: dropped.map((isDropped) => (isDropped ? 1.6 : 0.5)),
        color: colours.map((colour, i) => (dropped[i] ? colour : background)),
      },
    },
  };
}
