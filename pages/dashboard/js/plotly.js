// Loads Plotly.js, and tries again as long as that fails.

import { element } from "./dom.js";

const FIRST_RETRY_DELAY = 1000; // ms; doubles with every attempt
const MAX_RETRY_DELAY = 30000;

/** @type {Promise<unknown> | undefined} */
let loading;
/** @type {Set<() => void>} */
const failureHandlers = new Set();

/**
 * Lets the browser fetch Plotly.js while other things are drawn.
 * @param {string | null} url
 */
export function fetchAhead(url) {
  if (url !== null && !loading) document.head.append(element("link", { rel: "preload", as: "script", href: url }));
}

/**
 * Resolves when `window.Plotly` exists.
 * @param {string | null} url null: another component of the page brings Plotly.js along
 * @param {() => void} onFailure called after every attempt that failed
 */
export function loadPlotly(url, onFailure) {
  failureHandlers.add(onFailure);
  loading ??= url === null ? arrival() : downloadUntilLoaded(url);
  return loading;
}

function arrival() {
  return new Promise((resolve) => {
    if (window.Plotly) resolve(undefined);
    else addEventListener("plotly", resolve, { once: true });
  });
}

/** @param {string} url */
async function downloadUntilLoaded(url) {
  for (let delay = FIRST_RETRY_DELAY; ; delay = Math.min(2 * delay, MAX_RETRY_DELAY)) {
    await download(url);
    if (window.Plotly) return;
    for (const handle of failureHandlers) handle();
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
}

/** @param {string} url */
function download(url) {
  return new Promise((resolve) => {
    const script = element("script", { src: url });
    script.onload = script.onerror = () => {
      script.remove();
      resolve(undefined);
    };
    document.head.append(script);
  });
}
