"""The main page: the dashboard of the visitor's run."""

from __future__ import annotations

from pages import dashboard
from pages.session import current

dashboard.show(current())
