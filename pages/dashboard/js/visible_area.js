// Whether a chart can be seen, and how large it is.

/** @import { Graph } from "./types.js" */

export class VisibleArea {
  /**
   * @param {HTMLElement} region
   * @param {Graph} graph inside the region
   * @param {() => void} onVisible called when the region comes into view
   */
  constructor(region, graph, onVisible) {
    this.region = region;
    this.graph = graph;
    this.inView = this.isShown = false;
    this.width = this.height = 0; // px
    this.typeSize = 1; // 1 is usual
    this.observer = new IntersectionObserver((entries) => {
      this.inView = Boolean(entries.at(-1)?.isIntersecting); // a busy page gets several at once
      if (this.inView) onVisible();
    });
    this.observer.observe(region);
  }

  /** Reads the layout. After a change to the page this is slow: the browser has to lay it out again. */
  measure() {
    this.isShown = this.inView && Boolean(this.region.offsetParent);
    if (!this.isShown) return;
    this.width = this.graph.clientWidth;
    this.height = this.graph.clientHeight;
    this.typeSize = Number(getComputedStyle(this.graph).getPropertyValue("--u"));
  }

  close() {
    this.observer.disconnect();
  }
}
