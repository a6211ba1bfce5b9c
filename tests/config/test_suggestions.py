"""A misspelled name is answered with the name that was probably meant, wherever a name is given."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from moe_sim import KNOBS, PRESETS, RunConfig, Trainer
from moe_sim.config.errors import UnknownName, UserError
from moe_sim.config.knobs import THRESHOLDS, problems
from moe_sim.config.suggestions import ByName
from moe_sim.config.thresholds import Thresholds


def test_tables_of_names_are_dictionaries_that_suggest() -> None:
    table = ByName("fruit", {"apple": 1, "pear": 2})
    assert table == {"apple": 1, "pear": 2}
    assert table["pear"] == 2
    assert table.get("aple") is None
    assert "aple" not in table
    with pytest.raises(UnknownName) as error:
        _ = table["aple"]
    assert str(error.value) == "There is no fruit 'aple'; did you mean apple?"
    assert isinstance(error.value, KeyError)
    assert isinstance(error.value, UserError)
    with pytest.raises(KeyError, match=r"^There is no fruit '7'\.$"):
        _ = table[7]  # type: ignore[index]
    twin = copy.deepcopy(table)
    with pytest.raises(UnknownName, match="no fruit"):
        _ = twin["nut"]


@pytest.mark.parametrize(
    ("table", "name", "sentence"),
    [
        (PRESETS, "healty", "There is no preset 'healty'; did you mean healthy?"),
        (KNOBS, "aux_los_coef", "There is no knob named 'aux_los_coef'; did you mean aux_loss_coef?"),
        (KNOBS, "lr", "There is no knob named 'lr'; did you mean learning_rate?"),
        (THRESHOLDS, "dead_shar", "There is no threshold 'dead_shar'; did you mean dead_share?"),
    ],
)
def test_our_tables_suggest(table: ByName[object], name: str, sentence: str) -> None:
    with pytest.raises(UnknownName) as error:
        _ = table[name]
    assert str(error.value) == sentence


def test_configurations_and_changes_suggest() -> None:
    sentence = "There is no knob named 'aux_los_coef'; did you mean aux_loss_coef?"
    with pytest.raises(ValidationError) as error:
        RunConfig(aux_los_coef=1)  # type: ignore[call-arg]
    assert problems(error.value) == {"aux_los_coef": sentence}
    with pytest.raises(ValidationError, match="did you mean aux_loss_coef"):
        RunConfig().replace(aux_los_coef=1)
    with pytest.raises(ValueError, match="did you mean aux_loss_coef") as refusal:
        Trainer(RunConfig()).update(aux_los_coef=1)
    assert str(refusal.value) == sentence


def test_a_configuration_shows_what_differs_from_the_defaults() -> None:
    assert repr(RunConfig()) == str(RunConfig()) == "RunConfig()"
    config = RunConfig(seed=3, aux_loss_coef=0.1, capacity_factor=1.25, task="text")
    assert repr(config) == "RunConfig(aux_loss_coef=0.1, capacity_factor=1.25, task='text', seed=3)"
    assert str(config) == f"{config}" == repr(config)
    assert repr(RunConfig(aux_loss_coef=0.0)) == "RunConfig()"
    assert repr(Thresholds(dead_share=0.2)) == "Thresholds(dead_share=0.2)"


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_configuration_shows_makes_the_same_configuration(name: str) -> None:
    config = PRESETS[name].config(seed=4)
    assert eval(repr(config)) == config
