// Passages of text, every character on the colour of the expert that gets it.

import { inkOn } from "./colours.js";
import { element } from "./dom.js";

/** @import { Context } from "./types.js" */
/** @import { Store } from "./store.js" */

export class Passages {
  /** @param {HTMLElement} parent */
  constructor(parent) {
    this.parent = parent;
    /** @type {HTMLSpanElement[]} */
    this.characters = [];
    /** @type {string[]} */
    this.drawn = []; // what each character shows now
  }

  /**
   * @param {string[]} names
   * @param {string[]} passages
   */
  setText(names, passages) {
    this.characters = [];
    this.drawn = [];
    this.parent.replaceChildren(
      ...passages.map((passage, i) => {
        const figure = element("figure", { class: "passage" });
        const line = element("p");
        for (const character of passage) {
          const span = element("span", {}, character === "\n" ? "⏎" : character);
          line.append(span, character === "\n" ? "\u200b" : "");
          this.characters.push(span);
        }
        figure.append(element("figcaption", {}, names[i]), line);
        return figure;
      }),
    );
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  draw(store, context) {
    if (!this.parent.offsetParent) return;
    const { expert, dropped } = store.routing();
    this.characters.forEach((span, i) => {
      const key = `${expert[i]}${dropped[i]}${context.theme}`;
      if (this.drawn[i] === key) return;
      this.drawn[i] = key;
      const colour = context.colours[expert[i]];
      span.style.backgroundColor = dropped[i] ? "transparent" : colour;
      span.style.color = dropped[i] ? "inherit" : inkOn(colour);
      span.style.textDecoration = dropped[i] ? "line-through" : "";
      span.title = `expert ${expert[i] + 1}` + (dropped[i] ? ", dropped" : "");
    });
  }
}
