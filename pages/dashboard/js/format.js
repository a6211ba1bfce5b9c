// Numbers in words.

/** @param {number} share */
export function percent(share) {
  const value = 100 * share;
  return `${value > 0 && value < 0.95 ? value.toFixed(1) : Math.round(value)}\u00a0%`;
}

/**
 * A number with so many decimals, or a dash for none.
 * @param {number | null | undefined} value
 */
export function fixed(value, digits = 3) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

/**
 * An imbalance ratio; null is ∞.
 * @param {number | null} value
 */
export function ratio(value) {
  if (value === null) return "∞";
  return value >= 100 ? String(Math.round(value)) : value.toFixed(1);
}

const english = new Intl.NumberFormat("en-US");

/**
 * A whole number with commas between thousands.
 * @param {number} value
 */
export function thousands(value) {
  return english.format(value);
}

/**
 * Three significant digits.
 * @param {number} value
 */
export function significant(value) {
  return english.format(Number(value.toPrecision(3)));
}
