"""The worker process: computes runs for the server that started it, until the server ends."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any, BinaryIO

import numpy as np
import torch

from moe_sim.config.errors import UserError
from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.settings import read_settings
from moe_sim.history.probe import Probe
from moe_sim.live.runners import framing
from moe_sim.live.runners.computation import Computation
from moe_sim.live.runners.runner import Progress
from moe_sim.live.runners.workshop import Turn, Workshop
from moe_sim.logs import ProcessLog
from moe_sim.tasks.own_text import own_text
from moe_sim.trainer.prompting import Prompt

COMPANIES = 2
"""Companies that stay stacked: each takes as much memory again as the weights of its runs."""

log = logging.getLogger(__name__)


def events_to_json(events: tuple[Event, ...]) -> list[Any]:
    """Encodes changes for a message."""
    return [[event.step, event.changes] for event in events]


def events_from_json(items: list[Any]) -> tuple[Event, ...]:
    """Decodes the result of `events_to_json`."""
    return tuple(Event(step, changes) for step, changes in items)


def progress_to_message(progress: Progress) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Encodes progress as the header and arrays of a message."""
    header = {
        "steps_done": progress.steps_done,
        "diverged": progress.diverged,
        "events": events_to_json(progress.events),
        "probed": [probe.step for probe in progress.probes],
    }
    arrays = [progress.rows]
    for probe in progress.probes:
        arrays += [probe.expert, probe.dropped, probe.joint, probe.together]
    return header, arrays


def progress_from_message(header: dict[str, Any], arrays: list[np.ndarray]) -> Progress:
    """Decodes the result of `progress_to_message`."""
    rows, *fields = arrays
    probes = tuple(Probe(step, *fields[4 * i : 4 * i + 4]) for i, step in enumerate(header["probed"]))
    events = events_from_json(header["events"])
    return Progress(header["steps_done"], header["diverged"], rows, events, probes)


class Worker:
    """Holds runners by number and handles requests."""

    def __init__(self) -> None:
        self._runners: dict[int, Computation] = {}
        self._workshop = Workshop(COMPANIES)

    def obey_all(self, requests: Sequence[dict[str, Any]]) -> Iterator[Progress | dict[str, Any] | Exception]:
        """Handles requests, of which those to advance are computed together as far as they follow one another.

        Yields:
            In their order, the progress of each run, the answer to its prompt, or what it raised.
        """
        for name, alike in itertools.groupby(requests, lambda request: request["name"]):
            if name == "advance":
                yield from self._advance(list(alike))
            else:
                for request in alike:
                    try:
                        yield self._obey(request)
                    except Exception as error:
                        yield error

    def _advance(self, requests: list[dict[str, Any]]) -> list[Progress | Exception]:
        self._forget(*requests)
        turns = {
            number: Turn(self._runners[number], request["steps"], request["seconds"], request["keep"])
            for request in requests
            if (number := request["number"]) in self._runners
        }
        results = dict(zip(turns, self._workshop.take_turns(list(turns.values())), strict=True))
        unknown = KeyError("this process computes no such run")
        return [results.get(request["number"], unknown) for request in requests]

    def _forget(self, *requests: dict[str, Any]) -> None:
        for request in requests:
            for number in request["forget"]:
                if runner := self._runners.pop(number, None):
                    runner.leave()  # its company would keep its memory

    def _obey(self, request: dict[str, Any]) -> Progress | dict[str, Any]:
        self._forget(request)
        number = request["number"]
        match request["name"]:
            case "begin":
                plan, text = events_from_json(request["plan"]), request.get("text")
                held = None if text is None else own_text(text)  # until the run refers to it
                self._runners[number] = Computation(RunConfig(**request["config"]), plan)
                del held
            case "copy":
                plan = events_from_json(request["plan"])
                self._runners[number] = self._runners[request["original"]].copy(request["step"], plan)
            case "update":
                plan = events_from_json(request["plan"])
                return self._runners[number].update(request["changes"], plan)
            case "prompt":
                off = request["switched_off"]
                return self._runners[number].prompt(Prompt(request["text"], off and (off[0], off[1])))
        return self._runners[number].look()


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Responds to requests until their stream ends. Those that have come meanwhile are handled together."""
    worker, waiting = Worker(), SimpleQueue[list[dict[str, Any]] | None]()
    threading.Thread(target=_receive, args=(source, waiting), name="requests", daemon=True).start()
    framing.write(target, {"ready": True})
    while True:
        come = [waiting.get(), *(waiting.get() for _ in range(waiting.qsize()))]
        requests = [request for message in come if message is not None for request in message]
        for request, result in zip(requests, worker.obey_all(requests), strict=True):
            if isinstance(result, UserError):
                framing.write(target, {"sentence": str(result)})
            elif isinstance(result, Exception):
                log.error("Request %s failed in run %s", request["name"], request["number"], exc_info=result)
                framing.write(target, {"error": f"{type(result).__name__}: {result}"})
            elif isinstance(result, dict):
                framing.write(target, {"answer": result})
            else:
                framing.write(target, *progress_to_message(result))
        if None in come:
            return


def _receive(source: BinaryIO, waiting: SimpleQueue[list[dict[str, Any]] | None]) -> None:
    """Queues messages, which hold requests, until their stream ends, and then None."""
    try:
        while True:
            waiting.put(framing.read(source)[0]["requests"])
    except EOFError:
        waiting.put(None)


def main() -> None:
    """Serves requests on standard input and output; anything else printed goes to standard error."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    ProcessLog(read_settings().log).install()
    torch.set_num_threads(1)
    serve(source, target)
