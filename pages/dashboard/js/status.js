// What is said beside the charts: state line, tiles, text passages.

const ICONS = { neutral: "○", good: "●", warning: "◆", bad: "▲" };
const TILES = [
  ["imbalance", "Imbalance max/min"],
  ["task_loss", "Task loss"],
  ["balance_loss", "Balance loss"],
  ["dropped", "Dropped tokens"],
  ["dead", "Dead experts"],
  ["speed", "Steps/s"],
];
const ELSEWHERE = {
  imbalance: "Of the smoothed load. Others look at max/mean: OLMo-core's load imbalance, Megatron-LM's overload factor; " +
    "DeepSeek's MaxVio is max/mean − 1. See the tab Other names.",
  balance_loss: "E·Σ f·P, f over all choices. transformers' number is k times as large. See the tab Why f and P.",
  dropped: "Token choices over capacity, mean of 20 steps; where experts choose, tokens that none of them chose.",
  dead: "Smoothed share below the threshold set in the sidebar, 0.1/E by default. NeMo calls dead only what gets nothing.",
};

class Chrome {
  constructor(root, send) {
    this.root = root;
    this.tiles = {};
    for (const [name, title] of TILES) {
      const tile = root.querySelector(".tiles").appendChild(element("div", { class: "tile" }));
      tile.append(element("dt", { title: ELSEWHERE[name] ?? "" }, title));
      this.tiles[name] = tile.appendChild(element("dd", { "data-tile": name }, "–"));
    }
    this.toolbar = new Toolbar(root, send);
  }

  draw(store, context) {
    const message = store.latest;
    this.drawState(message);
    this.toolbar.draw(message, store.steps);
    this.drawTiles(store, message, context);
  }

  drawState({ diagnosis }) {
    const line = this.root.querySelector(".state");
    line.dataset.level = diagnosis.level;
    line.querySelector(".icon").textContent = ICONS[diagnosis.level];
    for (const [part, text] of [["word", diagnosis.state], ["evidence", diagnosis.evidence], ["advice", diagnosis.advice]])
      setText(line.querySelector(`.${part}`), text);
    // Spoken only when the state itself changes, not with every number in it.
    const announcer = this.root.querySelector(".announcer");
    if (announcer.dataset.state !== diagnosis.state) {
      announcer.dataset.state = diagnosis.state;
      announcer.textContent = `${diagnosis.state}. ${diagnosis.evidence} ${diagnosis.advice}`;
    }
  }

  drawTiles(store, message, { uneven_ratio, many_dropped }) {
    if (!store.steps) {
      for (const tile of Object.values(this.tiles)) this.setTile(tile, "–", false);
      return;
    }
    const ratio = store.last("imbalance");
    const { dead } = message.tiles;
    // Where experts choose, nothing is over capacity, but tokens may be chosen by nobody.
    const choosing = message.live.balancing === "expert_choice";
    const dropped = choosing ? message.tiles.unserved : message.tiles.dropped;
    setText(this.tiles.dropped.previousSibling, choosing ? "Unchosen tokens" : "Dropped tokens");
    const smoothed = (name) => store.smoothed[name][store.steps - 1];
    this.setTile(this.tiles.imbalance, ratio === null ? "∞" : ratio >= 100 ? String(Math.round(ratio)) : ratio.toFixed(1),
      ratio === null || ratio > uneven_ratio);
    this.setTile(this.tiles.task_loss, smoothed("task_loss").toFixed(2), message.state === "diverged");
    this.setTile(this.tiles.balance_loss, smoothed("balance_loss").toFixed(2), smoothed("balance_loss") > 2);
    this.setTile(this.tiles.dropped, percent(dropped / 1000), dropped / 1000 > many_dropped);
    this.setTile(this.tiles.dead, `${dead} of ${store.numExperts}`, dead > 0);
    this.setTile(this.tiles.speed, message.speed ? String(Math.round(message.speed)) : "0", false);
  }

  setTile(tile, text, bad) {
    setText(tile, text);
    tile.classList.toggle("bad", bad);
  }
}

// Passages of text, every character on the colour of the expert that takes it.
class Passages {
  constructor(parent) {
    this.parent = parent;
    this.shown = [];
  }

  setText(names, passages) {
    this.characters = [];
    this.shown = [];
    this.parent.replaceChildren(
      ...passages.map((passage, i) => {
        const figure = element("figure", { class: "passage" });
        const line = element("p");
        for (const character of passage) {
          const span = element("span", {}, character === "\n" ? "⏎" : character);
          line.append(span, character === "\n" ? "\u200b" : "");
          this.characters.push(span);
        }
        figure.append(element("figcaption", {}, names[i]), line);
        return figure;
      }),
    );
  }

  draw(store, context) {
    if (!this.parent.offsetParent) return;
    const { expert, dropped } = routing(store.latest, store.numExperts);
    this.characters.forEach((span, i) => {
      const key = `${expert[i]}${dropped[i]}${context.theme}`;
      if (this.shown[i] === key) return;
      this.shown[i] = key;
      const colour = context.colours[expert[i]];
      span.style.backgroundColor = dropped[i] ? "transparent" : colour;
      span.style.color = dropped[i] ? "inherit" : inkOn(colour);
      span.style.textDecoration = dropped[i] ? "line-through" : "";
      span.title = `expert ${expert[i] + 1}` + (dropped[i] ? ", dropped" : "");
    });
  }
}

// Black or white, whichever reads better on a colour.
function inkOn(colour) {
  return luminance([1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))) > 0.179 ? "#000000" : "#ffffff";
}

// Relative luminance (WCAG 2) of red, green and blue in 0 … 255.
function luminance(parts) {
  const [red, green, blue] = parts.map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
