"""Series and markers derived from a history, against hand-made histories and the exported frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moe_sim import KNOBS, Event, History, RunConfig, Trainer
from moe_sim.config.knobs import SHORT_NAMES
from moe_sim.history.markers import Change, Marker, changes_of, markers
from moe_sim.history.series import (
    SIGNALS,
    coarse_mean,
    recent_mean,
    sampling_std,
    signals,
    smoothed_imbalance,
    step_time,
)
from tests.support.inspecting import small_config

LIVE = [name for name, knob in KNOBS.items() if knob.live]


def trained(moves: dict[int, dict[str, Any]], steps: int = 60, config: RunConfig | None = None) -> Trainer:
    """A run whose knobs changed after the given steps."""
    trainer = Trainer(config or RunConfig())
    for step in range(steps):
        trainer.update(**moves.get(step, {}))
        trainer.step()
    return trainer


def test_a_changed_knob_gets_a_marker_in_words() -> None:
    history = trained({3: {"aux_loss_coef": 0.03, "capacity_factor": 1.25}}, 4).history
    assert markers(history) == [Marker(3, "α 0 → 0.03, capacity off → 1.25")]


def test_a_later_change_starts_from_the_value_of_the_earlier_one() -> None:
    history = trained({3: {"aux_loss_coef": 0.03}, 40: {"aux_loss_coef": 0.1}}).history
    assert markers(history) == [Marker(3, "α 0 → 0.03"), Marker(40, "α 0.03 → 0.1")]


def test_a_dragged_slider_leaves_one_marker_where_it_was_first_moved() -> None:
    history = trained({3: {"aux_loss_coef": 0.001}, 9: {"aux_loss_coef": 0.01}, 14: {"aux_loss_coef": 0.1}}).history
    assert markers(history) == [Marker(3, "α 0 → 0.1")]


def test_a_slow_row_of_key_presses_is_one_change_as_long_as_none_pauses_for_more_than_30_steps() -> None:
    history = History(RunConfig())
    for step, alpha in ((10, 0.001), (40, 0.01), (70, 0.1), (101, 1.0)):
        history.record_event(Event(step, {"aux_loss_coef": alpha}))
    assert changes_of(history) == [
        Change("aux_loss_coef", 10, 70, 0.0, 0.1), Change("aux_loss_coef", 101, 101, 0.1, 1.0),
    ]  # fmt: skip


def test_a_change_there_and_back_leaves_no_marker() -> None:
    assert markers(trained({3: {"aux_loss_coef": 0.1}, 5: {"aux_loss_coef": 0.0}}).history) == []


def test_changes_of_different_knobs_are_not_merged() -> None:
    history = trained({3: {"aux_loss_coef": 0.1}, 5: {"top_k": 2}}).history
    assert markers(history) == [Marker(3, "α 0 → 0.1"), Marker(5, "k 1 → 2")]


def test_a_changed_mechanism_and_a_freeze_get_markers_in_words() -> None:
    moves = {2: {"balancing": "expert_choice"}, 4: {"frozen": True}}
    assert markers(trained(moves, 5).history) == [
        Marker(2, "balancing load balancing → expert choice"),
        Marker(4, "freeze off → on"),
    ]


@pytest.mark.parametrize("name", LIVE)
def test_no_marker_has_an_underscore_whatever_knob_changed(name: str) -> None:
    knob = KNOBS[name]
    targets = knob.choices or ((True,) if knob.kind is bool else (knob.minimum, knob.maximum))
    # With this start every knob may take any of its values.
    start = RunConfig(top_k=2, task=(*knob.tasks, "topics")[0])
    for target in targets:
        if start.replace(**{name: target}) == start:
            continue
        history = History(start)
        history.record_event(Event(7, {name: target}))
        (marker,) = markers(history)
        assert marker.step == 7
        assert "_" not in marker.label
        assert " → " in marker.label
        assert marker.label.startswith(SHORT_NAMES.get(name, knob.label[0].lower() + knob.label[1:]))


def test_every_short_name_belongs_to_a_live_knob() -> None:
    assert set(SHORT_NAMES) <= set(LIVE)


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return trained({}, config=RunConfig(router_init="plain", warmup_steps=0))


def test_coarse_rows_are_means_of_complete_blocks_of_ten(trainer: Trainer) -> None:
    norms = trainer.history.layer().column("grad_norm")
    rows = coarse_mean(trainer.history.layer(), "grad_norm", 0, 37)
    assert rows.shape == (3, 8)
    np.testing.assert_allclose(rows[2], norms[20:30].mean(0))
    assert coarse_mean(trainer.history.layer(), "grad_norm", 37, 39).shape == (0, 8)
    np.testing.assert_allclose(coarse_mean(trainer.history.layer(), "grad_norm", 37, 41)[0], norms[30:40].mean(0))


def test_the_recent_mean_is_over_twenty_steps_and_zero_before_the_first(trainer: Trainer) -> None:
    layer = trainer.history.layer()
    np.testing.assert_allclose(recent_mean(layer, "load"), layer.column("load")[40:].mean(0))
    np.testing.assert_array_equal(recent_mean(Trainer(RunConfig()).history.layer(), "load"), np.zeros(8))


def test_the_smoothed_ratio_is_infinite_for_an_expert_unused_for_long_but_not_after_a_recent_token(
    trainer: Trainer,
) -> None:
    load = trainer.history.layer().column("smoothed_load")
    ratio = smoothed_imbalance(trainer.history.layer())
    # One token in the newest of many steps adds 1/(20·256); half of that counts as 0.
    nothing = 0.5 / (20 * 256)
    np.testing.assert_array_equal(np.isinf(ratio), load.min(1) <= nothing)
    finite = np.isfinite(ratio)
    np.testing.assert_allclose(ratio[finite], load.max(1)[finite] / load.min(1)[finite])
    assert np.isinf(ratio).any()


@pytest.fixture(scope="module")
def moved() -> History:
    """65 steps with a change of α in the middle of a block, with a capacity limit, so that processed pairs differ from
    the load, and with noise."""
    config = RunConfig(capacity_factor=1.0, router_noise="gaussian", noise_std=0.3)
    return trained({34: {"aux_loss_coef": 0.3}, 52: {"noise_std": 1.0}}, 65, config).history


def columns_of(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[[f"{name}_{expert}" for expert in range(8)]]


def test_signals_are_means_over_blocks_of_ten_rows_of_the_frame(moved: History) -> None:
    frame = moved.to_frame().iloc[:60]
    block = frame.groupby(np.arange(60) // 10)
    expected = {
        name: block[name].mean()
        for name in ("router_task_gradient", "router_gradient_cosine", "router_logit_rms", "router_logit_max",
                     "router_noise_std", "z_loss")
    }  # fmt: skip
    push = frame["aux_loss_coef"] * frame["router_balance_gradient"]
    expected["router_balance_push"] = push.groupby(np.arange(60) // 10).mean()
    slowest = 8 * columns_of(frame, "processed").max(axis=1)
    expected["step_time"] = slowest.groupby(np.arange(60) // 10).mean()
    added = frame["aux_loss_coef"] * frame["auxiliary_loss"]
    total = frame["task_loss"] + added + frame["z_loss_coef"] * frame["z_loss"]
    expected["loss_share"] = (added / total).groupby(np.arange(60) // 10).mean()
    expected["other_loss"] = np.full(6, np.nan)  # α weighs the load-balancing loss itself
    std = columns_of(frame, "load").rolling(20, min_periods=1).std(ddof=0).mean(axis=1)
    expected["routing_std"] = std.iloc[9::10]
    for name in ("eval_task_loss", "eval_limited_loss", "eval_sorted_loss"):
        expected[name] = frame[name].iloc[9::10]
        assert not expected[name].isna().any()
    expected["eval_max_load"] = columns_of(frame, "eval_load").max(axis=1).iloc[9::10]

    table = signals(moved.layer())
    assert set(table) == set(expected) == set(SIGNALS)
    for name, values in expected.items():
        assert table[name].shape == (6,)
        np.testing.assert_allclose(table[name], values, rtol=1e-9, atol=1e-12, err_msg=name)
    # The run exercises the comparison: α is 0 until the middle of the fourth block, and the capacity limit acts.
    assert not table["router_balance_push"][:3].any()
    one = frame["router_balance_gradient"]
    assert table["router_balance_push"][3] == pytest.approx(0.3 * one[34:40].sum() / 10)
    assert table["router_balance_push"][4] == pytest.approx(0.3 * one[40:50].mean())
    assert (table["step_time"] <= 1 + 1e-9).all(), "a capacity factor of 1 bounds a step at the balanced one"
    assert table["router_noise_std"].tolist() == pytest.approx([0.3] * 5 + [(2 * 0.3 + 8 * 1.0) / 10])


def test_without_a_capacity_limit_a_collapsing_router_takes_several_times_as_long(trainer: Trainer) -> None:
    load = trainer.history.layer().column("load")
    expected = [8 * load[start : start + 10].max(1).mean() for start in range(0, 60, 10)]
    np.testing.assert_allclose(signals(trainer.history.layer())["step_time"], expected)
    assert expected[-1] > 3


@pytest.mark.parametrize(("start", "stop", "first", "last"), [(0, 65, 0, 6), (13, 47, 1, 4), (40, 60, 4, 6)])
def test_signals_between_two_steps_are_a_slice_of_all_signals(
    moved: History, start: int, stop: int, first: int, last: int
) -> None:
    whole, part = signals(moved.layer()), signals(moved.layer(), start, stop)
    for name in SIGNALS:
        np.testing.assert_allclose(part[name], whole[name][first:last], err_msg=name)


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 9), (41, 49), (60, 65)])
def test_without_a_complete_block_there_are_no_signals(moved: History, start: int, stop: int) -> None:
    assert all(values.shape == (0,) for values in signals(moved.layer(), start, stop).values())


def test_signals_without_a_balancing_loss_have_no_cosine() -> None:
    table = signals(trained({}, 10, small_config(balancing="bias")).history.layer())
    assert np.isnan(table["router_gradient_cosine"]).all()
    assert table["router_balance_push"].tolist() == [0]
    assert table["router_task_gradient"][0] > 0


@pytest.mark.parametrize(
    ("processed", "time"),
    [
        ([0.5, 0.5, 0, 0], 2),  # two devices have half of the work each; balanced, each would have a quarter
        ([0.25, 0.25, 0.25, 0.25], 1),
        ([1, 0, 0, 0], 4),
        ([0.2, 0.2, 0.1, 0], 0.8),  # half of the pairs were dropped
        ([0, 0, 0, 0], 0),
    ],
)
def test_a_step_takes_as_long_as_the_busiest_device_works(processed: list[float], time: float) -> None:
    assert step_time(np.array(processed)) == pytest.approx(time)
    np.testing.assert_allclose(step_time(np.array([processed, [0.25] * 4])), [time, 1])


@pytest.mark.parametrize(("num_experts", "top_k", "batch_tokens"), [(2, 1, 32), (8, 1, 256), (8, 2, 256), (16, 8, 64)])
def test_sampling_std_equals_that_of_tokens_that_draw_their_experts_at_random(
    num_experts: int, top_k: int, batch_tokens: int
) -> None:
    # With 2,000 batches the standard deviation is within 1/√(2·2000) = 1.6 % for one expert, closer for the mean of
    # all; measured: within 0.7 %.
    random, batches = np.random.default_rng(0), 2_000
    tickets = random.random((batches, batch_tokens, num_experts), dtype=np.float32)
    winners = np.argpartition(tickets, top_k - 1, axis=2)[:, :, :top_k].reshape(batches, -1)
    loads = np.stack([(winners == expert).mean(1) for expert in range(num_experts)], axis=1)
    at_random = loads.std(0).mean()
    config = RunConfig(num_experts=num_experts, top_k=top_k, batch_tokens=batch_tokens)
    assert sampling_std(config) == pytest.approx(at_random, rel=0.03)


def test_if_every_token_has_all_experts_there_is_no_sampling_noise() -> None:
    assert sampling_std(RunConfig(num_experts=8, top_k=8)) == 0


@pytest.mark.parametrize("name", LIVE)
def test_a_live_knob_over_the_steps_has_the_value_in_force_at_each_step(name: str) -> None:
    moves = {
        0: {"aux_loss_coef": 0.1, "balancing": "importance"},
        3: {"capacity_factor": 1.5, "frozen": True, "convention": "huggingface", "drop_order": "probability"},
        4: {"capacity_factor": None, "top_k": 2, "frozen": False, "topic_skew": 1.0, "domain_mix": "even"},
        7: {
            "balancing": "none",
            "renormalize": True,
            "router_noise": "jitter",
            "noise_std": 0.5,
            "overflow": "reroute",
        },
        5: {"frozen_experts": True, "frozen_router": True, "frozen_head": True, "router_blind": True},
        6: {"swap_columns": "1-3", "swap_weights": "2-4", "frozen_experts": False},
        9: {"eval_capacity_factor": 2.0, "balance_scope": "running", "micro_batches": 8, "bias_update": "proportional"},
        8: {"learning_rate": 0.01, "z_loss_coef": 0.1, "bias_rate": 0.1, "topic_shift": 3, "aux_loss_coef": 1.0},
        12: {"aux_loss_coef": 3.0},  # after the last step: no step uses it
    }
    trainer = trained(moves, 12, small_config())
    trainer.update(**moves[12])
    history = trainer.history
    used = [getattr(history.config_at(step), name) for step in range(1, 13)]
    assert len(set(used)) > 1, "the run must change every live knob"
    off: Any = "off" if KNOBS[name].kind is str else np.nan
    expected = [off if value is None else value for value in used]
    for values in (history.knob(name), history.to_frame()[name].to_numpy()):
        np.testing.assert_array_equal(values, expected)


def test_a_knob_has_no_values_before_the_first_step(make_history: Callable[..., History]) -> None:
    trainer = Trainer(small_config())
    trainer.update(aux_loss_coef=0.1)
    assert trainer.history.knob("aux_loss_coef").shape == (0,)
    assert make_history(RunConfig(), [0.125] * 8, 3).knob("aux_loss_coef").tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, False),
        ({"top_k": 2}, False),
        ({"top_k": 2, "convention": "huggingface"}, True),
        ({"balancing": "importance"}, True),
        ({"balancing": "load"}, True),
        ({"balancing": "bias"}, False),
        ({"balancing": "none"}, False),
    ],
)
def test_the_loss_that_alpha_weighs_is_a_signal_where_it_is_not_the_load_balancing_loss(
    changes: dict, differs: bool
) -> None:
    history = trained({}, 20, small_config(aux_loss_coef=0.1, **changes)).history
    weighed = history.column("auxiliary_loss").reshape(2, 10).mean(1)
    np.testing.assert_allclose(signals(history.layer())["other_loss"], weighed if differs else [np.nan] * 2)
    assert (signals(history.layer())["loss_share"] > 0).all() == weighed.any()
