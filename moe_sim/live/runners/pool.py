"""Worker processes that compute runs: training uses every core, and the server's interpreter stays responsive."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from moe_sim.config.errors import InvalidInput
from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.live.runners import framing
from moe_sim.live.runners.runner import Progress, Runner, unwrapped
from moe_sim.live.runners.worker import events_to_json, progress_from_message
from moe_sim.live.runners.workshop import LocalRunner, Turn, take_turns
from moe_sim.processes.forker import NICE
from moe_sim.processes.nursery import Nursery, close_pipes
from moe_sim.tasks.own_text import known_text
from moe_sim.trainer.prompting import Prompt

RECENT = 5.0
"""Seconds for which a run counts toward the load of its worker."""
START_AGAIN = 10.0
"""Seconds between attempts to start processes."""

log = logging.getLogger(__name__)


class WorkerLost(RuntimeError):
    """The process that computed a run has ended; another one can restart the run."""


class WorkerProcess:
    """A worker process and its pipes. Any thread may send requests; responses arrive in the order of the requests."""

    def __init__(self, number: int, nursery: Nursery) -> None:
        """
        Args:
            number: its number, from 1.
            nursery: starts it.
        """
        self.number = number
        self.run_numbers = itertools.count()
        """Assigns a number to each of its runs."""
        self.handles: weakref.WeakSet[RemoteRunner] = weakref.WeakSet()
        """The runs it computes."""
        self.ready = False
        """Whether it has loaded torch and responds; False again once it has ended."""
        self._stopped = self._lost = False
        self._released: deque[int] = deque()
        self._sending = threading.Lock()
        self._outstanding: deque[Future[Any]] = deque()
        """The requests without a response, in order."""
        self._process = nursery.start("moe_sim.live.runners.worker:main", "moe-live", NICE)
        threading.Thread(target=self._receive_all, name=f"worker-{number}-responses", daemon=True).start()

    @property
    def alive(self) -> bool:
        """Whether the process is running, ready or not."""
        return not self._lost and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id; None until it has started."""
        return self._process.pid

    @property
    def load(self) -> int:
        """Number of runs it has computed recently."""
        now = time.monotonic()
        return sum(now - handle.used_at < RECENT for handle in list(self.handles))

    def ask(self, *requests: dict[str, Any]) -> list[Future[Any]]:
        """Sends requests. Meanwhile other threads may send theirs: the process computes together what is waiting, and
        never idles.

        Returns:
            Their responses: progress, or the answer to a prompt. One that does not come raises WorkerLost; an error of
            the run, RuntimeError; what a visitor has asked in vain, InvalidInput.
        """
        responses = [Future[Any]() for _ in requests]
        with self._sending:
            if not self.ready:
                for response in responses:
                    response.set_exception(WorkerLost())
                return responses
            self._outstanding.extend(responses)
            forget = [self._released.popleft() for _ in range(len(self._released))]
            message = {"requests": [{"forget": forget, **request} for request in requests]}
            try:
                framing.write(self._process.stdin, message)
            except (OSError, ValueError):  # ValueError: `stop` has closed the pipes
                self._lose()
        return responses

    def _lose(self) -> None:
        """Ends whatever waits for a response. Called while sending, or by the thread that receives."""
        if self.ready and not self._stopped:
            log.error("Worker process %s has ended", self.pid)
        self.ready, self._lost = False, True
        while self._outstanding:
            with suppress(IndexError):  # the other one was faster
                self._outstanding.popleft().set_exception(WorkerLost())

    def forget(self, number: int) -> None:
        """Releases a run with the next request."""
        self._released.append(number)

    def stop(self) -> None:
        """Terminates the process."""
        self.ready, self._stopped = False, True
        self._process.terminate()
        close_pipes(self._process)

    def _receive_all(self) -> None:
        """Hands each response to whoever waits for it, until the process ends."""
        try:
            framing.read(self._process.stdout)
            self.ready = not self._stopped
            while True:
                header, arrays = framing.read(self._process.stdout)
                response = self._outstanding.popleft()
                if "error" in header:
                    response.set_exception(RuntimeError(header["error"]))
                elif "sentence" in header:
                    response.set_exception(InvalidInput(header["sentence"]))
                elif "answer" in header:
                    response.set_result(header["answer"])
                else:
                    response.set_result(progress_from_message(header, arrays))
        except (OSError, EOFError, ValueError, IndexError):  # IndexError: whoever sends has noticed it first
            if not self.ready and not self._stopped and not self._lost:
                log.error("Worker process %s did not start", self.pid)
        with self._sending:
            self._lose()


