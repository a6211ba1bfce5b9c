"""The traces of a folder, read once for all visitors, while models that are watched still write them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from moe_sim.config.words import plural
from moe_sim.diagnosis.traces import diagnose_trace
from moe_sim.diagnosis.verdict import LEVELS, Diagnosis
from moe_sim.history.trace import TraceHistory
from moe_sim.history.trace_files import traces_in
from moe_sim.history.trace_format import NotATraceError
from moe_sim.tracing.examples import RESCUED

INTERVAL = 0.4
"""Seconds for which what was read counts as new."""
PAUSE = 20
"""How many times as long as looking for traces takes nobody looks again."""
MOST_BYTES = 2**29
"""Memory that one trace may take, and about what all together do."""
PATIENCE = 0.5
"""Seconds that may be spent on reading traces that nobody has opened, for the list."""
MOST_LISTED = 500

File = tuple[int, int, int]
"""The device and the number of a file, and its size."""


@dataclass(frozen=True)
class Summary:
    """A trace in a list."""

    name: str
    """Of its folder, within the folder of all."""
    verdict: Diagnosis
    layer: str = ""
    """The worst layer's name, as short as it can be."""
    about: str = ""
    """The model, and how much is recorded."""


class TraceFolder:
    """Finds the traces under a folder, and reads what has been added to them when somebody looks.

    Args:
        folder: where to look; it need not exist yet. None shows the example.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._paths: dict[str, Path] = {}
        self._looked_at = -float("inf")
        self._looking_took = 0.0
        self._open: OrderedDict[str, TraceHistory] = OrderedDict()
        """The most recently used last."""
        self._files: dict[str, File] = {}
        """What each open trace was read from."""
        self._read_at: dict[str, float] = {}
        self._summaries: dict[str, tuple[File, Summary]] = {}

    @property
    def can_grow(self) -> bool:
        """Whether something may be added."""
        return self.folder is not None

    def names(self) -> list[str]:
        """The names of all traces, in alphabetical order."""
        with self._lock:
            return list(self._look())

    def open(self, name: str) -> TraceHistory:
        """Returns a trace with what has been recorded so far.

        Raises:
            NotATraceError: with a sentence, if there is none of this name, or it cannot be read.
        """
        with self._lock:
            return self._opened(name)

    def summaries(self) -> list[Summary]:
        """All traces, the worst verdict first. Those that have not been read yet are last; the next call reads on."""
        with self._lock:
            deadline = time.monotonic() + PATIENCE
            listed = [self._summary(name, deadline) for name in list(self._look())[:MOST_LISTED]]
        return sorted(listed, key=lambda one: (-LEVELS.index(one.verdict.level), one.name))

    def _look(self) -> dict[str, Path]:
        """Looks for traces, not more often than the folder's size permits."""
        now = time.monotonic()
        if now - self._looked_at > INTERVAL + PAUSE * self._looking_took:
            root = self.folder or RESCUED
            paths = traces_in(root)
            self._paths = {_name(path, root): path for path in paths}
            self._looked_at, self._looking_took = time.monotonic(), time.monotonic() - now
        return self._paths

    def _opened(self, name: str) -> TraceHistory:
        path = self._look().get(name)
        if path is None:
            raise NotATraceError(f"There is no trace named {name}.")
        file = _file(path)
        if (
            name in self._open
            and file[:2] == self._files[name][:2]
            and (file == self._files[name] or time.monotonic() - self._read_at[name] < INTERVAL)
        ):
            self._open.move_to_end(name)
            return self._open[name]
        history = self._open.get(name)
        if history is None or file[:2] != self._files[name][:2] or file[2] < self._files[name][2]:
            history = TraceHistory(path, MOST_BYTES)
        else:
            history.refresh()
        self._open[name], self._files[name], self._read_at[name] = history, file, time.monotonic()
        self._open.move_to_end(name)
        while len(self._open) > 1 and sum(one.nbytes for one in self._open.values()) > MOST_BYTES:
            self._open.popitem(last=False)
        return history

    def _summary(self, name: str, deadline: float) -> Summary:
        path = self._paths[name]
        known = self._summaries.get(name)
        try:
            file = _file(path)
            if known is not None and known[0] == file:
                return known[1]
            if time.monotonic() > deadline:
                waiting = Diagnosis("Reading", "neutral", "This trace is being read.")
                return known[1] if known is not None else Summary(name, waiting)
            summary = summary_of(name, self._opened(name))
        except NotATraceError as error:
            return Summary(name, Diagnosis("Unreadable", "neutral", str(error)))
        self._summaries[name] = self._files[name], summary  # of what was read, which may be less than is there
        return summary


def summary_of(name: str, history: TraceHistory) -> Summary:
    """A trace in a list."""
    verdict = diagnose_trace(history)
    layer = "" if verdict.layer is None else history.short_names[verdict.layer]
    about = ", ".join(filter(None, [history.header.model, plural(len(history), "record")]))
    return Summary(name, verdict, layer, about)


def _name(path: Path, root: Path) -> str:
    folder = path.parent.relative_to(root).as_posix() if path != root else "."
    return folder if folder != "." else path.parent.name


def _file(path: Path) -> File:
    try:
        status = path.stat()
    except OSError as error:
        raise NotATraceError(f"Cannot read {path}: {(error.strerror or 'unknown error').lower()}.") from None
    return status.st_dev, status.st_ino, status.st_size
