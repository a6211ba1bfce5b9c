// The commands that a board sends to Python.

/** @import { Command } from "./types.js" */

const RESEND_AFTER = 1500; // ms until a command that was not obeyed is sent again; doubles with every attempt

/** @typedef {Command & { number: number }} NumberedCommand */
/** @typedef {{ board: string, session: string, commands: NumberedCommand[] }} Delivery */

export class Commands {
  /** @param {(delivery: Delivery) => void} deliver */
  constructor(deliver) {
    this.deliver = deliver;
    this.board = Math.random().toString(36).slice(2);
    this.session = ""; // for which the commands are meant
    this.count = 0;
    /** @type {NumberedCommand[]} */
    this.pending = []; // what Python has not yet confirmed
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /**
   * Sends a command, along with all pending ones: of several in quick succession Streamlit delivers only the last.
   * @param {Command} command
   */
  send(command) {
    this.pending.push({ ...command, number: ++this.count });
    this.flush(RESEND_AFTER);
  }

  /**
   * Sends the pending commands, and again after a delay: what is sent while the page has no connection is lost.
   * @param {number} delay
   */
  flush(delay) {
    clearTimeout(this.timer);
    if (!this.pending.length) return;
    this.deliver({ board: this.board, session: this.session, commands: this.pending });
    this.timer = setTimeout(() => this.flush(2 * delay), delay);
  }

  /** @param {{ board: string, last: number }} obeyed which board's commands were obeyed, and up to which number */
  confirm({ board, last }) {
    if (board === this.board) this.pending = this.pending.filter(({ number }) => number > last);
  }

  /** @param {string} name */
  isPending(name) {
    return this.pending.some((command) => command.name === name);
  }

  close() {
    clearTimeout(this.timer);
  }
}
