// The theme of a board: its colours, and when the visitor picks another one in Streamlit's menu, which does not run the
// script.

import { isDark } from "./colours.js";

const INTERVAL = 400; // ms between two looks at the page

/** @import { Context } from "./types.js" */

export class ThemeWatcher {
  /**
   * @param {HTMLElement} root
   * @param {() => void} onChange called once when the page no longer has the theme that is drawn
   */
  constructor(root, onChange) {
    this.root = root;
    this.onChange = onChange;
    this.drawn = this.reported = "";
    this.timer = setInterval(() => this.check(), INTERVAL);
  }

  /** @param {Pick<Context, "theme" | "palette">} context */
  draw({ theme, palette }) {
    for (const [name, colour] of Object.entries(palette)) this.root.style.setProperty(`--${name}`, String(colour));
    this.root.dataset.theme = this.drawn = theme;
  }

  check() {
    if (!this.drawn || !this.root.isConnected) return;
    const page = getComputedStyle(this.root.closest(".stApp") ?? document.body);
    const theme = isDark(page.backgroundColor) ? "dark" : "light";
    if (theme === this.drawn) this.reported = "";
    else if (theme !== this.reported) {
      this.reported = theme;
      this.onChange();
    }
  }

  close() {
    clearInterval(this.timer);
  }
}
