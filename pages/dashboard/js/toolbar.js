// Train, Step, Reset, speed and budget: the same above one run and above several.

import { element, find, prefersReducedMotion, setText } from "./dom.js";
import { thousands } from "./format.js";

/** @import { Playback, Send } from "./types.js" */

const ENDED = ["finished", "diverged", "failed"];

export class Toolbar {
  /**
   * @param {HTMLElement} root
   * @param {Send} send
   */
  constructor(root, send) {
    this.root = root;
    this.state = "ready";
    this.watching = false; // a lecture: all buttons are off
    this.queueKey = "";
    /** @type {HTMLButtonElement[]} */
    this.buttons = [...root.querySelectorAll(/** @type {"button"} */ ("button[data-command]"))];
    for (const button of this.buttons) {
      const name = button.dataset.command ?? "";
      button.onclick = () => {
        if (name !== "toggle") send({ name });
        else if (this.state === "training") send({ name: "pause" });
        else {
          if (this.state === "finished") send({ name: "extend" });
          send({ name: "train", reduced_motion: prefersReducedMotion() });
        }
      };
    }
    const unfold = /** @type {HTMLButtonElement | null} */ (root.querySelector(".unfold"));
    if (unfold) unfold.onclick = () => {
      const open = find(root, ".toolbar").classList.toggle("open");
      unfold.setAttribute("aria-expanded", String(open));
    };
    this.select = /** @type {HTMLSelectElement} */ (find(root, ".speed select"));
    this.select.onchange = () => send({ name: "rate", value: Number(this.select.value) });
  }

  /** @param {string} command */
  press(command) {
    this.buttons.find(({ dataset }) => dataset.command === command)?.click();
  }

  /** @param {number[]} rates steps per second; 0 is as fast as possible */
  setRates(rates) {
    if (this.select.options.length) return;
    for (const rate of rates) {
      const words = rate ? `${rate} ${rate === 1 ? "step" : "steps"}/s` : "as fast as possible";
      this.select.append(element("option", { value: String(rate) }, words));
    }
  }

  /**
   * @param {Playback} message
   * @param {number} steps
   * @param {boolean} [frozen] of a single run
   */
  draw(message, steps, frozen = false) {
    this.state = message.state;
    const ended = ENDED.includes(message.state);
    const finished = message.state === "finished" && message.extendable;
    for (const button of this.buttons) {
      const { command } = button.dataset;
      button.disabled = this.watching || (ended && (command === "step" || (command === "toggle" && !finished)));
      if (command === "toggle") {
        setText(button, finished ? "Train 1,000 more" : message.state === "training" ? "Pause" : "Train");
      }
      if (command === "freeze") {
        setText(button, frozen ? "Unfreeze" : "Freeze");
        button.setAttribute("aria-pressed", String(frozen));
      }
    }
    setText(find(this.root, ".finished"), message.state === "finished" ? `${thousands(steps)} steps done.` : "");
    this.select.disabled = this.watching;
    setText(find(this.root, ".done"), thousands(steps));
    setText(find(this.root, ".budget"), thousands(message.budget));
    const progress = /** @type {HTMLProgressElement} */ (find(this.root, "progress"));
    progress.max = message.budget;
    progress.value = steps;
    if (document.activeElement !== this.select) this.select.value = String(message.rate);
    this.drawQueue(message);
  }

  /**
   * While the run waits in the queue: its position, and lectures to watch meanwhile.
   * @param {Playback} message
   */
  drawQueue({ queue_position: position, lectures = [] }) {
    const queue = find(this.root, ".queue");
    const key = JSON.stringify([position, lectures]);
    if (key === this.queueKey) return;
    this.queueKey = key;
    queue.hidden = !position;
    const links = lectures.map((id, i) => {
      const attributes = { href: `?follow=${encodeURIComponent(id)}`, target: "_blank", rel: "noopener" };
      return element("a", attributes, lectures.length > 1 ? `Watch lecture ${i + 1}` : "Watch a lecture meanwhile");
    });
    const words = "All training slots are in use. " +
      `You are number ${position} in the queue; training starts automatically.`;
    queue.replaceChildren(words, ...links);
  }
}
