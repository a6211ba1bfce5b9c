// A store as the dashboard has it, and messages as the server writes them.

import { Store } from "../../pages/dashboard/js/store.js";

export const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
export const ENCODING = {
  alphabet: ALPHABET, horizon: 20, block: 10, signals: ["z_loss", "eval_max_load"], share_scale: 1000,
};

export function newStore(numExperts = 2) {
  return new Store(numExperts, ENCODING);
}

// Shares in pairs of letters, in units of 1/4095.
export function letters(...shares) {
  const units = shares.map((share) => Math.round(4095 * share));
  return units.map((unit) => ALPHABET[unit >> 6] + ALPHABET[unit & 63]).join("");
}

// The message of the steps after `from`, with these task losses; every step's load is 1/4 and 3/4.
export function message(from, taskLosses, more = {}) {
  const to = from + taskLosses.length;
  return {
    from,
    to,
    live: { top_k: 1, capacity: null },
    rows: {
      smoothed_load: taskLosses.map(() => letters(0.25, 0.75)).join(""),
      task_loss: taskLosses,
      balance_loss: taskLosses.map(() => 1),
      imbalance: taskLosses.map(() => 3),
    },
    coarse: {},
    tiles: { dead: 0, dropped: 0, unserved: 0 },
    ...more,
  };
}

export function close(actual, expected, tolerance = 1e-3) {
  return Math.abs(actual - expected) <= tolerance;
}
