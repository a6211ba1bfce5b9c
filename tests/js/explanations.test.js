// What the tabs say in words, with the run's own numbers.

import assert from "node:assert/strict";
import test from "node:test";

import { EXPLANATIONS } from "../../pages/dashboard/js/explanations.js";
import { Store } from "../../pages/dashboard/js/store.js";
import { ENCODING, message, pairs } from "./messages.js";

const storeOf = (experts, more) => {
  const store = new Store(experts, ENCODING);
  store.apply(message(0, 1, more));
  return store;
};
const now = { processed: pairs(0.5, 0.25), load: pairs(0.5, 0.5) };

test("devices: a capacity that was rounded up caps a step at its own multiple of a balanced one", () => {
  // A factor of 0.25 with 64 experts and 32 tokens: C = ⌈0.125⌉ = 1 of 32 choices, 64/32 = 2 times an even share.
  const live = { ...message(0, 1).live, capacity_factor: 0.25, capacity: 1 };
  const store = storeOf(64, { live, now: { processed: pairs(...Array(64).fill(1 / 64)) } });
  const words = EXPLANATIONS.devices(store, { batch_tokens: 32 });
  assert.match(words.text.at(-1), /The capacity of 1 caps the step at 2\.00 times a balanced one/);
  assert.match(EXPLANATIONS.devices(storeOf(2, { now }), { batch_tokens: 32 }).text.at(-1), /would cap/);
});

test("why: in plain words for beginners, with formulas above, with the gradient for experts", () => {
  const terms = [0.5, 0.5, 0.375]; // Σ f·P, and expert 2's f·P
  const store = storeOf(2, { now: { ...now, load: pairs(0.25, 0.75), terms } });
  const [beginner, practitioner, expert] = ["beginner", "practitioner", "expert"].map((level) =>
    EXPLANATIONS.why(store, { level }),
  );
  assert.match(beginner.text[1], /expert 2 .* has 75\u00a0% of the tokens and adds 0\.75 to a loss of 1\.00/);
  assert.doesNotMatch(beginner.text.join(" "), /E·Σ|argmax|gradient/);
  assert.equal(beginner.tables, undefined);
  assert.match(practitioner.text[1], /E·Σ f·P = 2 × 0\.5000 = 1\.00/);
  assert.equal(practitioner.tables[0].rows.length, 3);
  assert.deepEqual(expert.text.slice(0, -1), practitioner.text);
  assert.match(expert.text.at(-1), /gradient on the logits/);
});
