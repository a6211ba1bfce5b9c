// What stands above the charts of a run: state line, toolbar, tiles.

import { element, find, setText } from "./dom.js";
import { percent, ratio } from "./format.js";
import { Toolbar } from "./toolbar.js";

/** @import { Context, RunMessage, Send } from "./types.js" */
/** @import { Store } from "./store.js" */

export const ICONS = { neutral: "○", good: "●", recovering: "◐", warning: "◆", bad: "▲" };
const TILES = /** @type {const} */ ([
  ["imbalance", "Imbalance max/min", "Busiest ÷ idlest"],
  ["task_loss", "Task loss", "Prediction error"],
  ["balance_loss", "Load-balancing loss", "Unevenness"],
  ["dropped", "Dropped tokens", "Tokens dropped"],
  ["dead", "Dead experts", "Dead experts"],
  ["speed", "Steps/s", "Steps per second"],
]); // name, term, plain words for beginners

/** @typedef {typeof TILES[number][0]} Tile */

export class StatusBar {
  /**
   * @param {HTMLElement} root
   * @param {Send} send
   */
  constructor(root, send) {
    this.root = root;
    this.plain = false; // whether tiles say it in plain words, with the term on hover
    this.toolbar = new Toolbar(root, send);
    this.rescue = /** @type {HTMLButtonElement} */ (find(root, ".rescue"));
    this.rescue.onclick = () => send({ name: "rescue" });
    this.both = /** @type {HTMLButtonElement} */ (find(root, ".both"));
    this.both.onclick = () => send({ name: "see both" });
    const tiles = find(root, ".tiles");
    const built = TILES.map(([name, title]) => {
      const tile = tiles.appendChild(element("div", { class: "tile" }));
      const label = tile.appendChild(element("dt", {}, title));
      return [name, { label, value: tile.appendChild(element("dd", { "data-tile": name }, "–")) }];
    });
    /** @type {Record<Tile, { label: HTMLElement, value: HTMLElement }>} */
    this.tiles = Object.fromEntries(built);
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  draw(store, context) {
    this.drawState(store.message);
    this.toolbar.draw(store.message, store.steps, store.message.live.frozen);
    const choosing = store.message.live.balancing === "expert_choice";
    this.drawHints(store.encoding.horizon, context.dead_share, choosing);
    this.drawTiles(store, context);
  }

  /** @param {RunMessage} message */
  drawState({ diagnosis }) {
    const { state, level, evidence, advice, rescue = false, rescued = false } = diagnosis;
    const line = find(this.root, ".state");
    line.dataset.level = level;
    setText(find(line, ".icon"), ICONS[level]);
    setText(find(line, ".word"), state);
    setText(find(line, ".evidence"), evidence);
    setText(find(line, ".advice"), advice);
    this.rescue.hidden = !rescue || this.toolbar.watching;
    this.both.hidden = !rescued || this.toolbar.watching;
    // Spoken only when the state itself changes, not with every number in it.
    const announcer = find(this.root, ".announcer");
    if (announcer.dataset.state === state) return;
    announcer.dataset.state = state;
    announcer.textContent = `${state}. ${evidence} ${advice}`;
  }

  /**
   * What a tile's number is, and what other tools show instead.
   * @param {number} horizon
   * @param {number} deadShare
   * @param {boolean} choosing whether experts choose: then tokens are left out even if nothing is over capacity
   */
  drawHints(horizon, deadShare, choosing) {
    /** @type {Partial<Record<Tile, string>>} */
    const hints = {
      imbalance:
        "Of the smoothed load. Others look at max/mean: OLMo-core's load imbalance, Megatron-LM's overload factor; " +
        "DeepSeek's MaxVio is max/mean − 1. See the tab Other names.",
      task_loss: "How badly the model predicts: cross-entropy in nats, mean of the last steps.",
      balance_loss: "E·Σ f·P, f over all choices. The number of transformers is k times as large. See the tab Why f " +
        "and P.",
      dropped: `Token choices over capacity, mean of ${horizon} steps; where experts choose, tokens that none of ` +
        "them computes.",
      dead:
        `Experts with a smoothed share below ${deadShare}/E; the sidebar sets this threshold. ` +
        "NeMo calls only experts without any tokens dead.",
    };
    for (const [name, term, words] of TILES) {
      const hint = hints[name] ?? "";
      const shown = name === "dropped" && choosing ? "Unserved tokens" : this.plain ? words : term;
      setText(this.tiles[name].label, shown);
      this.tiles[name].label.title = this.plain && words !== term ? `${term}. ${hint}`.trim() : hint;
    }
  }

  /**
   * @param {Store} store
   * @param {Context} context
   */
  drawTiles(store, { uneven_ratio, many_dropped, high_balance_losses }) {
    if (!store.steps) {
      for (const [name] of TILES) this.setTile(name, "–");
      return;
    }
    const { live, state, speed, tiles } = store.message;
    const imbalance = store.rows.imbalance[store.steps - 1];
    const taskLoss = store.smoothed.task_loss[store.steps - 1];
    const high = high_balance_losses[live.top_k - 1];
    const balanceLoss = store.smoothed.balance_loss[store.steps - 1];
    const choosing = live.balancing === "expert_choice";
    const dropped = store.tile(choosing ? "unserved" : "dropped");
    this.setTile("imbalance", ratio(imbalance), imbalance === null || imbalance > uneven_ratio);
    this.setTile("task_loss", taskLoss.toFixed(2), state === "diverged");
    this.setTile("balance_loss", balanceLoss.toFixed(2), high !== null && balanceLoss > high);
    this.setTile("dropped", percent(dropped), dropped > many_dropped);
    this.setTile("dead", `${tiles.dead} of ${store.numExperts}`, tiles.dead > 0);
    this.setTile("speed", String(Math.round(speed)));
  }

  /**
   * @param {Tile} name
   * @param {string} text
   */
  setTile(name, text, bad = false) {
    const { value } = this.tiles[name];
    setText(value, text);
    value.classList.toggle("bad", bad);
  }
}
