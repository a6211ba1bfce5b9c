"""`python -m moe_sim`: see `moe_sim.cli.main`."""

from __future__ import annotations

import sys

from moe_sim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
