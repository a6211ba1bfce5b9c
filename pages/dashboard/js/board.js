// What draws a page of charts and keeps its place while data flows: the stream, the theme, one drawing a frame.

const RETELL = 1500; // ms until a command that was not obeyed is told again, then twice as long, and so on
const AFTERLIFE = 2000; // ms for which a board that lost its place is kept, should the page have one again

// What Streamlit calls at the first mount and whenever Python sends new data. One board for each element, but Streamlit
// may take the element away and bring another at once: then the board moves there, with its zoom and its open commands.
function mounted(Kind) {
  const boards = new Map();
  return (component) => {
    const { parentElement, data } = component;
    let board = boards.get(parentElement);
    if (!board) {
      const place = parentElement.querySelector(".ecl");
      const [before, homeless] = [...boards].find(([, { root }]) => !root.isConnected) ?? [];
      boards.delete(before);
      board = homeless ?? new Kind(place);
      if (homeless) place.replaceWith(board.root);
      boards.set(parentElement, board);
    }
    clearTimeout(board.closing);
    board.receive(component, data);
    return () => {
      if (boards.get(parentElement) !== board) return; // it has moved on
      board.closing = setTimeout(() => {
        board.close();
        boards.delete(parentElement);
      }, AFTERLIFE);
    };
  };
}

// A kind of board has makeStore(data), buildViews(data) and drawWords(); its store has steps, latest and apply().
class Board {
  constructor(root) {
    this.root = root;
    this.name = Math.random().toString(36).slice(2);
    this.asked = []; // commands that Python has not told us yet to have obeyed
    this.coming = null; // the store of a run that is computed again, until it is as far as the one on the screen
    this.count = 0;
    this.plots = new Map();
    this.resizing = new ResizeObserver(() => this.schedule());
    this.resizing.observe(root);
    this.onVisible = () => this.schedule();
    document.addEventListener("visibilitychange", this.onVisible);
    this.themeTimer = setInterval(() => this.followTheme(), 400);
  }

  // Streamlit does not run the script when the visitor picks another theme in its menu: ask for the other colours.
  followTheme() {
    if (!this.root.isConnected) return;
    const page = getComputedStyle(this.root.closest(".stApp") ?? document.body).backgroundColor;
    const theme = luminance(page.match(/[\d.]+/g).slice(0, 3).map(Number)) > 0.5 ? "light" : "dark";
    if (theme === this.context?.theme) this.wantedTheme = null;
    else if (theme !== this.wantedTheme) {
      this.wantedTheme = theme;
      this.send({ name: "sync" });
    }
  }

  // Every command goes along until it was obeyed: of several in quick succession Streamlit delivers only the last.
  send(command) {
    this.asked.push({ ...command, number: ++this.count });
    this.tell(RETELL);
  }

  // And once more after a while: what is said while the page's own connection is down is lost.
  tell(patience) {
    clearTimeout(this.telling);
    if (!this.asked.length) return;
    const { name, session, asked } = this;
    if (this.root.isConnected) this.component.setTriggerValue("commands", { board: name, session, commands: asked });
    this.telling = setTimeout(() => this.tell(2 * patience), patience);
  }

  // New data from Python: another run, another theme, or (without the stream) the newest message.
  async receive(component, data) {
    this.component = component;
    if (data.obeyed.board === this.name) this.asked = this.asked.filter(({ number }) => number > data.obeyed.last);
    if (this.session && data.session !== this.session) this.resume(data);
    if (this.asked.some(({ name }) => name === "resume")) return; // what there is so far is not wanted
    this.session = data.session;
    this.kept = data.kept;
    this.context = { ...data.context, run: data.run_id, still: matchMedia("(prefers-reduced-motion: reduce)").matches };
    for (const [name, colour] of Object.entries(data.context.palette)) this.root.style.setProperty(`--${name}`, colour);
    this.root.dataset.theme = data.context.theme;
    this.buildViews(data);
    if (data.run_id !== this.runId) {
      this.runId = data.run_id;
      this.coming = this.resuming && data.hurrying ? this.makeStore(data) : null;
      if (!this.coming) this.store = this.makeStore(data);
      this.resuming = false;
      this.listen(data);
    }
    this.fed = Boolean(data.message);
    if (data.message && !this.apply(JSON.parse(data.message))) this.send({ name: "resync" });
    this.drawNotice();
    await loadPlotly(data.plotly_url);
    this.schedule();
  }

