"""Background training shared fairly: runs that are watched take turns on as many threads as there are cores."""

from __future__ import annotations

import atexit
import heapq
import itertools
import os
import threading
import time
from functools import lru_cache
from typing import TypeVar
from weakref import WeakValueDictionary

import torch

from moe_sim.playback import Playback

Kind = TypeVar("Kind", bound=Playback)

FORGET_AFTER = 30 * 60.0
"""Seconds after which a run that nobody watches is forgotten."""
SWEEP_INTERVAL = 10.0
"""Seconds between two looks for such runs."""


class Scheduler:
    """Shares the cores fairly among runs: whoever's next step has been due for longest gets the next turn.

    Each run asks for a rate. When they ask for more than there is, steps are dealt out in turn, so that all runs
    advance alike. Few threads, each with single-threaded torch, keep the interpreter responsive for the page.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._count = threads or os.cpu_count() or 1
        self._runs: WeakValueDictionary[str, Playback] = WeakValueDictionary()
        # Weak: a run is its session's, its viewers' and its lecture's, and goes with the last of them.
        self._queue: list[tuple[float, int, Playback]] = []
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._running = False
        self._swept_at = time.monotonic()

    def start(self) -> None:
        """Start the worker threads, once."""
        with self._condition:
            if self._running:
                return
            self._running = True
            self._threads = [
                threading.Thread(target=self._work, name=f"trainer-{i}", daemon=True) for i in range(self._count)
            ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the worker threads and wait for them. A thread inside torch must not meet the interpreter's end."""
        with self._condition:
            self._running = False
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads = []

    def add(self, run: Kind) -> Kind:
        """Take a run in; returns it."""
        with self._condition:
            self._runs[run.id] = run
        run.on_wake = self.enqueue
        return run

    def get(self, run_id: str) -> Playback | None:
        """What has that id; None if nothing has (any more)."""
        return self._runs.get(run_id)

    def remove(self, run: Playback) -> None:
        """Forget a run. It stops training."""
        run.pause()
        run.forgotten = True
        with self._condition:
            self._runs.pop(run.id, None)

    def enqueue(self, run: Playback) -> None:
        """Have a look at `run` as soon as possible, if it wants a step."""
        with self._condition:
            if not run.queued and not run.forgotten and run.wants_step:
                run.queued = True
                self._push(time.monotonic(), run)

    def _push(self, due: float, run: Playback) -> None:
        heapq.heappush(self._queue, (due, next(self._order), run))
        self._condition.notify()

    def _work(self) -> None:
        torch.set_num_threads(1)
        while True:
            with self._condition:
                turn = self._next_turn()
            if turn is None:
                return
            due, run = turn
            run.advance()
            with self._condition:
                run.queued = run.wants_step
                if run.queued:
                    # A run that is late may catch up one step, no more; then it queues behind the others.
                    self._push(max(due + 1 / run.target_rate, time.monotonic() - 1 / run.target_rate), run)

    def _next_turn(self) -> tuple[float, Playback] | None:
        """Wait for the next run that is due; None when stopped. Called with the condition held."""
        while self._running:
            now = time.monotonic()
            if now - self._swept_at > SWEEP_INTERVAL:
                self._sweep(now)
            if self._queue and self._queue[0][0] <= now:
                due, _, run = heapq.heappop(self._queue)
                return due, run
            self._condition.wait(min(self._queue[0][0] - now if self._queue else SWEEP_INTERVAL, SWEEP_INTERVAL))
        return None

    def _sweep(self, now: float) -> None:
        """Forget idle runs. While the machine slept nobody could watch: that time does not count."""
        asleep, self._swept_at = now - self._swept_at - SWEEP_INTERVAL, now
        for run in list(self._runs.values()):
            if asleep > SWEEP_INTERVAL:
                run.last_watched += asleep
            if run.last_watched < now - FORGET_AFTER and not run.watched:
                del self._runs[run.id]
                run.forgotten = True


@lru_cache(maxsize=1)
def shared_scheduler() -> Scheduler:
    """The scheduler of this process, started; it stops by itself when the interpreter exits."""
    scheduler = Scheduler()
    scheduler.start()
    atexit.register(scheduler.stop)
    return scheduler
