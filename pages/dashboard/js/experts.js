// The experts as chips in their colours, each with its share; a dead one is grey.

import { deadExperts } from "./axes.js";
import { element, setText } from "./dom.js";
import { percent } from "./format.js";

/** @import { Context } from "./types.js" */
/** @import { Store } from "./store.js" */

const MOST_WITH_WORDS = 16;

export class Experts {
  /** @param {HTMLElement} list */
  constructor(list) {
    this.list = list;
    /** @type {{ chip: HTMLElement, words: HTMLElement }[]} */
    this.chips = [];
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  draw(store, context) {
    if (this.chips.length !== store.numExperts) this.build(store.numExperts);
    const dead = deadExperts(store, context);
    store.now("smoothed_load").forEach((share, i) => {
      const { chip, words } = this.chips[i];
      chip.classList.toggle("dead", dead.has(i));
      chip.style.setProperty("--colour", context.colours[i]);
      const text = dead.has(i) ? "dead" : percent(share);
      setText(words, text);
      if (this.list.classList.contains("many")) chip.title = `Expert ${i + 1}: ${text}`;
    });
  }

  /** @param {number} count */
  build(count) {
    this.list.classList.toggle("many", count > MOST_WITH_WORDS);
    this.chips = Array.from({ length: count }, (_, i) => {
      const chip = element("li");
      const words = element("span");
      chip.append(element("b", {}, String(i + 1)), words);
      return { chip, words };
    });
    this.list.replaceChildren(...this.chips.map(({ chip }) => chip));
  }
}
