// Draws a page of charts and keeps its place while data flows: the stream, the theme, one drawing per frame.

import { watchBack } from "./back.js";
import { Charts } from "./charts.js";
import { Commands } from "./commands.js";
import { prefersReducedMotion } from "./dom.js";
import { FirstPaint } from "./first_paint.js";
import { LayerPicker } from "./layers.js";
import { drawNotice } from "./notice.js";
import { fetchAhead, loadPlotly } from "./plotly.js";
import { findAfterReload, keepForReload, progressOf } from "./reload.js";
import { watchShowing } from "./showing.js";
import { Stream } from "./stream.js";
import { ThemeWatcher } from "./theme.js";

/** @import { BoardData, Command, Component, Context } from "./types.js" */
/** @import { Peers } from "./peers.js" */
/** @import { Progress } from "./reload.js" */
/** @import { Store } from "./store.js" */

/** @typedef {Store | Peers} AnyStore */
/**
 * The common part of the boards. A subclass implements makeStore, buildViews, arrange and drawWords.
 * @template {BoardData} Data
 * @template {AnyStore} SomeStore
 */
export class Board {
  /** @param {HTMLElement} root */
  constructor(root) {
    this.root = root;
    /** @type {Component<Data> | undefined} */
    this.component = undefined;
    this.commands = new Commands((delivery) => {
      if (this.root.isConnected) this.component?.setTriggerValue("commands", delivery);
    });
    this.charts = new Charts(() => this.schedule());
    this.layers = new LayerPicker(root, () => this.onLayer());
    /** @type {SomeStore | null} */
    this.store = null;
    /** @type {Data | undefined} */
    this.data = undefined; // the newest
    /** @type {SomeStore | null} */
    this.catchingUp = null; // the store of a run that is computed again, until it reaches the step on the screen
    this.resuming = this.fed = this.chartsFailing = false;
    this.frame = 0;
    this.firstPaint = new FirstPaint();
    this.stopWatching = watchShowing(root, () => this.schedule());
    this.stopWatchingBack = watchBack((command) => this.send(command));
    this.stopKeeping = keepForReload(() => progressOf(this.kept, this.store));
    this.onChartsFailing = () => this.setChartsFailing(true);
    this.theme = new ThemeWatcher(root, () => this.send({ name: "sync" })); // asks for the other colours
  }

  /**
   * @param {Data} _data
   * @returns {SomeStore}
   */
  makeStore(_data) {
    throw new Error("not implemented");
  }

  /** @param {Data} _data */
  buildViews(_data) {}

  /** Shows and hides parts of the page. @param {SomeStore} _store */
  arrange(_store) {}

  /** @param {SomeStore} _store @param {Context} _context */
  drawWords(_store, _context) {}

  /** @param {Command} command */
  send(command) {
    this.commands.send(command);
  }

  /**
   * Takes in data from Python: another run, another theme, or (without the stream) the newest message.
   * @param {Component<Data>} component
   * @param {Data} data
   */
  async receive(component, data) {
    const { commands } = this;
    this.component = component;
    commands.confirm(data.obeyed);
    if (data.session !== commands.session) {
      this.resume(data.session, commands.session ? progressOf(this.kept, this.store) : findAfterReload());
    }
    if (commands.isPending("resume")) return; // this run is about to be replaced
    commands.session = data.session;
    this.kept = data.kept;
    const reduced_motion = prefersReducedMotion();
    this.context = /** @type {Context} */ ({ ...data.context, run: data.run_id, reduced_motion });
    this.layers.offer(data.num_layers);
    this.theme.draw(data.context);
    const { layer } = this.layers;
    this.buildViews(data);
    if (data.run_id !== this.data?.run_id || this.layers.layer !== layer) {
      this.catchingUp = this.resuming && data.hurrying ? this.makeStore(data) : null;
      if (!this.catchingUp) this.store = this.makeStore(data);
      this.resuming = false;
      this.listen(data);
    }
    this.data = data;
    this.fed = Boolean(data.message);
    if (data.message && !this.apply(JSON.parse(data.message))) this.send({ name: "resync" });
    drawNotice(this);
    this.schedule();
    fetchAhead(data.plotly_url);
    await this.firstPaint.done;
    await loadPlotly(data.plotly_url, this.onChartsFailing);
    this.setChartsFailing(false);
    this.schedule();
  }

