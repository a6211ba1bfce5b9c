// One Plotly chart that keeps its element, its zoom and its place while data flows through it.

import { barLabels, captionOf, enlarged, inPlainWords, shareAxisTop, timeAxis, withScale } from "./axes.js";
import { bind } from "./bindings.js";
import { Description } from "./descriptions.js";
import { element, setText } from "./dom.js";
import { savePicture, showProblem } from "./pictures.js";
import { canBeSketched, sketch } from "./sketch.js";
import { chartTools } from "./tools.js";
import { VisibleArea } from "./visible_area.js";

/** @import { Axis, Context, Figure, Graph, Layout, SizedLayout, Trace } from "./types.js" */
/** @import { Store } from "./store.js" */
/** @import { AnyStore } from "./board.js" */

const NARROW = 640; // px
export const REDRAW_INTERVAL = 350; // ms between two drawings of a chart over time

export class Plot {
  /**
   * @param {Element} parent
   * @param {string} name
   * @param {() => void} onVisible
   * @param {(log: boolean) => void} [onLog] for a chart whose vertical axis can be logarithmic or not
   */
  constructor(parent, name, onVisible, onLog) {
    this.name = name;
    this.onLog = onLog;
    this.region = element("section", { class: "plot", role: "region" });
    this.header = this.region.appendChild(element("header"));
    this.heading = this.header.appendChild(element("h2"));
    this.caption = element("small");
    /** @type {HTMLButtonElement | undefined} */
    this.logButton = undefined;
    this.description = new Description(this.region);
    this.graph = /** @type {Graph} */ (this.region.appendChild(element("div", { class: "graph" })));
    this.region.hidden = true; // until its figure has come
    parent.append(this.region);
    /** @type {Figure | null} */
    this.figure = null;
    this.onFirstDrawing = () => {};
    this.figureVersion = 0;
    this.text = "";
    this.plain = false;
    /** @type {string | null} */
    this.slideUrl = null;
    this.log = this.zoomed = this.gliding = this.watchesZoom = false;
    /** @type {string | null} */
    this.drawn = null; // the key of the picture on the screen
    this.drawnAt = -Infinity;
    this.step = 0;
    this.run = "";
    /** @type {number | null} */
    this.top = null; // of the share axis, on its way to where it belongs
    this.area = new VisibleArea(this.region, this.graph, onVisible);
  }

  /**
   * Takes in the empty figure. One of a closed tab comes when the tab is opened.
   * @param {string | undefined} text as JSON
   * @param {string | null} slideUrl
   * @param {boolean} [plain] whether in plain words
   */
  setFigure(text, slideUrl, plain = false) {
    if (slideUrl !== this.slideUrl || plain !== this.plain) this.text = "";
    Object.assign(this, { slideUrl, plain });
    if (!text || text === this.text) return;
    this.text = text;
    const figure = /** @type {Figure} */ (JSON.parse(text));
    if (!this.figure) this.region.hidden = false;
    this.figure = figure;
    this.figureVersion += 1;
    const title = figure.layout.title.text;
    this.region.setAttribute("aria-label", title);
    this.heading.replaceChildren(title, " ", this.caption);
    this.header.replaceChildren(this.heading, chartTools(this, title));
  }

  get isOverTime() {
    return Boolean(this.figure?.layout.meta.time);
  }

  /** @param {boolean} log */
  setLog(log) {
    this.log = log;
    this.logButton?.setAttribute("aria-pressed", String(log));
  }

  /**
   * Shows or hides the chart: some belong to one mechanism.
   * @param {AnyStore} board
   */
  appear(board) {
    if (!this.figure) return;
    const { meta } = this.figure.layout;
    const { live } = board.of(meta).message;
    this.region.hidden = Object.entries(meta.only ?? {}).some(
      ([knob, value]) => live[/** @type {keyof typeof live} */ (knob)] !== value,
    );
  }

