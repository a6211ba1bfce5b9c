// One Plotly chart that keeps its element, its zoom and its place while data flows through it.

const NARROW = 640;
const QUIET_INTERVAL = 350; // ms between two drawings of a chart over time
const LOG_AXES = ["imbalance", "task_and_balance_loss"];
const RUNS = "ABCD"; // as moe_sim.config.run_plan.NAMES
const AXIS_TOPS = [5, 10, 20, 30, 50, 75, 104];

class Plot {
  constructor(parent, name, onVisible, onLog) {
    this.name = name;
    this.onLog = onLog;
    this.region = element("section", { class: "plot", role: "region" });
    this.heading = this.region.appendChild(element("h2"));
    this.caption = element("small");
    this.graph = this.region.appendChild(element("div", { class: "graph" }));
    parent.append(this.region);
    this.inView = false;
    this.drawn = null;
    this.drawnAt = -Infinity;
    this.watcher = new IntersectionObserver(([entry]) => {
      this.inView = entry.isIntersecting;
      if (this.inView) onVisible();
    });
    this.watcher.observe(this.region);
  }

  setFigure(figure) {
    this.figure = figure;
    this.figureCount = (this.figureCount ?? 0) + 1;
    const title = figure.layout.title.text;
    this.region.setAttribute("aria-label", title);
    this.heading.replaceChildren(title, " ", this.caption, " ", this.tools());
    this.caption.textContent = figure.layout.meta.caption;
  }

  // Small buttons beside the name: log axis where there is a choice, and the chart as a picture.
  tools() {
    const place = element("span", { class: "tools" });
    if (LOG_AXES.includes(this.name)) {
      const { title } = this.figure.layout;
      this.logButton = element("button", { type: "button", "aria-label": `Log axis of ${title.text}`, "aria-pressed": String(this.log) }, "log");
      this.logButton.onclick = () => {
        this.setLog(!this.log);
        this.onLog(this.log);
      };
      place.append(this.logButton);
    }
    for (const format of this.slideUrl ? ["svg", "png"] : []) {
      const button = element("button", { type: "button", "aria-label": `${this.figure.layout.title.text} as ${format.toUpperCase()}` }, format.toUpperCase());
      button.onclick = () => this.download(format);
      place.append(button);
    }
    return place;
  }

  setLog(log) {
    this.log = log;
    this.logButton?.setAttribute("aria-pressed", String(log));
  }

