"""The Compare page through Streamlit's own test harness: contents, changes, links and branches."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from moe_sim import Event, RunConfig
from moe_sim.config.codec import to_link
from moe_sim.config.comparison_presets import COMPARISONS
from moe_sim.config.knobs import KNOBS
from moe_sim.config.run_plan import RunPlan, difference_in_words
from moe_sim.config.thresholds import Thresholds
from moe_sim.live.comparison import Comparison
from moe_sim.server.server import Server
from pages.dashboard import comparison_board
from pages.visitor.comparison import ComparisonSession
from tests.support.apps import address, button, opened, press, run_of, session_of, settled, turned_to
from tests.support.comparing import steps_of

SMALL = {"num_experts": "4", "batch_tokens": "64", "expert_hidden_size": "8"}


def comparing(*, server: Server | None = None, **query: str) -> AppTest:
    """Opens the Compare page with a link."""
    return turned_to(opened(server=server, **query), "compare")


def comparison_session_of(app: AppTest) -> ComparisonSession:
    return session_of(app).comparison()


def comparison_of(app: AppTest) -> Comparison:
    return comparison_session_of(app).run


def plans_of(app: AppTest) -> tuple[RunPlan, ...]:
    return comparison_of(app).plans


def difference(app: AppTest) -> str:
    return difference_in_words(plans_of(app))


def control(app: AppTest, key: str) -> Any:
    """Returns the control with that key, of any kind."""
    kinds = (app.slider, app.select_slider, app.selectbox, app.toggle, app.number_input)
    return next(item for kind in kinds for item in kind if item.key == key)


def pick(app: AppTest, place: str, name: str, value: Any) -> None:
    """Chooses a knob and a value for it in one of the forms."""
    control(app, f"knob-{place}").set_value(name)
    settled(app)
    control(app, f"value-{place}-{name}").set_value(value)
    settled(app)


def click(app: AppTest, key: str) -> None:
    button(app, key).click()
    settled(app)


def keys(app: AppTest, beginning: str) -> list[str]:
    return [one.key for one in app.button if one.key and one.key.startswith(beginning)]


def stepped(comparison: Comparison, steps: int) -> Comparison:
    """Advance a paused comparison by `steps` steps, without its scheduler."""
    for _ in range(steps):
        comparison.advance_by(1)
    return comparison


def arrived(comparison: Comparison) -> Comparison:
    """Advance a comparison until it has caught up; faster than waiting for the scheduler."""
    while comparison.catching_up:
        comparison.touch()
        comparison.advance()
    return comparison


def trained(app: AppTest, steps: int = 20) -> None:
    """Trains the Live run."""
    run_of(app).advance_by(steps)
    settled(app)


@pytest.fixture(scope="module")
def app() -> AppTest:
    return comparing(seed="5")


def test_the_page_opens_with_the_run_beside_a_copy_with_a_load_balancing_loss(app: AppTest) -> None:
    comparison = comparison_of(app)
    assert [plan.config for plan in plans_of(app)] == [
        RunConfig(seed=5),
        RunConfig(seed=5, aux_loss_coef=0.03),
    ]
    assert (comparison.state, comparison.steps_done) == ("ready", 0)
    assert difference(app).startswith("A and B differ only in α. A: α = 0. B: α = 0.03.")
    assert not app.warning
    assert session_of(app).server.scheduler.get(comparison.id) is comparison


def test_a_run_with_a_load_balancing_loss_is_compared_with_one_without() -> None:
    app = comparing(aux_loss_coef="0.1")
    assert [plan.config.aux_loss_coef for plan in plans_of(app)] == [0.1, 0]


def test_the_payload_describes_the_runs_and_their_differences(app: AppTest) -> None:
    comparison = comparison_of(app)
    payload = comparison_board.payload(comparison, "dark")
    assert payload["stream_url"] == f"/live/{comparison.id}"
    assert payload["num_experts"] == [8, 8]
    assert payload["context"]["theme"] == "dark"
    assert {"compare_task_loss", "utilization_A", "utilization_B"} <= set(payload["figures"])
    json.dumps(payload)


@pytest.mark.parametrize("name", COMPARISONS)
def test_each_comparison_preset_uses_the_current_seed_and_survives_its_link(name: str) -> None:
    app = comparing(seed="5")
    click(app, f"comparison-{name}")
    plans = COMPARISONS[name].plans(5)
    assert plans_of(app) == plans
    assert [
        one.key for one in app.button if one.proto.type == "primary" and str(one.key).startswith("comparison-")
    ] == [f"comparison-{name}"]
    assert len(keys(app, "change-")) == len(plans) - 1
    again = comparing(**address(app))
    assert plans_of(again) == plans
    assert not again.warning
    assert address(again) == address(app)


def test_a_knob_changed_from_a_step_on_restarts_all_runs() -> None:
    app = comparing(**SMALL)
    before = stepped(comparison_of(app), 3)
    pick(app, "B", "top_k", 2)
    control(app, "step-B").set_value(50)
    settled(app)
    click(app, "restart-B")
    comparison = comparison_of(app)
    assert comparison is not before
    assert before.forgotten
    assert steps_of(comparison) == [0, 0]
    assert plans_of(app)[1].course("top_k") == ((0, 1), (50, 2))
    assert plans_of(app)[1].course("aux_loss_coef") == ((0, 0.03),)
    assert address(app)["b"] == "0:aux_loss_coef=0.03;50:top_k=2"
    assert keys(app, "difference-B") == ["difference-B-aux_loss_coef", "difference-B-top_k"]


def test_a_structural_knob_differs_from_the_start_whatever_step_is_entered() -> None:
    app = comparing(**SMALL)
    control(app, "step-B").set_value(50)
    pick(app, "B", "num_experts", 6)
    assert control(app, "step-B").disabled
    assert button(app, "change-B").disabled
    click(app, "restart-B")
    assert [plan.config.num_experts for plan in plans_of(app)] == [4, 6]
    assert not app.warning


def test_a_knob_moved_now_acts_on_the_current_run_and_stands_in_the_link() -> None:
    app = comparing(**SMALL)
    comparison = stepped(comparison_of(app), 7)
    pick(app, "B", "aux_loss_coef", 1)
    click(app, "change-B")
    assert comparison_of(app) is comparison
    assert [member.config.aux_loss_coef for member in comparison.members] == [0, 1]
    assert [member.history.events for member in comparison.members] == [(), (Event(7, {"aux_loss_coef": 1.0}),)]
    assert address(app)["b"] == "0:aux_loss_coef=0.03;7:aux_loss_coef=1"
    assert difference(app).startswith("A and B differ only in α. A: α = 0. B: α = 0.03, then 1 from step 7.")
    assert plans_of(comparing(**address(app))) == plans_of(app)


@pytest.mark.parametrize(
    ("key", "plan"), [("change-B", "0:aux_loss_coef=0.03;7:aux_loss_coef=1"), ("restart-B", "0:aux_loss_coef=1")]
)
def test_a_button_takes_the_value_on_the_screen_even_if_no_script_run_has_seen_it(key: str, plan: str) -> None:
    app = comparing(**SMALL)
    stepped(comparison_of(app), 7)
    control(app, "value-B-aux_loss_coef").set_value(1)
    click(app, key)
    assert address(app)["b"] == plan


def test_a_difference_can_be_reset() -> None:
    app = comparing(**SMALL, b="0:aux_loss_coef=0.1;5:top_k=2;9:aux_loss_coef=1")
    click(app, "difference-B-aux_loss_coef")
    assert difference(app).startswith("A and B differ only in k. A: k = 1. B: k = 1, then 2 from step 5.")
    click(app, "difference-B-top_k")
    assert plans_of(app)[1] == plans_of(app)[0]
    assert "are identical" in difference(app)
    assert address(app)["b"] == ""
    assert plans_of(comparing(**address(app))) == plans_of(app)


def test_a_difference_that_another_depends_on_cannot_be_reset() -> None:
    app = comparing(**SMALL, b="0:top_k=2;0:renormalize=on")
    before = comparison_of(app)
    click(app, "difference-B-top_k")
    assert "needs a Top-k (top_k) of 2 or more" in app.warning[0].value
    assert comparison_of(app) is before


@pytest.mark.parametrize("key", ["restart-B", "change-B"])
def test_an_invalid_change_adds_a_notice_and_changes_nothing(key: str) -> None:
    app = comparing(**SMALL)
    before = comparison_of(app)
    pick(app, "B", "renormalize", True)
    click(app, key)
    assert "needs a Top-k (top_k) of 2 or more" in app.warning[0].value
    assert comparison_of(app) is before
    assert difference(app).startswith("A and B differ only in α. A: α = 0. B: α = 0.03.")


def test_runs_can_be_added_up_to_four_and_removed_down_to_two() -> None:
    app = comparing(**SMALL)
    for count in (3, 4):
        press(app, "Add a run")
        assert len(comparison_of(app).members) == count
        assert plans_of(app)[-1] == plans_of(app)[0]
    assert not [one for one in app.button if one.label == "Add a run"]
    assert set(address(app)) >= {"b", "c", "d"}
    pick(app, "D", "top_k", 2)
    click(app, "restart-D")
    click(app, "remove-C")
    assert [plan.config.top_k for plan in plans_of(app)] == [1, 1, 2]
    assert (address(app)["b"], address(app)["c"]) == ("0:aux_loss_coef=0.03", "0:top_k=2")
    assert "d" not in address(app)
    click(app, "remove-B")
    assert [plan.config.top_k for plan in plans_of(app)] == [1, 2]
    assert not keys(app, "remove-")
    comparison = comparison_session_of(app)
    for which in (0, 1, 2, -1):
        comparison.remove(which)
    assert len(comparison.run.members) == 2


def test_a_branch_is_compared_with_the_live_run_as_it_was() -> None:
    app = opened(**SMALL, seed="5")
    run = run_of(app)
    run.advance_by(12)
    run.update(capacity_factor=1.5)
    trained(app, 18)
    turned_to(app, "compare")
    assert any("30 steps; capacity off → 1.5 at step 12" in caption.value for caption in app.caption)
    control(app, "branch-step").set_value(20)
    settled(app)
    pick(app, "branch", "aux_loss_coef", 0.1)
    press(app, "Branch")
    comparison = arrived(comparison_of(app))
    comparison.pause()
    first, other = comparison.members
    kept = run.history.to_frame()[:20]
    for member in (first, other):
        assert member.history.to_frame()[:20].equals(kept)
    assert first.history.events == run.history.events
    assert other.history.events == (*run.history.events, Event(20, {"aux_loss_coef": 0.1}))
    assert difference(app).startswith("A and B differ only in α. A: α = 0. B: α = 0, then 0.1 from step 20.")
    assert len(run.history) == 30
    settled(app)
    assert (address(app)["events"], address(app)["b"]) == ("12:capacity_factor=1.5", "20:aux_loss_coef=0.1")


def test_a_branch_takes_the_step_and_the_value_on_the_screen() -> None:
    app = opened(**SMALL, seed="5")
    trained(app, 30)
    turned_to(app, "compare")
    control(app, "branch-step").set_value(20)
    control(app, "value-branch-aux_loss_coef").set_value(0.1)
    press(app, "Branch")
    comparison_of(app).pause()
    settled(app)
    assert address(app)["b"] == "20:aux_loss_coef=0.1"


def test_without_a_trained_run_there_is_nothing_to_branch_from(app: AppTest) -> None:
    assert any(caption.value.startswith("Train a run on the Live page first") for caption in app.caption)
    assert not [one for one in app.button if one.label == "Branch"]


def test_the_live_run_can_become_the_baseline() -> None:
    app = comparing(**SMALL)
    (take,) = (one for one in app.button if one.label == "Use the Live run as A")
    assert take.disabled
    run_of(app).update(top_k=2)
    settled(app)
    press(app, "Use the Live run as A")
    assert [plan.course("top_k") for plan in plans_of(app)] == [((0, 2),)] * 2
    assert "are identical" in difference(app)


def test_a_link_opens_the_comparison_it_describes_and_is_written_back_unchanged() -> None:
    link = to_link(RunConfig(seed=8, num_experts=6)) | {
        "events": "30:aux_loss_coef=0.1", "b": "30:aux_loss_coef=0", "c": "0:num_experts=12;40:top_k=2",
    }  # fmt: skip
    app = comparing(**link)
    first, second, third = plans_of(app)
    assert first.course("aux_loss_coef") == ((0, 0), (30, 0.1))
    assert second.course("aux_loss_coef") == ((0, 0),)
    assert (third.config.num_experts, third.course("top_k")) == (12, ((0, 1), (40, 2)))
    assert third.course("aux_loss_coef") == first.course("aux_loss_coef")
    assert address(app) == link
    assert not app.warning


@pytest.mark.parametrize(
    ("query", "runs", "words"),
    [
        ({"b": "0:num_experts=1000"}, 2, ["Run B: ", "num_experts", "from 2 to 64"]),
        ({"b": "<script>alert(1)</script>"}, 2, ["Run B: ", "not of the form"]),
        ({"b": "5:num_experts=4"}, 2, ["num_experts=4"]),
        ({"b": "0:aux_loss_coef=nan", "d": "0:top_k=2"}, 3, ["Run B: ", "from 0 to 10"]),
        ({"b": ";".join(["1:top_k=2"] * 300)}, 2, ["300 events"]),
        ({"b": "0:top_k=1", "top_k": "2", "events": "9:renormalize=on"}, 2, ["Run B: ", "Top-k (top_k) of 2 or more"]),
        ({"c": "0:renormalize=on", "num_experts": "-3"}, 2, ["Run C: ", "num_experts"]),
        ({"e": "0:top_k=2"}, 2, []),
    ],
)
def test_an_invalid_link_opens_its_valid_parts_and_names_the_others(
    query: dict[str, str], runs: int, words: list[str]
) -> None:
    app = opened(**query)
    said = " ".join(item.value for item in app.warning)
    turned_to(app, "compare")
    said += " ".join(item.value for item in app.warning)
    for word in words:
        assert word in said
    assert bool(said) == bool(words)
    assert len(comparison_of(app).members) == runs


def test_thresholds_apply_to_all_runs_and_are_in_the_link() -> None:
    app = comparing(**SMALL, dead_share="0.3")
    assert comparison_of(app).thresholds == Thresholds(dead_share=0.3)
    assert address(app)["dead_share"] == "0.3"
    session_of(app).move_threshold(dead_share=0.2)
    assert {member.thresholds.dead_share for member in comparison_of(app).members} == {0.2}
    press(app, "Add a run")
    assert comparison_of(app).thresholds.dead_share == 0.2


def test_the_live_run_and_the_comparison_are_independent_and_survive_page_changes() -> None:
    app = comparing(**SMALL, b="0:top_k=2")
    run, comparison = run_of(app), comparison_of(app)
    turned_to(app, "live")
    assert "b" not in address(app)
    trained(app, 5)
    turned_to(app, "compare")
    assert comparison_of(app) is comparison
    assert run_of(app) is run
    assert address(app)["b"] == "0:top_k=2"
    assert steps_of(comparison) == [0, 0]


def test_a_viewer_of_a_lecture_can_compare_it_with_other_runs() -> None:
    leader = session_of(opened(**SMALL, seed="7"))
    leader.run.advance_by(6)
    app = comparing(server=leader.server, follow=leader.begin_lecture())
    assert run_of(app) is leader.run
    assert plans_of(app)[0].config == leader.run.config
    pick(app, "B", "top_k", 2)
    click(app, "restart-B")
    comparison_session_of(app).command({"name": "train"})
    assert comparison_of(app).state == "training"
    comparison_session_of(app).command({"name": "pause"})
    assert (leader.run.state, len(leader.run.history)) == ("paused", 6)
    assert run_of(settled(app)) is leader.run
    turned_to(app, "live")
    assert address(app)["follow"] == leader.lecture


def test_a_link_can_start_training_the_comparison() -> None:
    app = comparing(**SMALL, b="0:top_k=2", autoplay="1")
    assert comparison_of(app).state == "training"
    assert run_of(app).state == "ready"
    comparison_of(app).pause()
    assert comparison_of(comparing(**SMALL, b="0:top_k=2")).state == "ready"


def test_a_comparison_that_the_visitor_leaves_for_another_link_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    app = comparing(**SMALL, b="0:top_k=2")
    before = comparison_of(app)
    monkeypatch.setattr("pages.visitor.address.LAG", 0.0)
    app.query_params["b"] = "0:top_k=3"
    settled(app)
    assert before.forgotten
    assert plans_of(app)[1].config.top_k == 3


def test_known_commands_are_executed_and_all_others_ignored() -> None:
    app = comparing(**SMALL)
    comparison, before = comparison_session_of(app), comparison_of(app)
    comparison.command({"name": "train"})
    assert before.state == "training"
    comparison.command({"name": "pause"})
    comparison.command({"name": "rate", "value": 5})
    comparison.command({"name": "extend"})
    assert (before.rate, before.budget) == (5, 3000)
    for strange in ({}, {"name": "freeze"}, {"name": "rate", "value": 10**9}, {"name": "lost", "run_id": before.id}):
        comparison.command(strange)
    assert comparison.run is before
    assert not any(member.config.frozen for member in before.members)
    stepped(before, 4)
    comparison.command({"name": "reset"})
    assert comparison.run is not before
    assert comparison.run.plans == before.plans
    assert (steps_of(comparison.run), comparison.run.rate) == ([0, 0], 5)
    forgotten = comparison.run
    session_of(app).server.scheduler.remove(forgotten)
    comparison.command({"name": "lost", "run_id": forgotten.id})
    assert comparison.run is not forgotten
    settled(app)
    assert "discarded after a long pause" in app.warning[0].value


def test_a_page_without_the_stream_gets_the_same_messages_and_everything_after_a_resync() -> None:
    app = comparing(**SMALL)
    comparison = comparison_session_of(app)
    stepped(comparison.run, 4)
    first = json.loads(comparison.next_message())
    assert (first["from"], first["to"], len(first["members"])) == (0, 4, 2)
    for _ in range(5):
        latest = json.loads(comparison.next_message())
    assert latest["from"] == 4
    comparison.command({"name": "resync"})
    assert json.loads(comparison.next_message())["from"] == 0


def test_every_knob_that_applies_to_the_task_can_differ(app: AppTest) -> None:
    options = control(app, "knob-B").options
    assert options == [knob.label for knob in KNOBS.values() if knob.is_offered("topics")]
