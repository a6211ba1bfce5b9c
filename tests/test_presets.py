"""Ready-made situations: each is valid, does what its words say, and can be linked to."""

from __future__ import annotations

import re

import numpy as np
import pytest

from moe_sim import KNOBS, PRESETS, RunConfig, Trainer
from moe_sim.codec import events_from_text, events_to_text, from_query, to_query


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_valid_configuration_that_keeps_the_seed(name: str) -> None:
    config = PRESETS[name].config(seed=5)
    assert config.seed == 5
    assert config == RunConfig(seed=5, **PRESETS[name].changes)
    assert from_query(to_query(config)) == (config, [])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_only_what_differs_from_the_defaults(name: str) -> None:
    assert all(value != KNOBS[knob].default for knob, value in PRESETS[name].changes.items())


@pytest.mark.parametrize("name", PRESETS)
def test_a_plan_moves_live_knobs_only_and_survives_the_address_bar(name: str) -> None:
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


def test_names_fit_into_an_address_and_labels_are_all_different() -> None:
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in PRESETS)
    assert len({preset.label for preset in PRESETS.values()}) == len(PRESETS)
    assert all(preset.description.endswith((".", "?")) for preset in PRESETS.values())


def test_no_two_presets_are_the_same() -> None:
    situations = [(preset.config(), preset.plan) for preset in PRESETS.values()]
    assert all(situations.count(situation) == 1 for situation in situations)


def test_there_is_a_collapse_a_rescue_and_a_text() -> None:
    assert PRESETS["collapse"].config() == RunConfig()
    assert PRESETS["healthy"].config().aux_loss_coef == 0.03
    assert PRESETS["too-late"].plan[0].step == 400
    assert PRESETS["text"].config().task == "text"
