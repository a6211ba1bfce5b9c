"""`python -m moe_sim`: see `moe_sim.cli.main`."""

from __future__ import annotations

import signal
import sys

from moe_sim.cli.main import main

if __name__ == "__main__":
    # `kill` and schedulers of jobs end a command as Ctrl-C does: what it has is written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
