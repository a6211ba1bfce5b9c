"""Traces of large models, written and drawn; and how soon a page shows a new record: see tests/bench/watching.py."""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from moe_sim.charts.traces import TraceScene, draw, figure_names
from moe_sim.history.trace import open_trace
from moe_sim.history.trace_format import Routed, TracedLayer, TraceHeader, TraceRecord
from moe_sim.history.trace_writer import TraceWriter
from tests.browser.conftest import FLAGS
from tests.support.serving import serving
from tests.support.traces import EVEN, UNEVEN, write_trace

LAYERS, EXPERTS, TOP_K, TOKENS = 48, 128, 8, 4_096
OPENED, REFRESHED, FOLLOWED = 3, 10, 20
"""How often each is measured."""
OPEN_WITHIN, SHOWN_WITHIN = 3, 1
"""Goals, in seconds."""

# Notes when the page's text first has the words, at the frame in which it is painted.
LOOK = """(words) => {
  window.shown = 0;
  const look = () => {
    if (document.body.textContent.includes(words)) window.shown = Date.now(); else requestAnimationFrame(look);
  };
  look();
}"""


def synthetic(with_router: bool) -> Iterator[Routed]:
    """Routing whose imbalance grows, without end."""
    rng = np.random.default_rng(0)
    taste = rng.normal(size=LAYERS * EXPERTS).reshape(LAYERS, EXPERTS)
    strength = 0.0
    while True:
        strength = min(1.0, strength + 1e-4)
        shares = np.exp(strength * taste)
        shares /= shares.sum(1, keepdims=True)
        counts = rng.poisson(shares * TOKENS * TOP_K).ravel()
        tokens = np.full(LAYERS, TOKENS)
        if not with_router:
            yield Routed(tokens, counts)
            continue
        noisy = shares.ravel() * rng.normal(1, 0.01, shares.size)
        entropy = -(shares * np.log(shares)).sum(1) / np.log(EXPERTS)
        yield Routed(tokens, counts, noisy.astype(np.float32), entropy, entropy, 9 * entropy)


def print_long(records: int) -> None:
    """Print how large traces are, and how fast they are opened and drawn, as Markdown."""
    print(f"{LAYERS} layers, {EXPERTS} experts, {TOKENS:,} tokens a step, top-{TOP_K}; goal: open within "
          f"{OPEN_WITHIN} s\n")  # fmt: skip
    print("| a trace of | records | MB | open, s | refresh, ms | all figures, s | slowest figure |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for words, with_router in ((f"{records:,} records, counts only", False),
                               (f"{records:,} steps, as `watch` thins it, with the router", True)):  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            _print_one(words, Path(folder), records, with_router)


def _print_one(words: str, folder: Path, steps: int, thinned: bool) -> None:
    header = TraceHeader(tuple(TracedLayer(f"model.layers.{one}.mlp", EXPERTS, "logits") for one in range(LAYERS)))
    routing = synthetic(with_router=thinned)
    with TraceWriter(folder, header) as writer:
        due = 1
        for step in range(1, steps + 1):
            if step == due:
                writer.write(TraceRecord(step, next(routing), numbers={"loss": 3 / step}))
                due += writer.rarer if thinned else 1
        megabytes = writer.path.stat().st_size / 2**20
        opened, refreshed = [], []
        for _ in range(OPENED):
            start = time.perf_counter()
            history = open_trace(folder)
            opened.append(time.perf_counter() - start)
        for further in range(REFRESHED):
            writer.write(TraceRecord(steps + 1 + further, next(routing), numbers={"loss": 0.0}))
            start = time.perf_counter()
            assert history.refresh()
            refreshed.append(1000 * (time.perf_counter() - start))
    drawn, scene = {}, TraceScene(history)
    for name in figure_names(history):
        draw(scene, name)  # loads what plotly loads at first use; a server has done so long ago
        start = time.perf_counter()
        draw(scene, name)
        drawn[name] = time.perf_counter() - start
    slowest = max(drawn, key=lambda name: drawn[name])
    print(f"| {words} | {len(history):,} | {megabytes:.0f} | {statistics.median(opened):.2f} | "
          f"{statistics.median(refreshed):.1f} | {sum(drawn.values()):.2f} | {slowest}, {drawn[slowest]:.2f} s |",
          flush=True)  # fmt: skip


def print_followed(chrome: str | None) -> None:
    """Print how long after a record is written a page shows it."""
    pauses, waited, records = random.Random(0), [], 30
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = Path(folder) / "runs"
        write_trace(runs / "model", EVEN, UNEVEN, records=records)
        browser = playwright.chromium.launch(executable_path=chrome or shutil.which("chromium"), args=FLAGS)
        with serving(Path(folder) / "log.txt", "--", "--runs", str(runs)) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(f"{address}/your_model?trace=model")
            page.get_by_text(f"step {records}, {records} records").first.wait_for(timeout=60_000)
            for _ in range(FOLLOWED):
                page.wait_for_timeout(pauses.uniform(1_000, 2_000))  # so that it comes at any moment between two looks
                records += 1
                page.evaluate(f"({LOOK})({json.dumps(f'step {records}, {records} records')})")
                started = time.time()
                write_trace(runs / "model", EVEN, UNEVEN, records=1)
                page.wait_for_function("window.shown")
                waited.append(page.evaluate("window.shown") / 1000 - started)
        browser.close()
    print(f"a record is on the page {statistics.median(waited):.2f} s after it was written, {max(waited):.2f} s at "
          f"most, of {FOLLOWED}; goal: within {SHOWN_WITHIN} s")  # fmt: skip
