// The Compare page: runs side by side in lock-step, a column for each, and shared axes below.

// As one store: a message holds one for every run.
class Peers {
  constructor(counts, signals) {
    this.stores = counts.map((count) => new Store(count, signals));
    for (const store of this.stores) store.peers = this.stores;
    this.steps = 0;
    this.latest = null;
  }

  of(meta) {
    return this.stores[meta?.run ?? 0];
  }

  apply(message) {
    if (message.from > this.steps && this.latest) return false;
    if (!message.members.every((member, run) => this.stores[run].apply(member))) return false;
    this.steps = message.to;
    this.latest = { ...message, events: this.stores.flatMap(({ latest }) => latest.events) };
    return true;
  }
}

class SideBySide extends Board {
  constructor(root) {
    super(root);
    this.toolbar = new Toolbar(root, (command) => this.send(command));
  }

  makeStore(data) {
    return new Peers(data.num_experts, data.signals);
  }

  buildViews(data) {
    this.toolbar.setRates(data.rates);
    this.root.style.setProperty("--count", data.runs.length);
    setText(this.root.querySelector(".difference"), data.difference);
    const names = data.runs.map(({ name }) => name).join("");
    const key = `${data.run_id} ${JSON.stringify([data.context, data.runs])}`;
    if (key === this.viewsKey) return;
    this.viewsKey = key;
    if (names !== this.names) this.build(names, data.runs);
    data.runs.forEach(({ words }, run) => setText(this.heads[run].words, words));
    this.setFigures(data);
  }

  build(names, runs) {
    for (const plot of this.plots.values()) plot.watcher.disconnect();
    this.plots.clear();
    this.names = names;
    const [columns, shared, whole, later] = ["runs", "shared", "whole", "later"].map((name) => this.root.querySelector(`.${name}`));
    for (const place of [columns, shared, whole, later]) place.replaceChildren();
    this.heads = runs.map(({ name }, run) => {
      const column = columns.appendChild(element("div", { class: "run", "data-run": name }));
      const head = new Head(column, name, run);
      this.addPlot(column, `utilization_${name}`);
      return head;
    });
    for (const name of ["compare_task_loss", "compare_task_loss_difference", "compare_imbalance"]) this.addPlot(shared, name);
    this.addPlot(whole, "compare_timeline");
    for (const { name } of runs) this.addPlot(later, `utilization_over_time_${name}`);
  }

  drawWords() {
    this.toolbar.draw(this.store.latest, this.store.steps);
    this.heads.forEach((head, run) => head.draw(this.store.stores[run], this.context));
  }
}

// What stands above the bars of one run: its letter, what it is, its state, its numbers and its story.
class Head {
  constructor(parent, name, run) {
    this.run = run;
    const head = parent.appendChild(element("div", { class: "head" }));
    this.letter = head.appendChild(element("strong", { class: "letter" }, name));
    this.words = head.appendChild(element("span", { class: "words" }));
    this.state = parent.appendChild(element("p", { class: "verdict" }));
    this.numbers = parent.appendChild(element("p", { class: "numbers" }));
    this.story = parent.appendChild(element("p", { class: "story" }));
  }

  draw(store, context) {
    this.letter.style.background = context.runs[this.run];
    const { diagnosis, tiles, timeline } = store.latest;
    this.state.dataset.level = diagnosis.level;
    setText(this.state, `${ICONS[diagnosis.level]} ${diagnosis.state}`);
    setText(this.story, timeline.words);
    if (!store.steps) return setText(this.numbers, "–");
    const ratio = store.last("imbalance");
    const loss = store.smoothed.task_loss[store.steps - 1].toFixed(3);
    setText(this.numbers, `task loss ${loss} · max/min ${ratio === null ? "∞" : ratio >= 100 ? Math.round(ratio) : ratio.toFixed(1)} · ` +
      `dead ${tiles.dead} of ${store.numExperts}${tiles.dropped ? ` · dropped ${percent(tiles.dropped / 1000)}` : ""}`);
  }
}

export default mounted(SideBySide);
