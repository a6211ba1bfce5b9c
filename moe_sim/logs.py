"""Server logs: one handler for the whole process, as text or JSON, and a count of logged errors."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal

MOST_OF_A_SESSION = 3
MOST_TRACEBACKS = 10
PERIOD = 3600.0
"""Seconds."""
MOST_SESSIONS = 10_000
"""Sessions whose errors are remembered."""
TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON, traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as a line of JSON."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class ErrorLimit(logging.Filter):
    """Limits what one visitor, or one fault, can write to the log. Of a session, `MOST_OF_A_SESSION` errors are
    logged and counted. An error that is raised at the same place again and again is logged with `MOST_TRACEBACKS`
    tracebacks in `PERIOD` seconds, and then in one line.

    Args:
        session: the id of the session whose script runs in this thread; None if there is none.
        now: a monotonic clock.
    """

    def __init__(self, session: Callable[[], str | None], now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._session, self._now = session, now
        self._errors: OrderedDict[str, int] = OrderedDict()
        """The number of errors by session, the newest session last."""
        self._tracebacks: Counter[tuple[str, int]] = Counter()
        """The number of tracebacks by the place where the error was raised."""
        self._since = now()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log the record; it may lose its traceback. Several handlers may ask: the first answer stays."""
        if not hasattr(record, "admitted"):
            with self._lock:
                record.admitted = self._admit(record)
        return record.admitted  # type: ignore[attr-defined]

    def _admit(self, record: logging.LogRecord) -> bool:
        session = self._session() if record.levelno >= logging.ERROR else None
        if session is not None:
            self._errors[session] = self._errors.get(session, 0) + 1
            if self._errors[session] > MOST_OF_A_SESSION:
                return False
            if len(self._errors) > MOST_SESSIONS:
                self._errors.popitem(last=False)
            if self._errors[session] == MOST_OF_A_SESSION:
                record.msg, record.args = f"{record.getMessage()} (further errors of this session are not logged)", ()
        if record.exc_info and record.exc_info[1] is not None:
            self._shorten(record, record.exc_info[1])
        return True

    def _shorten(self, record: logging.LogRecord, error: BaseException) -> None:
        """Replaces the traceback by the error's type if the same one has been logged often enough."""
        if self._now() - self._since > PERIOD:
            self._tracebacks.clear()
            self._since = self._now()
        place = _place_of(error)
        self._tracebacks[place] += 1
        if self._tracebacks[place] > MOST_TRACEBACKS:
            file, line = place
            record.msg, record.args = f"{record.getMessage()}: {type(error).__name__}, raised at {file}:{line}", ()
            record.exc_info = record.exc_text = None


def _place_of(error: BaseException) -> tuple[str, int]:
    """The file and the line where an error was raised."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    return (step.tb_frame.f_code.co_filename, step.tb_lineno) if step is not None else ("", 0)


class ErrorCount(logging.Handler):
    """Counts logged errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts one error. Called with the handler's lock held."""
        self.count += 1


class ProcessLog:
    """One handler for all records of this process, in place of the libraries' own.

    Args:
        form: `text`, or `json` for one object per line.
        session: see `ErrorLimit`.
    """

    def __init__(self, form: Literal["text", "json"], session: Callable[[], str | None] = lambda: None) -> None:
        self._console = logging.StreamHandler()
        self._console.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
        self._errors = ErrorCount()
        limit = ErrorLimit(session)
        self._console.addFilter(limit)
        self._errors.addFilter(limit)

    @property
    def errors(self) -> int:
        """The number of errors logged so far. A session adds at most `MOST_OF_A_SESSION`."""
        return self._errors.count

    def install(self) -> None:
        """Takes over all loggers. Call it again after a library has set up its logging."""
        for name in [None, *logging.root.manager.loggerDict]:
            logger = logging.getLogger(name)
            # Only handlers that write to the console; a host's other handlers stay.
            own = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
            for handler in own:
                logger.removeHandler(handler)
            if own:
                logger.propagate = True
        logging.root.addHandler(self._console)
        logging.root.addHandler(self._errors)
        logging.getLogger("moe_sim").setLevel(logging.INFO)
        # The setups of Streamlit and uvicorn combined silence this logger. Below warnings, it logs visitors' addresses.
        server = logging.getLogger("uvicorn.error")
        server.propagate = True
        server.setLevel(logging.WARNING)
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    log.critical("Uncaught error", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        log.critical("Uncaught error", exc_info=(args.exc_type, args.exc_value, args.exc_traceback))
