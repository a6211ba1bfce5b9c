// Technical terms, underlined where they first occur in a text, with their meaning on hover and focus; the same as in
// pages/text/prose.py.

import { element } from "./dom.js";

export class Terms {
  /** @param {Record<string, string>} meanings */
  constructor(meanings) {
    this.meanings = meanings;
    this.seen = new Set();
    const longestFirst = Object.keys(meanings).sort((one, other) => other.length - one.length);
    const escaped = longestFirst.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    this.pattern = new RegExp(`(?<![\\p{L}\\p{N}_-])(${escaped.join("|")})(?![\\p{L}\\p{N}_-])`, "gu");
  }

  /** @param {string} text */
  paragraph(text) {
    const node = element("p");
    let end = 0;
    for (const match of text.matchAll(this.pattern)) {
      const short = this.meanings[match[0]];
      if (this.seen.has(short)) continue;
      this.seen.add(short);
      const term = element("abbr", { class: "term", tabindex: "0", "data-short": short }, match[0]);
      node.append(text.slice(end, match.index), term);
      end = match.index + match[0].length;
    }
    node.append(text.slice(end));
    return node;
  }
}
