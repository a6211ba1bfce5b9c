"""The worker process: computes runs for the server that started it, until the server ends."""

from __future__ import annotations

import logging
import os
from typing import Any, BinaryIO

import numpy as np
import torch

from moe_sim.config.events import Event
from moe_sim.config.run_config import RunConfig
from moe_sim.config.settings import read_settings
from moe_sim.history.probe import Probe
from moe_sim.live.runners import framing
from moe_sim.live.runners.runner import LocalRunner, Progress
from moe_sim.logs import ProcessLog

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
        "seconds": progress.seconds,
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
    return Progress(header["steps_done"], header["diverged"], rows, events, probes, header["seconds"])


class Worker:
    """Holds runners by number and handles requests."""

    def __init__(self) -> None:
        self._runners: dict[int, LocalRunner] = {}

    def obey(self, request: dict[str, Any]) -> Progress:
        """Handles a request.

        Raises:
            Exception: whatever the run raises.
        """
        for number in request["forget"]:
            self._runners.pop(number, None)
        number = request["number"]
        match request["name"]:
            case "begin":
                plan = events_from_json(request["plan"])
                self._runners[number] = LocalRunner(RunConfig(**request["config"]), plan)
            case "copy":
                plan = events_from_json(request["plan"])
                self._runners[number] = self._runners[request["original"]].copy(request["step"], plan)
            case "update":
                plan = events_from_json(request["plan"])
                return self._runners[number].update(request["changes"], plan)
            case "advance":
                return self._runners[number].advance(request["steps"], request["seconds"], keep=request["keep"])
        return self._runners[number].look()


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Responds to requests until their stream ends."""
    worker = Worker()
    framing.write(target, {"ready": True})
    while True:
        try:
            request, _ = framing.read(source)
        except EOFError:
            return
        try:
            header, arrays = progress_to_message(worker.obey(request))
        except Exception as error:
            log.exception("Request %s failed in run %s", request["name"], request["number"])
            header, arrays = {"error": f"{type(error).__name__}: {error}"}, []
        framing.write(target, header, arrays)


def main() -> None:
    """Serves requests on standard input and output; anything else printed goes to standard error."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    ProcessLog(read_settings().log).install()
    torch.set_num_threads(1)
    serve(source, target)
