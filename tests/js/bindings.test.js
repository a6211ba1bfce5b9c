import assert from "node:assert/strict";
import test from "node:test";

import { bind, thinned } from "../../pages/dashboard/js/bindings.js";
import { Store } from "../../pages/dashboard/js/store.js";
import { ENCODING, message, pairs } from "./messages.js";

const CONTEXT = { palette: { background: "#fff" }, colours: ["#111111", "#222222"] };

function storeOf(steps, more = {}) {
  const store = new Store(2, ENCODING);
  store.apply(message(0, steps, more));
  return store;
}

const bound = (meta, store, trace = {}) => bind({ ...trace, meta }, store, CONTEXT);
const near = (values, expected) => {
  assert.equal(values.length, expected.length);
  values.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 0.05, `${values} is not ${expected}`));
};

test("a trace without meta stays as it is", () => {
  const trace = { y: [1] };
  assert.equal(bind(trace, storeOf(1), CONTEXT), trace);
});

test("thinning draws at most 400 points, at places that stay, and always the last one", () => {
  assert.deepEqual(thinned(0), []);
  assert.deepEqual(thinned(3), [0, 1, 2]);
  assert.equal(thinned(400).length, 400);
  assert.deepEqual(thinned(401).slice(0, 3), [1, 3, 5]);
  assert.equal(thinned(401).at(-1), 400);
  assert.deepEqual(thinned(10_000).slice(-2), [9983, 9999]);
  assert.ok(thinned(10_000).length <= 401);
});

test("rows and smoothed: a column over steps and its average", () => {
  const { x, y } = bound({ kind: "rows", column: "task_loss" }, storeOf(3));
  assert.deepEqual([x, y], [[1, 2, 3], [1, 2, 3]]);
  near(bound({ kind: "smoothed", column: "task_loss" }, storeOf(3)).y, [1, 1.513, 2.034]);
});

test("difference: one run's average minus the baseline's, up to the shorter one", () => {
  const [baseline, own] = [storeOf(2), storeOf(3)];
  own.peers = [baseline, own];
  const { x, y } = bound({ kind: "difference", column: "task_loss", baseline: 0, run: 1 }, own);
  assert.deepEqual([x, y], [[1, 2], [0, 0]]);
});

test("ratio: infinity is drawn at its level and says ∞", () => {
  const { y, text } = bound({ kind: "ratio", column: "imbalance", infinity: 99 }, storeOf(2));
  assert.deepEqual([y, text], [[99, 2], ["∞", "2"]]);
});

test("expert and heat: shares over steps in percent", () => {
  assert.deepEqual(bound({ kind: "expert", column: "smoothed_load", expert: 0 }, storeOf(2)).y, [100, 100]);
  assert.deepEqual(bound({ kind: "expert", column: "smoothed_load", expert: 1 }, storeOf(2)).y, [0, 0]);
  assert.deepEqual(bound({ kind: "heat", column: "smoothed_load" }, storeOf(2)).z, [[100, 100], [0, 0]]);
});

test("coarse: one expert's blocks of ten steps, with gaps at 0", () => {
  const store = storeOf(25);
  assert.deepEqual(bound({ kind: "coarse", column: "grad_norm", expert: 0 }, store).x, [10, 20]);
  assert.deepEqual(bound({ kind: "coarse", column: "grad_norm", expert: 0 }, store).y, [1, 2]);
  assert.deepEqual(bound({ kind: "coarse", column: "grad_norm", expert: 1 }, store).y, [null, null]);
});

test("signal: times its factor, and with gaps at 0 and below on a log axis", () => {
  const store = storeOf(20);
  assert.deepEqual(bound({ kind: "signal", signal: "z_loss", factor: 3, log: true }, store).y, [3, 6]);
  assert.deepEqual(bound({ kind: "signal", signal: "routing_std", factor: 1, log: true }, store).y, [null, null]);
  assert.deepEqual(bound({ kind: "signal", signal: "routing_std", factor: 1, log: false }, store).y, [-1, -2]);
});

test("now, choices, devices and plain: a number for each expert", () => {
  const now = {
    load: pairs(0.75, 0.25), processed: pairs(0.5, 0.25), dropped_by_choice: pairs(0.1, 0.2, 0.3, 0.4),
    selection_bias: [0.01, -0.01],
  };
  const store = storeOf(1, { now });
  near(bound({ kind: "now", column: "load" }, store).y, [75, 25]);
  near(bound({ kind: "choices", column: "dropped_by_choice" }, store).y, [10]);
  near(bound({ kind: "devices", column: "processed" }, store).x, [1, 0.5]);
  assert.deepEqual(bound({ kind: "plain", column: "selection_bias" }, store).y, [0.01, -0.01]);
});

test("limit: capacity in percent of all choices, and no line without one", () => {
  const live = { ...message(0, 1).live, top_k: 2, capacity: 43 };
  // 43 of 256 · 2 choices = 8.3984375 %
  const meta = { kind: "limit", batch_tokens: 256 };
  assert.deepEqual(bound(meta, storeOf(1, { live }), { x: ["1", "2"] }).y, [8.3984375, 8.3984375]);
  assert.deepEqual(bound(meta, storeOf(1), { x: ["1", "2"] }).y, [null, null]);
});

test("spells: a piece of line for each time an expert was dead", () => {
  const store = storeOf(1, { timeline: { words: "", spells: [[[60, 80], [90, 95]], []] } });
  const { x, y } = bound({ kind: "spells", expert: 0, height: 1.5 }, store);
  assert.deepEqual(x, [60, 80, null, 90, 95, null]);
  assert.deepEqual(y, [1.5, 1.5, null, 1.5, 1.5, null]);
  assert.deepEqual(bound({ kind: "spells", expert: 1, height: 1 }, store).x, []);
});

test("joint and together: matrices in percent, the second without its diagonal", () => {
  const store = storeOf(1, { joint: "_AA_", together: "__A_" });
  assert.deepEqual(bound({ kind: "joint" }, store).z, [[100, 0], [0, 100]]);
  assert.deepEqual(bound({ kind: "together" }, store).z, [[null, 100], [0, null]]);
});

test("map: tokens have their expert's colour; dropped ones only its outline", () => {
  const store = storeOf(1, { map: "B", dropped: btoa(String.fromCharCode(0b01000000)) });
  const { text, marker } = bound({ kind: "map", colours: ["red", "blue"] }, store, { marker: { size: 8 } });
  assert.deepEqual(text, ["expert 1", "expert 2, dropped"]);
  assert.deepEqual(marker.color, ["red", "#fff"]);
  assert.deepEqual(marker.line, { width: [0.5, 1.6], color: ["#fff", "blue"] });
  assert.equal(marker.size, 8);
});
