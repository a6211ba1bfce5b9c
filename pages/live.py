"""The main page: the dashboard of the visitor's run."""

from __future__ import annotations

from pages.dashboard import run_board
from pages.visitor import hosting
from pages.visitor.session import current

hosting.stand_in_frame()
run_board.show(current())
