"""A run exported as JSON is restored exactly."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from moe_sim import History, Probe, RunConfig, StepRecord, Trainer
from moe_sim.charts.page import page_figures
from moe_sim.charts.scene import Scene
from moe_sim.cli.run import scene_of
from moe_sim.history.columns import PER_CHOICE, PER_EXPERT, SCALARS
from moe_sim.history.from_json import run_from_json
from moe_sim.history.to_json import run_to_json
from tests.support.exported import SMALL, document, refuse_constant
from tests.support.records import append


def assert_same_probe(one: Probe, other: Probe) -> None:
    assert one.step == other.step
    for name in ("expert", "dropped", "joint", "together"):
        mine, yours = getattr(one, name), getattr(other, name)
        assert mine.dtype == yours.dtype
        np.testing.assert_array_equal(mine, yours)


def test_a_run_is_restored_exactly(trainer: Trainer) -> None:
    probe = trainer.probe()
    text = run_to_json(trainer.history, probe)
    history, again = run_from_json(text)
    assert history.initial_config == trainer.history.initial_config
    assert history.events == trainer.history.events
    assert history.config_at(len(history) + 1) == trainer.config
    for name in SCALARS + PER_EXPERT + PER_CHOICE:
        mine, yours = history.column(name), trainer.history.column(name)
        assert mine.shape == yours.shape
        assert mine.tobytes() == yours.tobytes(), name
    assert again is not None
    assert_same_probe(again, probe)
    assert run_to_json(history, again) == text


def test_a_document_is_strict_json_in_ascii(trainer: Trainer) -> None:
    text = run_to_json(trainer.history, trainer.probe())
    assert text.isascii()
    assert list(json.loads(text, parse_constant=refuse_constant)["history"]) == [*SCALARS, *PER_EXPERT, *PER_CHOICE]


def test_the_whole_page_can_be_redrawn(trainer: Trainer) -> None:
    before = scene_of(trainer)
    history, probe = run_from_json(run_to_json(before.run, before.routing))
    assert probe is not None
    task = Trainer(history.initial_config).task
    after = Scene(history, history.config_at(len(history) + 1), probe, task)
    drawn = {name: figure.to_json() for name, figure in page_figures(after, "light").items()}
    assert drawn == {name: figure.to_json() for name, figure in page_figures(before, "light").items()}


def test_infinity_and_nan_are_kept_apart(make_record: Callable[..., StepRecord]) -> None:
    history = History(RunConfig(num_experts=2))
    for step, number in enumerate((np.inf, -np.inf, np.nan, -0.0, 5e-324, 1.7976931348623157e308), start=1):
        append(history, make_record(step, [1.0, 0.0], z_loss=number))
    document = json.loads(run_to_json(history), parse_constant=refuse_constant)
    assert document["history"]["z_loss"] == ["inf", "-inf", None, -0.0, 5e-324, 1.7976931348623157e308]
    again, probe = run_from_json(json.dumps(document))
    assert probe is None
    assert again.column("z_loss").tobytes() == history.column("z_loss").tobytes()
    assert np.isinf(again.column("imbalance_ratio")).all()


@given(numbers=st.lists(st.floats(), max_size=40))
def test_any_number_is_restored(numbers: list[float]) -> None:
    columns = document()["history"]
    history, _ = run_from_json(SMALL)
    copy = History(history.initial_config)
    for step, number in enumerate(numbers, start=1):
        row = {name: history.layer().column(name)[0] for name in columns}
        append(copy, StepRecord(**{**row, "step": step, "z_loss": number, "router_logit_max": -number}))
    again, _ = run_from_json(run_to_json(copy))
    np.testing.assert_array_equal(again.column("z_loss"), copy.column("z_loss"))
    np.testing.assert_array_equal(again.column("router_logit_max"), copy.column("router_logit_max"))


def test_a_run_that_grows_during_the_export_has_no_partial_rows(make_record: Callable[..., StepRecord]) -> None:
    class Growing(History):
        def rows(self, start: int = 0) -> np.ndarray:
            before = super().rows(start)
            append(self, make_record(len(self) + 1, [0.5, 0.5]))
            return before

    history = Growing(RunConfig(num_experts=2))
    append(history, make_record(1, [0.5, 0.5]))
    again, _ = run_from_json(run_to_json(history))
    assert len(again) == 1
