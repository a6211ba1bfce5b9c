// The live stream, and what to do when it cannot be reached.

const PATIENCE = 3000; // ms without a message before the page asks to be fed through the component

class Stream {
  constructor(url, { onMessage, onSilence, onLost }) {
    this.url = url;
    this.handlers = { onMessage, onSilence, onLost };
    this.open(0);
  }

  open(from) {
    this.close();
    this.source = new EventSource(`${this.url}?from=${from}`);
    this.wait();
    this.source.onmessage = (event) => {
      this.wait();
      this.handlers.onMessage(JSON.parse(event.data));
    };
    this.source.addEventListener("heartbeat", () => this.wait());
    this.source.addEventListener("gone", () => {
      this.close();
      this.handlers.onLost();
    });
    this.source.onerror = () => {
      if (this.source?.readyState === EventSource.CLOSED) this.findOut();
    };
  }

  // The server refused: is the run gone, or is the stream blocked?
  async findOut() {
    const status = await fetch(`${this.url}?from=0`, { method: "HEAD" }).then((response) => response.status, () => 0);
    if (status === 404) this.handlers.onLost();
  }

  wait() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.handlers.onSilence(), PATIENCE);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}
