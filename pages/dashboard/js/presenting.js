// The map, the bars, the verdict, Train and α on the full screen, in type for the last row. Leaves no trace when ended.

import { find } from "./dom.js";

const [TYPE_WIDTH, TYPE_HEIGHT] = [900, 520]; // px of a screen on which type has its usual size
const LARGEST_TYPE = 2.6;

/** @typedef {{ train(): void, step(): void, alpha(by: number): void, resized(): void }} Actions */

export class Presenting {
  /**
   * @param {HTMLElement} root
   * @param {Actions} actions what keys do
   */
  constructor(root, actions) {
    this.root = root;
    this.actions = actions;
    this.button = /** @type {HTMLButtonElement} */ (find(root, ".present"));
    this.button.onclick = () => (this.on ? this.end() : this.begin());
    this.onKey = (/** @type {KeyboardEvent} */ event) => this.press(event);
    this.fit = () => this.resize();
    this.onFullscreen = () => {
      if (this.on && !document.fullscreenElement) this.end();
    };
  }

  get on() {
    return "present" in this.root.dataset;
  }

  async begin() {
    this.root.dataset.present = "";
    this.button.textContent = "End";
    this.button.setAttribute("aria-pressed", "true");
    document.addEventListener("keydown", this.onKey, true);
    addEventListener("resize", this.fit);
    this.resize();
    // Refused inside a frame that does not allow it: then the board fills the frame.
    await this.root.requestFullscreen?.().catch(() => undefined);
    document.addEventListener("fullscreenchange", this.onFullscreen);
  }

  end() {
    if (!this.on) return;
    delete this.root.dataset.present;
    this.root.style.removeProperty("--u");
    this.button.textContent = "Present";
    this.button.setAttribute("aria-pressed", "false");
    document.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("fullscreenchange", this.onFullscreen);
    removeEventListener("resize", this.fit);
    if (document.fullscreenElement) document.exitFullscreen().catch(() => undefined);
    this.button.focus();
    this.actions.resized();
  }

  resize() {
    const factor = Math.min(innerWidth / TYPE_WIDTH, innerHeight / TYPE_HEIGHT, LARGEST_TYPE);
    this.root.style.setProperty("--u", String(Math.max(1, factor)));
    this.actions.resized();
  }

  /** @param {KeyboardEvent} event */
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    /** @type {Record<string, () => void>} */
    const keys = {
      t: () => this.actions.train(),
      s: () => this.actions.step(),
      ArrowUp: () => this.actions.alpha(1),
      ArrowDown: () => this.actions.alpha(-1),
      Escape: () => this.end(),
    };
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }
}
