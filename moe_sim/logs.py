"""What the server writes down: every record of the process through one handler, as text or as JSON, errors counted."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from functools import lru_cache
from types import TracebackType
from typing import Any

VARIABLE = "MOE_SIM_LOG"
"""`text`, the default, or `json`."""
TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """A record as one JSON object on one line, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
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


class ErrorCount(logging.Handler):
    """Counts the errors that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """One more. Called with the handler's lock held."""
        self.count += 1


@lru_cache(maxsize=1)
def _console() -> logging.Handler:
    name = os.environ.get(VARIABLE, "text")
    formatters = {"text": logging.Formatter(TEXT), "json": JsonLines()}
    if name not in formatters:
        raise ValueError(f"{VARIABLE} must be text or json, not {name[:40]!r}.")
    console = logging.StreamHandler()
    console.setFormatter(formatters[name])
    return console


@lru_cache(maxsize=1)
def _errors() -> ErrorCount:
    return ErrorCount()


def errors_logged() -> int:
    """How many errors were logged since `set_up`."""
    return _errors().count


def set_up() -> None:
    """Have one handler write everything, in place of those that libraries bring along for themselves.

    To be called again when a library has set up its own in the meantime.

    Raises:
        ValueError: with a sentence, if the environment asks for an unknown format.
    """
    console = _console()
    for name in [None, *logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        # Only what writes to the console by itself: a host's own handlers stay.
        own = [handler for handler in logger.handlers if type(handler) is logging.StreamHandler]
        for handler in own:
            logger.removeHandler(handler)
        if own:
            logger.propagate = True
    logging.root.addHandler(console)
    logging.root.addHandler(_errors())
    logging.getLogger("moe_sim").setLevel(logging.INFO)
    # Setting up one after the other, Streamlit and uvicorn leave its errors mute. What it says below a warning are
    # the addresses of visitors.
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
