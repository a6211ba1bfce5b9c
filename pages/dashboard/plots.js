// One Plotly chart that keeps its element, its zoom and its place while data flows through it.

const NARROW = 640;
const AXIS_TOPS = [5, 10, 20, 30, 50, 75, 112];

class Plot {
  constructor(parent, name) {
    this.name = name;
    this.region = element("section", { class: "plot", role: "region" });
    this.heading = this.region.appendChild(element("h3"));
    this.caption = element("small");
    this.graph = this.region.appendChild(element("div", { class: "graph" }));
    parent.append(this.region);
  }

  setFigure(figure) {
    this.figure = figure;
    const title = figure.layout.title.text;
    this.region.setAttribute("aria-label", title);
    this.heading.replaceChildren(title, " ", this.caption);
    this.caption.textContent = figure.layout.meta.caption;
  }

  draw(store, context) {
    if (!this.figure || !this.region.offsetParent) return;
    const { data, layout } = this.figure;
    const traces = data.map((trace) => bind(trace, store, context));
    const width = this.graph.clientWidth;
    const live = {
      ...layout,
      title: undefined,
      width,
      height: this.graph.clientHeight,
      dragmode: width < NARROW && matchMedia("(pointer: coarse)").matches ? false : "zoom",
    };
    if (layout.meta.time) Object.assign(live, this.timeAxis(layout, store, context));
    if (data.some((trace) => trace.meta?.now === "smoothed_load")) live.yaxis = this.shareAxis(layout, store, context);
    Plotly.react(this.graph, traces, live, {
      displaylogo: false,
      displayModeBar: false,
      doubleClick: "reset",
    });
  }

  // The time axis ends at the newest step; moved knobs are dashed lines, the newest few with their words.
  timeAxis(layout, store, context) {
    const { events } = store.latest;
    const line = { color: context.palette.ink, width: 1.3, dash: "dot" };
    const shapes = events.map(({ step }) => ({
      type: "line", xref: "x", yref: "paper", x0: step, x1: step, y0: 0, y1: 1, line,
    }));
    const end = Math.max(store.steps, 50);
    const annotations = events.slice(-3).map(({ step, label }, i) => ({
      x: step, xref: "x", y: 1 - 0.11 * i, yref: "paper", yanchor: "top", text: label, showarrow: false,
      xanchor: step > end / 2 ? "right" : "left", xshift: step > end / 2 ? -3 : 3,
      font: { size: 12, color: context.palette.ink }, bgcolor: context.palette.background,
    }));
    return {
      xaxis: { ...layout.xaxis, range: [0, end] },
      shapes: [...(layout.shapes ?? []), ...shapes],
      annotations: [...(layout.annotations ?? []), ...annotations],
    };
  }

  // The share axis glides to the first round value that leaves room for the tallest bar's label.
  shareAxis(layout, store, context) {
    const limit = store.latest.live.capacity_factor;
    const highest = Math.max(...store.now("smoothed_load"), limit === null ? 0 : limit / store.numExperts);
    const needed = Math.max(112 * highest, 250 / store.numExperts);
    const target = AXIS_TOPS.find((top) => top >= needed) ?? 112;
    const before = this.top ?? target;
    const arrived = context.still || Math.abs(target - before) < 0.5;
    this.top = arrived ? target : before + 0.4 * (target - before);
    return { ...layout.yaxis, range: [0, this.top] };
  }
}

function element(tag, attributes = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  return node;
}
