"""Server logs: one handler for the whole process, as text or JSON, and a count of logged errors."""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any, Literal

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
    """

    def __init__(self, form: Literal["text", "json"]) -> None:
        self._console = logging.StreamHandler()
        self._console.setFormatter(JsonLines() if form == "json" else logging.Formatter(TEXT))
        self._errors = ErrorCount()

    @property
    def errors(self) -> int:
        """The number of errors logged so far."""
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
