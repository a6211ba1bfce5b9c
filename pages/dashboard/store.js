// What the stream has told so far. Messages say what happened between two steps; they may overlap, never skip.

const HORIZON = 20; // steps, as moe_sim.metrics.SMOOTHING_HORIZON
const COARSE = 10; // steps in a row of the coarse table
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; // as moe_sim.stream.LETTERS

class Store {
  constructor(numExperts) {
    this.numExperts = numExperts;
    this.steps = 0;
    this.rows = {};
    this.smoothed = {};
    this.coarse = {};
    this.latest = null;
  }

  // Take in a message. False if something between is missing: then ask again from `steps`.
  apply(message) {
    if (message.from === 0 && message.to < this.steps) Object.assign(this, new Store(this.numExperts));
    if (message.from > this.steps) return false;
    if (message.to < this.steps) return true;
    const known = this.steps - message.from;
    for (const [name, values] of Object.entries(message.rows)) {
      const column = (this.rows[name] ??= []);
      if (name === "smoothed_load") {
        for (let i = 2 * known * this.numExperts; i < values.length; i += 2)
          column.push((64 * LETTERS.indexOf(values[i]) + LETTERS.indexOf(values[i + 1])) / 4095);
        continue;
      }
      for (let i = known; i < values.length; i++) column.push(values[i]);
      this.extendSmoothed(name);
    }
    const knownBlocks = Math.floor(this.steps / COARSE) - Math.floor(message.from / COARSE);
    for (const [name, values] of Object.entries(message.coarse)) {
      const column = (this.coarse[name] ??= []);
      for (let i = knownBlocks * this.numExperts; i < values.length; i++) column.push(values[i]);
    }
    this.steps = message.to;
    this.latest = message;
    return true;
  }

  // The same average as `smooth` in moe_sim/charts/main.py: exponential, horizon 20 steps, bias-corrected.
  extendSmoothed(name) {
    const column = this.rows[name];
    const average = (this.smoothed[name] ??= []);
    const keep = 1 - 1 / HORIZON;
    for (let i = average.length; i < column.length; i++) {
      const weight = (1 - keep ** (i + 1)) * HORIZON;
      const before = i ? average[i - 1] : 0;
      average.push(before + (column[i] - before) / weight);
    }
  }

  last(name) {
    const column = this.rows[name];
    return column && column.length ? column[column.length - 1] : undefined;
  }

  // Per-expert shares as they are now, as fractions.
  now(name) {
    const count = this.numExperts;
    if (name === "smoothed_load") {
      const column = this.rows.smoothed_load ?? [];
      return column.length ? column.slice(-count) : new Array(count).fill(0);
    }
    const now = this.latest.now;
    if (name === "dropped") return now.load.map((value, i) => Math.max(0, value - now.processed[i]) / 1000);
    return now[name].map((value) => value / 1000);
  }
}
