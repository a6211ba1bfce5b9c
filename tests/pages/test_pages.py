"""Every page through Streamlit's own test harness: controls, address bar, refusals, lectures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from moe_sim import KNOBS, PRESETS, Event, RunConfig
from moe_sim.config.codec import MOST_EVENTS, thresholds_to_query, to_link, to_query
from moe_sim.config.comparison_presets import COMPARISONS
from moe_sim.config.knobs import THRESHOLDS
from moe_sim.config.presets import FAMILY, MECHANISM, SCENARIO
from moe_sim.config.settings import Settings
from moe_sim.config.thresholds import Thresholds
from moe_sim.diagnosis.verdict import diagnose
from moe_sim.live.lectures import Lectures
from moe_sim.live.live_run import LiveRun
from moe_sim.router.balancing import METHODS, PARTICULAR_KNOBS
from moe_sim.server.server import Server
from moe_sim.teaching.course.catalogue import COURSE, LESSONS
from moe_sim.teaching.course.lesson import passed
from moe_sim.teaching.course.playing import reference_loss
from moe_sim.teaching.course.which_loop import JUDGED_AT
from moe_sim.teaching.level import LEVELS
from moe_sim.teaching.loss_anatomy import EXAMPLES, Example, dissect
from moe_sim.teaching.quiz.catalogue import QUESTIONS, drawn_by_key
from moe_sim.teaching.terms.catalogue import TERMS
from pages.dashboard import run_board
from pages.sidebar.run_controls import GROUP_KEY
from pages.visitor.commands import obey
from pages.visitor.view import HIDEABLE
from tests.support.apps import address, button, controls, opened, press, run_of, session_of, settled, turned_to, widget

PAGES = ("live", "learn", "museum", "compare", "anatomy", "sweep", "your_model", "quiz", "glossary")


@pytest.fixture(scope="module")
def app() -> AppTest:
    return opened()


def test_the_page_opens_ready_at_step_0_with_the_problem(app: AppTest) -> None:
    run = run_of(app)
    assert run.state == "ready"
    assert run.config == RunConfig()
    assert not app.warning


def test_the_main_controls_come_first(app: AppTest) -> None:
    kinds = ("slider", "select_slider", "selectbox")
    labels = [element.label for element in app.sidebar if element.type in kinds]
    assert labels[:4] == ["Load-balancing coefficient α", "Experts", "Top-k", "Capacity factor"]
    assert "Balancing mechanism" in labels


def test_groups_are_drawn_when_they_are_open() -> None:
    app = opened(groups_open=False)
    main = {"Load-balancing coefficient α", "Experts", "Top-k", "Capacity factor", "Balancing mechanism"}
    assert set(controls(app)) == main
    app.session_state[f"{GROUP_KEY}Noise"] = True
    settled(app)
    assert set(controls(app)) == main | {knob.label for knob in KNOBS.values() if knob.group == "Noise"}


def test_the_four_main_sliders_come_first(app: AppTest) -> None:
    labels = [element.label for element in app.sidebar if element.type in ("slider", "select_slider")]
    assert labels[:4] == ["Load-balancing coefficient α", "Experts", "Top-k", "Capacity factor"]


@pytest.mark.parametrize("task", ["topics", "text", "language"])
def test_every_knob_that_applies_to_the_task_has_a_control_with_its_help(task: str) -> None:
    app = opened(task=task)
    config = RunConfig(task=task)
    shown = controls(app)
    for name, knob in KNOBS.items():
        matters = knob.is_offered(task) and name not in ("bias_rate", "bias_update", "micro_batches")  # no effect yet
        assert (knob.label in shown) == matters, name
        if matters:
            assert shown[knob.label].value == getattr(config, name), name
            assert shown[knob.label].help == knob.help
            assert not shown[knob.label].disabled


@pytest.mark.parametrize("balancing", METHODS)
def test_a_knob_that_only_some_mechanisms_use_is_hidden_or_disabled_for_the_others(balancing: str) -> None:
    app = opened(balancing=balancing)
    shown, alpha = controls(app), widget(app, "aux_loss_coef")
    assert widget(app, "balancing").value == balancing
    assert alpha.disabled == (balancing in ("bias", "expert_choice", "sinkhorn", "hash", "none"))
    assert alpha.help.startswith(f"{METHODS[balancing].label} does not use this knob.") == alpha.disabled
    assert alpha.help.endswith(KNOBS["aux_loss_coef"].help)
    assert (KNOBS["bias_rate"].label in shown) == (balancing == "bias")
    assert (KNOBS["convention"].label in shown) == (balancing == "load_balancing")
    for name in {name for name, knob in KNOBS.items() if knob.is_offered("topics")} - PARTICULAR_KNOBS:
        assert not widget(app, name).disabled, name


def test_a_bias_with_a_loss_per_sequence_uses_alpha_and_micro_batches_show_where_they_count() -> None:
    app = opened(balancing="bias", balance_scope="sequence", sequence_tokens="16")
    assert not widget(app, "aux_loss_coef").disabled
    assert KNOBS["micro_batches"].label not in controls(app)
    assert KNOBS["micro_batches"].label in controls(opened(balance_scope="micro_batch"))


def test_mechanisms_are_listed_by_their_labels(app: AppTest) -> None:
    assert widget(app, "balancing").options == [METHODS[name].label for name in KNOBS["balancing"].choices]
    assert not any("_" in option for box in app.selectbox for option in box.options)


def test_another_mechanism_acts_on_the_current_run() -> None:
    app = opened()
    run = run_of(app)
    run.advance_by(5)
    widget(app, "balancing").set_value("bias")
    settled(app)
    assert run_of(app) is run
    assert run.config.balancing == "bias"
    assert len(run.history) == 5
    assert [event.changes for event in run.history.events] == [{"balancing": "bias"}]
    assert widget(app, "aux_loss_coef").disabled
    widget(app, "bias_rate").set_value(0.1)
    settled(app)
    assert run.config.bias_rate == 0.1


def test_the_address_holds_what_differs_from_the_defaults(app: AppTest) -> None:
    assert address(app) == to_link(RunConfig())


def test_a_link_opens_the_run_it_describes() -> None:
    config = RunConfig(task="topics", aux_loss_coef=0.037, num_experts=5, top_k=3, capacity_factor=1.1, seed=77)
    app = opened(**to_query(config))
    assert run_of(app).config == config
    assert widget(app, "aux_loss_coef").value == 0.037
    assert address(app) == to_link(config)


def test_a_live_knob_acts_on_the_current_run() -> None:
    app = opened()
    run = run_of(app)
    widget(app, "aux_loss_coef").set_value(0.03)
    settled(app)
    assert run_of(app) is run
    assert run.config.aux_loss_coef == 0.03
    assert address(app)["aux_loss_coef"] == "0.03"


def test_the_address_of_a_rescued_run_reproduces_it() -> None:
    app = opened(seed="7")
    run = run_of(app)
    run.update(router_noise="gaussian")  # before the first step: part of the configuration
    run.advance_by(4)
    widget(app, "aux_loss_coef").set_value(0.1)
    settled(app)
    run.advance_by(6)
    settled(app)
    assert address(app) == {"v": "4", "seed": "7", "router_noise": "gaussian", "events": "4:aux_loss_coef=0.1"}
    again = run_of(opened(**address(app)))
    again.advance_by(10)
    np.testing.assert_array_equal(again.history.rows(), run.history.rows())


def test_more_changes_than_a_link_can_hold_leave_the_current_configuration_in_the_address() -> None:
    app = opened()
    run = run_of(app)
    for step in range(MOST_EVENTS + 2):  # the first one is part of the configuration
        run.update(aux_loss_coef=(step % 9 + 1) / 100)
        run.advance_by(1)
    settled(app)
    assert address(app) == to_link(run.config)


def test_a_structural_knob_restarts_the_run() -> None:
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


def test_renormalize_with_one_expert_per_token_is_refused_with_a_notice_and_its_switch_goes_back() -> None:
    app = opened()
    widget(app, "renormalize").set_value(True)
    settled(app)
    assert "needs a Top-k (top_k) of 2 or more" in app.warning[0].value
    assert run_of(app).config.renormalize is False
    assert widget(app, "renormalize").value is False


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


def test_controls_that_do_not_apply_to_text_are_not_shown() -> None:
    app = opened(task="text")
    labels = {item.label for item in app.slider}
    assert KNOBS["num_topics"].label not in labels
    assert KNOBS["batch_tokens"].label in labels


def test_a_new_seed_starts_a_new_run() -> None:
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
        ({"events": "5:num_experts=3"}, ["num_experts=3"]),
        ({"events": "5:aux_loss_coef=99"}, ["step 5", "from 0 to 10"]),
    ],
)
def test_an_invalid_link_falls_back_to_the_defaults_and_names_key_and_range(
    query: dict[str, str], words: list[str]
) -> None:
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
def test_known_commands_are_executed_and_all_others_ignored(
    command: dict, check: Callable[[LiveRun, LiveRun], bool]
) -> None:
    app = opened()
    session = app.session_state["session"]
    before = session.run
    obey(session, command)
    assert check(before, session.run)


@pytest.mark.parametrize(("reported", "expected"), [(0.0, 0.1), (0.03, 0.03)])
def test_an_old_slider_that_reports_where_it_stood_undoes_no_planned_change(reported: float, expected: float) -> None:
    app = opened(events="5:aux_loss_coef=0.1")
    old = widget(app, "aux_loss_coef")
    run_of(app).advance_by(8)
    app.run()
    assert widget(app, "aux_loss_coef").value == 0.1
    states = app._tree.get_widget_states()
    states.widgets.append(old.set_value(reported)._widget_state)
    app._run(states)
    assert run_of(app).config.aux_loss_coef == expected


def test_reset_keeps_seed_and_knobs_and_undoes_the_planned_changes() -> None:
    app = opened()
    session = app.session_state["session"]
    session.choose_preset("too-late")
    session.run.advance_by(400)
    session.run.advance_by(1)  # the planned change of α
    obey(session, {"name": "reset"})
    assert session.run.config == RunConfig()
    assert session.run.plan == PRESETS["too-late"].plan
    assert len(session.run.history) == 0


def test_every_threshold_has_a_slider_at_its_default(app: AppTest) -> None:
    for name, line in THRESHOLDS.items():
        control = widget(app, name)
        assert control.type == "slider"
        assert (control.value, control.min, control.max) == (line.default, line.minimum, line.maximum)
        assert control.help == line.help


def test_moving_a_threshold_changes_the_address_and_the_verdict_but_not_the_run() -> None:
    app = opened()
    run = run_of(app)
    run.advance_by(100)
    before = run.history.to_frame()
    assert diagnose(run.history, run.config, run.thresholds).state == "Collapsed"
    assert not set(address(app)) & set(THRESHOLDS)
    widget(app, "collapse_share").set_value(1.0)
    settled(app)
    widget(app, "dead_share").set_value(0.0)
    settled(app)
    assert run_of(app) is run
    assert run.thresholds == Thresholds(collapse_share=1, dead_share=0)
    assert diagnose(run.history, run.config, run.thresholds).state != "Collapsed"
    assert address(app) == to_link(RunConfig()) | {"collapse_share": "1", "dead_share": "0"}
    assert run.history.to_frame().equals(before)
    assert not run.history.events
    widget(app, "dead_share").set_value(0.1)
    settled(app)
    assert "dead_share" not in address(app)


def test_thresholds_in_a_link_apply_and_outlive_the_run() -> None:
    lines = Thresholds(collapse_share=0.9, large_logits=30)
    app = opened(**thresholds_to_query(lines), seed="3")
    assert run_of(app).thresholds == lines
    assert widget(app, "collapse_share").value == 0.9
    assert address(app)["collapse_share"] == "0.9"
    obey(session_of(app), {"name": "reset"})
    settled(app)
    assert run_of(app).thresholds == lines
    widget(app, "num_experts").set_value(16)
    settled(app)
    assert run_of(app).thresholds == lines
    assert address(app)["large_logits"] == "30"


def test_an_invalid_threshold_in_a_link_becomes_its_default_with_a_notice() -> None:
    app = opened(dead_share="7", aux_loss_coef="0.1")
    (notice,) = app.warning
    for words in ("dead_share", "from 0 to 0.5", "Using 0.1"):
        assert words in notice.value
    assert run_of(app).thresholds == Thresholds()
    assert run_of(app).config == RunConfig(aux_loss_coef=0.1)
    assert "dead_share" not in address(app)


def test_an_out_of_range_threshold_is_refused_with_a_notice() -> None:
    session = session_of(opened())
    session.move_threshold(dead_share=7)
    assert session.thresholds == session.run.thresholds == Thresholds()
    assert "dead_share" in next(iter(session.notices))


def test_freeze_holds_the_weights_of_the_current_run_and_releases_them_again() -> None:
    app = opened()
    session, run = session_of(app), run_of(app)
    run.advance_by(3)
    obey(session, {"name": "freeze"})
    settled(app)
    assert run_of(app) is run
    assert run.config.frozen
    assert widget(app, "frozen").value is True
    assert address(app)["events"] == "3:frozen=on"
    run.advance_by(2)
    obey(session, {"name": "freeze"})
    settled(app)
    assert not run.config.frozen
    assert widget(app, "frozen").value is False
    assert [(event.step, event.changes) for event in run.history.events] == [
        (3, {"frozen": True}),
        (5, {"frozen": False}),
    ]


def test_presets_form_three_groups_and_the_active_one_is_marked() -> None:
    app = opened(**to_query(PRESETS["bias"].config()))
    buttons = {button.key: button for button in app.button if button.key}
    for name, preset in PRESETS.items():
        button = buttons[f"preset-{name}"]
        assert button.label == preset.label
        assert button.help == preset.description
        assert (button.proto.type == "primary") == (name == "bias")
    order = [key.removeprefix("preset-") for key in buttons if key.startswith("preset-")]
    kinds = [PRESETS[name].kind for name in order if name != "bias"]  # the active one is beside the first scenarios
    assert kinds == sorted(kinds, key=(SCENARIO, MECHANISM, FAMILY).index)
    assert {"Other balancing methods", "As models set it"} <= {caption.value for caption in app.caption}


def test_three_scenarios_and_the_active_one_are_in_sight() -> None:
    first = list(PRESETS)[:3]
    for active, names in (("collapse", first), ("bias", [*first, "bias"])):
        app = opened(groups_open=False, **to_query(PRESETS[active].config()))
        shown = [button.key for button in app.button if str(button.key).startswith("preset-")]
        assert shown == [f"preset-{name}" for name in names]


def test_the_payload_has_what_the_dashboard_texts_need() -> None:
    app = opened(dead_share="0.3", healthy_low="0.4", healthy_high="3")
    run = run_of(app)
    payload = run_board.payload(run, "light")
    assert set(payload["mechanisms"]) == set(METHODS)
    for name, mechanism in payload["mechanisms"].items():
        assert mechanism["weighs_a_loss"] == ("aux_loss_coef" in METHODS[name].knobs)
        assert mechanism["label"]
        assert mechanism["explanation"].endswith(".")
    assert payload["context"]["dead_share"] == 0.3
    assert payload["context"]["uneven_ratio"] == pytest.approx(3 / 0.4)
    [data] = json.loads(app.get("bidi_component")[0].proto.json)
    assert set(data["figures"]) == {*run_board.FIRST_SCREEN, "load_and_importance"} - {"experts_by_layer"}
    band = json.loads(data["figures"]["utilization"])["layout"]["shapes"][0]
    assert (band["y0"], band["y1"]) == (5.0, 37.5)
    assert KNOBS["topic_skew"].label in payload["shift"]
    assert KNOBS["domain_mix"].label in run_board.payload(LiveRun(RunConfig(task="text")), "dark")["shift"]


@pytest.mark.parametrize("level", LEVELS)
def test_every_page_opens_at_every_level_and_keeps_the_run(level: str) -> None:
    app = opened(level=level)
    run = run_of(app)
    for page in (*PAGES, *PAGES):
        turned_to(app, page)
        assert not app.warning
        assert run_of(app) is run
        beside = {"b": "0:aux_loss_coef=0.03"} if page == "compare" else {}
        link = to_link(RunConfig()) | ({} if level == "beginner" else {"level": level}) | beside
        assert address(app) == ({"exhibit": "1"} if page == "museum" else link)
        assert (KNOBS["aux_loss_coef"].label in controls(app)) == (page in ("live", "learn", "museum", "compare"))
        assert [one.label for one in app.button if one.label in ("Share", "Export")] == (
            ({one: ["Share", "Export"] for one in ("live", "learn", "museum")} | {"your_model": ["Export"]}).get(
                page, []
            )
        )


def test_the_level_applies_to_all_pages_and_is_in_the_address() -> None:
    app = opened()
    next(group for group in app.get("button_group") if group.key == "level").set_value("expert")
    settled(app)
    assert session_of(app).view.level == "expert"
    assert address(app)["level"] == "expert"
    turned_to(app, "glossary")
    assert any("level set in the sidebar: expert" in caption.value for caption in app.caption)
    assert session_of(opened(level="expert")).view.level == "expert"


def test_each_lesson_starts_its_run_opens_its_tab_and_lists_its_criteria() -> None:
    app = turned_to(opened(seed="4"), "learn")
    for lesson in LESSONS:
        number = COURSE.index(lesson) + 1
        before = run_of(app)
        button(app, f"lesson-{lesson.slug}").click()
        settled(app)
        assert app.header[0].value == f"{number}. {lesson.title}"
        assert run_of(app) is before
        press(app, "Start this lesson")
        run = run_of(app)
        assert run is not before
        assert (run.config, run.plan, run.state) == (lesson.config(4), lesson.plan, "ready")
        assert session_of(app).view.tab == lesson.tab
        assert address(app).get("tab", "why") == lesson.tab
        assert f"**Goal.** {lesson.goal}" in [text.value for text in app.markdown]
        assert not app.success
        criteria = lesson.check(run.history, run.config, lambda _: np.nan)
        assert not passed(criteria)
        html = " ".join(part.proto.body for part in app.get("html"))
        listed = re.findall(r'<li data-met="(true|false)" aria-label="(.*?): (?:met|not yet)">', html)
        texts = [f"{one.text} ({one.value})" if one.value else one.text for one in criteria]
        assert [(met == "true", unescape(text)) for met, text in listed] == [
            (one.met, text) for one, text in zip(criteria, texts, strict=True)
        ]


def test_a_lesson_is_passed_when_its_goal_is_met_and_stays_passed() -> None:
    lesson = LESSONS[0]
    app = turned_to(opened(), "learn")
    press(app, "Start this lesson")
    assert button(app, f"lesson-{lesson.slug}").label == f"1. {lesson.title}"
    run_of(app).advance_by(lesson.intended_steps)
    settled(app)
    assert f"lesson “{lesson.title}” passed at step {lesson.intended_steps}" in app.success[0].value
    assert button(app, f"lesson-{lesson.slug}").label == f"✓ 1. {lesson.title}"
    press(app, "Next lesson")
    assert app.header[0].value == f"2. {LESSONS[1].title}"
    assert not app.success
    turned_to(app, "live")
    turned_to(app, "learn")
    assert button(app, f"lesson-{lesson.slug}").label == f"✓ 1. {lesson.title}"


class Asked:
    """Stands in for errands: an answer to everything, and what was asked for."""

    def __init__(self, answer: Any, waiting: int = 0) -> None:
        self.answer, self.waiting = answer, waiting
        self.calls: list[tuple[Any, ...]] = []

    def ask(self, *call: Any) -> Any:
        self.calls.append(call)
        return self.answer

    wait_for = ask


def test_a_lesson_that_compares_with_another_run_does_not_compute_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = next(one for one in LESSONS if one.slug == "choosing-alpha")
    app = turned_to(opened(), "learn")
    button(app, f"lesson-{lesson.slug}").click()
    settled(app)
    press(app, "Start this lesson")
    (move,) = lesson.intended_start.items()
    widget(app, move[0]).set_value(move[1])
    settled(app)
    run_of(app).advance_by(lesson.intended_steps)

    def criteria() -> str:
        return " ".join(part.proto.body for part in app.get("html"))

    for answer, words in ((None, "(–)"), (9.0, "(9.00)")):
        errands = Asked(answer)
        monkeypatch.setattr(session_of(app).server, "errands", errands)
        settled(app)
        assert words in criteria()
        assert bool(app.success) == (answer is not None)
        assert {call[0] for call in errands.calls} == {reference_loss}


def test_while_many_questions_wait_for_runs_the_quiz_asks_others(monkeypatch: pytest.MonkeyPatch) -> None:
    app, drawn = opened(), next(one for one in QUESTIONS if one.level == "beginner" and one.is_drawn)
    for waiting in (0, 4):
        errands = Asked(drawn_by_key(drawn.key, 0), waiting)
        monkeypatch.setattr(session_of(app).server, "errands", errands)
        turned_to(app, "quiz")
        for _ in range(12):  # of 12 questions 5 have runs
            next(one for one in app.button if one.key and one.key.startswith("quiz-")).click()
            settled(app)
            press(app, "Next question")
        assert bool(errands.calls) == (waiting < 4)


def test_experiments_are_predicted_run_and_judged_by_the_visitors_own_runs() -> None:
    app = turned_to(opened(seed="7601"), "learn")
    button(app, "lesson-which-loop").click()
    settled(app)
    assert not [one for one in app.button if one.label in ("Start this lesson", "Share")]
    assert KNOBS["aux_loss_coef"].label not in controls(app), "the live run is not on the screen"
    run = next(one for one in app.button if one.label == "Run the four experiments")
    assert run.disabled
    for number, answer in enumerate(("collapses", "stays in use", "stays in use", "collapses")):
        group = next(one for one in app.get("button_group") if one.key == f"prediction_which-loop_{number}")
        group.set_value(answer)
        settled(app)
    press(app, "Run the four experiments")
    comparison = session_of(app).comparison().run
    assert comparison.plans == COMPARISONS["which-loop"].plans(7601)
    assert comparison.state == "training"
    assert not app.success
    comparison.pause()
    comparison.advance_by(JUDGED_AT - comparison.steps_done)
    settled(app)
    assert f"lesson “Which loop is it?” passed at step {JUDGED_AT}" in app.success[0].value
    html = " ".join(part.proto.body for part in app.get("html"))
    verdicts = re.findall(r'aria-label="(As it is|Experts frozen|Router blind|Copies): .*?: (right|wrong)"', html)
    assert [fared for _, fared in verdicts] == ["right", "wrong", "right", "right"]
    press(app, "Predict again, with another seed")
    assert session_of(app).comparison().run.plans == COMPARISONS["which-loop"].plans(7602)
    assert next(one for one in app.button if one.label == "Run the four experiments").disabled
    assert not app.success
    assert button(app, "lesson-which-loop").label == "✓ 3. Which loop is it?"


def test_an_example_on_the_anatomy_page_sets_the_sliders_and_the_numbers() -> None:
    app = turned_to(opened(), "anatomy")
    for name, example in EXAMPLES.items():
        assert_example(app, name, example)


def assert_example(app: AppTest, name: str, example: Example) -> None:
    button(app, f"anatomy-example-{name}").click()
    settled(app)
    sliders = {slider.key: slider.value for slider in app.slider}
    for letter, values in (("f", example.load), ("P", example.importance)):
        shown = [sliders[f"anatomy_{letter}_{expert}"] for expert in range(len(values))]
        assert shown == pytest.approx([100 * value for value in values])
    assert sliders["anatomy_experts"] == len(example.load)
    anatomy = dissect(example.load, example.importance)
    numbers = {metric.label: metric.value for metric in app.metric}
    assert numbers["per choice"] == numbers["huggingface"] == f"{anatomy.loss:.3f}"
    assert numbers["CV² of P (importance loss)"] == f"{anatomy.importance_loss:.4f}"
    assert app.info[0].value == example.lesson


def test_more_and_fewer_experts_on_the_anatomy_page_keep_an_even_load_even() -> None:
    app = turned_to(opened(), "anatomy")
    for count in (8, 3, 7, 2):
        app.slider(key="anatomy_experts").set_value(count)
        settled(app)
        shown = [slider.value for slider in app.slider if str(slider.key).startswith("anatomy_f_")]
        assert shown == pytest.approx([100 / count] * count, abs=0.01)
        assert app.metric[0].value == "1.000"


def test_the_anatomy_page_can_copy_f_and_p_from_the_live_run() -> None:
    app = turned_to(opened(num_experts="5", top_k="2", batch_tokens="64"), "anatomy")
    (take,) = (one for one in app.button if one.label == "From your run")
    assert take.disabled
    run_of(app).advance_by(25)
    history = run_of(app).history
    settled(app)
    press(app, "From your run")
    shown = [slider.value for slider in app.slider if str(slider.key).startswith("anatomy_f_")]
    assert shown == pytest.approx(100 * history.layer().column("load", 5).mean(0), abs=0.01)
    anatomy = dissect(history.layer().column("load", 5).mean(0), history.layer().column("importance", 5).mean(0), 2)
    numbers = {metric.label: float(metric.value) for metric in app.metric[:2]}
    assert numbers["per choice"] == pytest.approx(anatomy.loss, abs=2e-3)
    assert numbers["huggingface"] == pytest.approx(anatomy.huggingface, abs=4e-3)


def test_the_anatomy_page_works_with_every_slider_at_its_minimum_or_maximum() -> None:
    app = turned_to(opened(), "anatomy")
    for end in ("min", "max"):
        for slider in app.slider:
            if slider.key not in ("anatomy_experts", "anatomy_top_k"):
                slider.set_value(getattr(slider, end))
        settled(app)
        assert app.metric[0].value == "1.000"
        for number in app.number_input:
            number.set_value(getattr(number, end))
        settled(app)


def test_a_quiz_answer_counts_once() -> None:
    app = turned_to(opened(), "quiz")
    question = app.header[0].value

    def answers() -> list:
        return [one for one in app.button if one.key and one.key.startswith("quiz-")]

    def score() -> tuple[int, int]:
        return session_of(app).quiz.score.right, session_of(app).quiz.score.wrong

    def marked() -> tuple[int, int]:
        """The options with a tick and with an outline."""
        keys = [one.key for one in answers()]
        assert [one.label[0] for one in answers()] == list("ABCD")[: len(keys)], "in the order on the screen"
        ticked = [i for i, one in enumerate(answers()) if one.icon]
        assert ticked == [i for i, key in enumerate(keys) if "-right" in key]
        (outlined,) = (i for i, key in enumerate(keys) if "chosen-" in key)
        return ticked[0], outlined

    assert score() == (0, 0)
    assert not any(one.disabled for one in answers())
    right = session_of(app).quiz.drawn.right
    answers()[right].click()
    settled(app)
    assert score() == (1, 0)
    assert app.success[0].value.startswith("Right. ")
    assert marked() == (right, right)
    assert all(one.disabled for one in answers())
    settled(app)
    assert score() == (1, 0)
    turned_to(app, "glossary")
    turned_to(app, "quiz")
    assert (app.header[0].value, score()) == (question, (1, 0))
    press(app, "Next question")
    wrong = session_of(app).quiz.drawn.right - 1
    answers()[wrong].click()
    settled(app)
    assert marked() == (session_of(app).quiz.drawn.right, wrong % len(answers()))
    assert score() == (1, 1)
    assert any(text.value.startswith("Not quite. ") for text in app.warning)
    assert any(text.value.startswith("Right. ") for text in app.success)


def test_the_glossary_search_ignores_case() -> None:
    app = turned_to(opened(), "glossary")

    def words() -> str:
        return " ".join(str(part.proto.body) for part in app.get("html"))

    assert app.caption[-1].value.startswith(f"{len(TERMS)} of {len(TERMS)} terms")
    entries = words().count("<dt>")
    assert entries == len(TERMS)
    app.text_input[0].set_value("  CAPACITY ")
    settled(app)
    expected = [term for term in TERMS if any("capacity" in name.lower() for name in term.names)]
    assert 0 < len(expected) < len(TERMS)
    assert words().count("<dt>") == len(expected)
    assert app.caption[-1].value.startswith(f"{len(expected)} of ")
    app.text_input[0].set_value("<script>alert(1)</script>")
    settled(app)
    assert "Try a shorter word" in app.info[0].value
    assert "<script>" not in words()


def test_parts_hidden_by_a_link_are_not_drawn_and_all_others_are() -> None:
    app = opened(hide="num_experts,presets", aux_loss_coef="0.1", num_experts="5")
    keys = {one.key for one in app.button}
    for name, preset in PRESETS.items():
        assert (f"preset-{name}" in keys) == (preset.kind in (MECHANISM, FAMILY))
    assert KNOBS["num_experts"].label not in controls(app)
    assert widget(app, "aux_loss_coef").value == 0.1
    assert run_of(app).config.num_experts == 5
    assert address(app)["hide"] == "num_experts,presets"


def test_everything_can_be_hidden() -> None:
    app = opened(hide=",".join(HIDEABLE))
    assert not controls(app)
    assert not app.button
    assert not app.warning
    for page in PAGES:
        turned_to(app, page)


def test_hiding_an_unknown_part_adds_a_notice() -> None:
    app = opened(hide="seed,everything")
    assert "There is nothing named 'everything' to hide." in app.warning[0].value
    assert KNOBS["seed"].label not in controls(app)
    assert address(app)["hide"] == "seed"


def test_a_link_can_start_training_the_run() -> None:
    app = opened(autoplay="1", tab="router")
    assert run_of(app).state == "training"
    assert (address(app)["autoplay"], address(app)["tab"]) == ("1", "router")
    run_of(app).pause()
    assert run_of(opened(autoplay="0")).state == "ready"


def test_a_viewer_of_a_lecture_controls_nothing() -> None:
    leader = session_of(opened(num_experts="3"))
    lecture = leader.begin_lecture()
    app = opened(server=leader.server, follow=lecture, level="expert")
    assert run_of(app) is leader.run
    assert not controls(app)
    assert not any(str(one.key).startswith("preset-") for one in app.button)
    assert address(app) == {"follow": lecture, "level": "expert"}
    before = leader.run
    for name in ("train", "step", "freeze", "extend", "reset", "lost"):
        obey(session_of(app), {"name": name, "run_id": before.id})
    obey(session_of(app), {"name": "rate", "value": 5})
    assert (before.state, before.budget, before.rate, len(before.history)) == ("ready", 2000, 60, 0)
    assert run_of(app) is leader.run is before
    obey(session_of(app), {"name": "view", "tab": "router", "log": [], "layer": 2})
    settled(app)
    assert address(app) == {"follow": lecture, "level": "expert", "tab": "router", "log": "none", "layer": "2"}


def test_a_viewer_of_a_lecture_sees_its_current_run() -> None:
    leading = opened()
    leader = session_of(leading)
    app = opened(server=leader.server, follow=leader.begin_lecture())
    widget(leading, "num_experts").set_value(16)
    settled(leading)
    assert run_of(settled(app)) is leader.run
    assert run_of(app).config.num_experts == 16


def test_branching_off_a_lecture_gives_an_own_copy_at_the_same_step() -> None:
    leader = session_of(opened(num_experts="3", batch_tokens="64"))
    leader.run.advance_by(4)
    leader.run.update(aux_loss_coef=0.3)
    leader.run.advance_by(4)
    app = opened(server=leader.server, follow=leader.begin_lecture())
    press(app, "Branch off from here")
    mine = run_of(app)
    assert mine is not leader.run
    while mine.catching_up:  # in addition to the scheduler, which may be slower
        mine.touch()
        mine.advance()
    assert mine.history.to_frame().equals(leader.run.history.to_frame())
    assert mine.state == "paused"
    assert not leader.run.forgotten
    settled(app)
    assert widget(app, "aux_loss_coef").value == 0.3
    assert "follow" not in address(app)
    assert address(app)["events"] == "4:aux_loss_coef=0.3"
    widget(app, "aux_loss_coef").set_value(1.0)
    settled(app)
    assert mine.config.aux_loss_coef == 1.0
    assert leader.run.config.aux_loss_coef == 0.3


def test_an_unknown_lecture_opens_an_own_run_with_a_notice() -> None:
    app = opened(follow="<b>nobody</b>", num_experts="5")
    (notice,) = app.warning
    assert notice.value == "That lecture has ended or does not exist. This is your own run."
    assert run_of(app).config == RunConfig(num_experts=5)
    assert widget(app, "num_experts").value == 5
    assert "follow" not in address(app)


def test_when_a_lecture_ends_its_viewers_continue_with_their_own_runs() -> None:
    leader = session_of(opened(num_experts="3"))
    app = opened(server=leader.server, follow=leader.begin_lecture())
    leader.server.lectures = Lectures()
    settled(app)
    assert "The lecture has ended." in app.warning[0].value
    assert run_of(app) is not leader.run
    assert run_of(app).config == leader.run.config
    assert widget(app, "num_experts").value == 3


def test_back_is_obeyed_at_once_and_a_late_report_of_the_old_address_is_not() -> None:
    app = opened(num_experts="3")
    before = address(app)
    widget(app, "num_experts").set_value(5)
    settled(app)
    for name, value in before.items():
        app.query_params[name] = value
    settled(app)
    assert run_of(app).config.num_experts == 5, "a browser that has not caught up yet is no visitor who goes back"
    obey(session_of(app), {"name": "back", "query": "?" + urlencode(before)})
    settled(app)
    assert run_of(app).config.num_experts == 3, "although that script run has overwritten the address"
    assert address(app) == before


def test_back_that_a_script_run_has_obeyed_is_not_obeyed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(num_experts="3")
    app.query_params.clear()
    app.query_params["num_experts"] = "4"
    with monkeypatch.context() as later:
        later.setattr("pages.visitor.address.LAG", 0.0)
        settled(app)
    run = run_of(app)
    assert run.config.num_experts == 4
    obey(session_of(app), {"name": "back", "query": "?num_experts=4"})
    settled(app)
    assert run_of(app) is run


def test_a_visitors_run_starts_slowly_until_they_set_a_rate_and_so_does_the_next() -> None:
    app = opened(server=Server(Settings(workers=0)))
    session = session_of(app)
    assert run_of(app).slow_start
    press(app, "Healthy")
    assert run_of(app).slow_start
    obey(session, {"name": "rate", "value": 30})
    assert not run_of(app).slow_start
    press(app, "Collapse")
    assert not run_of(app).slow_start
    assert run_of(app).rate == 30


def test_a_comparison_starts_slowly_too_until_the_visitor_sets_a_rate() -> None:
    app = turned_to(opened(server=Server(Settings(workers=0)), b="0:aux_loss_coef=0.1"), "compare")
    comparison = session_of(app).comparison()
    assert comparison.run.slow_start
    comparison.command({"name": "reset"})
    assert comparison.run.slow_start
    comparison.command({"name": "rate", "value": 30})
    comparison.command({"name": "reset"})
    assert not comparison.run.slow_start


def test_reduced_motion_ends_a_slow_start() -> None:
    app = opened(server=Server(Settings(workers=0)))
    obey(session_of(app), {"name": "train", "reduced_motion": False})
    assert run_of(app).slow_start
    obey(session_of(app), {"name": "train", "reduced_motion": True})
    assert not run_of(app).slow_start
    run_of(app).pause()


def test_rescue_does_what_the_verdict_advises_and_the_slider_follows() -> None:
    app = opened()
    run = run_of(app)
    run.advance_by(150)
    obey(session_of(app), {"name": "rescue"})
    settled(app)
    assert widget(app, "aux_loss_coef").value == run.config.aux_loss_coef == 0.1
    run.advance_by(100)
    obey(session_of(app), {"name": "rescue"})  # nothing is advised any more
    assert [event.changes for event in run.history.events] == [{"aux_loss_coef": 0.1}]


def test_see_both_opens_the_run_left_alone_beside_the_rescued_one() -> None:
    app = opened(seed="3")
    run, session = run_of(app), session_of(app)
    run.advance_by(50)
    run.update(z_loss_coef=0.001)
    run.advance_by(100)
    obey(session, {"name": "see both"})
    assert session.leave_for is None, "nothing has been rescued yet"
    obey(session, {"name": "rescue"})
    run.advance_by(100)
    obey(session, {"name": "see both"})
    app.run()
    assert not app.exception
    assert "Add a run" in [button.label for button in app.button], "the Compare page is open"
    both = session.comparison().run
    kept, rescue = Event(50, {"z_loss_coef": 0.001}), Event(150, {"aux_loss_coef": 0.1})
    assert [plan.config for plan in both.plans] == [run.history.initial_config] * 2
    assert [plan.events for plan in both.plans] == [(kept,), (kept, rescue)]
    assert both.catching_up
    assert both.state == "training"
    both.pause()
    settled(app)
    assert "Add a run" in [button.label for button in app.button], "it turns the page once"
