// The Compare page: runs side by side in lock-step, a column for each, and shared axes below.

import { Board } from "./board.js";
import { element, find, setText } from "./dom.js";
import { percent, ratio } from "./format.js";
import { mounted } from "./mount.js";
import { Peers } from "./peers.js";
import { ICONS } from "./status.js";
import { Toolbar } from "./toolbar.js";

/** @import { ComparisonData, Context } from "./types.js" */
/** @import { Store } from "./store.js" */

const SHARED = ["compare_task_loss", "compare_task_loss_difference", "compare_imbalance"];

/** @extends {Board<ComparisonData, Peers>} */
class SideBySide extends Board {
  /** @param {HTMLElement} root */
  constructor(root) {
    super(root);
    this.toolbar = new Toolbar(root, (command) => this.send(command));
    this.viewsKey = this.layout = "";
    /** @type {Head[]} */
    this.heads = [];
  }

  /** @param {ComparisonData} data */
  makeStore(data) {
    return new Peers(data.num_experts, data.encoding);
  }

  onLayer() {
    super.onLayer();
    this.send({ name: "layer", layer: this.layers.layer });
  }

  /** @param {ComparisonData} data */
  buildViews(data) {
    this.toolbar.setRates(data.rates);
    this.root.style.setProperty("--count", String(data.runs.length));
    setText(find(this.root, ".difference"), data.difference);
    const names = data.runs.map(({ name }) => name).join("");
    const layout = `${names} ${data.maps}`;
    const key = `${data.run_id} ${JSON.stringify([data.context, data.runs])}`;
    if (key === this.viewsKey) return;
    this.viewsKey = key;
    if (layout !== this.layout) this.build(data, names);
    this.layout = layout;
    data.runs.forEach(({ words }, run) => setText(this.heads[run].words, words));
    this.charts.setFigures(data);
  }

  /**
   * @param {ComparisonData} data
   * @param {string} names
   */
  build(data, names) {
    this.charts.clear();
    const [columns, shared, whole, later] = [".runs", ".shared", ".whole", ".later"].map((selector) => {
      const place = find(this.root, selector);
      place.replaceChildren();
      return place;
    });
    this.heads = Array.from(names, (name, run) => {
      const column = columns.appendChild(element("div", { class: "run", "data-run": name }));
      const head = new Head(column, name, run);
      this.charts.add(column, `utilization_${name}`);
      if (data.maps[run]) this.charts.add(column, `routing_map_${name}`);
      return head;
    });
    for (const name of SHARED) this.charts.add(shared, name);
    this.charts.add(whole, "compare_timeline");
    for (const name of names) this.charts.add(later, `utilization_over_time_${name}`);
  }

  /**
   * @param {Peers} store
   * @param {Context} context
   */
  drawWords(store, context) {
    this.toolbar.draw(store.message, store.steps);
    this.heads.forEach((head, run) => head.draw(store.peers[run], context));
  }
}

// What stands above the bars of one run: its letter, its configuration, its state, its numbers and its story.
class Head {
  /**
   * @param {Element} parent
   * @param {string} name
   * @param {number} run
   */
  constructor(parent, name, run) {
    this.run = run;
    const head = parent.appendChild(element("div", { class: "head" }));
    this.letter = head.appendChild(element("strong", { class: "letter" }, name));
    this.words = head.appendChild(element("span", { class: "words" }));
    this.state = parent.appendChild(element("p", { class: "verdict" }));
    this.numbers = parent.appendChild(element("p", { class: "numbers" }));
    this.story = parent.appendChild(element("p", { class: "story" }));
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  draw(store, context) {
    const { diagnosis, timeline } = store.message;
    this.letter.style.background = context.runs[this.run];
    this.state.dataset.level = diagnosis.level;
    setText(this.state, `${ICONS[diagnosis.level]} ${diagnosis.state}`);
    setText(this.story, timeline.words);
    setText(this.numbers, store.steps ? numbersInWords(store) : "–");
  }
}

/** @param {Store} store */
function numbersInWords(store) {
  const last = store.steps - 1;
  const parts = [
    `task loss ${store.smoothed.task_loss[last].toFixed(3)}`,
    `max/min ${ratio(store.rows.imbalance[last])}`,
    `dead ${store.message.tiles.dead} of ${store.numExperts}`,
  ];
  const dropped = store.tile("dropped");
  if (dropped) parts.push(`dropped ${percent(dropped)}`);
  return parts.join(" · ");
}

export default mounted(SideBySide);
