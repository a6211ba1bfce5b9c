import assert from "node:assert/strict";
import test from "node:test";

import { barLabels, enlarged, shareAxisTop, timeAxis, withScale } from "../../pages/dashboard/js/axes.js";

const RULE = { tops: [5, 10, 20, 30, 50, 75, 104], headroom: 1.04, least: 31.25 };
const PALETTE = { ink: "#000", background: "#fff", danger: "#c00" };

test("the share axis ends at the first round value above everything on it", () => {
  const top = (...y) => shareAxisTop([{ y }, {}], RULE);
  assert.equal(top(0), 50); // never below 31.25
  assert.equal(top(48), 50); // 48 · 1.04 = 49.92
  assert.equal(top(48.1), 75); // 50.02
  assert.equal(top(12, 70), 75);
  assert.equal(top(100), 104);
  assert.equal(top(null), 50);
  assert.equal(shareAxisTop([{ y: [1000] }], RULE), 104);
});

test("an axis keeps the figure's own range unless the visitor picks the other kind", () => {
  const axis = { type: "log", range: [0, 2], tickvals: [1], tickfont: { size: 12 } };
  assert.equal(withScale(axis, true), axis);
  const linear = withScale(axis, false);
  assert.deepEqual([linear.type, linear.autorange], ["linear", true]);
  assert.deepEqual([linear.range, linear.tickvals], [undefined, undefined]);
  assert.equal(withScale({ tickfont: { size: 12 } }, false).type, undefined);
});

test("a larger layout has larger type and margins, and leaves the original alone", () => {
  const axis = { tickfont: { size: 12 }, title: { text: "step", font: { size: 13 } } };
  const layout = {
    xaxis: axis, yaxis: { tickfont: { size: 12 } }, margin: { l: 50, r: 10, t: 10, b: 60 }, font: { size: 13 },
  };
  const large = enlarged(layout, 2);
  assert.deepEqual(large.margin, { l: 100, r: 20, t: 20, b: 120 });
  assert.deepEqual([large.font.size, large.xaxis.tickfont.size, large.xaxis.title.font.size], [26, 24, 26]);
  assert.ok(!("yaxis2" in large));
  assert.equal(layout.xaxis.tickfont.size, 12);
});

const runWith = (steps, events) => ({ steps, message: { events } });
const CONTEXT = { palette: PALETTE, run_names: "ABCD", runs: ["#a00", "#0a0"] };

test("every change is a dashed line, the newest three have labels, on the side that has room", () => {
  const events = [10, 20, 30, 90].map((step) => ({ step, label: `at ${step}` }));
  const { shapes, annotations, xaxis } = timeAxis({ font: { size: 13 }, xaxis: {} }, [runWith(100, events)], CONTEXT);
  assert.deepEqual(shapes.map(({ x0 }) => x0), [10, 20, 30, 90]);
  assert.deepEqual(annotations.map(({ text }) => text), ["at 20", "at 30", "at 90"]);
  assert.deepEqual(annotations.map(({ xanchor }) => xanchor), ["left", "left", "right"]);
  assert.equal(xaxis.autorange, true);
});

test("a run without steps has a time axis too", () => {
  assert.deepEqual(timeAxis({ font: { size: 13 } }, [runWith(0, [])], CONTEXT).xaxis.range, [0, 50]);
});

test("changes of several runs have their run's letter and colour", () => {
  const runs = [runWith(5, [{ step: 1, label: "x" }]), runWith(5, [{ step: 2, label: "y" }])];
  const { annotations } = timeAxis({ font: { size: 13 } }, runs, CONTEXT);
  assert.deepEqual(annotations.map(({ text, font }) => [text, font.color]), [["A: x", "#a00"], ["B: y", "#0a0"]]);
});

const loaded = (steps, load, dead) =>
  ({ steps, numExperts: load.length, now: () => load, message: { tiles: { dead } } });

test("the least used experts are labelled dead, as many as Python counts, and none before the average settles", () => {
  const context = { palette: PALETTE, settling_steps: 50 };
  const words = (steps, dead, width) =>
    barLabels(loaded(steps, [0.7, 0.004, 0.296, 0], dead), context, width)
      .map((label) => label.replace(/<[^>]*>/g, " "));
  assert.deepEqual(words(50, 1, 400), ["1  70\u00a0% ", "2  0.4\u00a0% ", "3  30\u00a0% ", "4  dead "]);
  assert.deepEqual(words(50, 2, 400)[1], "2  dead ");
  assert.deepEqual(words(49, 2, 400)[3], "4  0\u00a0% ");
  assert.deepEqual(words(50, 1, 100), ["1  \u00a0 ", "2  \u00a0 ", "3  \u00a0 ", "4  ✕ "]);
});
