// The live stream, and what to do when it cannot be reached.

const PATIENCE = 3000; // ms without a word before the page asks to be fed through the component
const TRUST = 6000; // ms for which a stream that fell silent must speak regularly before the page relies on it again
const LONGEST_WAIT = 30000; // ms between two attempts to reach a stream that stays silent

class Stream {
  // `from` tells how many steps are known. onSilence and onSteady may be called again while it stays so.
  constructor(url, { from, onMessage, onSilence, onSteady, onLost }) {
    this.url = url;
    this.handlers = { from, onMessage, onSilence, onSteady, onLost };
    this.heardAt = this.steadySince = performance.now();
    this.wait(PATIENCE);
    this.open();
  }

  open() {
    this.leave();
    const source = (this.source = new EventSource(`${this.url}?from=${this.handlers.from()}`));
    source.onmessage = (event) => {
      this.hear();
      this.handlers.onMessage(JSON.parse(event.data));
    };
    source.addEventListener("heartbeat", () => this.hear());
    source.addEventListener("gone", () => this.lose());
    source.onerror = () => {
      if (source === this.source && source.readyState === EventSource.CLOSED) this.findOut();
    };
  }

  // The server refused: is the run gone, or is the stream blocked, perhaps only for a while?
  async findOut() {
    this.leave();
    const status = await fetch(`${this.url}?from=0`, { method: "HEAD" }).then((response) => response.status, () => 0);
    if (this.closed) return;
    if (status === 404) this.lose();
  }

  lose() {
    this.leave();
    this.lost = true;
    this.handlers.onLost();
  }

  hear() {
    const now = performance.now();
    if (now - this.heardAt > PATIENCE) this.steadySince = now;
    this.heardAt = now;
    if (now - this.steadySince > TRUST) this.handlers.onSteady();
    this.wait(PATIENCE);
  }

  // A connection that is silent may be dead without anybody noticing: ask anew.
  wait(patience) {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      this.handlers.onSilence();
      if (!this.lost) this.open();
      this.wait(Math.min(2 * patience, LONGEST_WAIT));
    }, patience);
  }

  leave() {
    this.source?.close();
    this.source = null;
  }

  close() {
    this.closed = true;
    clearTimeout(this.waiting);
    this.leave();
  }
}
