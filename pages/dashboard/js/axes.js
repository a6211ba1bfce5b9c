// Layouts that depend on the data or on the size of the chart.

import { percent } from "./format.js";
import { withLayer } from "./layers.js";

/** @import { Axis, Context, FigureMeta, Layout, Trace } from "./types.js" */
/** @import { Store } from "./store.js" */

const MAX_EVENT_LABELS = 3;
const FIRST_STEPS = 50; // the time axis of a run without steps
const MIN_LABEL_WIDTH = 36; // px below which a bar's label is only a mark

/**
 * The same layout with larger type and the room that it needs.
 * @param {Layout} layout
 * @param {number} factor
 * @returns {Layout}
 */
export function enlarged(layout, factor) {
  /** @type {(axis: Axis) => Axis} */
  const enlargedAxis = (axis) => ({
    ...axis,
    tickfont: { ...axis.tickfont, size: factor * axis.tickfont.size },
    title: axis.title && { ...axis.title, font: { ...axis.title.font, size: factor * axis.title.font.size } },
  });
  const { l, r, t, b } = layout.margin;
  return {
    ...layout,
    xaxis: layout.xaxis && enlargedAxis(layout.xaxis),
    yaxis: layout.yaxis && enlargedAxis(layout.yaxis),
    ...(layout.yaxis2 && { yaxis2: enlargedAxis(layout.yaxis2) }),
    margin: { l: factor * l, r: factor * r, t: factor * t, b: factor * b },
    font: { ...layout.font, size: factor * layout.font.size },
    annotations: layout.annotations?.map((one) => ({ ...one, font: { ...one.font, size: factor * one.font.size } })),
  };
}

/**
 * The same layout with plain words for beginners as the titles of its axes.
 * @param {Layout} layout
 * @returns {Layout}
 */
export function inPlainWords(layout) {
  const axes = Object.entries(layout.meta.plain ?? {}).filter(([name]) => name !== "caption");
  /** @type {(name: string) => any} */
  const axis = (name) => layout[name];
  const titled = axes.map(([name, text]) => [name, { ...axis(name), title: { ...axis(name).title, text } }]);
  return { ...layout, ...Object.fromEntries(titled) };
}

/**
 * What the chart's small print says now: where the figure has two, the second one from the first step on.
 * @param {FigureMeta} meta
 * @param {Store} store
 * @param {boolean} plain whether for beginners
 * @param {boolean} isMap
 */
export function captionOf({ captions, caption, plain: words, all_layers }, store, plain, isMap) {
  const text = captions ? captions[store.steps ? 1 : 0] : (plain && words?.caption) || caption;
  return all_layers ? text : withLayer(text, store, isMap);
}

/**
 * The axis as the figure has it, or the other kind, which fits itself to the data.
 * @param {Axis} axis
 * @param {boolean} log
 * @returns {Axis}
 */
export function withScale(axis, log) {
  const type = log ? "log" : "linear";
  if (type === (axis.type ?? "linear")) return axis;
  return { ...axis, type, range: undefined, tickvals: undefined, ticktext: undefined, autorange: true };
}

/**
 * The time axis ends at the newest step. Changed knobs are dashed lines, the newest few with a label.
 * @param {Layout} layout
 * @param {Store[]} stores the runs that the chart shows
 * @param {Context} context
 */
export function timeAxis(layout, stores, context) {
  const { ink, background } = context.palette;
  const several = stores.length > 1;
  const events = stores.flatMap((store, run) =>
    store.message.events.map(({ step, label }) => ({
      step,
      label: several ? `${context.run_names[run]}: ${label}` : label,
      color: several ? context.runs[run] : ink,
    })),
  );
  const shapes = events.map(({ step, color }) => ({
    type: "line", xref: "x", yref: "paper", x0: step, x1: step, y0: 0, y1: 1, line: { color, width: 1.3, dash: "dot" },
  }));
  const end = Math.max(...stores.map(({ steps }) => steps));
  const annotations = events.slice(-MAX_EVENT_LABELS).map(({ step, label, color }, i) => ({
    x: step, xref: "x", y: 1 - 0.11 * i, yref: "paper", yanchor: "top", text: label, showarrow: false,
    xanchor: step > end / 2 ? "right" : "left", xshift: step > end / 2 ? -3 : 3,
    font: { size: layout.font.size - 1, color }, bgcolor: background,
  }));
  return {
    xaxis: { ...layout.xaxis, ...(end ? { autorange: true } : { range: [0, FIRST_STEPS] }) },
    shapes: [...(layout.shapes ?? []), ...shapes],
    annotations: [...(layout.annotations ?? []), ...annotations],
  };
}

/**
 * Where the share axis ends, in percent: the first round value above the tallest bar and the capacity limit.
 * @param {Trace[]} traces bound ones
 * @param {NonNullable<FigureMeta["share_axis"]>} rule as `share_axis_top` in moe_sim/charts/overview.py has it
 */
export function shareAxisTop(traces, { tops, headroom, least }) {
  const highest = Math.max(...traces.flatMap(({ y }) => y ?? []).map(Number));
  const needed = Math.max(headroom * highest, least);
  return tops.find((top) => top >= needed) ?? tops[tops.length - 1];
}

/**
 * The dead experts. Python decides how many there are; they are the least used ones. In the mean of several layers,
 * where Python's number is that of the worst layer, those with next to nothing in all of them.
 * @param {Store} store
 * @param {Context} context
 */
export function deadExperts(store, { settling_steps, dead_share }) {
  const load = store.now("smoothed_load");
  const isMean = store.numLayers > 1 && !store.message.layer;
  const dead = isMean ? load.filter((share) => share < dead_share / load.length).length : store.message.tiles.dead;
  const count = store.steps < settling_steps ? 0 : dead;
  return new Set([...load.keys()].sort((one, other) => load[one] - load[other]).slice(0, count));
}

/**
 * Under each bar its expert's number and its share; where bars are narrow, only a mark under dead experts.
 * @param {Store} store
 * @param {Context} context
 * @param {number} width of the plot in px
 */
export function barLabels(store, context, width) {
  const { palette } = context;
  const load = store.now("smoothed_load");
  const dead = deadExperts(store, context);
  const narrow = width / store.numExperts < MIN_LABEL_WIDTH;
  return load.map((share, i) => {
    const isDead = dead.has(i);
    const word = narrow ? (isDead ? "✕" : "\u00a0") : isDead ? "dead" : percent(share);
    return `${i + 1}<br><span style="color:${isDead ? palette.danger : palette.ink}">${word}</span>`;
  });
}