class RemoteRunner:
    """Computes a run in a worker process."""

    def __init__(self, worker: WorkerProcess, name: str, **request: Any) -> None:
        self.worker_process, self._number = worker, next(worker.run_numbers)
        self.worker = worker.number
        self.steps_done = 0
        self.used_at = time.monotonic()
        worker.handles.add(self)
        weakref.finalize(self, worker.forget, self._number)
        self._ask(name, **request)

    def advance(self, steps: int, seconds: float, *, keep: bool) -> Progress:
        return self.receive(*self.worker_process.ask(self.request_to_advance(steps, seconds, keep=keep)))

    def request_to_advance(self, steps: int, seconds: float, *, keep: bool) -> dict[str, Any]:
        """The request to advance, to be sent with others."""
        return self._request("advance", steps=steps, seconds=min(seconds, 1e9), keep=keep)

    def receive(self, response: Future[Progress]) -> Progress:
        """Waits for a response."""
        progress = response.result()
        self.steps_done = progress.steps_done
        return progress

    def update(self, changes: Mapping[str, Any], plan: tuple[Event, ...]) -> Progress:
        return self._ask("update", changes=dict(changes), plan=events_to_json(plan))

    def look(self) -> Progress:
        return self._ask("look")

    def prompt(self, prompt: Prompt) -> dict[str, Any]:
        request = self._request("prompt", text=prompt.text, switched_off=prompt.switched_off)
        [response] = self.worker_process.ask(request)
        answer: dict[str, Any] = response.result()
        return answer

    def copy(self, step: int, plan: tuple[Event, ...]) -> RemoteRunner:
        return RemoteRunner(self.worker_process, "copy", original=self._number, step=step, plan=events_to_json(plan))

    def _ask(self, name: str, **request: Any) -> Progress:
        return self.receive(*self.worker_process.ask(self._request(name, **request)))

    def _request(self, name: str, **request: Any) -> dict[str, Any]:
        self.used_at = time.monotonic()
        return {"name": name, "number": self._number, **request}


def advance_together(turns: Sequence[tuple[Runner, int, float, bool]]) -> list[Callable[[], Progress]]:
    """Advances several runs at once: each runner by so many steps, for so many seconds, keeping snapshots or not.

    Returns:
        For each a function that returns its progress, or raises what `Runner.advance` would.
    """
    results: dict[Runner, Callable[[], Progress]] = {}
    local: dict[Runner, Turn] = {}
    remote: dict[WorkerProcess, list[tuple[RemoteRunner, dict[str, Any]]]] = {}
    for runner, steps, seconds, keep in turns:
        if isinstance(runner, RemoteRunner):
            request = runner.request_to_advance(steps, seconds, keep=keep)
            remote.setdefault(runner.worker_process, []).append((runner, request))
        elif isinstance(runner, LocalRunner):
            local[runner] = Turn(runner, steps, seconds, keep)
    for process, asked in remote.items():
        responses = process.ask(*(request for _, request in asked))
        results |= {one: partial(one.receive, response) for (one, _), response in zip(asked, responses, strict=True)}
    taken = take_turns(list(local.values()))
    results |= {runner: partial(unwrapped, result) for runner, result in zip(local, taken, strict=True)}
    return [results[runner] for runner, *_ in turns]


class Pool:
    """A pool of worker processes, started with the first run.

    Args:
        nursery: starts the processes; not needed without processes.
    """

    def __init__(self, nursery: Nursery | None = None) -> None:
        self._nursery = nursery or Nursery()
        self._count = 0
        self._workers: list[WorkerProcess] = []
        self._started_at = -math.inf
        self._lock = threading.Lock()

    def use(self, count: int) -> None:
        """Sets the number of processes. Until they are ready, and with 0, this process computes the runs."""
        self._count = count

    @property
    def processes(self) -> tuple[WorkerProcess, ...]:
        """The processes that are ready."""
        return tuple(worker for worker in self._workers if worker.ready)

    def begin(self, config: RunConfig, plan: tuple[Event, ...]) -> Runner:
        """Starts a run in the process with the lowest load, or in this process if none is ready."""
        self._start_missing()
        ready = self.processes
        if ready:
            worker = min(ready, key=lambda worker: worker.load)
            try:
                text = None if config.own_text is None else known_text(config.own_text).content
                return RemoteRunner(worker, "begin", config=config.model_dump(), plan=events_to_json(plan), text=text)
            except WorkerLost:
                pass
        return LocalRunner(config, plan)

    def stop(self) -> None:
        """Terminates all processes."""
        with self._lock:
            self._count = 0
            for worker in self._workers:
                worker.stop()
            self._workers = []

    def _start_missing(self) -> None:
        with self._lock:
            alive = [worker for worker in self._workers if worker.alive]
            if len(alive) >= self._count or time.monotonic() - self._started_at < START_AGAIN:
                return
            self._started_at = time.monotonic()
            for gone in set(self._workers) - set(alive):
                gone.stop()
            numbers = set(range(1, self._count + 1)) - {worker.number for worker in alive}
            self._workers = alive + [WorkerProcess(number, self._nursery) for number in sorted(numbers)]
