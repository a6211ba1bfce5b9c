"""Checks of every test of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from streamlit.runtime.scriptrunner_utils.script_run_context import RunLocation, ThreadState
from streamlit.runtime.state.safe_session_state import SafeSessionState


@pytest.fixture(autouse=True)
def callbacks_cannot_be_interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test in which a callback looks something up in `st.session_state` or writes to it. There Streamlit may
    interrupt it for the next report of the browser, and what the visitor did is lost."""
    found: list[str] = []

    def watched(name: str) -> Any:
        original = getattr(SafeSessionState, name)

        def method(self: SafeSessionState, key: str, *value: Any) -> Any:
            with suppress(RuntimeError):  # outside of a script run
                if ThreadState.get().run_location is RunLocation.CALLBACK:
                    found.append(f"{name} {key}")
            return original(self, key, *value)

        return method

    for name in ("__getitem__", "__setitem__", "__delitem__", "__contains__"):
        monkeypatch.setattr(SafeSessionState, name, watched(name))
    yield
    assert not found
