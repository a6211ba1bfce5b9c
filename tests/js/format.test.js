import assert from "node:assert/strict";
import test from "node:test";

import { inkOn, isDark, luminance } from "../../pages/dashboard/js/colours.js";
import { fixed, percent, ratio, significant, thousands } from "../../pages/dashboard/js/format.js";

test("percent is whole, except for small shares that are not nothing", () => {
  const words = ["0", "0.4", "0.9", "1", "13", "100"].map((number) => `${number}\u00a0%`);
  assert.deepEqual([0, 0.004, 0.0094, 0.0096, 0.125, 1].map(percent), words);
});

test("numbers that do not exist are a dash, an infinite ratio is ∞", () => {
  assert.deepEqual([fixed(null), fixed(undefined), fixed(1.23456), fixed(2, 1)], ["–", "–", "1.235", "2.0"]);
  assert.deepEqual([ratio(null), ratio(1.234), ratio(99.94), ratio(123.4)], ["∞", "1.2", "99.9", "123"]);
});

test("large numbers have commas, and three digits where that is enough", () => {
  assert.deepEqual([thousands(2000), thousands(999)], ["2,000", "999"]);
  assert.deepEqual([significant(0.123456), significant(12345)], ["0.123", "12,300"]);
});

test("text on a colour is black or white, whichever is easier to read", () => {
  assert.deepEqual([luminance([0, 0, 0]), luminance([255, 255, 255])], [0, 1]);
  assert.deepEqual(["#332288", "#000000"].map(inkOn), ["#ffffff", "#ffffff"]);
  assert.deepEqual(["#ddcc77", "#ffffff"].map(inkOn), ["#000000", "#000000"]);
  assert.deepEqual(["rgb(20, 23, 26)", "rgba(255, 255, 255, 1)"].map(isDark), [true, false]);
});
