"""Processes that tests start, and the command line as one of them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.installing import ROOT

interrupts = pytest.mark.parametrize(
    ("sent", "background"), [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGTERM, True)]
)
"""Once for each signal that ends a command, and for the one that ends a background job."""


@contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that ends with the block, also when a test fails in it."""
    with subprocess.Popen(command, cwd=ROOT, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def started(*words: str, background: bool = False, before: str = "") -> list[str]:
    """The arguments of a process that is `python -m moe_sim` as a terminal starts it, or as a shell's background job,
    which ignores Ctrl-C and whose child processes do too. The tests themselves may run in either. Before it, the
    process may run another program."""
    handler = "SIG_IGN" if background else "default_int_handler"
    code = (
        f"{before}\nimport runpy, signal; signal.signal(signal.SIGINT, signal.{handler}); "
        "runpy.run_module('moe_sim', run_name='__main__')"
    )
    return [sys.executable, "-c", code, *words]
