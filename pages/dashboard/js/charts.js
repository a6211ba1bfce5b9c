// The charts of a board.

import { Cursor } from "./cursor.js";
import { Plot, REDRAW_INTERVAL } from "./plots.js";

/** @import { AnyStore } from "./board.js" */
/** @import { BoardData, Context } from "./types.js" */

export class Charts {
  /** @param {() => void} schedule asks for a drawing */
  constructor(schedule) {
    this.schedule = schedule;
    /** @type {Map<string, Plot>} */
    this.plots = new Map();
    this.cursor = new Cursor(() => this.plots.values());
    this.firstDrawn = false;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /**
   * @param {Element} parent
   * @param {string} name
   * @param {(log: boolean) => void} [onLog]
   */
  add(parent, name, onLog) {
    const plot = new Plot(parent, name, this.schedule, onLog);
    plot.onFirstDrawing = () => plot.isOverTime && this.cursor.watch(plot);
    this.plots.set(name, plot);
  }

  /** @param {string} name */
  remove(name) {
    this.plots.get(name)?.close();
    this.plots.delete(name);
  }

  clear() {
    for (const name of this.plots.keys()) this.remove(name);
  }

  /** @param {BoardData} data */
  setFigures(data) {
    for (const [name, plot] of this.plots) plot.setFigure(data.figures[name], data.slide_url, data.context.plain);
  }

  /** @param {Set<string>} log the charts whose vertical axis is logarithmic */
  setLog(log) {
    for (const [name, plot] of this.plots) plot.setLog(log.has(name));
  }

  /**
   * Draws all charts in one frame, since painting is the cost; but the very first chart is shown at once. Measures all
   * of them before it draws one: after each drawing the browser would have to lay out the page again.
   * @param {AnyStore} store
   * @param {Context} context
   */
  draw(store, context) {
    for (const plot of this.plots.values()) plot.appear(store);
    for (const plot of this.plots.values()) plot.area.measure();
    let finished = true;
    for (const plot of this.plots.values()) {
      finished = plot.draw(store, context) && finished;
      if (!this.firstDrawn && plot.drawn !== null) {
        this.firstDrawn = true;
        this.schedule();
        return;
      }
    }
    if (finished) return;
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.schedule();
    }, REDRAW_INTERVAL);
  }

  close() {
    clearTimeout(this.timer);
    for (const plot of this.plots.values()) plot.close();
  }
}
