"""Cached runs equal the runs of a trainer that was never copied."""

from __future__ import annotations

import pytest

from moe_sim import Event, RunConfig
from moe_sim.teaching.course.playing import play
from moe_sim.trainer.together import Together
from tests.support.inspecting import small_config, weights
from tests.support.runs import run_of


@pytest.mark.parametrize(
    "config",
    [
        small_config(),
        small_config(task="text", router_noise="learned"),
        small_config(balancing="bias", router_noise="gaussian", capacity_factor=1.0),
    ],
)
def test_a_run_continued_from_a_copy_equals_the_run_without_copies(config: RunConfig) -> None:
    plan = (
        Event(0, {"z_loss_coef": 0.1}), Event(30, {"aux_loss_coef": 0.1}), Event(30, {"top_k": 2}),
        Event(100, {"frozen": True}), Event(120, {"frozen": False}), Event(130, {"top_k": 1}),
    )  # fmt: skip
    shorter, longer = run_of(config, 90, plan[:3]), run_of(config, 130, plan)
    assert len(shorter.history) == 90
    uncopied = play(config, plan, 130)
    assert longer.history.to_frame().equals(uncopied.history.to_frame())
    assert longer.history.events == uncopied.history.events
    assert longer.config == uncopied.config
    for name, value in weights(uncopied).items():
        assert (weights(longer)[name] == value).all(), name


def test_a_repeated_request_is_not_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_of(small_config(seed=77), 110)
    stepped: list[bool] = []
    step = Together.step
    monkeypatch.setattr(Together, "step", lambda runs: stepped.append(step(runs)) or stepped[-1])
    assert run_of(small_config(seed=77), 110) is first
    assert not stepped
    assert len(run_of(small_config(seed=77), 112).history) == 112
    assert len(stepped) == 12, "it continues from the copy at step 100"


def test_a_run_that_diverges_ends_there() -> None:
    run = run_of(RunConfig(learning_rate=1000.0), 120)
    assert run.diverged
    assert len(run.history) < 120
