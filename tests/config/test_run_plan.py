"""Run plans: differences between them as data, as text and in words."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from moe_sim import KNOBS, Event, RunConfig, Trainer
from moe_sim.config.codec import events_to_text
from moe_sim.config.knobs import short_name
from moe_sim.config.run_plan import (
    DATA_KNOBS,
    WEIGHT_KNOBS,
    RunPlan,
    changes_between,
    course_in_words,
    difference_in_words,
    differing_knobs,
    plan_in_words,
    run_plan_from_text,
)
from moe_sim.tasks.task import Batch
from tests.support.inspecting import keep_batches, small_config, weights
from tests.support.strategies import LIVE, configs, plans, values

LAST = 8
"""No generated plan changes a knob after this step."""
OTHER: dict[str, Any] = {
    "aux_loss_coef": 0.3, "balancing": "bias", "num_experts": 6, "top_k": 3, "capacity_factor": 1.0,
    "convention": "huggingface", "bias_rate": 0.5, "z_loss_coef": 0.1, "renormalize": True, "overflow": "reroute",
    "drop_order": "probability", "router_noise": "learned", "noise_std": 1.0, "seed": 1, "num_topics": 5,
    "topic_skew": 2.0, "topic_shift": 3, "shared_direction": 0.5, "domain_mix": "even", "batch_tokens": 128,
    "learning_rate": 0.1, "frozen": True, "expert_hidden_size": 12, "warmup_steps": 50, "frozen_experts": True,
    "frozen_router": True, "frozen_head": True, "router_blind": True, "swap_columns": "1-3", "swap_weights": "2-3",
    "router_init": "plain", "expert_init": "copies", "num_layers": 2, "balance_scope": "micro_batch",
    "micro_batches": 8, "bias_update": "proportional", "score_function": "sigmoid", "shared_experts": 1,
    "sequence_tokens": 8, "mistake": "detached", "eval_capacity_factor": 0.5,
}  # fmt: skip
"""For each knob except the task, a value that differs from a small run with k = 2."""


def value_after(plan: RunPlan, name: str, steps: int) -> Any:
    """The value of a knob after this many steps, by applying one event after the other."""
    value = getattr(plan.config, name)
    for event in plan.events:
        if event.step <= steps and name in event.changes:
            value = event.changes[name]
    return value


def courses(plan: RunPlan) -> dict[str, tuple[tuple[int, Any], ...]]:
    return {name: plan.course(name) for name in KNOBS}


def apart(name: str) -> tuple[RunPlan, RunPlan]:
    """Two runs that differ in one knob from the start."""
    base = RunPlan(small_config(top_k=2))
    other = "text" if name == "task" else OTHER[name]
    return base, base.changed([Event(0, {name: other})])


@given(plan=plans())
def test_a_course_lists_each_value_with_the_step_it_starts_at(plan: RunPlan) -> None:
    for name in KNOBS:
        course = plan.course(name)
        steps = [step for step, _ in course]
        assert steps[0] == 0
        assert steps == sorted(set(steps))
        assert all(one[1] != other[1] for one, other in pairwise(course)), "a change changes the value"
        for done in range(LAST):
            (*_, (_, held)) = [one for one in course if one[0] <= done]
            assert held == value_after(plan, name, done)


@given(base=plans(), other=plans())
def test_applying_the_difference_to_the_base_gives_the_other_plan(base: RunPlan, other: RunPlan) -> None:
    assert courses(base.changed(changes_between(base, other))) == courses(other)


@given(data=st.data(), config=configs())
def test_the_same_holds_for_plans_that_differ_only_in_their_events(data: st.DataObject, config: RunConfig) -> None:
    base, other = (data.draw(plans(st.just(config))) for _ in range(2))
    changes = changes_between(base, other)
    assert courses(base.changed(changes)) == courses(other)
    assert {name for event in changes for name in event.changes} == set(differing_knobs((base, other)))


@given(base=plans(), other=plans())
def test_the_difference_survives_a_link(base: RunPlan, other: RunPlan) -> None:
    again, notices = run_plan_from_text(base, events_to_text(changes_between(base, other)))
    assert notices == []
    assert courses(again) == courses(other)
    assert again == other.changed(())


@given(base=plans(), other=plans())
def test_the_difference_contains_only_what_differs(base: RunPlan, other: RunPlan) -> None:
    named = {name for event in changes_between(base, other) for name in event.changes}
    assert named == {name for name in KNOBS if base.course(name) != other.course(name)}
    assert changes_between(base, base) == ()


@given(base=plans(), name=st.sampled_from(LIVE), step=st.integers(0, LAST), data=st.data())
def test_a_change_holds_from_its_step_on_and_affects_nothing_else(
    base: RunPlan, name: str, step: int, data: st.DataObject
) -> None:
    value = data.draw(values(KNOBS[name]))
    try:
        other = base.changed([Event(step, {name: value})])
    except ValidationError:
        assert name in ("top_k", "renormalize", "balancing")  # they exclude one another
        return
    for done in range(LAST + 2):
        for knob in KNOBS:
            expected = value if knob == name and done >= step else value_after(base, knob, done)
            assert value_after(other, knob, done) == expected, (knob, done)


def test_a_structural_knob_can_differ_from_the_start_but_not_later() -> None:
    base = RunPlan(RunConfig())
    assert base.changed([Event(0, {"num_experts": 4})]).config == RunConfig(num_experts=4)
    with pytest.raises(ValueError, match="Experts is structural: it can only differ from step 0 on"):
        base.changed([Event(5, {"num_experts": 4})])


def test_a_value_that_conflicts_with_another_at_some_step_is_rejected() -> None:
    base = RunPlan(RunConfig(top_k=2), (Event(10, {"renormalize": True}),))
    with pytest.raises(ValidationError):
        base.changed([Event(0, {"top_k": 1})])
    with pytest.raises(ValidationError):
        base.changed([Event(0, {"aux_loss_coef": 99})])
    assert base.changed([Event(0, {"top_k": 1}), Event(10, {"renormalize": False})]).events == ()


def test_a_link_may_build_on_a_later_change_of_the_base() -> None:
    base = RunPlan(RunConfig(), (Event(10, {"top_k": 2}),))
    other, notices = run_plan_from_text(base, "20:renormalize=on")
    assert notices == []
    assert other.events == (Event(10, {"top_k": 2}), Event(20, {"renormalize": True}))


@pytest.mark.parametrize(
    ("text", "kept", "words"),
    [
        ("", (), []),
        ("0:aux_loss_coef=0.1;5:aux_loss_coef=99", (Event(0, {"aux_loss_coef": 0.1}),), ["step 5", "from 0 to 10"]),
        ("0:num_experts=1000;5:top_k=2", (Event(5, {"top_k": 2}),), ["step 0", "from 2 to 64"]),
        ("5:num_experts=4", (), ["5:num_experts=4"]),
        ("renormalize", (), ["renormalize"]),
        ("0:renormalize=on", (), ["step 0", "Top-k (top_k) of 2 or more"]),
        ("0:task=<b>", (), ["task", "topics, text"]),
        (";;:=", (), ["not of the form"]),
        ("9999999:top_k=2", (), ["9999999:top_k=2"]),
    ],
)
def test_a_broken_link_keeps_its_valid_parts_and_reports_the_rest(
    text: str, kept: tuple[Event, ...], words: list[str]
) -> None:
    base = RunPlan(RunConfig())
    plan, notices = run_plan_from_text(base, text)
    assert plan == base.changed(kept)
    assert bool(notices) == bool(words)
    for word in words:
        assert word in " ".join(notices)


@given(text=st.text("0159:;=,.-abc_ αnan", max_size=40) | st.text(max_size=20))
def test_no_text_raises_an_error(text: str) -> None:
    plan, notices = run_plan_from_text(RunPlan(RunConfig()), text)
    assert isinstance(plan, RunPlan)
    assert all(sentence.endswith(".") for sentence in notices)


@lru_cache(maxsize=64)
def beginning(config: RunConfig) -> tuple[tuple[Batch, ...], dict[str, np.ndarray]]:
    """The first two batches and the initial weights."""
    trainer = Trainer(config)
    initial, batches = weights(trainer), keep_batches(trainer)
    trainer.run(2)
    return tuple(batches), initial


def same_data(one: RunConfig, other: RunConfig) -> bool:
    pairs = zip(beginning(one)[0], beginning(other)[0], strict=True)
    return all(
        torch.equal(getattr(a, part), getattr(b, part)) for a, b in pairs for part in ("inputs", "labels", "groups")
    )


def same_weights(one: RunConfig, other: RunConfig) -> bool:
    ours, theirs = beginning(one)[1], beginning(other)[1]
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("task", ["topics", "text", "language"])
@pytest.mark.parametrize("name", OTHER)
def test_exactly_the_listed_knobs_determine_data_and_initial_weights(name: str, task: str) -> None:
    base = small_config(task=task, top_k=2)
    other = base.replace(**{name: OTHER[name]})
    assert other != base
    matters = KNOBS[name].matters_to(task)
    assert same_data(base, other) == (name not in DATA_KNOBS or not matters)
    assert same_weights(base, other) == (name not in WEIGHT_KNOBS or not matters)


def test_a_later_intervention_leaves_the_initial_weights_the_same() -> None:
    base = RunPlan(small_config())
    now, later = (base.changed([Event(step, {"swap_weights": "1-2"})]) for step in (0, 50))
    assert difference_in_words((base, now)).endswith("They have the same data and different initial weights.")
    assert difference_in_words((base, later)).endswith("They have the same data and the same initial weights.")


def test_every_knob_is_covered_and_the_task_determines_data_and_weights() -> None:
    assert {*OTHER, "task", "own_text"} == set(KNOBS)
    assert "task" in DATA_KNOBS & WEIGHT_KNOBS
    assert not same_weights(small_config(), small_config(task="text"))


def test_a_later_change_of_a_data_knob_changes_the_data_from_there() -> None:
    for name in DATA_KNOBS & set(LIVE):
        task = (*KNOBS[name].tasks, "topics")[0]
        one, other = (Trainer(small_config(task=task)) for _ in range(2))
        batches = keep_batches(one), keep_batches(other)
        other.run(1)
        other.update(**{name: OTHER[name]})
        other.run(1)
        one.run(2)
        assert [torch.equal(a.groups, b.groups) for a, b in zip(*batches, strict=True)] == [True, False], name


@pytest.mark.parametrize(
    ("course", "words"),
    [
        (((0, 0.0),), "0"),
        (((0, None), (7, 1.25)), "off, then 1.25 from step 7"),
        (((0, False), (10, True), (20, False)), "off, then on from step 10, then off from step 20"),
        (((0, "load_balancing"), (100, "expert_choice")), "load balancing, then expert choice from step 100"),
    ],
)
def test_a_course_in_words(course: tuple[tuple[int, Any], ...], words: str) -> None:
    assert course_in_words(course) == words


SAME = "They have the same data and the same initial weights."


@pytest.mark.parametrize(
    ("plans", "words"),
    [
        ([{0: {"aux_loss_coef": 0.03}}], f"A and B differ only in α. A: α = 0. B: α = 0.03. {SAME}"),
        ([{100: {"aux_loss_coef": 0.1}}],
         f"A and B differ only in α. A: α = 0. B: α = 0, then 0.1 from step 100. {SAME}"),
        ([{0: {"aux_loss_coef": 0.03}}, {0: {"aux_loss_coef": 1.0}}],
         f"A, B and C differ only in α. A: α = 0. B: α = 0.03. C: α = 1. {SAME}"),
        ([{0: {"top_k": 2}}, {}, {0: {"balancing": "bias"}}],
         "A, B, C and D differ only in balancing and k. A: balancing = load balancing; k = 1. "
         "B: balancing = load balancing; k = 2. C: balancing = load balancing; k = 1. D: balancing = bias; k = 1. "
         f"{SAME}"),
        ([{0: {"num_experts": 4}}],
         "A and B differ only in experts. A: experts = 8. B: experts = 4. They have the same data and different "
         "initial weights."),
        ([{0: {"batch_tokens": 64}}],
         "A and B differ only in tokens per step. A: tokens per step = 256. B: tokens per step = 64. They have "
         "different data and the same initial weights."),
        ([{0: {"batch_tokens": 1024}, 1500: {"top_k": 2}}],
         "A and B differ only in k and tokens per step. A: k = 1; tokens per step = 256. "
         "B: k = 1, then 2 from step 1,500; tokens per step = 1,024. They have different data and the same initial "
         "weights."),
        ([{0: {"seed": 3}}],
         "A and B differ only in seed. A: seed = 0. B: seed = 3. They have different data and different initial "
         "weights."),
        ([{}], "A and B are identical. Change something in B."),
        ([{}, {}], "A, B and C are identical. Change something in B or C."),
    ],
)  # fmt: skip
def test_the_difference_is_spelled_out(plans: list[dict[int, dict[str, Any]]], words: str) -> None:
    base = RunPlan(RunConfig())
    others = [base.changed([Event(step, changes) for step, changes in plan.items()]) for plan in plans]
    assert difference_in_words([base, *others]) == words


def test_a_run_is_described_by_the_knobs_that_distinguish_it() -> None:
    base = RunPlan(RunConfig())
    later = base.changed([Event(100, {"aux_loss_coef": 0.1}), Event(0, {"top_k": 2})])
    assert plan_in_words(base, [base, later]) == "α 0, k 1"
    assert plan_in_words(later, [base, later]) == "α 0, then 0.1 from step 100, k 2"
    assert plan_in_words(base, [base, base]) == "the same"


@pytest.mark.parametrize("name", ["task", *OTHER])
def test_the_difference_in_one_knob_names_it_and_says_whether_data_and_weights_differ(name: str) -> None:
    words = difference_in_words(apart(name))
    assert words.startswith(f"A and B differ only in {short_name(name)}. A: ")
    assert ("different data" in words) == (name in DATA_KNOBS)
    assert ("different initial weights" in words) == (name in WEIGHT_KNOBS)