  /** @param {Data} data */
  listen(data) {
    this.stream?.close();
    if (!data.stream_url) return; // this host serves no stream: Python feeds the page from the start
    const stream = new Stream(data.stream_url, {
      query: () => `from=${this.target?.steps ?? 0}&layer=${this.layers.layer}`,
      onMessage: (message) => this.apply(message) || stream.open(),
      onSilence: () => this.fed || this.component?.setStateValue("transport", "component"),
      onSteady: () => {
        if (this.fed) this.component?.setStateValue("transport", "stream");
        this.fed = false; // unless Python says otherwise
      },
      onLost: () => this.send({ name: "lost", run_id: data.run_id }),
    });
    /** @type {Stream | undefined} */
    this.stream = stream;
  }

  /**
   * Another session answers: the server was restarted, or has discarded the old one. It opened with the run of the
   * address bar; ask it to repeat what was done here. Not for a lecture, which the lecturer controls.
   * @param {string} session
   * @param {Progress | null} progress
   */
  resume(session, progress) {
    if (!progress) return;
    this.commands.session = session;
    this.resuming = true;
    const waiting = this.commands.pending.filter(({ name }) => name !== "lost");
    this.commands.pending = [];
    this.component?.setStateValue("transport", "stream");
    this.send({ name: "resume", ...progress });
    for (const command of waiting) this.send(command);
  }

  /** The store that messages are for. */
  get target() {
    return this.catchingUp ?? this.store;
  }

  /**
   * Takes in a message. Returns false if something before it is missing.
   * @param {any} message
   */
  apply(message) {
    if ((message.layer ?? 0) !== this.layers.layer && this.layers.count > 1) return true; // of the layer before
    const complete = Boolean(this.target?.apply(message));
    if (complete) {
      this.switchWhenCaughtUp();
      drawNotice(this);
      this.schedule();
    }
    return complete;
  }

  // A run that is computed again takes the screen once it is as far as the one before.
  switchWhenCaughtUp() {
    if (!this.catchingUp) return;
    const ended = ["diverged", "failed"].includes(this.catchingUp.message.state);
    if (ended || this.catchingUp.steps >= (this.store?.steps ?? 0)) {
      this.store = this.catchingUp;
      this.catchingUp = null;
    }
  }

  /** @param {boolean} failing */
  setChartsFailing(failing) {
    this.chartsFailing = failing;
    drawNotice(this);
  }

  // Another layer is another stream, from the first step on. What is on the screen stays until it has come.
  onLayer() {
    if (!this.data) return;
    Object.assign(this, { store: this.makeStore(this.data), catchingUp: null });
    this.listen(this.data);
  }

  // Draws at most once per frame, and only while somebody can see it.
  schedule() {
    if (this.frame || document.hidden || !this.store?.latest) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const { store, context } = this;
      if (!store?.latest || !context) return; // another run has taken the place since
      this.arrange(store);
      this.charts.draw(store, context); // before the words, as it reads the layout, which they change
      this.drawWords(store, context);
      this.firstPaint.drawn();
      if (!window.Plotly) return;
      this.root.dataset.step = String(store.steps);
      this.root.dataset.events = String(store.latest.events.length);
    });
  }

  close() {
    this.stream?.close();
    this.stopWatching();
    this.stopWatchingBack();
    this.stopKeeping();
    cancelAnimationFrame(this.frame);
    this.theme.close();
    this.commands.close();
    this.charts.close();
  }
}
