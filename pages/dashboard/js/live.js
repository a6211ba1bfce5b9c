// The live page: one run, with its state line, its tiles, its routing map and a second row of views.

import { Alpha } from "./alpha.js";
import { Board } from "./board.js";
import { element, find, setText } from "./dom.js";
import { Experts } from "./experts.js";
import { Scrubber, withLayer } from "./layers.js";
import { mounted } from "./mount.js";
import { Passages } from "./passages.js";
import { Presenting } from "./presenting.js";
import { StatusBar } from "./status.js";
import { Store } from "./store.js";
import { Tabs } from "./tabs.js";

/** @import { Context, RunData, RunMessage } from "./types.js" */

const TEXT_CAPTION = "Each character's colour is the expert that gets it.";
const SECOND_ROW = ["utilization_over_time", "imbalance", "task_and_balance_loss"];

/** @extends {Board<RunData, Store>} */
class Dashboard extends Board {
  /** @param {HTMLElement} root */
  constructor(root) {
    super(root);
    this.statusBar = new StatusBar(root, (command) => this.send(command));
    this.alpha = new Alpha(root, (command) => this.send(command), () => this.commands.isPending("alpha"));
    this.experts = new Experts(find(root, ".experts"));
    const { toolbar } = this.statusBar;
    this.presenting = new Presenting(root, {
      train: () => toolbar.press("toggle"),
      step: () => toolbar.press("step"),
      alpha: (by) => this.alpha.move(by),
      resized: () => this.schedule(),
    });
    this.viewsKey = "";
    this.turns = -1;
    /** @type {Set<string>} */
    this.log = new Set();
    /** @type {WeakMap<Store, number>} */
    this.plannedChanges = new WeakMap();
    /** @type {Passages | null} */
    this.passages = null;
    /** @type {string | null} */
    this.shownPassages = null;
    /** @type {HTMLElement | null} */
    this.mapCaption = null;
  }

  /** @param {RunData} data */
  makeStore(data) {
    return new Store(data.num_experts, data.encoding);
  }

  onLayer() {
    super.onLayer();
    this.onViewChange();
  }

  /** @param {RunMessage} message */
  apply(message) {
    const store = this.target;
    if (!store || !super.apply(message)) return false;
    // A planned change has happened: let the sidebar follow.
    const moves = message.planned_changes ?? 0;
    if (moves > (this.plannedChanges.get(store) ?? moves)) this.send({ name: "sync" });
    this.plannedChanges.set(store, moves);
    return true;
  }

  /** @param {RunData} data */
  buildViews(data) {
    this.statusBar.toolbar.setRates(data.rates);
    this.statusBar.toolbar.watching = data.watching;
    this.statusBar.plain = data.level === "beginner";
    this.mechanisms = data.mechanisms;
    this.alpha.offer(data.alphas, !data.watching && !data.hide.includes("aux_loss_coef"));
    this.root.dataset.hide = data.hide.join(" ");
    this.buildCharts(data);
    this.followView(data);
  }

  /** @param {RunData} data */
  buildCharts(data) {
    const key = `${data.run_id} ${JSON.stringify(data.context)}`;
    if (key === this.viewsKey) return this.charts.setFigures(data);
    this.viewsKey = key;
    const first = find(this.root, ".charts.first");
    const second = find(this.root, ".charts.second");
    if (!this.tabs) {
      this.mapPlace = first.appendChild(element("div", { class: "place" }));
      /** @type {(parent: Element, name: string) => void} */
      const add = (parent, name) => {
        const onLog = (/** @type {boolean} */ log) => this.setLog(name, log);
        this.charts.add(parent, name, data.log_axes.includes(name) ? onLog : undefined);
      };
      add(first, "utilization");
      this.charts.add(find(this.root, ".charts.depth"), "experts_by_layer");
      this.scrubber = new Scrubber(find(this.root, ".charts.depth"), () => this.schedule());
      for (const name of SECOND_ROW) add(second, name);
      this.tabs = new Tabs(this.root, data.tabs, add, () => this.onViewChange());
    }
    this.fillMapPlace(data);
    this.tabs.setText(data);
    this.charts.setFigures(data);
  }

  /**
   * Follows the view that Python asks for when it is new (a link, a lesson), not when Python repeats what this page
   * sent a while ago.
   * @param {RunData} data
   */
  followView({ tab, log, layer, turns }) {
    if (turns === this.turns) return;
    this.turns = turns;
    this.layers.layer = layer;
    this.tabs?.open(tab);
    this.log = new Set(log);
    this.charts.setLog(this.log);
  }

  onViewChange() {
    this.send({ name: "view", tab: this.tabs?.current, log: [...this.log], layer: this.layers.layer });
    this.schedule();
  }

  /**
   * @param {string} name
   * @param {boolean} log
   */
  setLog(name, log) {
    if (log) this.log.add(name);
    else this.log.delete(name);
    this.onViewChange();
  }

  /**
   * The routing map's place holds dots for topics, passages for text.
   * @param {RunData} data
   */
  fillMapPlace(data) {
    const passages = data.passages.join("\n");
    if (this.shownPassages === passages || !this.mapPlace) return;
    this.shownPassages = passages;
    this.charts.remove("routing_map");
    this.mapCaption = null;
    this.mapPlace.replaceChildren();
    this.passages = null;
    if (!passages) {
      this.charts.add(this.mapPlace, "routing_map");
      return;
    }
    const region = element("section", { class: "plot", role: "region", "aria-label": "Routing map" });
    const heading = element("h2", {}, "Routing map ");
    this.mapCaption = heading.appendChild(element("small"));
    const keyboard = { role: "group", "aria-label": "Passages", tabindex: "0" }; // it scrolls
    const body = element("div", { class: "graph passages", ...keyboard });
    region.append(heading, body);
    this.mapPlace.append(region);
    this.passages = new Passages(body);
    this.passages.setText(data.groups, data.passages);
  }

  /** @param {Store} store */
  arrange(store) {
    this.root.classList.toggle("begun", store.steps > 0);
    this.root.classList.toggle("deep", store.numLayers > 1);
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  drawWords(store, context) {
    this.statusBar.draw(store, context);
    this.alpha.draw(store, Boolean(this.mechanisms?.[store.message.live.balancing].weighs_a_loss));
    this.experts.draw(store, context);
    if (this.mapCaption) setText(this.mapCaption, withLayer(TEXT_CAPTION, store, true));
    this.passages?.draw(store, context);
    this.scrubber?.draw(store);
    this.tabs?.draw(store, context);
  }

  close() {
    this.presenting.end();
    super.close();
  }
}

export default mounted(Dashboard);
