"""`python -m moe_sim`: see `moe_sim.command_line`."""

from __future__ import annotations

import sys

from moe_sim.command_line import main

if __name__ == "__main__":
    sys.exit(main())
