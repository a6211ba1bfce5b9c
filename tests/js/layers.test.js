import assert from "node:assert/strict";
import test from "node:test";

import { captionOf, deadExperts } from "../../pages/dashboard/js/axes.js";
import { bind } from "../../pages/dashboard/js/bindings.js";
import { withLayer } from "../../pages/dashboard/js/layers.js";
import { Store } from "../../pages/dashboard/js/store.js";
import { ENCODING, message, pairs } from "./messages.js";

/** Two layers of two experts: the first sends all to its first expert, the second to its second, from step 11 on. */
function deep(from, to, layer = 0) {
  const blocks = Math.floor(to / 10) - Math.floor(from / 10);
  const early = pairs(0.5, 0.5, 0.5, 0.5);
  const late = pairs(1, 0, 0, 1);
  const numbers = Array.from({ length: blocks }, (_, i) => Math.floor(from / 10) + i + 1);
  const one = message(from, to, {
    layer, layers: { blocks: numbers.map((n) => (n > 1 ? late : early)).join(""), load: late, probed: 2 },
  });
  const steps = Array.from({ length: to - from }, (_, i) => from + i + 1);
  one.rows.layer_imbalance = steps.flatMap((step) => [step, null]);
  return one;
}

function storeWith(...messages) {
  const store = new Store(2, ENCODING);
  for (const one of messages) assert.ok(store.apply(one));
  return store;
}

const CONTEXT = { settling_steps: 20, dead_share: 0.1 };
const bound = (meta, store) => bind({ meta }, store, CONTEXT);

test("a snapshot and its deltas give the same layers as one snapshot", () => {
  const whole = storeWith(deep(0, 35));
  const parts = storeWith(deep(0, 9), deep(9, 21), deep(15, 35));
  assert.equal(whole.numLayers, 2);
  assert.deepEqual(parts.blocks, whole.blocks);
  assert.deepEqual(parts.rows.layer_imbalance, whole.rows.layer_imbalance);
  assert.equal(whole.rows.layer_imbalance.length, 70);
  assert.equal(whole.blocks.length, 12);
});

test("a run with one layer has one", () => {
  assert.equal(storeWith(message(0, 3)).numLayers, 1);
});

test("each layer has a line of its own, with infinity where an expert has nothing", () => {
  const store = storeWith(deep(0, 4));
  assert.deepEqual(bound({ kind: "layer_ratio", layer: 0, infinity: 100 }, store).y, [1, 2, 3, 4]);
  const second = bound({ kind: "layer_ratio", layer: 1, infinity: 100 }, store);
  assert.deepEqual(second.y, [100, 100, 100, 100]);
  assert.deepEqual(second.text, ["∞", "∞", "∞", "∞"]);
});

test("the picture of all layers shows the newest step, or the block of steps that is chosen", () => {
  const store = storeWith(deep(0, 25));
  const meta = { kind: "layers", numbers: true, dead: "✕" };
  assert.deepEqual(bound(meta, store).z, [[100, 0], [0, 100]]);
  assert.deepEqual(bound(meta, store).text, [["100 %", "✕"], ["✕", "100 %"]].map((row) => row.map((one) =>
    one.replace(" ", "\u00a0"))));
  const version = store.viewsVersion;
  store.show(0);
  assert.ok(store.viewsVersion > version, "so that it is drawn again");
  assert.deepEqual(bound(meta, store).z.flat().map(Math.round), [50, 50, 50, 50]);
  store.show(1);
  assert.deepEqual(bound({ ...meta, numbers: false }, store).text, [["", "✕"], ["✕", ""]]);
  store.show(null);
  assert.deepEqual(bound(meta, store).z, [[100, 0], [0, 100]]);
});

test("nobody is called dead before the average has settled", () => {
  const store = storeWith(deep(0, 12));
  assert.ok(bound({ kind: "layers", numbers: false, dead: "✕" }, store).text.flat().every((one) => one === ""));
});

test("in the mean of layers only experts without tokens in all of them are dead", () => {
  const mean = storeWith({ ...deep(0, 30), tiles: { dead: 1, dropped: 0, unserved: 0 } });
  mean.load.splice(-2, 2, 0.5, 0.5);
  assert.equal(deadExperts(mean, CONTEXT).size, 0);
  const single = storeWith({ ...deep(0, 30, 1), tiles: { dead: 1, dropped: 0, unserved: 0 } });
  assert.deepEqual([...deadExperts(single, CONTEXT)], [1]);
});

test("a caption says which layer it is about", () => {
  assert.equal(withLayer("share", storeWith(message(0, 3)), false), "share");
  assert.equal(withLayer("share", storeWith(deep(0, 3)), false), "mean of 2 layers · share");
  assert.equal(withLayer("share", storeWith(deep(0, 3)), true), "layer 2, the most uneven · share");
  assert.equal(withLayer("share", storeWith(deep(0, 3, 1)), true), "layer 1 · share");
  const meta = { caption: "share", time: false, all_layers: true };
  assert.equal(captionOf(meta, storeWith(deep(0, 3)), false, false), "share");
});
