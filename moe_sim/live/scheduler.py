"""Schedules background training fairly: watched runs take turns."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

import torch

from moe_sim.live.admission import Admission
from moe_sim.live.background_run import FORGET_SESSION, TURNS_PER_SECOND, BackgroundRun
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun, take_turns

Kind = TypeVar("Kind", bound=BackgroundRun)

DEFAULT_SLOTS = 60
"""Default limit of different runs that train at once."""
FORGET_AFTER = 30 * 60.0
"""Seconds without viewers after which a run is dropped."""
IDLE_SWEEP_INTERVAL = 10.0
"""Seconds between checks for such runs."""
COMPARISONS_AT_ONCE = 24
"""Comparisons that wait for one worker process at once, each in a thread."""
TOGETHER = 1 / TURNS_PER_SECOND
"""Seconds by which a turn may be early if another one is due: together they cost less."""
SWEEP_INTERVAL = 0.5
"""Seconds between checks for free slots."""


class WorkerQueue:
    """The runs of one worker, ordered by when their next turn is due.

    Args:
        lock: of the scheduler.
        at_once: how many comparisons it takes at once.
    """

    def __init__(self, lock: threading.RLock, at_once: int, name: str) -> None:
        self.comparisons = ThreadPoolExecutor(
            at_once, thread_name_prefix=f"{name}-comparison", initializer=_use_one_thread
        )
        self.changed = threading.Condition(lock)
        self._queue: list[tuple[float, int, BackgroundRun]] = []
        self._order = itertools.count()

    def push(self, due: float, run: BackgroundRun) -> None:
        """Adds a run."""
        heapq.heappush(self._queue, (due, next(self._order), run))
        self.changed.notify()

    def pop(self, now: float) -> list[tuple[float, BackgroundRun]]:
        """Removes the runs whose turns are due, and if there are any, also those whose turns are due within `TOGETHER`.

        Returns:
            The runs with their due times, the one that has been due longest first.
        """
        turns: list[tuple[float, BackgroundRun]] = []
        while self._queue and self._queue[0][0] <= (now + TOGETHER if turns else now):
            due, _, run = heapq.heappop(self._queue)
            turns.append((due, run))
        return turns

    def wait(self, now: float, longest: float) -> None:
        """Waits until the next run is due or the queue changes, at most `longest` seconds."""
        self.changed.wait(min(self._queue[0][0] - now if self._queue else longest, longest))


def _use_one_thread() -> None:
    torch.set_num_threads(1)


class Scheduler:
    """Shares each worker fairly among its runs: the run whose turn has been due longest goes next.

    Each run has a target rate. If the rates add up to more than a worker can compute, its runs advance equally fast.
    A worker is a worker process or this process. Each has threads here, which mostly wait.

    Args:
        admission: limits how many runs train at once.
        lectures: those that nobody needs end from time to time.
    """

    def __init__(self, admission: Admission | None = None, lectures: Lectures | None = None) -> None:
        self.admission = admission or Admission(DEFAULT_SLOTS)
        self._lectures = lectures or Lectures()
        self._runs: WeakValueDictionary[str, BackgroundRun] = WeakValueDictionary()
        # Weak: sessions, viewers and lectures own a run; it ends with the last of them.
        self._lock = threading.RLock()
        self._queues: dict[int, WorkerQueue] = {}
        self._threads: list[threading.Thread] = []
        self._running = False
        self._swept_at = self._idle_swept_at = time.monotonic()
        self.steps = 0
        """Steps taken so far by all runs."""

    def start(self) -> None:
        """Starts scheduling. Threads for a worker process start with its first run."""
        with self._lock:
            self._running = True
            self._queue_of(0)
            for run in self._runs.values():
                self.enqueue(run)

    def stop(self) -> None:
        """Stops the threads and waits for them: none may be inside torch when the interpreter exits."""
        with self._lock:
            self._running = False
            for queue in self._queues.values():
                queue.changed.notify_all()
        for thread in self._threads:
            thread.join()
        for queue in self._queues.values():
            queue.comparisons.shutdown()
        self._threads, self._queues = [], {}

    def add(self, run: Kind) -> Kind:
        """Registers a run and returns it."""
        with self._lock:
            self._runs[run.id] = run
        run.on_wake = self.enqueue
        return run

    def get(self, run_id: str) -> BackgroundRun | None:
        """Returns the run with this id, or None."""
        return self._runs.get(run_id)

    @property
    def runs(self) -> tuple[BackgroundRun, ...]:
        """All registered runs."""
        with self._lock:
            return tuple(self._runs.values())

    def remove(self, run: BackgroundRun) -> None:
        """Drops a run. It stops training."""
        run.pause()
        run.forgotten = True
        with self._lock:
            self._runs.pop(run.id, None)

    def enqueue(self, run: BackgroundRun) -> None:
        """Queues `run` for a turn as soon as possible, if it wants a step and is admitted."""
        with self._lock:
            if self._running and not run.queued and not run.forgotten and run.wants_step and self.admission.admit(run):
                run.queued = True
                self._queue_of(run.worker).push(time.monotonic(), run)

    def _queue_of(self, number: int) -> WorkerQueue:
        if number not in self._queues:
            name = f"trainer-{number}"
            queue = self._queues[number] = WorkerQueue(self._lock, COMPARISONS_AT_ONCE if number else 1, name)
            thread = threading.Thread(target=self._hand_out, args=(queue,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self._queues[number]

    def _hand_out(self, queue: WorkerQueue) -> None:
        """Takes turns until it is stopped. Runs that become due meanwhile wait and take the next turn together. A
        comparison, whose runs take single steps in turn, has a thread of its own."""
        _use_one_thread()
        while True:
            with self._lock:
                turns = self._next_turns(queue)
            if not turns:
                return
            together: list[tuple[float, LiveRun]] = []
            for due, run in turns:
                if isinstance(run, LiveRun):
                    together.append((due, run))
                else:
                    queue.comparisons.submit(self._take, [(due, run)], run.advance)
            self._take(together, partial(take_turns, [run for _, run in together]))

    def _take(self, turns: Sequence[tuple[float, BackgroundRun]], advance: Callable[[], None]) -> None:
        """Takes turns, and queues their runs for the next ones.

        Args:
            turns: when each was due, and its run.
            advance: advances all these runs.
        """
        steps = [run.steps_done for _, run in turns]
        advance()
        with self._lock:
            for (due, run), before in zip(turns, steps, strict=True):
                pause = max(1, run.steps_done - before) / run.target_rate
                self.steps += run.steps_done - before
                run.queued = self._running and run.wants_step and not run.forgotten and self.admission.admit(run)
                if run.queued:
                    # A late run may catch up by one turn at most, so that it cannot starve the others.
                    self._queue_of(run.worker).push(max(due + pause, time.monotonic() - pause), run)

    def _next_turns(self, queue: WorkerQueue) -> list[tuple[float, BackgroundRun]]:
        """Waits for the next turns; none when stopped. Called with the lock held."""
        while self._running:
            now = time.monotonic()
            if now - self._swept_at > SWEEP_INTERVAL:
                self._swept_at = now
                self._sweep(now)
            if turns := queue.pop(now):
                return turns
            queue.wait(now, SWEEP_INTERVAL)
        return []

    def _sweep(self, now: float) -> None:
        for run in list(self._runs.values()):
            run.check_sessions()
        for run in self.admission.sweep():
            self.enqueue(run)
        if now - self._idle_swept_at > IDLE_SWEEP_INTERVAL:
            self._forget_idle(now)
            self._lectures.expire()

    def _forget_idle(self, now: float) -> None:
        """Drops runs that nobody watches, or whose sessions are gone for good. Time for which the machine was asleep
        does not count."""
        asleep, self._idle_swept_at = now - self._idle_swept_at - IDLE_SWEEP_INTERVAL, now
        for run in list(self._runs.values()):
            if asleep > IDLE_SWEEP_INTERVAL:
                run.last_watched += asleep
            unwatched = run.last_watched < now - FORGET_AFTER and not run.watched
            if unwatched or run.seconds_deserted > FORGET_SESSION:
                del self._runs[run.id]
                run.forgotten = True
