"""Mechanisms and tasks of the user's own: our numbers if they are ours, and a sentence where they do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moe_sim import History, RunConfig, Trainer, advance
from moe_sim.charts.html_page import run_to_html
from moe_sim.charts.slides import small_print
from moe_sim.cli.run import scene_of
from moe_sim.config.errors import InvalidInput
from moe_sim.history.to_csv import run_to_csv
from moe_sim.history.to_json import run_to_json
from moe_sim.router.balancing import Balancing, ExpertChoice, LoadBalancing, SelectionBias
from moe_sim.router.routing import Routing
from moe_sim.router.selection import Selection
from moe_sim.tasks.task import Batch, HeldOut, Task, generators
from moe_sim.tasks.text import Text
from moe_sim.tasks.topics import Topics


class Momentum(SelectionBias):
    """A bias that follows the average of its directions: state that `Balancing.stack` does not know."""

    def __init__(self, num_experts: int) -> None:
        super().__init__(num_experts)
        self.speed = torch.zeros(num_experts)

    def after_step(self, load: np.ndarray, config: RunConfig) -> None:
        self.speed = 0.9 * self.speed + 0.1 * torch.from_numpy(1 / len(load) - load).float()
        self.bias = self.bias + self.speed


def same(one: History, other: History) -> None:
    np.testing.assert_array_equal(one.rows(), other.rows())


@pytest.mark.parametrize(
    ("name", "mechanism"), [("load_balancing", LoadBalancing), ("bias", SelectionBias), ("expert_choice", ExpertChoice)]
)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_mechanism_of_ours_given_as_ones_own_has_the_same_numbers(
    name: str, mechanism: type[Balancing], layers: int
) -> None:
    config = RunConfig(aux_loss_coef=0.1, num_layers=layers, balancing=name)
    ours = Trainer(config).run(25)
    own = config.replace(balancing="none")  # which has no effect
    for given in (mechanism, mechanism(8), lambda experts: mechanism(experts)):
        same(Trainer(own, balancing=given).run(25), ours)


@pytest.mark.parametrize(("name", "task"), [("topics", Topics), ("text", Text)])
def test_a_task_of_ours_given_as_ones_own_has_the_same_numbers(name: str, task: Any) -> None:
    config = RunConfig(task=name, topic_skew=1.0)
    ours = Trainer(config).run(25)
    random = generators(config.seed)
    for given in (task, task(config, random["task"], random["held_out"])):
        same(Trainer(config.replace(task="topics"), task=given).run(25), ours)


def test_each_layer_has_a_copy_of_an_object() -> None:
    given = SelectionBias(8)
    trainer = Trainer(RunConfig(num_layers=2), balancing=given)
    trainer.run(5)
    first, second = trainer.mechanisms
    assert not torch.equal(first.bias, second.bias)
    assert not given.bias.any()


def test_in_company_a_mechanism_with_state_of_its_own_keeps_its_numbers() -> None:
    configs = [RunConfig(seed=seed) for seed in range(3)]
    alone = [Trainer(config, balancing=Momentum).run(20) for config in configs]
    together = [Trainer(config, balancing=Momentum) for config in configs] + [Trainer(config) for config in configs]
    advance(together, 20)
    for trainer, expected in zip(together, alone + [Trainer(config).run(20) for config in configs], strict=True):
        same(trainer.history, expected)


def test_a_copy_goes_on_as_the_original_and_says_that_it_has_parts_of_its_own() -> None:
    trainer = Trainer(RunConfig(), balancing=Momentum, task=Topics)
    trainer.run(10)
    twin = trainer.copy(trainer.history.until(10))
    same(twin.run(10), trainer.run(10))
    assert twin.history.own_parts == {"balancing": "Momentum", "task": "Topics"}


def test_what_is_tried_before_the_run_leaves_no_trace_in_it() -> None:
    tried: list[Balancing] = []

    class Counting(Momentum):
        steps = 0

        def after_step(self, load: np.ndarray, config: RunConfig) -> None:
            self.steps += 1
            tried.append(self)
            super().after_step(load, config)

    trainer = Trainer(RunConfig(), balancing=Counting)
    assert len(tried) == 1
    assert vars(trainer.mechanisms[0]).get("steps", 0) == 0
    before = {name: one.get_state() for name, one in Trainer(RunConfig()).random.items()}
    for name, one in trainer.random.items():
        assert torch.equal(one.get_state(), before[name]), name


def test_its_slides_say_what_its_configuration_does_not() -> None:
    scene = scene_of(Trainer(RunConfig(), balancing=Momentum))
    assert small_print(scene) == "default configuration · seed=0 · balancing of its own: Momentum · step 0"
    assert "Momentum" in run_to_html(scene)


def test_such_a_run_has_no_json_and_its_numbers_are_elsewhere() -> None:
    trainer = Trainer(RunConfig(), balancing=Momentum, task=Topics)
    history = trainer.run(3)
    with pytest.raises(InvalidInput, match=r"does not hold the balancing mechanism Momentum and task Topics.*to_csv"):
        run_to_json(history, trainer.probe())
    with pytest.raises(InvalidInput, match="cannot be written as JSON"):
        run_to_json(history.until(2))
    assert run_to_csv(history).count("\r\n") == 4
    assert Trainer(RunConfig()).history.own_parts == {}


def test_its_mechanism_stays_to_its_end_and_other_knobs_can_change() -> None:
    trainer = Trainer(RunConfig(), balancing=Momentum)
    for name in ("none", "load_balancing"):
        with pytest.raises(ValueError, match="stays to its end"):
            trainer.update(balancing=name, top_k=2)
    assert trainer.config == RunConfig()
    trainer.update(top_k=2)
    assert trainer.run(2).column("load").shape == (2, 1, 8)
    other = Trainer(RunConfig(), task=Topics)
    other.update(balancing="bias")
    assert isinstance(other.mechanisms[0], SelectionBias)


def test_the_name_of_what_is_ones_own_is_in_the_short_form_of_a_trainer() -> None:
    trainer = Trainer(RunConfig(top_k=2), balancing=Momentum)
    assert repr(trainer) == "<Trainer RunConfig(top_k=2), balancing=Momentum: 0 steps>"
    trainer.run(1)
    assert repr(trainer).endswith(": 1 step>")
    assert repr(Trainer(RunConfig())) == "<Trainer RunConfig(): 0 steps>"
    diverging = Trainer(RunConfig(learning_rate=1000, warmup_steps=0))
    diverging.run(300)
    assert repr(diverging).endswith(", diverged>")


class Vector(Balancing):
    def loss(self, routing: Routing, config: RunConfig) -> Tensor:
        return routing.probs.mean(-2)


class Detached(Balancing):
    def loss(self, routing: Routing, config: RunConfig) -> Tensor:
        return routing.probs.detach().square().mean()


class Floating(Balancing):
    def loss(self, routing: Routing, config: RunConfig) -> Any:
        return 0.5


class NoSelection(Balancing):
    def select(self, logits: Tensor, probs: Tensor, top_k: int) -> Any:
        return logits.topk(top_k).indices


class TooFew(Balancing):
    def select(self, logits: Tensor, probs: Tensor, top_k: int) -> Selection:
        return Selection(logits.argmax(-1, keepdim=True))


class NoBias(Balancing):
    def __init__(self, num_experts: int) -> None:
        pass


@pytest.mark.parametrize(
    ("balancing", "words"),
    [
        ("bias", r"not an object of str\. RunConfig\(balancing=…\) chooses one by its name\."),
        (3, "not an object of int"),
        (dict, "must be a subclass .* not the class dict"),
        (lambda experts: None, "not an object of NoneType"),
        (SelectionBias(4), "The bias of SelectionBias must have one number for each of 8 experts"),
        (NoBias, r"Balancing\.__init__\(8\) makes it"),
        (Vector, r"The loss of Vector must be .* not a tensor of shape \(8,\)"),
        (Detached, r"The loss of Detached must be .* not a tensor of shape \(\) without a gradient"),
        (Floating, "not an object of float"),
        (NoSelection, "select of NoSelection must return"),
        (TooFew, "for each token, 2 experts from 0 to 7"),
    ],
)
def test_a_mechanism_that_does_not_fit_gets_a_sentence_before_the_run(balancing: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Trainer(RunConfig(top_k=2), balancing=balancing)


class Two:
    """Two groups of vectors on a line, as small as a task can be."""

    width, classes = 3, 2
    group_noun, group_names = "group", ("left", "right")
    shift_knobs: tuple[str, ...] = ()
    sequence: int | None = None

    def __init__(self) -> None:
        self.held_out = HeldOut(self.batch(20, torch.ones(2) / 2, torch.Generator().manual_seed(1)))

    def shares(self, config: RunConfig) -> Tensor:
        return torch.ones(2) / 2

    def batch(self, tokens: int, shares: Tensor, generator: torch.Generator) -> Batch:
        groups = torch.multinomial(shares, tokens, True, generator=generator)
        return Batch(2 * groups[:, None] - torch.ones(tokens, 3), groups.clone(), groups)

    held_out_batch = batch

    def stem(self, generator: torch.Generator) -> nn.Module:
        return nn.Identity()


def changed(**parts: Any) -> Any:
    task = Two()
    for name, value in parts.items():
        setattr(task, name, value)
    return task


def held_out(**parts: Any) -> Any:
    return changed(held_out=HeldOut(replace(Two().held_out.batch, **parts)))


def without(*names: str) -> Any:
    class Lacking:
        pass

    for name in dir(Two):
        if not name.startswith("__") and name not in names:
            setattr(Lacking, name, getattr(Two, name))
    Lacking.held_out = Two().held_out  # type: ignore[attr-defined]
    return Lacking()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("topics", "The task, an object of str, lacks width, classes"),
        (without("stem", "shares"), "lacks shares, stem; moe_sim.tasks.task.Task says"),
        (held_out(labels=torch.zeros(20)), r"The labels .* 20 whole numbers \(int64\) from 0 to 1"),
        (held_out(labels=torch.full((20,), 2)), "The labels"),
        (held_out(groups=torch.zeros(19, dtype=torch.int64)), "The groups"),
        (held_out(inputs=torch.zeros(20, 4)), r"into \(20, 3\) vectors, not a tensor of shape \(20, 4\)"),
        (changed(shares=lambda config: torch.ones(2)), "2 numbers from 0 that sum to 1"),
        (changed(shares=lambda config: torch.ones(3) / 3), "2 numbers from 0 that sum to 1"),
        (changed(sequence=24), "sequences of 24 tokens must divide 256, 512, 4096, 20"),
    ],
)
def test_a_task_that_does_not_fit_gets_a_sentence_before_the_run(task: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Trainer(RunConfig(), task=task)


def test_the_smallest_task_is_learned() -> None:
    task: Task = Two()  # type: ignore[assignment]
    history = Trainer(RunConfig(), task=task).run(300)
    assert history.column("task_loss")[0] > 0.3
    assert history.column("task_loss")[-1] < 0.05
