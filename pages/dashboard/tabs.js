// The second row of views: one panel open at a time, only that one drawn.

const VIEWS = [
  ["why", "Why f and P", ["load_and_importance"]],
  ["specialization", "Specialization", ["specialization"]],
  ["feedback", "Feedback loop", ["feedback_share", "feedback_grad_norm", "feedback_weight_change"]],
  ["capacity", "Capacity", ["capacity"]],
  ["text", "Text", []],
];

class Tabs {
  constructor(root, addPlot, onOpen) {
    const list = root.querySelector(".tabs");
    const panels = root.querySelector(".panels");
    this.buttons = {};
    this.panels = {};
    for (const [name, title, charts] of VIEWS) {
      const button = element("button", { type: "button", role: "tab", id: `ecl-tab-${name}`, "aria-controls": `ecl-panel-${name}` }, title);
      const panel = element("div", { class: `panel ${name}`, role: "tabpanel", id: `ecl-panel-${name}`, "aria-labelledby": `ecl-tab-${name}`, tabindex: "0" });
      list.append(button);
      panels.append(panel);
      panel.append(element("div", { class: "lesson" }));
      for (const chart of charts) addPlot(panel, chart);
      button.onclick = () => { this.open(name); onOpen(); };
      button.onkeydown = (event) => this.move(event, onOpen);
      this.buttons[name] = button;
      this.panels[name] = panel;
    }
    this.open("why");
  }

  open(name) {
    this.current = name;
    for (const [other, button] of Object.entries(this.buttons)) {
      button.setAttribute("aria-selected", String(other === name));
      button.tabIndex = other === name ? 0 : -1;
      this.panels[other].hidden = other !== name;
    }
  }

  move(event, onOpen) {
    const names = Object.keys(this.buttons).filter((name) => !this.buttons[name].hidden);
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = names[(names.indexOf(this.current) + step + names.length) % names.length];
    this.open(next);
    this.buttons[next].focus();
    onOpen();
  }

  setText(data) {
    const isText = data.passages.length > 0;
    this.buttons.text.hidden = !isText;
    if (!isText && this.current === "text") this.open("why");
    if (isText && !this.passages) {
      const body = this.panels.text.appendChild(element("div", { class: "passages" }));
      this.passages = new Passages(body);
    }
    if (isText) this.passages.setText(data.groups, data.passages);
    this.data = data;
  }

  draw(store, context) {
    const lesson = LESSONS[this.current]?.(store, context, this.data);
    const place = this.panels[this.current].querySelector(".lesson");
    if (lesson && place.dataset.text !== lesson.join("|")) {
      place.dataset.text = lesson.join("|");
      place.replaceChildren(...lesson.map((line) => element("p", {}, line)));
    }
    if (this.current === "text") this.passages?.draw(store, context);
  }
}

const share = (value) => (value / 1000).toFixed(3);

// What a view says in words, with the run's own numbers in the formulas.
const LESSONS = {
  why(store) {
    const { load, importance } = store.latest.now;
    const count = store.numExperts;
    const terms = load.map((f, i) => (f * importance[i]) / 1e6);
    const sum = terms.reduce((total, term) => total + term, 0);
    const busiest = load.indexOf(Math.max(...load));
    const sumInWords = `E·Σ f·P = ${count} × ${sum.toFixed(3)} = ${(count * sum).toFixed(2)}, of which expert ` +
      `${busiest + 1} alone: ${count} × ${share(load[busiest])} × ${share(importance[busiest])} = ` +
      `${(count * terms[busiest]).toFixed(2)}.`;
    return [
      "f counts where tokens went. It comes from an argmax and carries no gradient. P is what the router would like, and " +
        "carries it. In E·Σ f·P, f aims the push: the busiest expert's P is pressed down hardest.",
      store.steps ? sumInWords : "Train to see the run's own numbers in the formula.",
      "Near 1 does not prove balance: while P is nearly uniform, the loss is about 1 however lopsided f is. Look at f.",
    ];
  },
  specialization(store, _, data) {
    const value = store.latest.now.specialization;
    return [
      `How much the chosen expert tells about a token's ${data.group_noun}: mutual information over the ` +
        `${data.group_noun}s' entropy, ${value === null ? "–" : value.toFixed(2)} of 1.`,
      "One column taking all rows is collapse. Dark single cells are specialists. All cells alike: the router has " +
        "stopped to tell tokens apart, as with too large an α.",
    ];
  },
  feedback() {
    return [
      "More tokens, more gradient, faster improvement, more tokens. An expert that gets none has no gradient, its weights " +
        "stand still, and it stays bad because it is never used. Means of ten steps; where a line ends, the value is 0.",
    ];
  },
  capacity(store, _, data) {
    const { live, now } = store.latest;
    const { batch_tokens } = data;
    const pairs = batch_tokens * live.top_k;
    if (live.capacity_factor === null)
      return [
        "The capacity factor is off: every expert takes all that comes. Expert-parallel hardware then waits for the " +
          `busiest one, which has ${percent(Math.max(...now.load) / 1000)} of the ${pairs} token choices of a step.`,
      ];
    const room = Math.ceil((live.capacity_factor * pairs) / store.numExperts - 1e-9);
    return [
      `C = ⌈factor · T · K / E⌉ = ⌈${live.capacity_factor} × ${batch_tokens} × ${live.top_k} / ${store.numExperts}⌉ = ` +
        `${room} token choices an expert and step.`,
      `Dropped now: ${percent(now.dropped_fraction / 1000)} of ${pairs}. A dropped token passes the layer by, on the ` +
        "residual path. α is the soft push, capacity the hard cap.",
    ];
  },
  text() {
    return ["Held-out text. Every character stands on the colour of the expert that takes it to predict what comes next."];
  },
};
