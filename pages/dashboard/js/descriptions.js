// What a chart shows, in a sentence and a table for screen readers.

import { element, table } from "./dom.js";

/** @import { Trace } from "./types.js" */

const MOST_IN_A_SENTENCE = 4;
const INTERVAL = 2000; // ms between two updates

/** A chart's description, which only screen readers see. */
export class Description {
  /** @param {Element} parent */
  constructor(parent) {
    this.place = parent.appendChild(element("div", { class: "unseen" }));
    this.updatedAt = -Infinity;
  }

  /**
   * @param {string} title
   * @param {Trace[]} traces
   * @param {number} step
   * @param {number} now in ms
   */
  update(title, traces, step, now) {
    if (now - this.updatedAt < INTERVAL) return;
    this.updatedAt = now;
    const rows = rowsOf(traces);
    this.place.replaceChildren(element("p", {}, sentence(title, rows, step)));
    if (rows.length) this.place.append(table(["", "value"], rows));
  }
}

/**
 * A label and a value for every bar, for the newest point of every line, for the largest cell in every row of a matrix,
 * and for every colour of the map.
 * @param {Trace[]} traces
 * @returns {[string, string][]}
 */
export function rowsOf(traces) {
  return traces.filter(({ visible }) => visible !== false).flatMap((trace) => {
    if (trace.meta?.kind === "map") return countsOf((trace.text ?? []).map(String));
    if (trace.z) return trace.z.map((row, i) => [String(trace.y?.[i] ?? i + 1), largestOf(trace, row)]);
    const { x = [], y = [] } = trace;
    const several = trace.type === "bar";
    /** @type {[string, string][]} */
    const rows = y.map((value, i) => [several ? String(x[i]) : trace.name ?? "", numberOf(value)]);
    return several ? rows : rows.slice(-1).filter(() => y.at(-1) !== null);
  });
}

/**
 * @param {string} title
 * @param {[string, string][]} rows
 * @param {number} step
 */
export function sentence(title, rows, step) {
  if (!rows.length) return `${title}: nothing yet.`;
  const first = rows.slice(0, MOST_IN_A_SENTENCE).map(([label, value]) => `${label}: ${value}`).join("; ");
  const more = rows.length - MOST_IN_A_SENTENCE;
  return `${title} at step ${step}. ${first}${more > 0 ? `; and ${more} more in the table` : ""}.`;
}

/** @param {string[]} names @returns {[string, string][]} */
function countsOf(names) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return [...counts]
    .sort(([, one], [, other]) => other - one)
    .map(([name, count]) => [name, `${count} ${count === 1 ? "token" : "tokens"}`]);
}

/** @param {Trace} trace @param {(number | null)[]} row */
function largestOf({ x }, row) {
  const largest = Math.max(...row.map(Number));
  return `most at ${x?.[row.indexOf(largest)] ?? row.indexOf(largest) + 1}, ${numberOf(largest)}`;
}

/** @param {number | string | null} value */
function numberOf(value) {
  return typeof value === "number" ? String(Number(value.toPrecision(3))) : value ?? "none";
}