  listen(data) {
    this.stream?.close();
    if (!data.stream_url) return; // this server has none, and Python feeds the page from the start
    this.stream = new Stream(data.stream_url, {
      from: () => this.told.steps,
      onMessage: (message) => this.apply(message) || this.stream.open(),
      onSilence: () => this.fed || this.component.setStateValue("transport", "component"),
      onSteady: () => {
        if (this.fed) this.component.setStateValue("transport", "stream");
        this.fed = false; // unless Python says otherwise
      },
      onLost: () => this.send({ name: "lost", run_id: this.runId }),
    });
  }

  // Another session answers than before: the server was restarted, or had given the old one up. It opened with the run
  // of the address bar; ask it to do again what was done here. Not for a lecture, which its owner leads.
  resume({ session }) {
    const { latest, steps } = this.store;
    if (!this.kept || !latest || !steps) return;
    this.session = session;
    this.resuming = true;
    const waiting = this.asked.filter(({ name }) => name !== "lost");
    this.asked = [];
    this.component.setStateValue("transport", "stream");
    const { budget, rate, state } = latest;
    this.send({ name: "resume", runs: this.kept, steps, budget, rate, training: state === "training" });
    for (const command of waiting) this.send(command); // what was asked for meanwhile
  }

  // The store that messages are for.
  get told() {
    return this.coming ?? this.store;
  }

  apply(message) {
    const complete = this.told.apply(message);
    if (complete) {
      this.arrive();
      this.schedule();
    }
    return complete;
  }

  // A run that was computed again takes the screen once it is as far as the one before.
  arrive() {
    if (!this.coming) return;
    const over = ["diverged", "failed"].includes(this.coming.latest.state);
    if (over || this.coming.steps >= this.store.steps) {
      this.store = this.coming;
      this.coming = null;
    }
    this.drawNotice();
  }

  drawNotice() {
    const notice = this.root.querySelector(".notice");
    const words = this.coming
      ? `The connection was lost. The run is computed again, step ${this.coming.steps} of ${this.store.steps} so far.`
      : this.fed && this.stream ? "Live stream not reachable: updates come through the page instead." : "";
    notice.hidden = !words;
    setText(notice, words);
  }

  addPlot(parent, name, onLog = () => {}) {
    this.plots.set(name, new Plot(parent, name, () => this.schedule(), onLog));
  }

  setFigures(data) {
    const figures = Object.assign({}, ...data.figures.map((text) => JSON.parse(text)));
    for (const [name, plot] of this.plots) {
      plot.slideUrl = data.slide_url;
      if (figures[name]) plot.setFigure(figures[name]);
    }
  }

  // Draw at most once a frame, and only while somebody can see it.
  schedule() {
    if (this.frame || document.hidden || !this.store?.latest || !window.Plotly) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      if (!this.store.latest) return; // another run has taken the place since
      this.drawWords();
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
    clearTimeout(this.telling);
    clearInterval(this.themeTimer);
    for (const plot of this.plots.values()) plot.watcher.disconnect();
  }
}

let plotlyLoading;
function loadPlotly(url) {
  plotlyLoading ??= new Promise((resolve, reject) => {
    if (!url) {
      // No address: a component beside this one brings it along.
      if (window.Plotly) resolve();
      else addEventListener("plotly", resolve, { once: true });
      return;
    }
    const script = element("script", { src: url });
    script.onload = resolve;
    script.onerror = () => reject(new Error("Plotly.js could not be loaded"));
    document.head.append(script);
  });
  return plotlyLoading;
}
