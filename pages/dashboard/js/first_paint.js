// Says when a board has been painted for the first time. Plotly.js keeps the page busy when it starts, so it waits.

const TIMEOUT = 2000; // ms after which nothing waits any longer, painted or not

export class FirstPaint {
  constructor() {
    this.resolve = () => {};
    /** @type {Promise<void>} */
    this.done = new Promise((resolve) => {
      this.resolve = resolve;
    });
    setTimeout(this.resolve, TIMEOUT);
  }

  /** To be called when something has been drawn; it is painted with the next frame. */
  drawn() {
    requestAnimationFrame(() => setTimeout(this.resolve));
  }
}
