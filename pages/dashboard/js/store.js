// What the stream has told so far. Messages say what happened between two steps; they may overlap, never skip.

const HORIZON = 20; // steps, as moe_sim.metrics.SMOOTHING_HORIZON
const COARSE = 10; // steps in a row of the coarse table
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; // as moe_sim.server.messages.LETTERS

class Store {
  constructor(numExperts, signalNames) {
    this.numExperts = numExperts;
    this.signalNames = signalNames;
    this.steps = 0;
    this.rows = {};
    this.smoothed = {};
    this.coarse = {};
    this.signals = {};
    this.latest = null;
    this.viewsTold = 0;
    this.peers = [this]; // the runs side by side
  }

  // The store that a figure or a trace follows.
  of(meta) {
    return this.peers[meta?.run ?? 0];
  }

  // Take in a message. False if something between is missing: then ask again from `steps`.
  apply(message) {
    if (message.from === 0 && message.to < this.steps) {
      const { peers } = this;
      Object.assign(this, new Store(this.numExperts, this.signalNames), { peers });
    }
    if (message.from > this.steps) return false;
    if (message.to < this.steps) return true;
    const known = this.steps - message.from;
    for (const [name, values] of Object.entries(message.rows)) {
      const column = (this.rows[name] ??= []);
      if (name === "smoothed_load") {
        column.push(...letterPairs(values).slice(known * this.numExperts));
        continue;
      }
      for (let i = known; i < values.length; i++) column.push(values[i]);
      this.extendSmoothed(name);
    }
    const knownBlocks = Math.floor(this.steps / COARSE) - Math.floor(message.from / COARSE);
    for (const [name, values] of Object.entries(message.coarse)) {
      if (name === "signals") {
        this.extendSignals(values, knownBlocks);
        continue;
      }
      const column = (this.coarse[name] ??= []);
      for (let i = knownBlocks * this.numExperts; i < values.length; i++) column.push(values[i]);
    }
    this.steps = message.to;
    this.latest = { events: [], ...this.latest, place: 0, ...message };
    if (message.now) this.viewsTold += 1;
    return true;
  }

  extendSignals(values, knownBlocks) {
    const count = this.signalNames.length;
    this.signalNames.forEach((name, j) => {
      const column = (this.signals[name] ??= []);
      for (let i = knownBlocks * count + j; i < values.length; i += count) column.push(values[i]);
    });
  }

  // The same average as `smooth` in moe_sim/charts/overview.py: exponential, horizon 20 steps, bias-corrected.
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
    if (name === "dropped") {
      const processed = this.now("processed");
      return this.now("load").map((value, i) => Math.max(0, value - processed[i]));
    }
    if (name === "idle") {
      const processed = this.now("processed");
      const busiest = Math.max(...processed);
      return processed.map((value) => busiest - value);
    }
    return letterPairs(this.latest.now[name]);
  }

  lastSignal(name) {
    return (this.signals[name] ?? []).at(-1) ?? null;
  }
}

// Shares as moe_sim.server.messages._letter_pairs writes them.
function letterPairs(text) {
  const shares = [];
  for (let i = 0; i < text.length; i += 2)
    shares.push((64 * LETTERS.indexOf(text[i]) + LETTERS.indexOf(text[i + 1])) / 4095);
  return shares;
}
