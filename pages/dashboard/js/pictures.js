// Charts as pictures for slides.

import { element } from "./dom.js";

const SLIDE = { width: 1600, height: 900 };
const PROBLEM_SHOWN = 6000; // ms

/**
 * Downloads a chart as a slide, with the small print that it takes to make it again. Returns whether that succeeded.
 * @param {string} url of the slide
 * @param {string} filename
 * @param {string} format
 */
export async function savePicture(url, filename, format) {
  try {
    const response = await fetch(`${url}?link=${encodeURIComponent(location.href)}`);
    if (!response.ok) return false;
    await Plotly.downloadImage(await response.json(), { format, ...SLIDE, filename });
    return true;
  } catch {
    return false; // the connection is lost, or the picture too large for the browser
  }
}

/**
 * Shows a sentence for some seconds.
 * @param {Element} parent
 * @param {string} text
 */
export function showProblem(parent, text) {
  const problem = parent.appendChild(element("span", { class: "problem", role: "alert" }, text));
  setTimeout(() => problem.remove(), PROBLEM_SHOWN);
}
