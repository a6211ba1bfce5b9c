"""The museum: each mistake is found by its own rule on five seeds, by no other rule, and never in a healthy run."""

from __future__ import annotations

import re

import pytest

from moe_sim import KNOBS, RunConfig, Trainer
from moe_sim.history.history import History
from moe_sim.router.balancing import METHODS
from moe_sim.router.mistakes.catalogue import MISTAKES
from moe_sim.teaching.museum.catalogue import EXHIBITS, TITLES
from moe_sim.teaching.museum.exhibit import Exhibit
from pages.visitor.view import TABS
from tests.support.inspecting import small_config
from tests.support.runs import runs_of

pytestmark = pytest.mark.xdist_group("long runs")
SEEDS = range(5)
STEPS = 160
of_each_exhibit = pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.mistake)


def histories(exhibit: Exhibit, *, healthy: bool = False) -> list[History]:
    configs = [exhibit.config(seed, healthy=healthy) for seed in SEEDS]
    return [trainer.history for trainer in runs_of(configs, STEPS, exhibit.plan)]


@of_each_exhibit
def test_a_mistake_is_found_by_its_own_rule_and_by_no_other(exhibit: Exhibit) -> None:
    for seed, history in enumerate(histories(exhibit)):
        found = [other.mistake for other in EXHIBITS if other.signal(history)]
        assert found == [exhibit.mistake], seed


@of_each_exhibit
def test_no_rule_sounds_a_false_alarm_on_the_healthy_run(exhibit: Exhibit) -> None:
    for seed, history in enumerate(histories(exhibit, healthy=True)):
        assert not [other.mistake for other in EXHIBITS if other.signal(history)], seed


@pytest.mark.parametrize("balancing", METHODS)
def test_no_rule_sounds_a_false_alarm_on_other_runs(balancing: str) -> None:
    for top_k in (1, 2):
        config = RunConfig(balancing=balancing, top_k=top_k, aux_loss_coef=0.1, capacity_factor=1.0)
        history = Trainer(config).run(60)
        assert not [exhibit.mistake for exhibit in EXHIBITS if exhibit.signal(history)], top_k


def test_every_mistake_is_exhibited_once_and_can_be_told_apart() -> None:
    assert {exhibit.mistake for exhibit in EXHIBITS} | {"none"} == set(MISTAKES) == set(KNOBS["mistake"].choices)
    assert len(EXHIBITS) == len(set(TITLES)) == len({exhibit.mistake for exhibit in EXHIBITS}) >= 10
    assert list(TITLES) == sorted(TITLES)


@of_each_exhibit
def test_an_exhibit_has_all_its_texts(exhibit: Exhibit) -> None:
    assert exhibit.tab in TABS
    assert exhibit.title not in exhibit.wanted
    assert exhibit.wrong != exhibit.right
    assert all(len(text.splitlines()) <= 3 for text in (exhibit.wrong, exhibit.right))
    for text in (exhibit.wanted, exhibit.giveaway, *exhibit.explanation):
        assert text.endswith(".")
        assert not re.search(r"!|\s{2}|\*", text)
        assert len(text) < 420
    assert all(report.url.startswith("https://github.com/") for report in exhibit.reports)
    for config in exhibit.config(0), exhibit.config(0, healthy=True):
        assert config.replace(mistake="none") == exhibit.config(0, healthy=True)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_leaves_initial_weights_and_data_alone_and_has_the_same_numbers_in_company(mistake: str) -> None:
    from moe_sim import advance

    configs = [small_config(mistake=mistake, seed=seed, top_k=1, aux_loss_coef=0.1) for seed in range(3)]
    together, alone = [Trainer(config) for config in configs], [Trainer(config) for config in configs]
    advance(together, 21)
    for one, other in zip(together, alone, strict=True):
        other.run(21)
        assert one.history.rows().tobytes() == other.history.rows().tobytes()
    healthy = Trainer(configs[0].replace(mistake="none"))
    first = healthy.run(1)
    assert first.column("task_loss")[0] == pytest.approx(
        alone[0].history.column("task_loss")[0], rel=0 if mistake != "constant_weight" else 1
    )
