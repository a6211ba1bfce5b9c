// Train, Step, Reset, speed and budget: the same above one run and above several.

const thousands = new Intl.NumberFormat("en-US");

class Toolbar {
  constructor(root, send) {
    this.root = root;
    this.state = "ready";
    this.watching = false; // a lecture: all buttons are off
    root.querySelectorAll("button[data-command]").forEach((button) => {
      button.onclick = () => {
        const name = button.dataset.command;
        send(name === "toggle" ? { name: this.state === "training" ? "pause" : "train" } : { name });
      };
    });
    this.select = root.querySelector("select");
    this.select.onchange = () => send({ name: "rate", value: Number(this.select.value) });
  }

  setRates(rates) {
    if (this.select.options.length) return;
    for (const rate of rates) {
      const words = rate ? `${rate} ${rate === 1 ? "step" : "steps"}/s` : "as fast as possible";
      this.select.append(element("option", { value: rate }, words));
    }
  }

  button(command) {
    return this.root.querySelector(`[data-command=${command}]`);
  }

  draw(message, steps) {
    this.state = message.state;
    const over = this.watching || ["finished", "diverged", "failed"].includes(message.state);
    for (const button of this.root.querySelectorAll("button[data-command]")) {
      const ends = ["toggle", "step"].includes(button.dataset.command);
      button.disabled = ends ? over : this.watching;
    }
    this.select.disabled = this.watching;
    setText(this.button("toggle"), message.state === "training" ? "Pause" : "Train");
    const freeze = this.button("freeze");
    if (freeze) {
      setText(freeze, message.live.frozen ? "Unfreeze" : "Freeze");
      freeze.setAttribute("aria-pressed", String(message.live.frozen));
    }
    setText(this.root.querySelector(".done"), thousands.format(steps));
    setText(this.root.querySelector(".budget"), thousands.format(message.budget));
    const progress = this.root.querySelector("progress");
    progress.max = message.budget;
    progress.value = steps;
    if (document.activeElement !== this.select) this.select.value = String(message.rate);
    this.drawQueue(message);
  }

  // Whoever waits for a place is told which one, and what there is to watch meanwhile.
  drawQueue({ place, lectures = [] }) {
    const queue = this.root.querySelector(".queue");
    const key = JSON.stringify([place, lectures]);
    if (key === this.queued) return;
    this.queued = key;
    queue.hidden = !place;
    const links = lectures.map((id, i) => {
      const link = element("a", { href: `?follow=${encodeURIComponent(id)}`, target: "_blank", rel: "noopener" });
      link.textContent = lectures.length > 1 ? `Watch lecture ${i + 1}` : "Watch a lecture meanwhile";
      return link;
    });
    const words = `All places for training are taken. You are number ${place} in line; training starts by itself.`;
    queue.replaceChildren(words, ...links);
  }
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
