// A first picture of bars and dots, in SVG, where Plotly will draw them: Plotly.js takes a while to load.

/** @import { Axis, Graph, SizedLayout, Trace } from "./types.js" */

/** @typedef {[tag: string, attributes: Record<string, string | number>, text?: string]} Mark */
/** @typedef {(value: number) => number} Scale from data to pixels */

const MAX_TICKS = 6;
const TICK_STEPS = [1, 2, 5, 10, 20, 25, 50];

/**
 * @param {Graph} graph
 * @param {Trace[]} traces bound ones
 * @param {SizedLayout} layout
 */
export function sketch(graph, traces, layout) {
  const svg = svgElement("svg", { class: "sketch", width: "100%", height: "100%", "aria-hidden": "true" });
  svg.style.fontFamily = layout.font.family ?? "";
  for (const [tag, attributes, text] of marksOf(traces, layout)) svg.append(svgElement(tag, attributes, text));
  graph.replaceChildren(svg);
}

/** @param {Trace[]} traces */
export const canBeSketched = (traces) =>
  traces.some(({ type, mode, x }) => Array.isArray(x) && (type === "bar" || mode === "markers"));

/**
 * What there is to see, in pixels.
 * @param {Trace[]} traces
 * @param {SizedLayout} layout
 * @returns {Mark[]}
 */
export function marksOf(traces, layout) {
  const { margin, width, height, xaxis, yaxis } = layout;
  const [left, right, top, bottom] = [margin.l, width - margin.r, margin.t, height - margin.b];
  const bars = traces.find(({ type }) => type === "bar");
  const count = bars?.x?.length ?? 0;
  const y = scale(yaxis.range ?? [0, 1], bottom, top);
  const x = scale(bars ? [-0.5, count - 0.5] : xaxis.range ?? [0, 1], left, right);
  if (!bars) return traces.flatMap((trace) => dots(trace, x, y));
  const size = yaxis.tickfont.size;
  return [
    ...ticks(yaxis).flatMap((value) => /** @type {Mark[]} */ ([
      ["line", { x1: left, x2: right, y1: y(value), y2: y(value), stroke: String(yaxis.gridcolor) }],
      words(left - 4, y(value) + size / 3, "end", size, yaxis.color, String(value)),
    ])),
    ...(layout.shapes ?? []).map((shape) => band(shape, left, right, y)),
    ...columns(bars, x, y),
    ...labels(xaxis, count, x, bottom),
    ["line", { x1: left, x2: left, y1: top, y2: bottom, stroke: String(yaxis.linecolor) }],
  ];
}

/**
 * @param {number[]} range
 * @param {number} from
 * @param {number} to
 * @returns {Scale}
 */
function scale([low, high], from, to) {
  return (value) => from + ((value - low) / (high - low)) * (to - from);
}

/** @param {Axis} axis */
function ticks({ range = [0, 1] }) {
  const step = TICK_STEPS.find((one) => range[1] / one <= MAX_TICKS) ?? range[1];
  return Array.from({ length: Math.floor(range[1] / step) + 1 }, (_, i) => i * step);
}

/**
 * @param {any} shape a rectangle or a line across the chart
 * @param {number} left
 * @param {number} right
 * @param {Scale} y
 * @returns {Mark}
 */
function band({ type, y0, y1, fillcolor, opacity, line }, left, right, y) {
  if (type === "line") return ["line", { x1: left, x2: right, y1: y(y0), y2: y(y1), ...dotted(line) }];
  return ["rect", { x: left, width: right - left, y: y(y1), height: y(y0) - y(y1), fill: fillcolor, opacity }];
}

/** @param {{ color: string, width: number }} line */
const dotted = ({ color, width }) =>
  ({ stroke: color, "stroke-width": width, "stroke-dasharray": `${width} ${width}` });

/** @type {(x: number, y: number, anchor: string, size: number, fill: string | undefined, text: string) => Mark} */
const words = (x, y, anchor, size, fill = "", text) =>
  ["text", { x, y, "text-anchor": anchor, "font-size": size, fill }, text];

/**
 * @param {Trace} trace
 * @param {Scale} x
 * @param {Scale} y
 */
function columns({ y: values = [], marker }, x, y) {
  const colours = /** @type {string[]} */ (marker?.color);
  const [width, floor] = [0.8 * (x(1) - x(0)), y(0)];
  return values.map((value, i) => {
    const top = y(Number(value));
    const bar = { x: x(i) - width / 2, width, y: top, height: floor - top, fill: colours[i] };
    return /** @type {Mark} */ (["rect", bar]);
  });
}

/**
 * Under each bar its label, of one line or two.
 * @param {Axis} axis
 * @param {number} count
 * @param {Scale} x
 * @param {number} bottom
 * @returns {Mark[]}
 */
function labels({ ticktext = [], tickfont, color = "" }, count, x, bottom) {
  return ticktext.slice(0, count).flatMap((text, i) => text.split("<br>").map((line, row) => {
    const [, ink = color, word = line] = /^<span style="color:([^"]+)">(.*)<\/span>$/.exec(line) ?? [];
    return words(x(i), bottom + (1.3 * row + 1.25) * tickfont.size, "middle", tickfont.size, ink, word);
  }));
}

/**
 * @param {Trace} trace
 * @param {Scale} x
 * @param {Scale} y
 */
function dots({ x: across = [], y: up = [], marker }, x, y) {
  const { color, size, line } = /** @type {any} */ (marker);
  return across.map((value, i) => /** @type {Mark} */ (["circle", {
    cx: x(Number(value)), cy: y(Number(up[i])), r: size / 2, fill: color[i], stroke: line.color[i],
    "stroke-width": line.width[i],
  }]));
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function svgElement(tag, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, String(value));
  node.textContent = text;
  return node;
}
