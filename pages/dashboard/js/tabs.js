// The second row of views: one panel open at a time, only that one drawn.

const VIEWS = [
  ["why", "Why f and P", ["load_and_importance"]],
  ["mechanism", "Mechanism", ["preference", "selection_bias"]],
  ["specialization", "Specialization", ["specialization"]],
  ["feedback", "Feedback loop", ["feedback_share", "feedback_grad_norm", "feedback_weight_change", "feedback_weight_distance"]],
  ["router", "Router", ["router_gradients", "gradient_cosine", "router_logits"]],
  ["capacity", "Capacity", ["capacity", "dropped_by_choice"]],
  ["devices", "Devices", ["devices", "step_time"]],
  ["variance", "Variance", ["routing_std"]],
  ["coactivation", "Co-activation", ["coactivation"]],
  ["inference", "Inference", ["inference_load", "inference_loss"]],
  ["names", "Other names", []],
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
      panel.append(element("div", { class: "card" }));
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
    const lesson = LESSONS[this.current](store, this.data);
    const panel = this.panels[this.current];
    const told = JSON.stringify(lesson);
    if (panel.dataset.told !== told) {
      panel.dataset.told = told;
      const unknown = new Terms(this.data.terms);
      refill(panel.querySelector(".lesson"), lesson.text.map((line) => unknown.paragraph(line)));
      refill(panel.querySelector(".card"), (lesson.tables ?? []).map(table));
    }
    if (this.current === "text") this.passages?.draw(store, context);
  }
}

// New content in place of the old, node by node: numbers change, and what has the focus keeps it.
function refill(parent, nodes) {
  nodes.forEach((node, i) => {
    const old = parent.childNodes[i];
    if (!old) parent.append(node);
    else if (old.nodeName !== node.nodeName || old.dataset?.short !== node.dataset?.short) old.replaceWith(node);
    else if (old.nodeType === Node.ELEMENT_NODE) refill(old, [...node.childNodes]);
    else if (old.data !== node.data) old.data = node.data;
  });
  while (parent.childNodes.length > nodes.length) parent.lastChild.remove();
}

// A table from its head and its rows of words.
function table({ head, rows }) {
  const node = element("table");
  const line = (cells, tag) => {
    const row = element("tr");
    row.append(...cells.map((cell) => element(tag, {}, cell)));
    return row;
  };
  node.append(line(head, "th"), ...rows.map((cells) => line(cells, "td")));
  return node;
}

// The words that readers of the level may not know, underlined where they come first, with their meaning on hover and
// focus; as pages/text/prose.py has it.
class Terms {
  constructor(terms) {
    this.terms = terms;
    this.seen = new Set();
    const names = Object.keys(terms).sort((a, b) => b.length - a.length);
    const escaped = names.map((name) => name.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    this.pattern = new RegExp(`(?<![\\p{L}\\p{N}_-])(${escaped.join("|")})(?![\\p{L}\\p{N}_-])`, "gu");
  }

  paragraph(text) {
    const node = element("p");
    let at = 0;
    for (const match of text.matchAll(this.pattern)) {
      const short = this.terms[match[0]];
      if (this.seen.has(short)) continue;
      this.seen.add(short);
      node.append(text.slice(at, match.index), element("abbr", { class: "term", tabindex: "0", "data-short": short }, match[0]));
      at = match.index + match[0].length;
    }
    node.append(text.slice(at));
    return node;
  }
}
