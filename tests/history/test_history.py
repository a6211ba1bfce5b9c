"""History: rows persist, views stay valid, and the knobs in force are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from moe_sim import KNOBS, Event, History, RunConfig, StepRecord, Trainer
from moe_sim.config.errors import UnknownName
from moe_sim.history.columns import MOST_CHOICES, PER_CHOICE, PER_EXPERT, SCALARS
from tests.support.records import append

FOUR = [0.4, 0.3, 0.2, 0.1]


def test_an_empty_history_has_no_rows_and_nan_as_its_newest_value() -> None:
    history = History(RunConfig(num_experts=4))
    assert len(history) == 0
    assert len(history.to_frame()) == 0
    assert history.layer().column("load").shape == (0, 4)
    assert np.isnan(history.last("task_loss"))
    assert np.isnan(history.layer().last("load")).all()
    assert history.layer().last("load").shape == (4,)


def test_every_field_of_a_record_is_a_column(make_record: Callable[..., StepRecord]) -> None:
    assert [*SCALARS, *PER_EXPERT, *PER_CHOICE] == [field.name for field in fields(StepRecord)]
    # Every number is distinct, so that no two columns can be confused.
    numbers = iter(range(1, 1000))
    values: dict[str, Any] = {name: next(numbers) for name in SCALARS}
    values |= {name: np.array([next(numbers) for _ in range(4)], dtype=float) for name in PER_EXPERT}
    values |= {name: np.array([next(numbers) for _ in range(MOST_CHOICES)], dtype=float) for name in PER_CHOICE}
    history = History(RunConfig(num_experts=4))
    append(history, make_record(1, FOUR))
    append(history, make_record(**{**values, "step": 2}))
    for name, value in {**values, "step": 2}.items():
        shape = np.shape(value) if name in SCALARS else (1, *np.shape(value))
        np.testing.assert_array_equal(history.last(name), np.reshape(value, shape), err_msg=name)
        assert history.column(name).shape == (2, *shape), name


def test_records_are_equal_if_all_their_numbers_are(make_record: Callable[..., StepRecord]) -> None:
    one, same = make_record(1, FOUR, router_gradient_cosine=np.nan), make_record(1, FOUR, router_gradient_cosine=np.nan)
    assert one == same
    assert len({one, same}) == 1
    assert one != make_record(2, FOUR, router_gradient_cosine=np.nan)
    assert one != make_record(1, FOUR[::-1], router_gradient_cosine=np.nan)
    assert one != make_record(1, [0.5, 0.5])
    assert one != "a record"


def test_the_arrays_of_a_record_are_read_only_and_those_given_are_not(make_record: Callable[..., StepRecord]) -> None:
    load = np.array(FOUR)
    record = make_record(1, load)
    for name in PER_EXPERT + PER_CHOICE:
        with pytest.raises(ValueError, match="read-only"):
            getattr(record, name)[0] = 7
    load[0] = 0.5


def test_unknown_values_stay_nan(make_history: Callable[..., History]) -> None:
    history = make_history(RunConfig(num_experts=4), FOUR, steps=20, router_gradient_cosine=np.nan)
    assert np.isnan(history.column("router_gradient_cosine")).all()
    unseen = np.isnan(history.to_frame()["eval_load_3"]).tolist()
    assert unseen == [step % 10 != 0 for step in range(1, 21)]


@pytest.mark.parametrize("steps", [255, 256, 257, 512, 513, 1200])
def test_rows_survive_growth(make_record: Callable[..., StepRecord], steps: int) -> None:
    history = History(RunConfig(num_experts=4))
    for step in range(1, steps + 1):
        append(history, make_record(step, np.roll(FOUR, step), task_loss=1 / step))
    assert len(history) == steps
    np.testing.assert_array_equal(history.column("step"), np.arange(1, steps + 1))
    np.testing.assert_array_equal(history.column("task_loss"), 1 / np.arange(1, steps + 1))
    np.testing.assert_array_equal(history.layer().column("load"), [np.roll(FOUR, step) for step in range(1, steps + 1)])


def test_a_column_is_a_view_that_stays_valid_when_the_history_grows(make_record: Callable[..., StepRecord]) -> None:
    history = History(RunConfig(num_experts=4))
    for step in range(1, 101):
        append(history, make_record(step, FOUR))
    view = history.column("step")
    assert not view.flags.owndata
    assert np.shares_memory(view, history.column("step"))
    for step in range(101, 1001):
        append(history, make_record(step, FOUR))
    np.testing.assert_array_equal(view, np.arange(1, 101))


@pytest.mark.parametrize("name", ["load", "task_loss"])
def test_a_history_cannot_be_changed_through_what_it_returns(make_history: Callable[..., History], name: str) -> None:
    history = make_history(RunConfig(num_experts=4), FOUR, steps=3)
    with pytest.raises(ValueError, match="read-only"):
        history.column(name)[0] = 7
    with pytest.raises((ValueError, TypeError), match=r"read-only|item assignment"):
        history.last(name)[0] = 7


def test_a_slice_of_a_column_ends_where_the_history_ends(make_history: Callable[..., History]) -> None:
    history = make_history(RunConfig(num_experts=4), FOUR, steps=30)
    assert history.column("step", 10, 13).tolist() == [11, 12, 13]
    assert history.column("step", 28).tolist() == [29, 30]
    assert history.column("step", 28, 100).tolist() == [29, 30]
    assert history.layer().column("load", 5, 9).shape == (4, 4)
    assert len(history.column("step", 30)) == 0


def test_changes_at_the_same_step_are_one_event() -> None:
    history = History(RunConfig())
    history.record_event(Event(10, {"aux_loss_coef": 0.1}))
    history.record_event(Event(10, {"top_k": 2}))
    history.record_event(Event(10, {"aux_loss_coef": 0.3}))
    history.record_event(Event(20, {"top_k": 1}))
    assert history.events == (Event(10, {"aux_loss_coef": 0.3, "top_k": 2}), Event(20, {"top_k": 1}))


def test_an_event_after_ten_steps_acts_from_step_eleven() -> None:
    history = History(RunConfig())
    history.record_event(Event(0, {"z_loss_coef": 0.1}))
    history.record_event(Event(10, {"aux_loss_coef": 0.1}))
    history.record_event(Event(20, {"aux_loss_coef": 0.3, "top_k": 2}))
    assert history.config_at(1) == RunConfig(z_loss_coef=0.1)
    assert history.config_at(10) == RunConfig(z_loss_coef=0.1)
    assert history.config_at(11) == RunConfig(z_loss_coef=0.1, aux_loss_coef=0.1)
    assert history.config_at(21) == RunConfig(z_loss_coef=0.1, aux_loss_coef=0.3, top_k=2)
    assert history.initial_config == RunConfig()


def test_each_row_of_the_frame_has_the_knobs_in_force_at_its_step(make_history: Callable[..., History]) -> None:
    history = make_history(RunConfig(num_experts=4, aux_loss_coef=0.01), FOUR, steps=30)
    history.record_event(Event(0, {"balancing": "importance"}))
    history.record_event(Event(10, {"capacity_factor": 1.25, "aux_loss_coef": 0.0}))
    history.record_event(Event(25, {"capacity_factor": None, "top_k": 2}))
    history.record_event(Event(30, {"top_k": 3}))
    frame = history.to_frame().set_index("step")
    assert frame["balancing"].eq("importance").all()
    assert frame["aux_loss_coef"].tolist() == [0.01] * 10 + [0.0] * 20
    assert frame["top_k"].tolist() == [1] * 25 + [2] * 5
    assert frame["capacity_factor"].isna().tolist() == [True] * 10 + [False] * 15 + [True] * 5
    assert frame["capacity_factor"].loc[11:25].eq(1.25).all()


def test_the_frame_has_every_scalar_every_expert_and_every_live_knob(make_history: Callable[..., History]) -> None:
    frame = make_history(RunConfig(num_experts=4), FOUR, steps=3).to_frame()
    live = [name for name, knob in KNOBS.items() if knob.live]
    experts = [f"{name}_{i}" for name in PER_EXPERT for i in range(4)]
    choices = [f"{name}_{i}" for name in PER_CHOICE for i in range(MOST_CHOICES)]
    assert list(frame.columns) == [*SCALARS, *experts, *choices, *live]
    assert frame["step"].tolist() == [1, 2, 3]
    assert frame["step"].dtype == frame["dead_experts"].dtype == np.int64
    assert frame[[f"load_{i}" for i in range(4)]].to_numpy().tolist() == [FOUR] * 3


def test_changing_a_frame_does_not_change_the_history(make_history: Callable[..., History]) -> None:
    history = make_history(RunConfig(num_experts=4), FOUR, steps=3)
    frame = history.to_frame()
    frame.loc[:, ["task_loss", "load_0"]] = -1.0
    assert history.column("task_loss").tolist() == [2.0] * 3
    assert history.layer().column("load")[:, 0].tolist() == [0.4] * 3


def test_an_infinite_ratio_stays_infinite(make_history: Callable[..., History]) -> None:
    history = make_history(RunConfig(num_experts=2), [1.0, 0.0], steps=2)
    assert history.to_frame()["imbalance_ratio"].tolist() == [np.inf, np.inf]


def test_the_tidy_frame_has_a_row_for_each_step_layer_and_expert() -> None:
    history = Trainer(RunConfig(num_layers=3, num_experts=4)).run(5)
    frame = history.to_frame(tidy=True)
    assert list(frame.columns) == ["step", "layer", "expert", *PER_EXPERT]
    assert len(frame) == 5 * 3 * 4
    assert not frame.duplicated(["step", "layer", "expert"]).any()
    for name in ("load", "importance", "weight_distance"):
        values = history.column(name)
        for row in frame.itertuples():
            assert getattr(row, name) == values[row.step - 1, row.layer, row.expert]
    wide = history.to_frame()
    narrow = frame[(frame["layer"] == 2) & (frame["expert"] == 1)]
    assert narrow["processed"].tolist() == wide["processed_2_1"].tolist()
    assert frame["step"].dtype == np.int64


def test_the_tidy_frame_of_an_empty_run_has_its_columns() -> None:
    frame = History(RunConfig()).to_frame(tidy=True)
    assert list(frame.columns) == ["step", "layer", "expert", *PER_EXPERT]
    assert len(frame) == 0


def test_a_history_is_shown_in_one_short_line(make_history: Callable[..., History]) -> None:
    history = make_history(RunConfig(num_experts=4), FOUR, steps=3)
    assert repr(history) == (
        "<History: 3 steps, 1 layer of 4 experts; task_loss 2, balance_loss 1, imbalance_ratio 4, dead_experts 0>"
    )
    empty = repr(History(RunConfig(num_layers=2)))
    assert empty == "<History: 0 steps, 2 layers of 8 experts; no numbers yet>"


def test_an_unknown_column_gets_a_sentence_with_a_suggestion() -> None:
    history = Trainer(RunConfig(num_layers=2)).run(1)
    layer = history.layer(1)
    for look in (history.column, history.last, layer.column, layer.last):
        with pytest.raises(UnknownName) as error:
            look("laod")
        assert str(error.value) == "There is no column 'laod'; did you mean load?"
        assert isinstance(error.value, KeyError)
    with pytest.raises(UnknownName, match=r"no scalar of each layer 'z_los'; did you mean z_loss\?"):
        history.by_layer("z_los")
    with pytest.raises(UnknownName, match=r"no knob named 'alpha'; did you mean aux_loss_coef\?"):
        history.knob("alpha")
