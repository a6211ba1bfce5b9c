"""Every page through Streamlit's own test harness: controls, address bar, refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from moe_sim import KNOBS, PRESETS, RunConfig
from moe_sim.codec import to_query
from moe_sim.live import LiveRun

FRAME = Path(__file__).resolve().parent.parent / "pages" / "frame.py"


def opened(**query: str) -> AppTest:
    """The app as a visitor with that link sees it."""
    app = AppTest.from_file(str(FRAME), default_timeout=60)
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


def widget(app: AppTest, name: str):
    """The control of a knob, whatever kind it is."""
    kinds = (app.slider, app.select_slider, app.selectbox, app.toggle, app.number_input)
    return next(item for kind in kinds for item in kind if item.label == KNOBS[name].label)


def address(app: AppTest) -> dict[str, str]:
    return {name: value if isinstance(value, str) else value[-1] for name, value in app.query_params.items()}


@pytest.fixture(scope="module")
def app() -> AppTest:
    return opened()


def test_the_page_opens_ready_at_step_0_with_the_problem(app: AppTest) -> None:
    run = run_of(app)
    assert run.state == "ready"
    assert run.config == RunConfig()
    assert not app.warning


def test_the_four_main_sliders_come_first_and_carry_their_names(app: AppTest) -> None:
    labels = [element.label for element in app.sidebar if element.type in ("slider", "select_slider")]
    assert labels[:4] == ["Load-balancing coefficient α", "Experts", "Top-k", "Capacity factor"]


def test_every_knob_that_means_something_has_a_control(app: AppTest) -> None:
    for name, knob in KNOBS.items():
        control = widget(app, name)
        assert control.value == getattr(RunConfig(), name), name
        assert control.help == knob.help


def test_the_address_holds_the_whole_configuration(app: AppTest) -> None:
    assert address(app) == to_query(RunConfig())


def test_a_link_opens_the_run_it_describes() -> None:
    config = RunConfig(task="topics", aux_loss_coef=0.037, num_experts=5, top_k=3, capacity_factor=1.1, seed=77)
    app = opened(**to_query(config))
    assert run_of(app).config == config
    assert widget(app, "aux_loss_coef").value == 0.037
    assert address(app) == to_query(config)


def test_a_live_knob_acts_on_the_run_going_on() -> None:
    app = opened()
    run = run_of(app)
    widget(app, "aux_loss_coef").set_value(0.03)
    settled(app)
    assert run_of(app) is run
    assert run.config.aux_loss_coef == 0.03
    assert address(app)["aux_loss_coef"] == "0.03"


def test_a_structural_knob_starts_anew() -> None:
    app = opened()
    run = run_of(app)
    widget(app, "num_experts").set_value(16)
    settled(app)
    assert run_of(app) is not run
    assert run_of(app).config.num_experts == 16
    assert run_of(app).state == "ready"


def test_fewer_experts_than_top_k_lowers_top_k_and_says_so() -> None:
    app = opened(top_k="4")
    widget(app, "num_experts").set_value(3)
    settled(app)
    assert run_of(app).config.top_k == 3
    assert "Top-k was lowered to 3" in app.warning[0].value


def test_renormalize_is_refused_for_one_expert_in_a_sentence_and_its_switch_goes_back() -> None:
    app = opened()
    widget(app, "renormalize").set_value(True)
    settled(app)
    assert "needs a Top-k (top_k) of 2 or more" in app.warning[0].value
    assert run_of(app).config.renormalize is False
    assert widget(app, "renormalize").value is False
    settled(app)
    assert not app.warning


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_opens_with_its_configuration_and_its_plan(name: str) -> None:
    app = opened(seed="5")
    next(button for button in app.button if button.label == PRESETS[name].label).click()
    settled(app)
    run = run_of(app)
    assert run.config == PRESETS[name].config(5)
    assert run.plan == PRESETS[name].plan
    assert app.session_state["session"].preset == name
    again = opened(**address(app))
    assert (run_of(again).config, run_of(again).plan) == (run.config, run.plan)


def test_controls_that_mean_nothing_for_text_are_not_shown() -> None:
    app = opened(task="text")
    labels = {item.label for item in app.slider}
    assert KNOBS["num_topics"].label not in labels
    assert KNOBS["batch_tokens"].label in labels


def test_a_new_seed_starts_another_run() -> None:
    app = opened()
    next(button for button in app.button if button.label == "New seed").click()
    settled(app)
    assert run_of(app).config.seed != 0
    assert address(app)["seed"] == str(run_of(app).config.seed)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"num_experts": "1000"}, ["num_experts", "from 2 to 64", "Using 8"]),
        ({"top_k": "9"}, ["top_k", "from 1 to 8", "Using 1"]),
        ({"top_k": "6", "num_experts": "4"}, ["top_k", "from 1 to 4", "not 6"]),
        ({"aux_loss_coef": "nan"}, ["aux_loss_coef", "from 0 to 10", "Using 0"]),
        ({"learning_rate": "1e999"}, ["learning_rate"]),
        ({"task": "<script>alert(1)</script>"}, ["task", "topics, text"]),
        ({"seed": "-1"}, ["seed"]),
        ({"renormalize": "on"}, ["renormalize", "Top-k (top_k) of 2 or more"]),
        ({"events": "5:num_experts=3"}, ["5:num_experts=3"]),
        ({"events": "5:aux_loss_coef=99"}, ["step 5", "from 0 to 10"]),
    ],
)
def test_a_bad_link_opens_the_default_and_names_key_and_range(query: dict[str, str], words: list[str]) -> None:
    app = opened(**query)
    notice = " ".join(item.value for item in app.warning)
    for word in words:
        assert word in notice
    assert run_of(app).state == "ready"


def test_unknown_keys_in_a_link_are_ignored() -> None:
    app = opened(utm_source="mail", v="99", aux_loss_coef="0.1")
    assert not app.warning
    assert run_of(app).config == RunConfig(aux_loss_coef=0.1)


@pytest.mark.parametrize(
    ("command", "check"),
    [
        ({"name": "train"}, lambda before, after: after is before and after.state == "training"),
        ({"name": "extend"}, lambda before, after: after.budget == 3000),
        ({"name": "rate", "value": 15}, lambda before, after: after.rate == 15),
        ({"name": "rate", "value": 0}, lambda before, after: after.rate == float("inf")),
        ({"name": "reset"}, lambda before, after: after is not before and after.config == before.config),
        ({"name": "rate", "value": 10**9}, lambda before, after: after.rate == 60),
        ({"name": "rate", "value": "fast"}, lambda before, after: after.rate == 60),
        ({"name": "lost", "run_id": "x"}, lambda before, after: after is before),
        ({"name": "__class__"}, lambda before, after: after is before),
        ({}, lambda before, after: after is before),
    ],
)
def test_the_dashboard_is_obeyed_in_what_it_may_ask_and_no_further(
    command: dict, check: Callable[[LiveRun, LiveRun], bool]
) -> None:
    app = opened()
    session = app.session_state["session"]
    before = session.run
    session.command(command)
    assert check(before, session.run)


def test_reset_keeps_seed_and_knobs_and_undoes_what_the_plan_did() -> None:
    app = opened()
    session = app.session_state["session"]
    session.choose_preset("too-late")
    session.run.trainer.run(400)
    session.run.trainer.update(aux_loss_coef=0.1)  # what the plan does at step 400
    session.command({"name": "reset"})
    assert session.run.config == RunConfig()
    assert session.run.plan == PRESETS["too-late"].plan
    assert len(session.run.history) == 0
