"""The app on a plain-script host, and a failing script."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from moe_sim.server import http
from moe_sim.server.http import PLOTLY_PATH
from pages.visitor import hosting
from tests.support.apps import settled, turned_to
from tests.support.serving import ROOT

SCRIPT = str(ROOT / "app.py")


def test_a_failing_script_shows_an_apology_and_logs_the_traceback(caplog: pytest.LogCaptureFixture) -> None:
    def script() -> None:
        from streamlit.error_util import handle_user_script_exception

        from pages.visitor import hosting

        try:
            raise RuntimeError("a secret of the host")
        except RuntimeError as error:
            handle_user_script_exception(error, hosting.apologise)

    logger = logging.getLogger("streamlit.error_util")
    logger.addHandler(caplog.handler)
    try:
        app = AppTest.from_function(script).run()
    finally:
        logger.removeHandler(caplog.handler)
    assert [error.value for error in app.error] == [hosting.APOLOGY]
    assert not app.exception
    assert "a secret of the host" in caplog.text
    assert "Traceback" in caplog.text


def components(app: AppTest) -> dict[str, Any]:
    """The components on a page by name."""
    return {element.proto.component_name: element.proto for element in app.get("bidi_component")}


def test_on_a_plain_script_host_python_sends_the_messages_and_plotly() -> None:
    app = settled(AppTest.from_file(SCRIPT, default_timeout=60))
    drawn = components(app)
    assert set(drawn) == {"expert_collapse_dashboard", "expert_collapse_plotly"}
    data = json.loads(drawn["expert_collapse_dashboard"].json)[0]
    assert [data[name] for name in ("stream_url", "slide_url", "plotly_url")] == [None, None, None]
    assert json.loads(data["message"])["from"] == 0
    assert http.plotly_script() in drawn["expert_collapse_plotly"].js_content
    assert len(drawn["expert_collapse_dashboard"].js_content) < 100_000


def test_with_the_server_routes_send_the_messages_and_plotly() -> None:
    app = settled(AppTest.from_file(str(hosting.FRAME), default_timeout=60))
    drawn = components(app)
    assert set(drawn) == {"expert_collapse_dashboard"}
    data = json.loads(drawn["expert_collapse_dashboard"].json)[0]
    run = app.session_state["session"].run
    assert (data["stream_url"], data["slide_url"]) == (f"/live/{run.id}", f"/slide/{run.id}")
    assert (data["plotly_url"], data["message"]) == (PLOTLY_PATH, None)


def test_a_page_opened_without_its_frame_gets_it() -> None:
    app = settled(AppTest.from_file(str(Path(hosting.FRAME).with_name("glossary.py")), default_timeout=60))
    assert "session" in app.session_state
    assert {"Share", "Export"} <= {button.label for button in app.button}


def test_on_a_plain_script_host_with_an_invalid_setting_the_log_names_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosting, "_installed", None)
    hosting._server_of_a_plain_host.clear()  # type: ignore[attr-defined]
    monkeypatch.setenv("MOE_SIM_WORKERS", "many")
    app = AppTest.from_file(SCRIPT, default_timeout=60).run()
    assert [error.value for error in app.error] == [hosting.APOLOGY]
    assert not app.exception
    assert "MOE_SIM_WORKERS must be a whole number from 0 to 64, not 'many'." in caplog.text
    assert "Traceback" not in caplog.text


def test_on_a_plain_script_host_every_page_opens() -> None:
    app = settled(AppTest.from_file(SCRIPT, default_timeout=60))
    for page in ("compare", "sweep", "your_model", "learn", "anatomy", "quiz", "glossary", "live"):
        turned_to(app, f"pages/{page}")
