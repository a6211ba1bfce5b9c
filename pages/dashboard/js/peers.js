// The stores of runs side by side, as one: a message holds a message for every run.

import { Store } from "./store.js";

/** @import { ComparisonLatest, ComparisonMessage, Encoding } from "./types.js" */

export class Peers {
  /**
   * @param {number[]} counts the number of experts of each run
   * @param {Encoding} encoding
   */
  constructor(counts, encoding) {
    this.peers = counts.map((count) => new Store(count, encoding));
    for (const store of this.peers) store.peers = this.peers;
    this.steps = 0;
    /** @type {ComparisonLatest | null} */
    this.latest = null;
  }

  /** @param {{ run?: number } | undefined} meta */
  of(meta) {
    return this.peers[meta?.run ?? 0];
  }

  /** The newest message. Nothing is drawn before the first one. */
  get message() {
    if (!this.latest) throw new Error("no message has arrived yet");
    return this.latest;
  }

  /**
   * Takes in a message. Returns false if something before it is missing: the client then asks again from `steps`.
   * @param {ComparisonMessage} message
   */
  apply(message) {
    if (message.from > this.steps && this.latest) return false;
    if (!message.members.every((member, run) => this.peers[run].apply(member))) return false;
    this.steps = message.to;
    this.latest = { ...message, events: this.peers.flatMap((store) => store.message.events) };
    return true;
  }
}
