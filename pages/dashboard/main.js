// The component: Streamlit calls the default export at the first mount and whenever Python sends new data.

const dashboards = new WeakMap();

export default function (component) {
  const { parentElement, data } = component;
  let dashboard = dashboards.get(parentElement);
  if (!dashboard) {
    dashboard = new Dashboard(parentElement.querySelector(".ecl"));
    dashboards.set(parentElement, dashboard);
  }
  dashboard.receive(component, data);
  // Streamlit may clean up only to call again at once, on the same element: then nothing ends.
  clearTimeout(dashboard.closing);
  return () => {
    dashboard.closing = setTimeout(() => {
      dashboard.close();
      dashboards.delete(parentElement);
    }, 100);
  };
}

class Dashboard {
  constructor(root) {
    this.root = root;
    this.chrome = new Chrome(root, (command) => this.send(command));
    this.plots = new Map();
    this.resizing = new ResizeObserver(() => this.schedule());
    this.resizing.observe(root);
    this.onVisible = () => this.schedule();
    document.addEventListener("visibilitychange", this.onVisible);
    this.themeTimer = setInterval(() => this.followTheme(), 400);
  }

  // Streamlit does not run the script when the visitor picks another theme in its menu: ask for the other colours.
  followTheme() {
    const page = getComputedStyle(this.root.closest(".stApp") ?? document.body).backgroundColor;
    const theme = luminance(page.match(/[\d.]+/g).slice(0, 3).map(Number)) > 0.5 ? "light" : "dark";
    if (theme === this.context?.theme) this.wantedTheme = null;
    else if (theme !== this.wantedTheme) {
      this.wantedTheme = theme;
      this.send({ name: "sync" });
    }
  }

  send(command) {
    this.component.setTriggerValue("command", command);
  }

  // New data from Python: another run, another theme, or (without the stream) the newest message.
  async receive(component, data) {
    this.component = component;
    this.context = { ...data.context, run: data.run_id, still: matchMedia("(prefers-reduced-motion: reduce)").matches };
    for (const [name, colour] of Object.entries(data.context.palette)) this.root.style.setProperty(`--${name}`, colour);
    this.root.dataset.theme = data.context.theme;
    this.chrome.setRates(data.rates);
    this.root.dataset.hide = data.hide.join(" ");
    this.chrome.watching = data.watching;
    this.buildViews(data);
    this.followView(data);
    if (data.run_id !== this.runId) {
      this.runId = data.run_id;
      this.store = new Store(data.num_experts, data.signals);
      this.silent = false;
      this.listen(data);
    }
    if (data.message && !this.apply(JSON.parse(data.message))) this.send({ name: "resync" });
    this.chrome.notice(data.message ? "Live stream not reachable: updates come through the page instead." : "");
    await loadPlotly(data.plotly_url);
    this.schedule();
  }

  listen(data) {
    this.stream?.close();
    this.stream = new Stream(data.stream_url, {
      onMessage: (message) => this.apply(message) || this.stream.open(this.store.steps),
      onSilence: () => {
        if (this.silent) return;
        this.silent = true;
        this.component.setStateValue("transport", "component");
      },
      onLost: () => this.send({ name: "lost", run_id: this.runId }),
    });
  }

  apply(message) {
    const complete = this.store.apply(message);
    if (!complete) return false;
    // A knob that moved by itself: let the sidebar follow.
    const moves = message.planned_moves;
    if (moves > (this.store.plannedMoves ?? moves)) this.send({ name: "sync" });
    this.store.plannedMoves = moves;
    this.schedule();
    return true;
  }

