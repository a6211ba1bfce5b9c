import assert from "node:assert/strict";
import test from "node:test";

import { canBeSketched, marksOf } from "../../pages/dashboard/js/sketch.js";

// A plot of 100 × 50 px, 10 px from the left and the top.
const LAYOUT = {
  width: 130, height: 90, margin: { l: 10, r: 20, t: 10, b: 30 }, font: { size: 13 },
  xaxis: { tickfont: { size: 10 }, color: "#888",
    ticktext: ["1<br>75 %", '2<br><span style="color:#f00">dead</span>'] },
  yaxis: { tickfont: { size: 10 }, range: [0, 100], gridcolor: "#ddd", linecolor: "#aaa", color: "#888" },
};
const BARS = { type: "bar", x: ["1", "2"], y: [75, 25], marker: { color: ["#111", "#222"] } };
const of = (tag, marks) => marks.filter(([name]) => name === tag).map(([, attributes]) => attributes);

test("bars stand on the axis, each in its colour, as wide as four fifths of its place", () => {
  assert.deepEqual(of("rect", marksOf([BARS], LAYOUT)), [
    { x: 15, width: 40, y: 22.5, height: 37.5, fill: "#111" },
    { x: 65, width: 40, y: 47.5, height: 12.5, fill: "#222" },
  ]);
});

test("under each bar stand its number and its share, in the colour that the label has", () => {
  const words = marksOf([BARS], LAYOUT).filter(([tag]) => tag === "text").map(([, { fill }, text]) => [text, fill]);
  assert.deepEqual(words.slice(-4), [["1", "#888"], ["75 %", "#888"], ["2", "#888"], ["dead", "#f00"]]);
});

test("the axis has at most seven labels, at round shares", () => {
  const ticks = (top) => {
    const marks = marksOf([BARS], { ...LAYOUT, yaxis: { ...LAYOUT.yaxis, range: [0, top] } });
    return marks.filter(([tag]) => tag === "text").map(([, , text]) => text).slice(0, -4).join(" ");
  };
  assert.equal(ticks(5), "0 1 2 3 4 5");
  assert.equal(ticks(50), "0 10 20 30 40 50");
  assert.equal(ticks(104), "0 20 40 60 80 100");
});

test("bands and lines across lie at their shares", () => {
  const line = { color: "#0a0", width: 2 };
  const shapes = [
    { type: "rect", y0: 20, y1: 40, fillcolor: "#0f0", opacity: 0.1 }, { type: "line", y0: 50, y1: 50, line },
  ];
  const marks = marksOf([BARS], { ...LAYOUT, shapes });
  assert.deepEqual(of("rect", marks)[0], { x: 10, width: 100, y: 40, height: 10, fill: "#0f0", opacity: 0.1 });
  assert.ok(of("line", marks).some(({ y1, stroke }) => y1 === 35 && stroke === "#0a0"));
});

test("dots lie where the map has them, hollow ones with an edge", () => {
  const layout = { ...LAYOUT, xaxis: { ...LAYOUT.xaxis, range: [-1, 1] }, yaxis: { ...LAYOUT.yaxis, range: [-1, 1] } };
  const marker = { size: 8, color: ["#111", "#fff"], line: { color: ["#fff", "#222"], width: [0.5, 1.6] } };
  assert.deepEqual(of("circle", marksOf([{ mode: "markers", x: [-1, 0], y: [1, -1], marker }], layout)), [
    { cx: 10, cy: 10, r: 4, fill: "#111", stroke: "#fff", "stroke-width": 0.5 },
    { cx: 60, cy: 60, r: 4, fill: "#fff", stroke: "#222", "stroke-width": 1.6 },
  ]);
});

test("only bars and dots can be sketched", () => {
  assert.ok(canBeSketched([BARS]));
  assert.ok(canBeSketched([{ mode: "markers", x: [1] }]));
  assert.ok(!canBeSketched([{ mode: "markers", x: { dtype: "f4", bdata: "AAAA" } }]), "Plotly decodes these numbers");
  assert.ok(!canBeSketched([{ mode: "lines" }, { type: "heatmap" }]));
});
