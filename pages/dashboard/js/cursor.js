// One cursor for all charts over time: what the mouse points at in one of them, the others show as well.

/** @import { Plot } from "./plots.js" */

export class Cursor {
  /** @param {() => Iterable<Plot>} plots */
  constructor(plots) {
    this.plots = plots;
  }

  /** @param {Plot} plot a chart over time that has been drawn */
  watch(plot) {
    const isPointedAt = () => plot.graph.matches(":hover"); // Plotly also reports what is shown from here
    plot.graph.on("plotly_hover", ({ points }) => {
      if (isPointedAt() && points[0]) this.show(plot, points[0].x);
    });
    plot.graph.on("plotly_unhover", () => {
      for (const other of this.others(plot)) Plotly.Fx.unhover(other.graph);
    });
  }

  /**
   * @param {Plot} source
   * @param {number} step
   */
  show(source, step) {
    for (const other of this.others(source)) Plotly.Fx.hover(other.graph, { xval: step }, "xy");
  }

  /** @param {Plot} plot */
  others(plot) {
    return [...this.plots()].filter((one) => one !== plot && one.isOverTime && one.area.inView && one.drawn !== null);
  }
}
