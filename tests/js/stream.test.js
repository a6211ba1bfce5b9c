import assert from "node:assert/strict";
import test from "node:test";

import { Stream } from "../../pages/dashboard/js/stream.js";

class FakeEventSource extends EventTarget {
  static CLOSED = 2;
  static opened = [];
  readyState = 0;

  constructor(url) {
    super();
    this.url = url;
    FakeEventSource.opened.push(this);
  }

  close() {
    this.readyState = FakeEventSource.CLOSED;
  }
}

/** A stream whose server does not answer, and what it has called. */
function streamOn(context, status = 200) {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  FakeEventSource.opened = [];
  globalThis.EventSource = FakeEventSource;
  globalThis.fetch = async () => ({ status });
  const calls = [];
  const note = (name) => () => calls.push(name);
  let steps = 0;
  const stream = new Stream("/live/1", {
    query: () => `from=${steps}`,
    onMessage: ({ to }) => { steps = to; },
    onSilence: note("silence"), onSteady: note("steady"), onLost: note("lost"),
  });
  context.after(() => stream.close());
  return { stream, calls, opened: FakeEventSource.opened, tick: (ms) => context.mock.timers.tick(ms) };
}

test("a silent stream is opened again after 3 s, 6 s, 12 s …, at most 30 s apart", (context) => {
  const { opened, tick, calls } = streamOn(context);
  const opens = [[2999, 1], [1, 2], [5999, 2], [1, 3], [12_000, 4], [24_000, 5], [30_000, 6], [30_000, 7]];
  for (const [delay, count] of opens) {
    tick(delay);
    assert.equal(opened.length, count);
  }
  assert.equal(calls.filter((name) => name === "silence").length, 6);
  assert.deepEqual(opened.map(({ readyState }) => readyState), [2, 2, 2, 2, 2, 2, 0]);
});

test("a message starts the timeout again, and the next attempt asks for what is missing", (context) => {
  const { opened, tick } = streamOn(context);
  tick(2000);
  opened[0].onmessage({ data: '{"to": 7}' });
  tick(2000);
  assert.equal(opened.length, 1);
  tick(1000);
  assert.equal(opened[1].url, "/live/1?from=7");
});

test("a run that is gone is reported, and the stream is not opened again", (context) => {
  const { opened, calls, tick } = streamOn(context);
  opened[0].dispatchEvent(new Event("gone"));
  tick(10_000);
  assert.equal(opened.length, 1);
  assert.ok(calls.includes("lost"));
});

test("a refused stream asks whether the run still exists", async (context) => {
  for (const [status, lost] of [[404, true], [502, false]]) {
    const { opened, calls } = streamOn(context, status);
    opened[0].readyState = FakeEventSource.CLOSED;
    opened[0].onerror();
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(calls.includes("lost"), lost);
    context.mock.timers.reset();
  }
});

test("a closed stream stays closed", (context) => {
  const { stream, opened, tick } = streamOn(context);
  stream.close();
  tick(60_000);
  assert.equal(opened.length, 1);
});
