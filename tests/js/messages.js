// Messages as moe_sim/server/messages.py makes them, for two experts.

export const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
export const ENCODING = {
  alphabet: ALPHABET, signals: ["z_loss", "routing_std"], block: 10, horizon: 20, share_scale: 1000,
};

/** Two letters a share, in units of 1/4095. */
export function pairs(...shares) {
  return shares
    .map((share) => Math.round(4095 * share))
    .map((unit) => ALPHABET[unit >> 6] + ALPHABET[unit & 63])
    .join("");
}

/** What happened between two steps in a run whose task loss at step n is n, with all the load on the first expert. */
export function message(from, to, more = {}) {
  const steps = Array.from({ length: to - from }, (_, i) => from + i + 1);
  const blocks = Math.floor(to / 10) - Math.floor(from / 10);
  const first = Math.floor(from / 10);
  const numbered = Array.from({ length: blocks }, (_, i) => first + i + 1);
  return {
    from, to, state: "training", budget: 2000, rate: 0, speed: 90,
    live: {
      top_k: 1, capacity_factor: null, capacity: null, balancing: "switch", aux_loss_coef: 0, frozen: false,
    },
    diagnosis: { state: "Healthy", level: "good", evidence: "", advice: "" },
    planned_changes: 0,
    tiles: { dead: 1, dropped: 125, unserved: 0 },
    rows: {
      smoothed_load: steps.map(() => pairs(1, 0)).join(""),
      task_loss: steps,
      balance_loss: steps.map(() => 1),
      imbalance: steps.map((step) => (step % 2 ? null : step)),
    },
    coarse: blocks
      ? { grad_norm: numbered.flatMap((n) => [n, 0]), signals: numbered.flatMap((n) => [n, -n]) }
      : {},
    ...more,
  };
}