  /**
   * Draws what there is to see, as large as measured. Returns false if something is left to draw a little later: lines
   * over time are redrawn less often than bars, and an axis moves in steps.
   * @param {AnyStore} board
   * @param {Context} context
   */
  draw(board, context) {
    if (!this.figure || !this.area.isShown) return true;
    const { data, layout } = this.figure;
    const store = board.of(layout.meta);
    this.step = store.steps;
    const waits = !this.step && !layout.meta.captions && !data.some(({ meta }) => meta?.kind === "map");
    this.region.classList.toggle("waiting", waits);
    if (waits) return true;
    const now = performance.now();
    const key = this.key(store, context);
    if (key === this.drawn) return true;
    if (layout.meta.time && now - this.drawnAt < REDRAW_INTERVAL) return false;
    if (window.Plotly) Object.assign(this, { drawn: key, drawnAt: now });
    setText(this.caption, captionOf(layout.meta, store, this.plain, this.name === "routing_map"));
    const traces = data.map((trace) => bind(trace, store.of(trace.meta), context));
    this.description.update(layout.title.text, traces, this.step, now);
    for (const { marker } of traces) if (marker?.size) marker.size = this.area.typeSize * Number(marker.size);
    const layoutNow = this.layoutNow(layout, traces, store, context);
    if (!window.Plotly) {
      if (canBeSketched(traces)) sketch(this.graph, traces, layoutNow);
      return true;
    }
    this.graph.querySelector(".sketch")?.remove();
    Plotly.react(this.graph, traces, layoutNow, {
      displaylogo: false,
      displayModeBar: false,
      doubleClick: "autosize",
    });
    this.watchZoom();
    return !this.gliding;
  }

  /**
   * @param {Layout} blank
   * @param {Trace[]} traces
   * @param {Store} store
   * @param {Context} context
   * @returns {SizedLayout}
   */
  layoutNow(blank, traces, store, context) {
    const { meta } = blank;
    const { width, height, typeSize } = this.area;
    const layout = enlarged(this.plain ? inPlainWords(blank) : blank, typeSize);
    if (meta.time) Object.assign(layout, timeAxis(layout, meta.run === undefined ? store.peers : [store], context));
    if (this.run !== context.run) Object.assign(this, { run: context.run, zoomed: false });
    if (meta.share_axis) layout.yaxis = this.shareAxis(layout.yaxis, shareAxisTop(traces, meta.share_axis), context);
    if (this.onLog) layout.yaxis = withScale(layout.yaxis, this.log);
    if (meta.bar_labels) {
      const ticktext = barLabels(store, context, width - layout.margin.l - layout.margin.r);
      layout.xaxis = { ...layout.xaxis, tickmode: "array", tickvals: traces[0].x, ticktext, tickangle: 0 };
    }
    return {
      ...layout,
      title: { text: "" },
      uirevision: context.run,
      width,
      height,
      dragmode: width < NARROW && matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
  }

  // A zoom by hand holds until a double click or another run.
  watchZoom() {
    if (this.watchesZoom) return;
    this.watchesZoom = true;
    this.onFirstDrawing();
    this.graph.on("plotly_relayout", (change) => {
      this.zoomed = "yaxis.range[0]" in change || (this.zoomed && !("yaxis.autorange" in change));
    });
  }

  /**
   * Everything that the picture depends on: with the same key it is the same picture.
   * @param {Store} store
   * @param {Context} context
   */
  key(store, context) {
    const { map, dropped } = store.message;
    const version = (/** @type {Store} */ { steps, viewsVersion, message }) =>
      [steps, viewsVersion, message.live, message.events, message.tiles.dead, message.start_load];
    const content = this.name === "routing_map"
      ? map + dropped
      : `${JSON.stringify(store.peers.map(version))} ${this.top} ${this.log}`;
    return `${context.run} ${this.figureVersion} ${this.area.width} ${this.area.height} ${content}`;
  }

  /**
   * The share axis glides to its new end.
   * @param {Axis} axis
   * @param {number} target
   * @param {Context} context
   */
  shareAxis(axis, target, context) {
    if (this.zoomed) return { ...axis, range: this.graph.layout.yaxis.range };
    const before = this.top ?? target;
    this.gliding = !context.reduced_motion && Math.abs(target - before) >= 0.5;
    this.top = this.gliding ? before + 0.4 * (target - before) : target;
    return { ...axis, range: [0, this.top] };
  }

  /**
   * The chart as a slide, with the small print that it takes to make it again.
   * @param {string} format
   */
  async download(format) {
    const saved = await savePicture(`${this.slideUrl}/${this.name}`, `${this.name}-step-${this.step}`, format);
    if (!saved) showProblem(this.header, "The picture could not be made. Try again.");
  }

  close() {
    this.area.close();
  }
}
