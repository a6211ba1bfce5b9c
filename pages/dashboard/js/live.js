// The live page: one run, with its state line, its tiles, its routing map and a second row of views.

class Dashboard extends Board {
  constructor(root) {
    super(root);
    this.chrome = new Chrome(root, (command) => this.send(command));
  }

  makeStore(data) {
    return new Store(data.num_experts, data.signals);
  }

  apply(message) {
    const store = this.told;
    if (!super.apply(message)) return false;
    // A knob that moved by itself: let the sidebar follow.
    const moves = message.planned_moves;
    if (moves > (store.plannedMoves ?? moves)) this.send({ name: "sync" });
    store.plannedMoves = moves;
    return true;
  }

  buildViews(data) {
    this.chrome.toolbar.setRates(data.rates);
    this.chrome.toolbar.watching = data.watching;
    this.root.dataset.hide = data.hide.join(" ");
    this.buildCharts(data);
    this.followView(data);
  }

  buildCharts(data) {
    const key = `${data.run_id} ${JSON.stringify(data.context)}`;
    if (key === this.viewsKey) return;
    this.viewsKey = key;
    const first = this.root.querySelector(".charts.first");
    const second = this.root.querySelector(".charts.second");
    if (!this.plots.size) {
      this.mapPlace = first.appendChild(element("div", { class: "place" }));
      const add = (parent, name) => this.addPlot(parent, name, (log) => this.setLog(name, log));
      add(first, "utilization");
      for (const name of ["utilization_over_time", "imbalance", "task_and_balance_loss"]) add(second, name);
      this.tabs = new Tabs(this.root, add, () => this.show());
    }
    this.fillMapPlace(data);
    this.tabs.setText(data);
    this.setFigures(data);
  }

  // What Python says about the view counts when it says something new (a link, a lesson), not when it repeats what this
  // page told it a while ago.
  followView({ tab, log, turns }) {
    if (turns === this.turns) return;
    this.turns = turns;
    this.tabs.open(tab);
    this.log = new Set(log);
    for (const [name, plot] of this.plots) plot.setLog(this.log.has(name));
  }

  show() {
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

  drawWords() {
    this.chrome.draw(this.store, this.context);
    this.passages?.draw(this.store, this.context);
    this.tabs.draw(this.store, this.context);
  }
}

export default mounted(Dashboard);