  buildViews(data) {
    const key = `${data.run_id} ${JSON.stringify(data.context)}`;
    if (key === this.viewsKey) return;
    this.viewsKey = key;
    const first = this.root.querySelector(".charts.first");
    const second = this.root.querySelector(".charts.second");
    if (!this.plots.size) {
      this.mapPlace = first.appendChild(element("div", { class: "place" }));
      this.addPlot(first, "utilization");
      for (const name of ["utilization_over_time", "imbalance", "task_and_balance_loss"]) this.addPlot(second, name);
      this.tabs = new Tabs(this.root, (parent, name) => this.addPlot(parent, name), (name) => this.show(name));
    }
    this.fillMapPlace(data);
    this.tabs.setText(data);
    for (const [name, plot] of this.plots) {
      if (data.figures[name]) plot.setFigure(data.figures[name]);
      plot.slideUrl = data.slide_url;
    }
  }

  addPlot(parent, name) {
    this.plots.set(name, new Plot(parent, name, () => this.schedule(), (log) => this.setLog(name, log)));
  }

  // What Python says about the view counts when it says something new: a link, a lesson.
  followView({ tab, log }) {
    if (tab !== this.toldTab) this.tabs.open(tab);
    this.toldTab = tab;
    this.log = new Set(log);
    for (const [name, plot] of this.plots) plot.setLog(this.log.has(name));
  }

  show(tab) {
    this.toldTab = tab;
    this.sendView();
    this.schedule();
  }

  setLog(name, log) {
    if (log) this.log.add(name);
    else this.log.delete(name);
    this.sendView();
    this.schedule();
  }

  sendView() {
    this.send({ name: "view", tab: this.tabs.current, log: [...this.log] });
  }

  // The routing map's place holds dots for topics, passages for text.
  fillMapPlace(data) {
    const isText = data.passages.length > 0;
    if (this.mapIsText === isText) return;
    this.mapIsText = isText;
    this.plots.get("routing_map")?.watcher.disconnect();
    this.plots.delete("routing_map");
    this.mapPlace.replaceChildren();
    this.passages = null;
    if (!isText) {
      this.addPlot(this.mapPlace, "routing_map");
      return;
    }
    const region = element("section", { class: "plot", role: "region", "aria-label": "Routing map" });
    const heading = element("h2", {}, "Routing map ");
    heading.append(element("small", {}, "held-out text, every character on the colour of the expert that takes it"));
    const body = element("div", { class: "graph passages" });
    region.append(heading, body);
    this.mapPlace.append(region);
    this.passages = new Passages(body);
    this.passages.setText(data.groups, data.passages);
  }

  // Draw at most once a frame, and only while somebody can see it.
  schedule() {
    if (this.frame || document.hidden || !this.store?.latest || !window.Plotly) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.store.latest) return; // another run has taken the place since
      this.chrome.draw(this.store, this.context);
      this.passages?.draw(this.store, this.context);
      this.tabs.draw(this.store, this.context);
      this.drawPlots();
      this.root.dataset.step = this.store.steps;
      this.root.dataset.events = this.store.latest.events.length;
    });
  }

  // All in one frame: painting is what costs, and a frame is one painting. But the very first chart is shown at once.
  drawPlots() {
    let finished = true;
    for (const plot of this.plots.values()) {
      finished = plot.draw(this.store, this.context) && finished;
      if (!this.begun && plot.drawn) {
        this.begun = true;
        this.schedule();
        return;
      }
    }
    if (!finished) this.later ??= setTimeout(() => { this.later = null; this.schedule(); }, QUIET_INTERVAL);
  }

  close() {
    this.stream?.close();
    this.resizing.disconnect();
    document.removeEventListener("visibilitychange", this.onVisible);
    cancelAnimationFrame(this.frame);
    clearTimeout(this.later);
    clearInterval(this.themeTimer);
    for (const plot of this.plots.values()) plot.watcher.disconnect();
  }
}

let plotlyLoading;
function loadPlotly(url) {
  plotlyLoading ??= new Promise((resolve, reject) => {
    const script = element("script", { src: url });
    script.onload = resolve;
    script.onerror = () => reject(new Error("Plotly.js could not be loaded"));
    document.head.append(script);
  });
  return plotlyLoading;
}
