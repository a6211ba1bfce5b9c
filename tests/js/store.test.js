import assert from "node:assert/strict";
import test from "node:test";

import { Letters } from "../../pages/dashboard/js/letters.js";
import { Peers } from "../../pages/dashboard/js/peers.js";
import { Store } from "../../pages/dashboard/js/store.js";
import { ALPHABET, ENCODING, message, pairs } from "./messages.js";

const storeWith = (...messages) => {
  const store = new Store(2, ENCODING);
  for (const one of messages) assert.ok(store.apply(one));
  return store;
};

test("a snapshot and its deltas give the same columns as one snapshot", () => {
  const whole = storeWith(message(0, 25));
  const parts = storeWith(message(0, 7), message(7, 12), message(12, 25));
  for (const name of ["steps", "rows", "load", "smoothed", "coarse", "signals"])
    assert.deepEqual(parts[name], whole[name]);
  assert.equal(whole.rows.task_loss.at(-1), 25);
  assert.deepEqual(whole.coarse.grad_norm, [1, 0, 2, 0]);
  assert.deepEqual(whole.signals, { z_loss: [1, 2], routing_std: [-1, -2] });
});

test("messages that overlap add no step twice", () => {
  const store = storeWith(message(0, 12), message(5, 25), message(20, 22));
  assert.equal(store.steps, 25);
  assert.deepEqual(store.rows.task_loss, Array.from({ length: 25 }, (_, i) => i + 1));
  assert.equal(store.load.length, 50);
  assert.deepEqual(store.coarse.grad_norm, [1, 0, 2, 0]);
});

test("a message after a gap is refused and changes nothing", () => {
  const store = storeWith(message(0, 5));
  assert.equal(store.apply(message(6, 9)), false);
  assert.equal(store.steps, 5);
  assert.equal(store.rows.task_loss.length, 5);
});

test("a snapshot that ends earlier starts the store again, with the same peers", () => {
  const store = storeWith(message(0, 25));
  const peers = (store.peers = [store, new Store(2, ENCODING)]);
  assert.ok(store.apply(message(0, 3)));
  assert.equal(store.steps, 3);
  assert.deepEqual(store.rows.task_loss, [1, 2, 3]);
  assert.equal(store.peers, peers);
});

test("what a message leaves out stays as the messages before had it", () => {
  const store = storeWith(message(0, 2, { map: "AB", events: [{ step: 1, label: "α 0 → 0.1" }] }), message(2, 3));
  assert.equal(store.message.map, "AB");
  assert.equal(store.message.events.length, 1);
});

test("a run no longer waits or is computed again once a message says nothing of it", () => {
  const { message: newest } = storeWith(message(0, 2, { queue_position: 3, recomputed: 1 }), message(2, 3));
  assert.deepEqual([newest.queue_position, newest.recomputed], [0, null]);
});

test("without a message there is nothing to read", () => {
  assert.throws(() => new Store(2, ENCODING).message, /no message/);
});

test("the smoothed average weighs each value by (1 − 1/20)^age", () => {
  const { smoothed } = storeWith(message(0, 3));
  // Task losses 1, 2, 3:
  //   step 1: 1
  //   step 2: (2 + 0.95·1) / (1 + 0.95) = 2.95 / 1.95 = 1.512820…
  //   step 3: (3 + 0.95·2 + 0.9025·1) / (1 + 0.95 + 0.9025) = 5.8025 / 2.8525 = 2.034180…
  const expected = [1, 2.95 / 1.95, 5.8025 / 2.8525];
  smoothed.task_loss.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-12));
  assert.equal(smoothed.task_loss.length, 3);
});

test("the load of now is the last row, and before the first step what the run starts with", () => {
  assert.deepEqual(storeWith(message(0, 3)).now("smoothed_load"), [1, 0]);
  assert.deepEqual(storeWith(message(0, 0, { start_load: pairs(0, 1) })).now("smoothed_load"), [0, 1]);
});

test("dropped is load minus processed, idle is what the busiest expert processes beyond the others", () => {
  const store = storeWith(message(0, 1, { now: { load: pairs(0.8, 0.2), processed: pairs(0.5, 0.2) } }));
  const near = (name, expected) =>
    store.now(name).forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-3));
  near("dropped", [0.3, 0]);
  near("idle", [0, 0.3]);
  assert.equal(store.tile("dropped"), 0.125);
});

test("the routing map has the expert of each token and a bit for each dropped one", () => {
  // 8·0 + 1 → "B", 8·1 + 0 → "I"; the second token is dropped, and the ninth, which is in the second byte.
  const store = storeWith(message(0, 1, { map: "BIBIB", dropped: btoa("\x40\x80") }));
  const { expert, dropped } = store.routing();
  assert.deepEqual(expert, [0, 1, 1, 0, 0, 1, 1, 0, 0, 1]);
  assert.deepEqual([...dropped.keys()].filter((i) => dropped[i]), [1, 8]);
});

test("letters are numbers, pairs of letters are shares in units of 1/4095", () => {
  const letters = new Letters(ALPHABET);
  assert.deepEqual(letters.numbers("AB_"), [0, 1, 63]);
  assert.deepEqual(letters.shares("A_"), [0, 1]);
  assert.deepEqual(letters.pairedShares("AA__BA"), [0, 1, 64 / 4095]);
  assert.deepEqual(letters.experts("BK", 8), [0, 1, 1, 2]);
  assert.deepEqual(letters.experts("BK", 9), [1, 10]);
});

test("runs side by side move together, and none moves where one misses something", () => {
  const peers = new Peers([2, 2], ENCODING);
  const both = (from, to) => ({ ...message(from, to), members: [message(from, to), message(from, to)] });
  assert.ok(peers.apply(both(0, 4)));
  assert.equal(peers.apply(both(5, 6)), false);
  assert.ok(peers.apply(both(4, 6)));
  assert.deepEqual(peers.peers.map(({ steps }) => steps), [6, 6]);
  assert.equal(peers.of({ run: 1 }), peers.peers[1]);
  assert.equal(peers.of(undefined), peers.peers[0]);
});
