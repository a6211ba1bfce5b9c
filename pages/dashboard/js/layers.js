// Runs with several layers: which one the page shows, and the step of the picture of all of them.

import { element, find, setText } from "./dom.js";

/** @import { Store } from "./store.js" */

export class LayerPicker {
  /**
   * @param {HTMLElement} root
   * @param {(layer: number) => void} onChoose
   */
  constructor(root, onChoose) {
    this.label = find(root, ".layer");
    this.select = /** @type {HTMLSelectElement} */ (find(this.label, "select"));
    this.select.onchange = () => onChoose(this.layer);
    this.count = 1;
  }

  /** From 1; 0 for all. */
  get layer() {
    return Number(this.select.value);
  }

  /** @param {number} layer */
  set layer(layer) {
    this.select.value = String(layer <= this.count ? layer : 0);
  }

  /** @param {number} count the number of layers */
  offer(count) {
    if (count === this.count) return;
    const { layer } = this;
    this.count = count;
    this.label.hidden = count === 1;
    const numbers = Array.from({ length: count }, (_, i) => String(i + 1));
    const options = ["all", ...(count > 1 ? numbers : [])];
    this.select.replaceChildren(...options.map((text, value) => element("option", { value: String(value) }, text)));
    this.layer = layer;
  }
}

/** The slider under the picture of all layers, back to earlier steps. */
export class Scrubber {
  /**
   * @param {Element} parent
   * @param {() => void} onMove
   */
  constructor(parent, onMove) {
    this.onMove = onMove;
    this.line = parent.appendChild(element("label", { class: "scrubber" }, "step "));
    this.slider = this.line.appendChild(
      /** @type {HTMLInputElement} */ (element("input", { type: "range", min: "1", value: "1", max: "1" })),
    );
    this.slider.setAttribute("aria-label", "Step of Experts by layer");
    this.output = this.line.appendChild(element("output"));
  }

  /** @param {Store} store */
  draw(store) {
    const { block } = store.encoding;
    const newest = Math.floor(store.steps / block) + 1; // the last place is the newest step
    const atEnd = store.shownBlock === null;
    this.line.hidden = newest < 3;
    this.slider.max = String(newest);
    if (atEnd) this.slider.value = this.slider.max;
    this.slider.oninput = () => {
      const place = Number(this.slider.value);
      store.show(place < Number(this.slider.max) ? place - 1 : null);
      this.onMove();
    };
    const words = atEnd ? "now" : String((Number(store.shownBlock) + 1) * block);
    setText(this.output, words);
    this.slider.setAttribute("aria-valuetext", atEnd ? "now" : `step ${words}`);
  }
}

/**
 * A chart's caption with the layer that it shows.
 * @param {string} caption
 * @param {Store} store
 * @param {boolean} isMap
 */
export function withLayer(caption, store, isMap) {
  if (store.numLayers === 1) return caption;
  const { layer, layers } = store.message;
  const all = isMap ? `layer ${layers.probed}, the most uneven` : `mean of ${store.numLayers} layers`;
  return `${layer ? `layer ${layer}` : all} · ${caption}`;
}
