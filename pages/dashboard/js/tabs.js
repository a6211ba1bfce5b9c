// The second row of views: one panel is open at a time, and only that one is drawn.

import { element, find, refill, table } from "./dom.js";
import { EXPLANATIONS } from "./explanations.js";
import { Passages } from "./passages.js";
import { PromptView } from "./prompt.js";
import { Terms } from "./terms.js";

/** @import { Context, RunData, Tab } from "./types.js" */
/** @import { Store } from "./store.js" */

export class Tabs {
  /**
   * @param {HTMLElement} root
   * @param {Tab[]} tabs
   * @param {(parent: Element, chart: string) => void} addPlot
   * @param {() => void} onOpen called when the visitor opens a tab
   */
  constructor(root, tabs, addPlot, onOpen) {
    this.onOpen = onOpen;
    /** @type {Record<string, HTMLButtonElement>} */
    this.buttons = {};
    /** @type {Record<string, HTMLElement>} */
    this.panels = {};
    for (const { name, title, charts } of tabs) {
      const [tabId, panelId] = [`ecl-tab-${name}`, `ecl-panel-${name}`];
      const attributes = { type: "button", role: "tab", id: tabId, "aria-controls": panelId };
      const button = find(root, ".tabs").appendChild(element("button", attributes, title));
      button.onclick = () => this.choose(name);
      button.onkeydown = ({ key }) => this.moveFocus({ ArrowRight: 1, ArrowLeft: -1 }[key]);
      const role = { role: "tabpanel", "aria-labelledby": tabId, tabindex: "0" };
      const panel = find(root, ".panels").appendChild(element("div", { class: `panel ${name}`, id: panelId, ...role }));
      panel.append(element("div", { class: "lesson" }));
      for (const chart of charts) addPlot(panel, chart);
      // Scrolls on a narrow screen, so the keyboard must reach it.
      panel.append(element("div", { class: "card", role: "group", "aria-label": `${title}, table`, tabindex: "0" }));
      this.buttons[name] = button;
      this.panels[name] = panel;
    }
    this.shown = ""; // the explanation on the screen
    /** @type {Passages | null} */
    this.passages = null;
    this.prompt = new PromptView(this.panels.prompt);
    this.first = this.current = tabs[0].name;
    this.open(this.first);
  }

  /** @param {string} name */
  open(name) {
    this.current = name;
    for (const [other, button] of Object.entries(this.buttons)) {
      button.setAttribute("aria-selected", String(other === name));
      button.tabIndex = other === name ? 0 : -1;
      this.panels[other].hidden = other !== name;
    }
  }

  /** @param {string} name */
  choose(name) {
    this.open(name);
    this.onOpen();
  }

  /** @param {number | undefined} step to the next tab or the one before */
  moveFocus(step) {
    if (!step) return;
    const names = Object.keys(this.buttons).filter((name) => !this.buttons[name].hidden);
    const next = names[(names.indexOf(this.current) + step + names.length) % names.length];
    this.choose(next);
    this.buttons[next].focus();
  }

  /** @param {RunData} data */
  setText(data) {
    this.data = data;
    const isText = data.passages.length > 0;
    this.buttons.text.hidden = !isText;
    this.buttons.prompt.hidden = !data.answers || !data.prompt_url;
    this.prompt.setUrl(data.prompt_url ?? "");
    if (this.buttons[this.current].hidden) this.open(this.first);
    if (!isText) return;
    this.passages ??= new Passages(this.panels.text.appendChild(element("div", { class: "passages" })));
    this.passages.setText(data.groups, data.passages);
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  draw(store, context) {
    if (!this.data) return;
    const explanation = EXPLANATIONS[this.current](store, this.data);
    const panel = this.panels[this.current];
    const shown = this.current + JSON.stringify(explanation);
    if (this.shown !== shown) {
      this.shown = shown;
      const terms = new Terms(this.data.terms);
      refill(find(panel, ".lesson"), explanation.text.map((line) => terms.paragraph(line)));
      refill(find(panel, ".card"), (explanation.tables ?? []).map(({ head, rows }) => table(head, rows)));
    }
    if (this.current === "text") this.passages?.draw(store, context);
    if (this.current === "prompt") this.prompt.draw(store, context);
  }
}
