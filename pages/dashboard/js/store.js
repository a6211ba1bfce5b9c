// Everything that the stream has sent about one run. Messages hold what happened between two steps; they may overlap
// but never leave a gap.

import { Letters } from "./letters.js";

/** @import { Column, Encoding, Latest, RunMessage, Share } from "./types.js" */

const SMOOTHED = /** @type {const} */ (["task_loss", "balance_loss"]);

export class Store {
  /**
   * @param {number} numExperts
   * @param {Encoding} encoding
   */
  constructor(numExperts, encoding) {
    this.numExperts = numExperts;
    this.encoding = encoding;
    this.letters = new Letters(encoding.alphabet);
    this.steps = 0;
    /** @type {number[]} */
    this.load = []; // the smoothed load, flattened row by row
    /** @type {Record<"task_loss" | "balance_loss" | "imbalance" | "layer_imbalance", Column>} */
    this.rows = { task_loss: [], balance_loss: [], imbalance: [], layer_imbalance: [] };
    /** @type {number[]} */
    this.blocks = []; // the smoothed load of all layers after each block of steps, flattened
    /** @type {number | null} */
    this.shownBlock = null; // of the picture of all layers; null for the newest step
    /** @type {Record<typeof SMOOTHED[number], number[]>} */
    this.smoothed = { task_loss: [], balance_loss: [] };
    /** @type {Record<string, Column>} */
    this.coarse = {};
    /** @type {Record<string, Column>} */
    this.signals = {};
    /** @type {Latest | null} */
    this.latest = null;
    this.viewsVersion = 0;
    /** @type {Store[]} */
    this.peers = [this]; // the runs side by side
  }

  /**
   * The store that a figure or a trace follows.
   * @param {{ run?: number } | undefined} meta
   */
  of(meta) {
    return this.peers[meta?.run ?? 0];
  }

  /**
   * The capacity of an expert as a share of a step's token choices; null without a limit.
   * @param {number} tokens of a batch
   */
  capacityShare(tokens) {
    const { capacity, top_k } = this.message.live;
    return capacity === null ? null : capacity / (tokens * top_k);
  }

  /** The newest message. Nothing is drawn before the first one. */
  get message() {
    if (!this.latest) throw new Error("no message has arrived yet");
    return this.latest;
  }

  /**
   * Takes in a message. Returns false if something before it is missing: the client then asks again from `steps`.
   * @param {RunMessage} message
   */
  apply(message) {
    if (message.from === 0 && message.to < this.steps) {
      const { peers } = this;
      Object.assign(this, new Store(this.numExperts, this.encoding), { peers });
    }
    if (message.from > this.steps) return false;
    if (message.to < this.steps) return true;
    if (message.layers) this.extendLayers(message, message.layers);
    this.extendRows(message);
    this.extendCoarse(message);
    this.steps = message.to;
    const gone = { queue_position: 0, recomputed: null }; // unless the message says otherwise
    this.latest = /** @type {Latest} */ ({ events: [], ...this.latest, ...gone, ...message });
    if (message.now) this.viewsVersion += 1;
    return true;
  }

  /**
   * @param {RunMessage} message
   * @param {NonNullable<RunMessage["layers"]>} layers
   */
  extendLayers({ from, rows }, { load, blocks }) {
    const cells = load.length / 2;
    const { block } = this.encoding;
    append(this.rows.layer_imbalance, rows.layer_imbalance ?? [], (this.steps - from) * (cells / this.numExperts));
    const known = Math.floor(this.steps / block) - Math.floor(from / block);
    append(this.blocks, this.letters.pairedShares(blocks), known * cells);
  }

  get numLayers() {
    return (this.latest?.layers?.load.length ?? 2 * this.numExperts) / 2 / this.numExperts;
  }

  /**
   * Chooses the block of steps of the picture of all layers.
   * @param {number | null} block null for the newest step
   */
  show(block) {
    this.shownBlock = block;
    this.viewsVersion += 1;
  }

