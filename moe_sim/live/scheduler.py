"""Background training shared fairly: runs that are watched take turns."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TypeVar
from weakref import WeakValueDictionary

import torch

from moe_sim.live.admission import Admission
from moe_sim.live.background_run import BackgroundRun

Kind = TypeVar("Kind", bound=BackgroundRun)

DEFAULT_PLACES = 60
"""Different runs that train at once."""
FORGET_AFTER = 30 * 60.0
"""Seconds after which a run that nobody watches is forgotten."""
IDLE_SWEEP_INTERVAL = 10.0
"""Seconds between two looks for such runs."""
THREADS_PER_WORKER = 2
"""While one takes in what a worker process did, the process has the other one's question already."""
SWEEP_INTERVAL = 0.5
"""Seconds between two looks for places that have become free."""


class WorkerQueue:
    """The runs whose steps are one processor's work, by when their next turn is due."""

    def __init__(self, lock: threading.RLock) -> None:
        self.changed = threading.Condition(lock)
        self._queue: list[tuple[float, int, BackgroundRun]] = []
        self._order = itertools.count()

    def push(self, due: float, run: BackgroundRun) -> None:
        """Put a run in line."""
        heapq.heappush(self._queue, (due, next(self._order), run))
        self.changed.notify()

    def pop(self, now: float) -> tuple[float, BackgroundRun] | None:
        """The run that has been due for longest, with when it was; None if none is."""
        if not self._queue or self._queue[0][0] > now:
            return None
        due, _, run = heapq.heappop(self._queue)
        return due, run

    def wait(self, now: float, longest: float) -> None:
        """Wait until the next one is due, or something changes."""
        self.changed.wait(min(self._queue[0][0] - now if self._queue else longest, longest))


class Scheduler:
    """Shares the processors fairly among runs: in each lane, whoever's next turn has been due for longest comes next.

    Each run asks for a rate. When they ask for more than there is, turns are dealt out in order, so that all runs
    advance alike. A lane is a worker process, or this process; each has a thread or two here, which mostly wait.
    """

    def __init__(self, admission: Admission | None = None) -> None:
        self.admission = admission or Admission(DEFAULT_PLACES)
        self._runs: WeakValueDictionary[str, BackgroundRun] = WeakValueDictionary()
        # Weak: a run is its session's, its viewers' and its lecture's, and goes with the last of them.
        self._lock = threading.RLock()
        self._queues: dict[int, WorkerQueue] = {}
        self._threads: list[threading.Thread] = []
        self._running = False
        self._swept_at = self._idle_swept_at = time.monotonic()
        self.steps = 0
        """Steps that were done so far, of all runs."""

    def start(self) -> None:
        """Begin to work. Threads for worker processes come with the runs that need them."""
        with self._lock:
            self._running = True
            self._queue_of(0)
            for run in self._runs.values():
                self.enqueue(run)

    def stop(self) -> None:
        """End the threads and wait for them. A thread inside torch must not meet the interpreter's end."""
        with self._lock:
            self._running = False
            for queue in self._queues.values():
                queue.changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads, self._queues = [], {}

    def add(self, run: Kind) -> Kind:
        """Take a run in; returns it."""
        with self._lock:
            self._runs[run.id] = run
        run.on_wake = self.enqueue
        return run

    def get(self, run_id: str) -> BackgroundRun | None:
        """What has that id; None if nothing has (any more)."""
        return self._runs.get(run_id)

    @property
    def runs(self) -> tuple[BackgroundRun, ...]:
        """All that are kept."""
        with self._lock:
            return tuple(self._runs.values())

    def remove(self, run: BackgroundRun) -> None:
        """Forget a run. It stops training."""
        run.pause()
        run.forgotten = True
        with self._lock:
            self._runs.pop(run.id, None)

    def enqueue(self, run: BackgroundRun) -> None:
        """Have a look at `run` as soon as possible, if it wants a step and there is a place for it."""
        with self._lock:
            if self._running and not run.queued and not run.forgotten and run.wants_step and self.admission.admit(run):
                run.queued = True
                self._queue_of(run.worker).push(time.monotonic(), run)

    def _queue_of(self, number: int) -> WorkerQueue:
        if number not in self._queues:
            queue = self._queues[number] = WorkerQueue(self._lock)
            for i in range(THREADS_PER_WORKER if number else 1):
                thread = threading.Thread(target=self._work, args=(queue,), name=f"trainer-{number}-{i}", daemon=True)
                self._threads.append(thread)
                thread.start()
        return self._queues[number]

    def _work(self, queue: WorkerQueue) -> None:
        torch.set_num_threads(1)
        while True:
            with self._lock:
                turn = self._next_turn(queue)
            if turn is None:
                return
            due, run = turn
            before = run.steps_done
            run.advance()
            pause = max(1, run.steps_done - before) / run.target_rate
            with self._lock:
                self.steps += run.steps_done - before
                run.queued = run.wants_step and not run.forgotten and self.admission.admit(run)
                if run.queued:
                    # A run that is late may catch up one turn, no more; then it queues behind the others.
                    self._queue_of(run.worker).push(max(due + pause, time.monotonic() - pause), run)

    def _next_turn(self, queue: WorkerQueue) -> tuple[float, BackgroundRun] | None:
        """Wait for the next run that is due; None when stopped. Called with the lock held."""
        while self._running:
            now = time.monotonic()
            if now - self._swept_at > SWEEP_INTERVAL:
                self._swept_at = now
                self._sweep(now)
            turn = queue.pop(now)
            if turn is not None:
                return turn
            queue.wait(now, SWEEP_INTERVAL)
        return None

    def _sweep(self, now: float) -> None:
        for run in self.admission.sweep():
            self.enqueue(run)
        if now - self._idle_swept_at > IDLE_SWEEP_INTERVAL:
            self._forget_idle(now)

    def _forget_idle(self, now: float) -> None:
        """While the machine slept nobody could watch: that time does not count."""
        asleep, self._idle_swept_at = now - self._idle_swept_at - IDLE_SWEEP_INTERVAL, now
        for run in list(self._runs.values()):
            if asleep > IDLE_SWEEP_INTERVAL:
                run.last_watched += asleep
            if run.last_watched < now - FORGET_AFTER and not run.watched:
                del self._runs[run.id]
                run.forgotten = True
