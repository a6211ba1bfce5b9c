import assert from "node:assert/strict";
import { test } from "node:test";

import { bind, thinned } from "../../pages/dashboard/js/bindings.js";
import { close, letters, message, newStore } from "./support.js";

const CONTEXT = { palette: { background: "#fff" }, colours: ["#111", "#222"] };

function storeWith(losses, more = {}) {
  const store = newStore();
  store.apply(message(0, losses, more));
  return store;
}

function bound(meta, store, trace = {}) {
  return bind({ ...trace, meta }, store, CONTEXT);
}

test("short columns are drawn whole", () => {
  assert.deepEqual(thinned(0), []);
  assert.deepEqual(thinned(3), [0, 1, 2]);
  assert.equal(thinned(400).length, 400);
});

test("long columns are thinned by powers of two, and the last point stays", () => {
  const indices = thinned(1001);
  assert.deepEqual(indices.slice(0, 2), [3, 7]);
  assert.equal(indices.at(-1), 1000);
  assert.ok(indices.length <= 401);
});

test("drawn points stay where they are while the run goes on", () => {
  assert.deepEqual(thinned(900).slice(0, -1), thinned(1200).slice(0, thinned(900).length - 1));
});

test("a trace without a binding stays as it is", () => {
  const trace = { x: [1], y: [2] };
  assert.equal(bind(trace, newStore(), CONTEXT), trace);
});

test("rows are drawn over steps", () => {
  const { x, y } = bound({ kind: "rows", column: "task_loss" }, storeWith([3, 2]));
  assert.deepEqual([x, y], [[1, 2], [3, 2]]);
});

test("an infinite ratio stands at its level and is written ∞", () => {
  const store = storeWith([3, 2]);
  store.rows.imbalance = [4, null];
  const { y, text } = bound({ kind: "ratio", column: "imbalance", infinity: 1e6 }, store);
  assert.deepEqual(y, [4, 1e6]);
  assert.deepEqual(text, ["4", "∞"]);
});

test("the share of one expert is in percent", () => {
  const { y } = bound({ kind: "expert", column: "smoothed_load", expert: 1 }, storeWith([3, 2]));
  assert.ok(y.every((value) => close(value, 75, 0.05)));
});

test("a difference ends where the shorter run ends", () => {
  const [store, other] = [storeWith([3, 3, 3]), storeWith([2, 2])];
  store.peers = [other, store];
  const { x, y } = bound({ kind: "difference", column: "task_loss", baseline: 0 }, store);
  assert.deepEqual(x, [1, 2]);
  assert.ok(y.every((value) => close(value, 1, 1e-9)));
});

test("blocks stand at their last step, and 0 is a gap", () => {
  const store = storeWith(new Array(20).fill(2), { coarse: { grad_norm: [1, 0, 3, 4] } });
  const { x, y } = bound({ kind: "coarse", column: "grad_norm", expert: 1 }, store);
  assert.deepEqual([x, y], [[10, 20], [null, 4]]);
});

test("a signal is scaled, and has gaps on a log axis", () => {
  const store = storeWith(new Array(20).fill(2), { coarse: { signals: [0.5, 0, 0, 0.25] } });
  assert.deepEqual(bound({ kind: "signal", signal: "z_loss", factor: 2, log: true }, store).y, [1, null]);
  assert.deepEqual(bound({ kind: "signal", signal: "eval_max_load", factor: 100, log: false }, store).y, [0, 25]);
});

test("the capacity limit is the capacity, in percent of the choices of a step", () => {
  // ⌈0.25 · 32 · 1 / 64⌉ = 1 of 32 choices.
  const store = storeWith([2], { live: { top_k: 1, capacity: 1 } });
  const meta = { kind: "limit", batch_tokens: 32 };
  assert.deepEqual(bound(meta, store, { x: ["1", "2"] }).y, [3.125, 3.125]);
  const off = storeWith([2], { live: { top_k: 1, capacity: null } });
  assert.deepEqual(bound(meta, off, { x: ["1"] }).y, [null]);
});

test("only as many choices are drawn as there are", () => {
  const now = { processed: "", dropped_by_choice: letters(0.5, 0.25, 0, 0, 0, 0, 0, 0) };
  const store = storeWith([2], { now, live: { top_k: 2, capacity: null } });
  assert.equal(bound({ kind: "choices", column: "dropped_by_choice" }, store).y.length, 2);
});

test("times when an expert was dead are pieces of a line", () => {
  const store = storeWith([2], { timeline: { words: "", spells: [[], [[20, 30], [50, 60]]] } });
  const { x, y } = bound({ kind: "spells", expert: 1, height: 0.5 }, store);
  assert.deepEqual(x, [20, 30, null, 50, 60, null]);
  assert.deepEqual(y, [0.5, 0.5, null, 0.5, 0.5, null]);
});

test("the diagonal of co-activation is empty", () => {
  const { z } = bound({ kind: "together" }, storeWith([2], { together: "_A_A" }));
  assert.deepEqual(z, [[null, 0], [100, null]]);
});

test("a dropped token is hollow: its colour goes to its edge", () => {
  const store = newStore();
  store.apply(message(0, [], { map: "B", dropped: "QA==" })); // experts 0 and 1, the second dropped
  const { marker, text } = bound({ kind: "map" }, store, { marker: { size: 8 } });
  assert.deepEqual(marker.color, ["#111", "#fff"]);
  assert.deepEqual(marker.line.color, ["#fff", "#222"]);
  assert.equal(marker.size, 8);
  assert.deepEqual(text, ["expert 1", "expert 2, dropped"]);
});
