import assert from "node:assert/strict";
import { test } from "node:test";

import { close, letters, message, newStore } from "./support.js";

test("a snapshot and a delta join to the whole run", () => {
  const store = newStore();
  assert.ok(store.apply(message(0, [3, 2])));
  assert.ok(store.apply(message(2, [1])));
  assert.equal(store.steps, 3);
  assert.deepEqual(store.rows.task_loss, [3, 2, 1]);
  assert.equal(store.load.length, 6);
  assert.ok(close(store.now("smoothed_load")[1], 0.75));
});

test("what overlaps is taken in once", () => {
  const store = newStore();
  store.apply(message(0, [3, 2]));
  assert.ok(store.apply(message(1, [2, 1])));
  assert.deepEqual(store.rows.task_loss, [3, 2, 1]);
  assert.equal(store.load.length, 6);
});

test("a gap is refused and changes nothing", () => {
  const store = newStore();
  store.apply(message(0, [3]));
  assert.equal(store.apply(message(2, [1])), false);
  assert.equal(store.steps, 1);
  assert.deepEqual(store.rows.task_loss, [3]);
});

test("an old message is accepted and ignored", () => {
  const store = newStore();
  store.apply(message(0, [3, 2, 1]));
  assert.ok(store.apply(message(1, [9])));
  assert.deepEqual(store.rows.task_loss, [3, 2, 1]);
});

test("a shorter snapshot starts again and keeps the runs beside it", () => {
  const store = newStore();
  const peers = [store, newStore()];
  store.peers = peers;
  store.apply(message(0, [3, 2, 1]));
  assert.ok(store.apply(message(0, [5])));
  assert.deepEqual(store.rows.task_loss, [5]);
  assert.equal(store.steps, 1);
  assert.equal(store.peers, peers);
});

test("the average is exponential with the horizon, and the first value counts fully", () => {
  const store = newStore();
  store.apply(message(0, [4]));
  store.apply(message(1, [2]));
  // Weights 0.95 and 1: (0.95 · 4 + 2) / 1.95.
  assert.ok(close(store.smoothed.task_loss[0], 4, 1e-12));
  assert.ok(close(store.smoothed.task_loss[1], 5.8 / 1.95, 1e-12));
});

test("signals of a block go to their columns, once each", () => {
  const store = newStore();
  const losses = new Array(10).fill(2);
  store.apply(message(0, losses, { coarse: { signals: [0.5, 0.9] } }));
  store.apply(message(10, losses, { coarse: { signals: [0.25, 0.8] } }));
  assert.deepEqual(store.signals, { z_loss: [0.5, 0.25], eval_max_load: [0.9, 0.8] });
  assert.equal(store.lastSignal("z_loss"), 0.25);
  assert.equal(store.lastSignal("unknown"), null);
});

test("blocks that are known already are skipped", () => {
  const store = newStore();
  const losses = new Array(10).fill(2);
  store.apply(message(0, losses, { coarse: { grad_norm: [1, 2] } }));
  store.apply(message(5, losses.concat(losses).slice(0, 15), { coarse: { grad_norm: [1, 2, 3, 4] } }));
  assert.deepEqual(store.coarse.grad_norm, [1, 2, 3, 4]);
});

test("what is dropped and what waits is derived from demand and work", () => {
  const store = newStore();
  const now = { load: letters(0.25, 0.75), processed: letters(0.25, 0.5) };
  store.apply(message(0, [2], { now }));
  assert.ok(close(store.now("dropped")[1], 0.25));
  assert.ok(close(store.now("idle")[0], 0.25));
  assert.equal(store.now("idle")[1], 0);
});

test("two tokens share a letter where experts are few, and bits tell which are dropped", () => {
  const store = newStore(8);
  // "K" is 10 = 8 · 1 + 2: experts 1 and 2. The bits 01000000 are "QA==" in base 64.
  store.apply(message(0, [], { map: "KA", dropped: "QA==" }));
  assert.deepEqual(store.routing(), { expert: [1, 2, 0, 0], dropped: [false, true, false, false] });
});

test("with many experts each token has its letter", () => {
  const store = newStore(64);
  store.apply(message(0, [], { map: "K_", dropped: "" }));
  assert.deepEqual(store.routing().expert, [10, 63]);
});
