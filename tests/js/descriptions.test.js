import assert from "node:assert/strict";
import test from "node:test";

import { rowsOf, sentence } from "../../pages/dashboard/js/descriptions.js";

test("bars have a row each, lines one for their newest point", () => {
  const bars = { type: "bar", x: ["1", "2"], y: [74.96, 25.04] };
  const line = { type: "scatter", name: "task loss", x: [1, 2], y: [2.7, 2.51234] };
  assert.deepEqual(rowsOf([bars, line]), [["1", "75"], ["2", "25"], ["task loss", "2.51"]]);
});

test("a matrix has a row for each of its rows, with the largest cell", () => {
  const heat = { type: "heatmap", x: ["1", "2", "3"], y: ["topic 1", "topic 2"], z: [[10, 80, 10], [60, null, 40]] };
  assert.deepEqual(rowsOf([heat]), [["topic 1", "most at 2, 80"], ["topic 2", "most at 1, 60"]]);
});

test("the map counts the tokens of every expert, the busiest first", () => {
  const map = { meta: { kind: "map" }, text: ["expert 2", "expert 1", "expert 2"], x: [0, 0, 0], y: [0, 0, 0] };
  assert.deepEqual(rowsOf([map]), [["expert 2", "2 tokens"], ["expert 1", "1 token"]]);
});

test("the sentence has the first rows and says how many more there are", () => {
  const rows = [1, 2, 3, 4, 5, 6].map((i) => [`${i}`, `${10 * i}`]);
  assert.equal(
    sentence("Expert utilization", rows, 7),
    "Expert utilization at step 7. 1: 10; 2: 20; 3: 30; 4: 40; and 2 more in the table.",
  );
  assert.equal(sentence("Task loss", [], 0), "Task loss: nothing yet.");
});
