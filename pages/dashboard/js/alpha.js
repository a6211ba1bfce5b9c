// The α slider of the board, for where the sidebar is out of sight: phones, embeds, the full screen.

import { find, setText } from "./dom.js";

/** @import { Send } from "./types.js" */
/** @import { Store } from "./store.js" */

const HOLD = 1000; // ms for which a move by hand counts after it was obeyed, whatever older messages say

export class Alpha {
  /**
   * @param {HTMLElement} root
   * @param {Send} send
   * @param {() => boolean} isPending whether Python has not yet obeyed a move
   */
  constructor(root, send, isPending) {
    this.send = send;
    this.isPending = isPending;
    this.label = find(root, ".alpha");
    this.slider = /** @type {HTMLInputElement} */ (find(this.label, "input"));
    this.output = find(this.label, "output");
    /** @type {number[]} */
    this.stops = [];
    this.value = 0;
    this.movedAt = -Infinity;
    this.slider.oninput = () => this.set(this.stops[Number(this.slider.value)]);
  }

  /** @param {number[]} stops @param {boolean} offered */
  offer(stops, offered) {
    this.given = stops;
    this.offered = offered;
  }

  /**
   * @param {Store} store
   * @param {boolean} weighsALoss whether the mechanism has a loss that α weighs
   */
  draw(store, weighsALoss) {
    this.label.hidden = !this.offered || !weighsALoss;
    if (this.isPending()) this.movedAt = performance.now();
    if (performance.now() - this.movedAt > HOLD) this.show(store.message.live.aux_loss_coef);
  }

  /** @param {number} value */
  show(value) {
    this.value = value;
    this.stops = [...new Set([...(this.given ?? []), value])].sort((one, other) => one - other);
    this.slider.max = String(this.stops.length - 1);
    this.slider.value = String(this.stops.indexOf(value));
    this.slider.setAttribute("aria-valuetext", String(value));
    setText(this.output, String(value));
  }

  /** @param {number} value */
  set(value) {
    this.movedAt = performance.now();
    this.show(value);
    this.send({ name: "alpha", value });
  }

  /** @param {number} by so many stops up or down */
  move(by) {
    const next = this.stops[this.stops.indexOf(this.value) + by];
    if (!this.label.hidden && next !== undefined) this.set(next);
  }
}
