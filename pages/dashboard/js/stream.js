// The live stream, and when to do without it.

const SILENCE_TIMEOUT = 3000; // ms without a message or heartbeat, after which the page is fed through the component
const STEADY_AFTER = 6000; // ms of regular messages, after which the page relies on the stream again
const MAX_RETRY_DELAY = 30000; // ms between two attempts to reconnect

/**
 * @typedef {object} Handlers
 * @property {() => string} query what is asked for, with how many steps are known
 * @property {(message: any) => void} onMessage
 * @property {() => void} onSilence called at every attempt to reconnect
 * @property {() => void} onSteady called at every message while the stream is steady
 * @property {() => void} onLost the run no longer exists
 */

export class Stream {
  /**
   * @param {string} url
   * @param {Handlers} handlers
   */
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    this.lost = this.closed = false;
    this.heardAt = this.steadySince = performance.now();
    /** @type {EventSource | null} */
    this.source = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.retryTimer = undefined;
    this.retryAfter(SILENCE_TIMEOUT);
    this.open();
  }

  open() {
    this.disconnect();
    const source = (this.source = new EventSource(`${this.url}?${this.handlers.query()}`));
    source.onmessage = (event) => {
      this.noteActivity();
      this.handlers.onMessage(JSON.parse(event.data));
    };
    source.addEventListener("heartbeat", () => this.noteActivity());
    source.addEventListener("gone", () => this.lose());
    source.onerror = () => {
      if (source === this.source && source.readyState === EventSource.CLOSED) this.checkForLoss();
    };
  }

  // The server refused: is the run gone, or is only the stream blocked?
  async checkForLoss() {
    this.disconnect();
    const request = fetch(`${this.url}?from=0`, { method: "HEAD" });
    const status = await request.then((response) => response.status, () => 0);
    if (!this.closed && status === 404) this.lose();
  }

  lose() {
    this.disconnect();
    this.lost = true;
    this.handlers.onLost();
  }

  noteActivity() {
    const now = performance.now();
    if (now - this.heardAt > SILENCE_TIMEOUT) this.steadySince = now;
    this.heardAt = now;
    if (now - this.steadySince > STEADY_AFTER) this.handlers.onSteady();
    this.retryAfter(SILENCE_TIMEOUT);
  }

  /**
   * Reconnects after a silence: a connection may be dead without an error.
   * @param {number} delay
   */
  retryAfter(delay) {
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => {
      this.handlers.onSilence();
      if (!this.lost) this.open();
      this.retryAfter(Math.min(2 * delay, MAX_RETRY_DELAY));
    }, delay);
  }

  disconnect() {
    this.source?.close();
    this.source = null;
  }

  close() {
    this.closed = true;
    clearTimeout(this.retryTimer);
    this.disconnect();
  }
}
