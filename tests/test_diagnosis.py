"""The state line: the right word for each state, with its numbers, and advice that does not push the wrong way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import Event, History, RunConfig, Trainer
from moe_sim.diagnosis import Diagnosis, diagnose

Build = Callable[..., History]
EVEN = [1 / 8] * 8
COLLAPSED = [0.93, 0.05, 0.01, 0.01, 0.0, 0.0, 0.0, 0.0]
UNEVEN = [0.2, 0.2, 0.2, 0.12, 0.12, 0.1, 0.05, 0.01]
LEVELS = {
    "Ready": "neutral",
    "Starting": "neutral",
    "Balanced": "good",
    "Uneven": "warning",
    "Recovering": "warning",
    "Dropping tokens": "warning",
    "Over-balanced": "warning",
    "Collapsed": "bad",
    "Exploding": "bad",
    "Diverged": "bad",
}


def plain(diagnosis: Diagnosis) -> str:
    """Evidence and advice with plain spaces."""
    return f"{diagnosis.evidence} {diagnosis.advice}".replace("\u00a0", " ")


def raises_alpha(diagnosis: Diagnosis) -> bool:
    return "raise α" in diagnosis.advice.replace("Raise", "raise")


@given(
    num_experts=st.integers(2, 64),
    top_k=st.integers(1, 8),
    alpha=st.sampled_from([0.0, 0.01, 0.1, 1.0, 10.0]),
    entropy=st.floats(0, 1),
    steps=st.integers(1, 60),
)
def test_perfectly_balanced_routing_is_never_called_collapsed(
    make_history: Build, num_experts: int, top_k: int, alpha: float, entropy: float, steps: int
) -> None:
    config = RunConfig(num_experts=num_experts, top_k=min(top_k, num_experts), aux_loss_coef=alpha)
    load = np.full(num_experts, 1 / num_experts)
    history = make_history(config, load, steps, router_entropy=entropy)
    expected = {"Starting"} if steps < 20 else {"Balanced", "Over-balanced"}
    assert diagnose(history, config).state in expected


@given(
    num_experts=st.integers(4, 64),
    share=st.floats(0.51, 1),
    busiest=st.integers(0, 63),
    alpha=st.sampled_from([0.0, 0.01, 0.1, 1.0, 10.0]),
    dropped=st.floats(0, 0.8),
)
def test_one_expert_above_half_of_the_tokens_is_a_collapse_and_is_named(
    make_history: Build, num_experts: int, share: float, busiest: int, alpha: float, dropped: float
) -> None:
    busiest %= num_experts
    load = np.full(num_experts, (1 - share) / (num_experts - 1))
    load[busiest] = share
    config = RunConfig(num_experts=num_experts, aux_loss_coef=alpha)
    diagnosis = diagnose(make_history(config, load, 30, dropped_fraction=dropped), config)
    assert diagnosis.state == "Collapsed"
    assert f"Expert {busiest + 1} " in diagnosis.evidence
    assert f"{100 * share:.0f} %" in plain(diagnosis)


def test_two_experts_that_every_token_of_a_top_2_router_goes_to_are_a_collapse(make_history: Build) -> None:
    config = RunConfig(top_k=2)
    diagnosis = diagnose(make_history(config, [0.5, 0.5, 0, 0, 0, 0, 0, 0], 30), config)
    assert diagnosis.state == "Collapsed"
    assert "100 %" in plain(diagnosis)
    assert "6 of 8" in diagnosis.evidence


def test_half_of_the_experts_dead_is_a_collapse_though_none_has_half_of_the_tokens(make_history: Build) -> None:
    config = RunConfig()
    diagnosis = diagnose(make_history(config, [0.25] * 4 + [0.0] * 4, 30), config)
    assert diagnosis.state == "Collapsed"
    assert "4 of 8" in diagnosis.evidence


def test_nothing_done_yet_is_ready() -> None:
    diagnosis = diagnose(History(RunConfig()), RunConfig())
    assert diagnosis.state == "Ready"
    assert diagnosis.evidence


def test_the_first_steps_are_a_start_whatever_they_show(make_history: Build) -> None:
    assert diagnose(make_history(RunConfig(), COLLAPSED, 5), RunConfig()).state == "Starting"


def test_an_even_load_is_balanced_and_says_its_shares(make_history: Build) -> None:
    load = [0.15, 0.14, 0.13, 0.13, 0.12, 0.12, 0.11, 0.10]
    diagnosis = diagnose(make_history(RunConfig(), load, 30), RunConfig())
    assert diagnosis.state == "Balanced"
    assert "10 %" in plain(diagnosis)
    assert "15 %" in plain(diagnosis)


def test_a_dead_expert_without_a_collapse_is_uneven_and_counted(make_history: Build) -> None:
    diagnosis = diagnose(make_history(RunConfig(), UNEVEN, 30), RunConfig())
    assert diagnosis.state == "Uneven"
    assert "1 of 8" in diagnosis.evidence


def test_many_dropped_tokens_are_said_with_their_share(make_history: Build) -> None:
    config = RunConfig(capacity_factor=1.0)
    diagnosis = diagnose(make_history(config, UNEVEN, 30, dropped_fraction=0.37), config)
    assert diagnosis.state == "Dropping tokens"
    assert "37 %" in plain(diagnosis)


def test_an_even_but_undecided_router_is_over_balanced_and_told_to_lower_alpha(make_history: Build) -> None:
    config = RunConfig(aux_loss_coef=10.0)
    diagnosis = diagnose(make_history(config, EVEN, 30, router_entropy=0.99, specialization=0.21), config)
    assert diagnosis.state == "Over-balanced"
    assert "0.99" in diagnosis.evidence
    assert "0.21" in diagnosis.evidence
    assert "ower α" in diagnosis.advice


def test_a_router_without_a_heavy_balancing_loss_is_not_over_balanced(make_history: Build) -> None:
    for config in (RunConfig(aux_loss_coef=0.1), RunConfig(aux_loss_coef=10.0, balancing="none")):
        assert diagnose(make_history(config, EVEN, 30, router_entropy=0.99), config).state == "Balanced"


def test_a_raised_alpha_is_given_time_and_its_effect_is_told(make_history: Build, make_record: Callable) -> None:
    history = make_history(RunConfig(), COLLAPSED, 100, task_loss=2.5)
    config = RunConfig(aux_loss_coef=0.1)
    history.record_event(Event(100, {"aux_loss_coef": 0.1}))
    assert diagnose(history, config).state == "Collapsed"
    assert not raises_alpha(diagnose(history, config))
    for step in range(101, 201):
        history.append(make_record(step, UNEVEN, task_loss=2.25))
    diagnosis = diagnose(history, config)
    assert diagnosis.state == "Recovering"
    assert all(part in plain(diagnosis) for part in ("2.50", "2.25", "100"))


def test_a_task_loss_that_multiplies_is_an_explosion(make_history: Build, make_record: Callable) -> None:
    config = RunConfig(learning_rate=1.0)
    history = make_history(config, EVEN, 1, task_loss=2.77)
    for step in range(2, 40):
        history.append(make_record(step, EVEN, task_loss=40.0))
    diagnosis = diagnose(history, config)
    assert diagnosis.state == "Exploding"
    assert all(part in plain(diagnosis) for part in ("2.77", "40", "learning rate"))


def test_a_diverged_run_says_after_which_step_and_at_which_learning_rate(make_history: Build) -> None:
    config = RunConfig(learning_rate=1000.0)
    diagnosis = diagnose(make_history(config, EVEN, 7), config, diverged=True)
    assert diagnosis.state == "Diverged"
    assert "7" in diagnosis.evidence
    assert "1000" in diagnosis.advice
    assert diagnose(History(config), config, diverged=True).state == "Diverged"


@given(
    counts=st.lists(st.integers(0, 256), min_size=8, max_size=8).filter(any),
    alpha=st.sampled_from([0.0, 0.005, 0.03, 0.5, 1.0, 3.0, 10.0]),
    top_k=st.integers(1, 8),
    balancing=st.sampled_from(["load_balancing", "importance", "none"]),
    dropped=st.floats(0, 0.8),
    entropy=st.floats(0, 1),
)
def test_advice_never_raises_an_alpha_that_is_large_already(
    make_history: Build, counts: list[int], alpha: float, top_k: int, balancing: str, dropped: float, entropy: float
) -> None:
    config = RunConfig(aux_loss_coef=alpha, top_k=top_k, balancing=balancing)
    load = np.array(counts) / sum(counts)
    diagnosis = diagnose(make_history(config, load, 30, dropped_fraction=dropped, router_entropy=entropy), config)
    assert diagnosis.level == LEVELS[diagnosis.state]
    assert diagnosis.evidence
    if alpha >= 1:
        assert not raises_alpha(diagnosis)
    if diagnosis.state == "Collapsed" and alpha < 1:
        assert "α" in diagnosis.advice


def test_a_collapse_at_a_weak_alpha_is_told_to_raise_it_two_or_three_times(make_history: Build) -> None:
    # 2.5 · 0.02 = 0.05
    config = RunConfig(aux_loss_coef=0.02)
    diagnosis = diagnose(make_history(config, COLLAPSED, 30), config)
    assert raises_alpha(diagnosis)
    assert "0.05" in diagnosis.advice


def test_a_real_run_is_diagnosed_at_every_step() -> None:
    # Measured: collapsed from step 20 on, the first that is judged, for seeds 0 to 2.
    trainer = Trainer(RunConfig())
    states = [diagnose(trainer.history, trainer.config).state]
    for _ in range(100):
        trainer.step()
        states.append(diagnose(trainer.history, trainer.config).state)
    assert states[0] == "Ready"
    assert set(states[1:20]) == {"Starting"}
    assert set(states[60:]) == {"Collapsed"}
    assert set(states) <= set(LEVELS)


def test_with_two_or_three_experts_a_lopsided_router_is_collapsed_and_a_mild_one_is_not(make_history: Build) -> None:
    for load, states in (
        ([0.75, 0.25], {"Collapsed"}),  # above 1/2 + 3/7 · 1/2 = 0.714
        ([0.9, 0.1], {"Collapsed"}),
        ([0.66, 0.17, 0.17], {"Collapsed"}),  # above 1/3 + 3/7 · 2/3 = 0.619
        ([0.55, 0.45], {"Balanced"}),
        ([0.4, 0.3, 0.3], {"Balanced"}),
    ):
        config = RunConfig(num_experts=len(load))
        assert diagnose(make_history(config, np.array(load), 40), config).state in states, load
