"""Presets: each is valid, does what its description says, and survives a link."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from moe_sim import KNOBS, PRESETS, History, RunConfig, Trainer
from moe_sim.config.codec import events_from_text, events_to_text, from_query, to_query
from moe_sim.config.presets import FAMILY, MECHANISM, SCENARIO
from moe_sim.diagnosis.verdict import diagnose
from moe_sim.history.series import recent_mean
from moe_sim.router.balancing import METHODS
from tests.support.inspecting import weights
from tests.support.runs import run_of

pytestmark = pytest.mark.xdist_group("long runs")

MECHANISMS = [name for name, preset in PRESETS.items() if preset.kind == MECHANISM]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_configuration_that_keeps_the_seed(name: str) -> None:
    config = PRESETS[name].config(seed=5)
    assert config.seed == 5
    assert config == RunConfig(seed=5, **PRESETS[name].changes)
    assert from_query(to_query(config)) == (config, [])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_lists_only_what_differs_from_the_defaults(name: str) -> None:
    assert all(value != KNOBS[knob].default for knob, value in PRESETS[name].changes.items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_plan_changes_live_knobs_only_and_survives_the_address_bar(name: str) -> None:
    preset = PRESETS[name]
    config = preset.config()
    for event in preset.plan:
        assert all(KNOBS[knob].live for knob in event.changes)
        config = config.replace(**event.changes)
    assert events_from_text(events_to_text(preset.plan), preset.config()) == (preset.plan, [])


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains(name: str) -> None:
    history = Trainer(PRESETS[name].config()).run(3)
    assert len(history) == 3
    assert np.isfinite(history.column("task_loss")).all()


def test_names_are_url_safe_and_labels_are_unique() -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in PRESETS)
    assert len({preset.label for preset in PRESETS.values()}) == len(PRESETS)
    assert all(preset.description.endswith((".", "?")) for preset in PRESETS.values())


def test_no_two_presets_are_the_same() -> None:
    runs = [(preset.config(), preset.plan) for preset in PRESETS.values()]
    assert all(runs.count(run) == 1 for run in runs)


def test_there_are_presets_for_collapse_balance_late_rescue_and_text() -> None:
    assert PRESETS["collapse"].config() == RunConfig()
    assert PRESETS["healthy"].config().aux_loss_coef == 0.03
    assert PRESETS["too-late"].plan[0].step == 400
    assert PRESETS["text"].config().task == "text"


def follow(name: str, seed: int, steps: int, **over: Any) -> Trainer:
    """Runs a preset with its plan, as the live page does."""
    return run_of(PRESETS[name].config(seed).replace(**over), steps, PRESETS[name].plan)


def test_a_preset_is_a_scenario_a_mechanism_or_a_copy_of_a_model() -> None:
    assert {preset.kind for preset in PRESETS.values()} == {SCENARIO, MECHANISM, FAMILY}
    assert next(iter(PRESETS)) == "collapse"
    kinds = [preset.kind for preset in PRESETS.values()]
    assert kinds == sorted(kinds, key=(SCENARIO, MECHANISM, FAMILY).index), "presets are grouped by kind"


def test_there_is_a_preset_for_every_mechanism() -> None:
    used = {PRESETS[name].config().balancing for name in MECHANISMS}
    assert used | {"none"} == set(METHODS)
    assert PRESETS["noise-alone"].config().aux_loss_coef == 0
    for name in MECHANISMS:
        config = PRESETS[name].config()
        assert not PRESETS[name].plan
        if "aux_loss_coef" in METHODS[config.balancing].knobs and name != "noise-alone":
            assert config.aux_loss_coef == 0.1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", [name for name in MECHANISMS if name != "noise-alone"])
def test_a_mechanism_at_its_usual_strength_keeps_every_load_below_two_fifths(name: str, seed: int) -> None:
    # Largest smoothed load after 150 steps, seeds 0 and 1: importance loss 0.255, 0.261; load loss 0.147, 0.210;
    # Sinkhorn 0.184, 0.202; the others at most 0.140.
    load = follow(name, seed, 150).history.layer().last("smoothed_load")
    assert load.max() < 0.4
    if name == "expert-choice":
        np.testing.assert_allclose(load, 1 / 8)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.kind == FAMILY])
def test_a_copy_of_a_model_keeps_most_experts_in_use(name: str, seed: int) -> None:
    # Measured at step 300: at most 1 dead; E times the largest share is at most 2.9 (DeepSeek-V3, seed 2).
    history = follow(name, seed, 300).history
    config = history.initial_config
    assert history.last("dead_experts") <= config.num_experts / 4
    assert history.layer().last("smoothed_load").max() < 4 / config.num_experts
    assert ")." in PRESETS[name].description, "the source"


@pytest.mark.parametrize("seed", [0, 1])
def test_noise_alone_does_not_prevent_collapse(seed: int) -> None:
    # Largest smoothed load after 150 steps: 0.527, 0.991; after 200: 0.99 for both.
    trainer = follow("noise-alone", seed, 200)
    assert trainer.history.layer().last("smoothed_load").max() > 0.5
    assert diagnose(trainer.history, trainer.config).state == "Collapsed"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_learning_rate_jump_saturates_the_router_beyond_the_help_of_alpha(seed: int) -> None:
    # At step 300, seeds 0 to 2: 7, 5, 5 dead; largest logit (mean of 20 steps) 34, 23, 22.
    trainer = follow("diverging-router", seed, 300)
    assert trainer.config.aux_loss_coef == 0.1
    assert trainer.config.learning_rate == 0.003, "the jump is over"
    assert trainer.history.last("dead_experts") >= 4
    assert recent_mean(trainer.history, "router_logit_max") > 18
    assert diagnose(trainer.history, trainer.config).state == "Saturated"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_a_router_z_loss_the_same_jump_does_little_harm(seed: int) -> None:
    # At step 300, seeds 0 to 2: 0, 0, 1 dead; largest logit 2.9, 2.7, 8.3; largest load 0.15.
    trainer = follow("diverging-router", seed, 300, z_loss_coef=1.0)
    assert trainer.history.last("dead_experts") <= 1
    assert recent_mean(trainer.history, "router_logit_max") < 15
    assert trainer.history.layer().last("smoothed_load").max() < 0.25
    assert diagnose(trainer.history, trainer.config).state in ("Balanced", "Uneven")


def shifted(seed: int) -> tuple[History, tuple[dict[str, np.ndarray], ...]]:
    """The distribution shift up to step 480, and the weights at steps 400, 401, 450 and 480."""
    runs = [follow("distribution-shift", seed, steps) for steps in (400, 401, 450, 480)]
    return runs[-1].history, tuple(weights(run) for run in runs)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_in_the_distribution_shift_no_weight_changes_after_step_400(seed: int) -> None:
    history, kept = shifted(seed)
    assert len(kept) == 4
    for later in kept[1:]:
        for name, value in kept[0].items():
            np.testing.assert_array_equal(later[name], value)
    assert not history.layer().column("weight_change", 400).any()
    assert not history.layer().column("grad_norm", 400).any()
    assert history.layer().column("weight_change", 399, 400).any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_data_shift_unbalances_a_healthy_frozen_router(seed: int) -> None:
    # Largest load in inference, seeds 0 to 2: at most 0.287, 0.211, 0.234 in steps 300-450; 0.467, 0.637, 0.352 after
    # the shift (constant: nothing learns, and the held-out tokens stay the same), 1.6, 3.0 and 1.5 times as much.
    history, _ = shifted(seed)
    largest = history.layer().column("eval_load").max(1)
    before, after = largest[309:450:10], largest[459:480:10]
    assert len(before) == 15
    assert (after == after[0]).all()
    assert after.min() > 1.3 * before.max()
    assert after.min() > 0.3 > before.max()
    # The task loss in inference rises too: 2.48 → 2.61, 2.43 → 2.64, 2.47 → 2.56 nats.
    task_loss = history.column("eval_task_loss")
    assert task_loss[459] > task_loss[449] + 0.05


def test_the_shift_makes_rare_topics_common() -> None:
    preset = PRESETS["distribution-shift"]
    start, end = preset.config(), preset.config()
    for event in preset.plan:
        end = end.replace(**event.changes)
    task = Trainer(start).task
    before, after = task.shares(start).numpy(), task.shares(end).numpy()
    commonest = after.argmax()
    assert before[commonest] < np.median(before)
    assert after[commonest] > 3 * before[commonest]
    assert before.argmax() != commonest
