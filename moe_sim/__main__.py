"""`python -m moe_sim`: see `moe_sim.cli.main`."""

from __future__ import annotations

import _thread
import signal
import sys
from threading import Timer

from moe_sim.cli.main import main

AGAIN_AFTER = 0.05
"""Seconds until an interrupt that was lost comes again."""


def come_again(lost: sys.UnraisableHookArgs) -> None:
    """Interrupts again where Python would only print a KeyboardInterrupt and go on: one that is raised within a
    `__del__` or a callback gets no further."""
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)
        return
    # A background job ignores Ctrl-C: there it was SIGTERM.
    number = signal.SIGINT if callable(signal.getsignal(signal.SIGINT)) else signal.SIGTERM
    again = Timer(AGAIN_AFTER, _thread.interrupt_main, [number])
    again.daemon = True
    again.start()


if __name__ == "__main__":
    # `kill` and schedulers of jobs end a command as Ctrl-C does: what it has is written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = come_again
    sys.exit(main())
