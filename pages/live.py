"""The main page: the dashboard of the visitor's run."""

from __future__ import annotations

from pages import dashboard, hosting
from pages.session import current

hosting.stand_in_frame()
dashboard.show(current())
