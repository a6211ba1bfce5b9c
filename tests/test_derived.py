"""What screens derive from a history, by hand-made histories."""

import numpy as np
import pytest

from moe_sim import RunConfig, Trainer
from moe_sim.derived import Marker, coarse_mean, markers, recent_mean, smoothed_imbalance


def trained(moves: dict[int, dict], steps: int = 60) -> Trainer:
    """A run whose knobs were moved after the given steps."""
    trainer = Trainer(RunConfig())
    for step in range(steps):
        trainer.update(**moves.get(step, {}))
        trainer.step()
    return trainer


def test_a_moved_knob_is_told_in_words() -> None:
    history = trained({3: {"aux_loss_coef": 0.03, "capacity_factor": 1.25}}, 4).history
    assert markers(history) == [Marker(3, "α 0 → 0.03, capacity off → 1.25")]


def test_a_later_move_is_told_from_where_the_first_one_left() -> None:
    history = trained({3: {"aux_loss_coef": 0.03}, 40: {"aux_loss_coef": 0.1}}).history
    assert markers(history) == [Marker(3, "α 0 → 0.03"), Marker(40, "α 0.03 → 0.1")]


def test_a_slider_on_its_way_leaves_one_marker_where_it_arrived() -> None:
    history = trained({3: {"aux_loss_coef": 0.001}, 9: {"aux_loss_coef": 0.01}, 14: {"aux_loss_coef": 0.1}}).history
    assert markers(history) == [Marker(14, "α 0 → 0.1")]


def test_a_move_there_and_back_leaves_no_marker() -> None:
    assert markers(trained({3: {"aux_loss_coef": 0.1}, 5: {"aux_loss_coef": 0.0}}).history) == []


def test_other_knobs_are_not_merged() -> None:
    history = trained({3: {"aux_loss_coef": 0.1}, 5: {"top_k": 2}}).history
    assert markers(history) == [Marker(3, "α 0 → 0.1"), Marker(5, "k 1 → 2")]


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return trained({})


def test_coarse_rows_are_means_of_complete_blocks_of_ten(trainer: Trainer) -> None:
    norms = trainer.history.column("grad_norm")
    rows = coarse_mean(trainer.history, "grad_norm", 0, 37)
    assert rows.shape == (3, 8)
    np.testing.assert_allclose(rows[2], norms[20:30].mean(0))
    assert coarse_mean(trainer.history, "grad_norm", 37, 39).shape == (0, 8)
    np.testing.assert_allclose(coarse_mean(trainer.history, "grad_norm", 37, 41)[0], norms[30:40].mean(0))


def test_the_recent_mean_is_over_twenty_steps_and_zero_before_the_first(trainer: Trainer) -> None:
    np.testing.assert_allclose(recent_mean(trainer.history, "load"), trainer.history.column("load")[40:].mean(0))
    np.testing.assert_array_equal(recent_mean(Trainer(RunConfig()).history, "load"), np.zeros(8))


def test_an_expert_unused_for_long_makes_the_smoothed_ratio_infinite_and_a_recent_token_does_not(
    trainer: Trainer,
) -> None:
    load = trainer.history.column("smoothed_load")
    ratio = smoothed_imbalance(trainer.history)
    # One token in the newest of many steps adds 1/(20·256); half of that counts as nothing.
    nothing = 0.5 / (20 * 256)
    np.testing.assert_array_equal(np.isinf(ratio), load.min(1) <= nothing)
    finite = np.isfinite(ratio)
    np.testing.assert_allclose(ratio[finite], load.max(1)[finite] / load.min(1)[finite])
    assert np.isinf(ratio).any()
