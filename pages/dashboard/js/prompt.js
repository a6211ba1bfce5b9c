// A prompt to the language model: its continuation, every character in the colour of its expert, layer by layer.

import { inkOn } from "./colours.js";
import { element, setText, table } from "./dom.js";

/** @import { Answer, Context } from "./types.js" */
/** @import { Store } from "./store.js" */

const FIRST_PROMPT = "The object is ";

export class PromptView {
  /** @param {HTMLElement} panel */
  constructor(panel) {
    this.url = "";
    this.cells = "";
    /** @type {Answer | null} */
    this.answer = null;
    this.drawn = "";
    this.form = panel.appendChild(element("form", { class: "prompt" }));
    this.input = /** @type {HTMLInputElement} */ (this.form.appendChild(
      element("input", { type: "text", "aria-label": "Prompt", maxlength: "200", value: FIRST_PROMPT }),
    ));
    const label = this.form.appendChild(element("label", {}, "switched off "));
    this.off = label.appendChild(element("select", { "aria-label": "Expert switched off" }));
    this.button = this.form.appendChild(element("button", { type: "submit", class: "primary" }, "Continue"));
    this.words = panel.appendChild(element("p", { class: "said", role: "status" }));
    this.lines = panel.appendChild(element("div", { class: "passages answer" }));
    this.losses = panel.appendChild(element("div", { class: "losses" }));
    this.form.onsubmit = (event) => {
      event.preventDefault();
      this.ask();
    };
  }

  /** @param {string} url */
  setUrl(url) {
    if (url === this.url) return;
    this.url = url;
    this.answer = null;
    this.show("");
  }

  async ask() {
    const [layer, expert] = this.off.value.split("-");
    const query = new URLSearchParams({ text: this.input.value, ...(expert && { layer, expert }) });
    this.button.disabled = true;
    this.show("The model is writing …");
    const answer = await fetch(`${this.url}?${query}`).then((response) => response.json()).catch(() => null);
    this.button.disabled = false;
    this.answer = answer?.text ? answer : null;
    this.show(answer?.text ? "" : answer?.error ?? "The server does not answer. Try again.");
  }

  /** @param {string} words */
  show(words) {
    setText(this.words, words);
    this.drawn = "";
    if (this.context) this.fill(this.context);
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  draw(store, context) {
    this.context = context;
    const cells = `${store.numLayers} ${store.numExperts}`;
    if (cells !== this.cells) {
      this.cells = cells;
      this.off.replaceChildren(element("option", { value: "" }, "no expert"));
      for (let layer = 1; layer <= store.numLayers; layer++) {
        for (let expert = 1; expert <= store.numExperts; expert++) {
          const words = `layer ${layer}, expert ${expert}`;
          this.off.append(element("option", { value: `${layer}-${expert}` }, words));
        }
      }
    }
    this.fill(context);
  }

  /** @param {Context} context */
  fill(context) {
    const { answer } = this;
    const key = `${Boolean(answer)} ${context.theme}`;
    if (key === this.drawn) return;
    this.drawn = key;
    this.lines.replaceChildren(...(answer ? answer.experts.map((_, layer) => lineOf(answer, layer, context)) : []));
    this.losses.replaceChildren(...(answer ? lossesOf(answer) : []));
  }
}

/**
 * @param {Answer} answer
 * @param {number} layer
 * @param {Context} context
 */
function lineOf(answer, layer, context) {
  const figure = element("figure", { class: "passage" });
  const line = element("p");
  Array.from(answer.text).forEach((character, i) => {
    const expert = answer.experts[layer][i];
    const span = element("span", { title: `expert ${expert + 1}` }, character === "\n" ? "⏎" : character);
    const colour = context.colours[expert];
    Object.assign(span.style, { backgroundColor: colour, color: inkOn(colour) });
    if (i < answer.prompt) span.style.fontWeight = "700";
    line.append(span, character === "\n" ? "\u200b" : "");
  });
  figure.append(element("figcaption", {}, `layer ${layer + 1}, after step ${answer.step.toLocaleString("en")}`), line);
  return figure;
}

/** @param {Answer} answer */
function lossesOf({ loss, loss_without, loss_without_other, other }) {
  if (loss === undefined || loss_without === undefined || loss_without_other === undefined) return [];
  const change = (/** @type {number} */ value) => `${value >= loss ? "+" : "−"}${Math.abs(value - loss).toFixed(3)}`;
  return [table(["held-out text", "loss, nats", "change"], [
    ["with all experts", loss.toFixed(3), "–"],
    ["without this expert", loss_without.toFixed(3), change(loss_without)],
    [`without another one, expert ${Number(other) + 1}`, loss_without_other.toFixed(3), change(loss_without_other)],
  ])];
}
