import assert from "node:assert/strict";
import { test } from "node:test";

import { barLabels, enlarged, shareAxisTop, timeAxis, withScale } from "../../pages/dashboard/js/axes.js";
import { fixed, percent, ratio, significant, thousands } from "../../pages/dashboard/js/format.js";
import { message, newStore } from "./support.js";

const RULE = { tops: [5, 10, 20, 30, 50, 75, 104], headroom: 1.04, least: 31.25 };
const PALETTE = { ink: "ink", background: "ground", danger: "red" };

function storeAt(steps, more = {}) {
  const store = newStore();
  store.apply(message(0, new Array(steps).fill(2), { events: [], ...more }));
  return store;
}

test("the share axis ends at the first round value above the bars", () => {
  assert.equal(shareAxisTop([{ y: [10, 25] }], RULE), 50); // at least 31.25
  assert.equal(shareAxisTop([{ y: [49] }, { y: [null] }], RULE), 75);
  assert.equal(shareAxisTop([{ y: [100] }], RULE), 104);
});

test("a higher capacity limit raises the share axis", () => {
  assert.equal(shareAxisTop([{ y: [20] }, { y: [60, 60] }], RULE), 75);
});

test("an axis of the wanted kind stays, the other kind fits itself to the data", () => {
  const log = { type: "log", range: [0, 1], tickvals: [1] };
  assert.equal(withScale(log, true), log);
  assert.deepEqual(withScale(log, false),
    { type: "linear", range: undefined, tickvals: undefined, ticktext: undefined, autorange: true });
  const plain = { range: [0, 2] };
  assert.equal(withScale(plain, false), plain);
  assert.equal(withScale(plain, true).type, "log");
});

test("type and margins grow together", () => {
  const axis = { tickfont: { size: 10 }, title: { text: "x", font: { size: 12 } } };
  const layout = { xaxis: axis, yaxis: axis, margin: { l: 10, r: 20, t: 30, b: 40 }, font: { size: 14 } };
  const large = enlarged(layout, 2);
  assert.deepEqual(large.margin, { l: 20, r: 40, t: 60, b: 80 });
  assert.deepEqual([large.font.size, large.xaxis.tickfont.size, large.yaxis.title.font.size], [28, 20, 24]);
  assert.equal(layout.font.size, 14);
  assert.ok(!("yaxis2" in large));
});

test("changed knobs are marked, the newest three with a label", () => {
  const events = [10, 20, 30, 40].map((step) => ({ step, label: `at ${step}` }));
  const context = { palette: PALETTE, runs: [], run_names: [] };
  const { shapes, annotations, xaxis } = timeAxis({ font: { size: 13 } }, [storeAt(50, { events })], context);
  assert.deepEqual(shapes.map(({ x0 }) => x0), [10, 20, 30, 40]);
  assert.deepEqual(annotations.map(({ text }) => text), ["at 20", "at 30", "at 40"]);
  assert.equal(xaxis.autorange, true);
});

test("several runs put their names on their changes, and before the first step the axis has a range", () => {
  const context = { palette: PALETTE, runs: ["black", "green"], run_names: "AB" };
  const stores = [storeAt(0), storeAt(0, { events: [{ step: 0, label: "k 1 → 2" }] })];
  const { annotations, xaxis } = timeAxis({ font: { size: 13 } }, stores, context);
  assert.equal(annotations[0].text, "B: k 1 → 2");
  assert.equal(annotations[0].font.color, "green");
  assert.deepEqual(xaxis.range, [0, 50]);
});

test("as many bars as Python counts are labelled dead, the lowest ones", () => {
  const store = storeAt(20, { tiles: { dead: 1, dropped: 0, unserved: 0 } });
  const context = { palette: PALETTE, settling_steps: 20 };
  const [first, second] = barLabels(store, context, 500);
  assert.match(first, /^1<br>.*red.*dead/);
  assert.match(second, /^2<br>.*ink.*75\u00a0%/);
  assert.match(barLabels(store, context, 50)[0], /✕/);
});

test("nothing is called dead before the smoothed load has settled", () => {
  const store = storeAt(19, { tiles: { dead: 1, dropped: 0, unserved: 0 } });
  assert.doesNotMatch(barLabels(store, { palette: PALETTE, settling_steps: 20 }, 500).join(), /dead|✕/);
});

test("numbers in words", () => {
  assert.equal(percent(0.5), "50\u00a0%");
  assert.equal(percent(0.004), "0.4\u00a0%");
  assert.equal(percent(0), "0\u00a0%");
  assert.deepEqual([fixed(1.23456), fixed(1.23456, 1), fixed(null)], ["1.235", "1.2", "–"]);
  assert.deepEqual([ratio(null), ratio(2.34), ratio(1234.5)], ["∞", "2.3", "1235"]);
  assert.equal(thousands(12345), "12,345");
  assert.equal(significant(1234.5), "1,230");
});
