// What a page leaves behind for itself when it is reloaded: the run on the screen.

/** @import { AnyStore } from "./board.js" */

const KEY = "run before the reload";

/** @typedef {{ runs: unknown, steps: number, budget: number, rate: number, training: boolean }} Progress */

/**
 * How far the run on the screen is; null for a lecture or before the first step.
 * @param {unknown} kept
 * @param {AnyStore | null} store
 * @returns {Progress | null}
 */
export function progressOf(kept, store) {
  const { latest, steps } = store ?? {};
  if (!kept || !latest || !steps) return null;
  const { budget, rate, state } = latest;
  return { runs: kept, steps, budget, rate, training: state === "training" };
}

/**
 * Keeps the progress whenever the page is left.
 * @param {() => Progress | null} read
 * @returns {() => void} stops it
 */
export function keepForReload(read) {
  const keep = () => {
    const progress = read();
    if (progress) storage()?.setItem(KEY, JSON.stringify({ address: location.href, progress }));
  };
  addEventListener("pagehide", keep);
  return () => removeEventListener("pagehide", keep);
}

/**
 * What the page has kept, if this is its reload.
 * @returns {Progress | null}
 */
export function findAfterReload() {
  const text = storage()?.getItem(KEY);
  storage()?.removeItem(KEY);
  const [navigation] = performance.getEntriesByType("navigation");
  if (!text || /** @type {PerformanceNavigationTiming} */ (navigation)?.type !== "reload") return null;
  const { address, progress } = JSON.parse(text);
  return address === location.href ? progress : null;
}

/** Null where the browser denies it, as it may in a frame of another site. */
function storage() {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}