  // Draw what there is to see. False if that should wait a moment: lines over time need not be redrawn as often as bars.
  draw(store, context) {
    if (!this.figure) return true;
    const { data, layout } = this.figure;
    const shared = layout.meta.run === undefined;
    store = store.of(layout.meta);
    const only = Object.entries(layout.meta.only ?? {});
    this.region.hidden = only.some(([knob, value]) => store.latest.live[knob] !== value);
    if (!this.region.offsetParent || !this.inView) return true;
    const now = performance.now();
    const key = this.key(store, context);
    if (key === this.drawn) return true;
    if (layout.meta.time && now - this.drawnAt < QUIET_INTERVAL) return false;
    this.drawn = key;
    this.drawnAt = now;
    this.step = store.steps;
    const traces = data.map((trace) => bind(trace, store.of(trace.meta), context));
    const width = this.graph.clientWidth;
    const live = {
      ...enlarged(layout, Number(getComputedStyle(this.graph).getPropertyValue("--u"))),
      title: undefined,
      uirevision: context.run,
      width,
      height: this.graph.clientHeight,
      dragmode: width < NARROW && matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
    if (layout.meta.time) Object.assign(live, this.timeAxis(live, shared ? store.peers : [store], context));
    if (this.run !== context.run) Object.assign(this, { run: context.run, zoomed: false });
    const bars = data.find((trace) => trace.meta?.now === "smoothed_load");
    if (bars) live.yaxis = this.shareAxis(live, store, context);
    if (LOG_AXES.includes(this.name)) live.yaxis = this.loggedAxis(live.yaxis);
    if (bars?.meta.label && store.steps)
      live.xaxis = { ...live.xaxis, tickmode: "array", tickvals: bars.x, ticktext: barLabels(store, context, width - live.margin.l - live.margin.r), tickangle: 0 };
    Plotly.react(this.graph, traces, live, {
      displaylogo: false,
      displayModeBar: false,
      doubleClick: "autosize",
    });
    this.watchZoom();
    return !this.gliding;
  }

  // A zoom by hand holds until a double click or another run.
  watchZoom() {
    if (this.watching) return;
    this.watching = true;
    this.graph.on("plotly_relayout", (change) => {
      this.zoomed = "yaxis.range[0]" in change || (this.zoomed && !("yaxis.autorange" in change));
    });
  }

  // Everything that the picture depends on: the same key, the same picture.
  key(store, context) {
    const { clientWidth, clientHeight } = this.graph;
    const { map, dropped } = store.latest;
    const told = ({ steps, viewsTold, latest }) => [steps, viewsTold, latest.live, latest.events];
    const rest = () => `${JSON.stringify(store.peers.map(told))} ${this.top} ${this.log}`;
    const content = this.name === "routing_map" ? map + dropped : rest();
    return `${context.run} ${this.figureCount} ${clientWidth} ${clientHeight} ${content}`;
  }

  // The axis as the figure has it, or the other kind, which fits itself to the data.
  loggedAxis(axis) {
    const type = this.log ? "log" : "linear";
    if (type === (axis.type ?? "linear")) return axis;
    return { ...axis, type, range: undefined, tickvals: undefined, ticktext: undefined, autorange: true };
  }

  // The chart as a slide: 1600×900, light, large type, with what is needed to make it again in small print.
  async download(format) {
    const link = encodeURIComponent(location.href);
    const answer = await fetch(`${this.slideUrl}/${this.name}?link=${link}`);
    if (!answer.ok) return;
    const filename = `${this.name}-step-${this.step}`;
    await Plotly.downloadImage(await answer.json(), { format, width: 1600, height: 900, filename });
  }

  // The time axis ends at the newest step; moved knobs are dashed lines, the newest few with their words.
  timeAxis(layout, stores, context) {
    const { ink, background } = context.palette;
    const several = stores.length > 1;
    const events = stores.flatMap(({ latest }, run) =>
      latest.events.map(({ step, label }) => ({
        step, label: several ? `${RUNS[run]}: ${label}` : label, color: several ? context.runs[run] : ink,
      })),
    );
    const shapes = events.map(({ step, color }) => ({
      type: "line", xref: "x", yref: "paper", x0: step, x1: step, y0: 0, y1: 1, line: { color, width: 1.3, dash: "dot" },
    }));
    const end = Math.max(...stores.map(({ steps }) => steps));
    const annotations = events.slice(-3).map(({ step, label, color }, i) => ({
      x: step, xref: "x", y: 1 - 0.11 * i, yref: "paper", yanchor: "top", text: label, showarrow: false,
      xanchor: step > end / 2 ? "right" : "left", xshift: step > end / 2 ? -3 : 3,
      font: { size: layout.font.size - 1, color }, bgcolor: background,
    }));
    return {
      xaxis: { ...layout.xaxis, ...(end ? { autorange: true } : { range: [0, 50] }) },
      shapes: [...(layout.shapes ?? []), ...shapes],
      annotations: [...(layout.annotations ?? []), ...annotations],
    };
  }

  // The share axis glides to the first round value above the tallest bar.
  shareAxis(layout, store, context) {
    const limit = store.latest.live.capacity_factor;
    const highest = Math.max(...store.now("smoothed_load"), limit === null ? 0 : limit / store.numExperts);
    const needed = Math.max(104 * highest, 250 / store.numExperts);
    const target = AXIS_TOPS.find((top) => top >= needed) ?? 104;
    const before = this.top ?? target;
    if (this.zoomed) return { ...layout.yaxis, range: this.graph.layout.yaxis.range };
    this.gliding = !context.still && Math.abs(target - before) >= 0.5;
    this.top = !this.gliding ? target : before + 0.4 * (target - before);
    return { ...layout.yaxis, range: [0, this.top] };
  }
}

// The same layout with larger type and the room that it needs.
function enlarged(layout, factor) {
  const axis = (one) => one && {
    ...one,
    tickfont: { ...one.tickfont, size: factor * one.tickfont.size },
    title: one.title && { ...one.title, font: { ...one.title.font, size: factor * one.title.font.size } },
  };
  const margin = Object.fromEntries(Object.entries(layout.margin).map(([side, size]) => [side, factor * size]));
  const axes = Object.fromEntries(["xaxis", "yaxis", "yaxis2"].filter((name) => layout[name]).map((name) => [name, axis(layout[name])]));
  return { ...layout, ...axes, margin, font: { ...layout.font, size: factor * layout.font.size } };
}

function element(tag, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}
