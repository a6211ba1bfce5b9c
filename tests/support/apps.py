"""The app in Streamlit's test harness: what a visitor opens, sees and presses."""

from __future__ import annotations

from pathlib import Path

from streamlit.testing.v1 import AppTest

from moe_sim import KNOBS
from moe_sim.config.knobs import THRESHOLDS
from moe_sim.config.settings import Settings
from moe_sim.live.live_run import LiveRun
from moe_sim.server.server import Server
from pages.sidebar.run_controls import GROUP_KEY, MORE_SCENARIOS
from pages.visitor import hosting
from pages.visitor.session import Session

FRAME = Path(__file__).resolve().parents[2] / "pages" / "frame.py"


def opened(*, server: Server | None = None, groups_open: bool = True, **query: str) -> AppTest:
    """The app as a visitor with that link sees it, on a server of its own unless one is given. All groups of the
    sidebar are open unless said otherwise."""
    made = server or Server(Settings(workers=0, slow_start=False))
    hosting.install(lambda: made)
    app = AppTest.from_file(str(FRAME), default_timeout=60)
    for title in {knob.group for knob in (KNOBS | THRESHOLDS).values()} | {MORE_SCENARIOS}:
        app.session_state[f"{GROUP_KEY}{title}"] = groups_open
    for name, value in query.items():
        app.query_params[name] = value
    return settled(app)


def settled(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    assert not app.error
    return app


def run_of(app: AppTest) -> LiveRun:
    return app.session_state["session"].run


def session_of(app: AppTest) -> Session:
    return app.session_state["session"]


def controls(app: AppTest) -> dict[str, object]:
    """Every control by its label, whatever its kind."""
    kinds = (app.slider, app.select_slider, app.selectbox, app.toggle, app.number_input)
    return {item.label: item for kind in kinds for item in kind}


def widget(app: AppTest, name: str):
    """The control of a knob or a threshold."""
    return controls(app)[(KNOBS | THRESHOLDS)[name].label]


def address(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in app.query_params.items()}


def turned_to(app: AppTest, page: str) -> AppTest:
    """Open another page in the same session."""
    app.switch_page(f"{page}.py")
    return settled(app)


def press(app: AppTest, label: str) -> AppTest:
    """Click the first button with that label."""
    next(button for button in app.button if button.label == label).click()
    return settled(app)


def button(app: AppTest, key: str):
    """The button with that key."""
    return next(one for one in app.button if one.key == key)