  /** A row of shares for each layer. */
  layerShares() {
    const cells = this.numLayers * this.numExperts;
    const start = (this.shownBlock ?? 0) * cells;
    const shares = this.shownBlock === null
      ? this.letters.pairedShares(this.message.layers.load)
      : this.blocks.slice(start, start + cells);
    return this.rowsOf(shares);
  }

  /** @param {RunMessage} message */
  extendRows({ from, rows }) {
    const known = this.steps - from;
    append(this.load, this.letters.pairedShares(rows.smoothed_load), known * this.numExperts);
    append(this.rows.task_loss, rows.task_loss, known);
    append(this.rows.balance_loss, rows.balance_loss, known);
    append(this.rows.imbalance, rows.imbalance, known);
    for (const name of SMOOTHED) this.extendSmoothed(name);
  }

  /**
   * The moving average that `smooth` in moe_sim/charts/overview.py defines, one step at a time.
   * @param {typeof SMOOTHED[number]} name
   */
  extendSmoothed(name) {
    const { horizon } = this.encoding;
    const column = this.rows[name];
    const average = this.smoothed[name];
    for (let i = average.length; i < column.length; i++) {
      const before = i ? average[i - 1] : 0;
      const weight = (1 - (1 - 1 / horizon) ** (i + 1)) * horizon;
      average.push(before + (Number(column[i]) - before) / weight);
    }
  }

  /** @param {RunMessage} message */
  extendCoarse({ from, coarse }) {
    const { block, signals } = this.encoding;
    const known = Math.floor(this.steps / block) - Math.floor(from / block);
    for (const [name, values] of Object.entries(coarse)) {
      if (name !== "signals") {
        append((this.coarse[name] ??= []), values, known * this.numExperts);
        continue;
      }
      signals.forEach((signal, j) => {
        append((this.signals[signal] ??= []), values.filter((_, i) => i % signals.length === j), known);
      });
    }
  }

  /**
   * Shares of every expert as they are now.
   * @param {string} name
   * @returns {number[]}
   */
  now(name) {
    if (name === "smoothed_load")
      return this.steps ? this.load.slice(-this.numExperts) : this.letters.pairedShares(this.message.start_load);
    const processed = this.letters.pairedShares(this.message.now.processed);
    if (name === "dropped") return this.now("load").map((value, i) => Math.max(0, value - processed[i]));
    if (name === "idle") return processed.map((value) => Math.max(...processed) - value);
    return this.letters.pairedShares(this.message.now[/** @type {Share} */ (name)]);
  }

  /** @param {"dropped" | "unserved"} name */
  tile(name) {
    return this.message.tiles[name] / this.encoding.share_scale;
  }

  /** @param {string} name */
  lastSignal(name) {
    return this.signals[name]?.at(-1) ?? null;
  }

  /** Which expert takes each held-out token, and whether capacity drops the token. */
  routing() {
    const { map, dropped } = this.message;
    const expert = this.letters.experts(map, this.numExperts);
    const bytes = Array.from(atob(dropped), (byte) => byte.charCodeAt(0));
    return { expert, dropped: expert.map((_, i) => Boolean((bytes[i >> 3] ?? 0) & (128 >> (i & 7)))) };
  }

  /**
   * Rows of shares from a matrix in letters.
   * @param {string} text
   */
  matrix(text) {
    return this.rowsOf(this.letters.shares(text));
  }

  /** @param {number[]} shares */
  rowsOf(shares) {
    const rows = [];
    for (let i = 0; i < shares.length; i += this.numExperts) rows.push(shares.slice(i, i + this.numExperts));
    return rows;
  }
}

/**
 * @template T
 * @param {T[]} column
 * @param {T[]} values
 * @param {number} known how many of the values the column already has
 */
function append(column, values, known) {
  for (let i = known; i < values.length; i++) column.push(values[i]);
}
