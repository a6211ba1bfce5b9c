"""The lesson about a model of one's own: its traces show what it says, and one answer is right."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import pytest
import torch

from moe_sim.charts.traces import figure_names
from moe_sim.diagnosis.traces import diagnose_trace
from moe_sim.history.trace import TraceHistory, open_trace
from moe_sim.teaching.course.catalogue import COURSE
from moe_sim.teaching.course.lesson import TraceLesson, passed
from moe_sim.teaching.course.your_own_model import YOUR_MODEL, _rounded_up
from moe_sim.tracing.examples import EXAMPLES
from pages.traces import how_to
from tests.support.apps import button, opened, settled, turned_to


@pytest.fixture(scope="module")
def both() -> tuple[TraceHistory, TraceHistory]:
    return open_trace(YOUR_MODEL.trace), open_trace(YOUR_MODEL.beside)


def test_the_traces_that_ship_are_small() -> None:
    assert sum(file.stat().st_size for file in EXAMPLES.rglob("*.jsonl")) <= 300_000


def test_both_models_are_the_same_but_for_the_experts_per_token(both: tuple[TraceHistory, TraceHistory]) -> None:
    first, second = (history.header.settings for history in both)
    assert {name for name in first if first[name] != second[name]} == {"num_experts_per_tok"}
    assert (first["num_experts_per_tok"], second["num_experts_per_tok"]) == (1, 2)


def test_with_one_expert_per_token_the_router_hears_nothing_of_the_task(
    both: tuple[TraceHistory, TraceHistory],
) -> None:
    without, learns = both
    assert without.column("router_gradient").max() < 1e-7
    assert learns.column("router_gradient")[10:].min() > 1e-3
    assert without.by_layer("router_entropy").min() > 0.98  # of weights that never change
    assert learns.by_layer("router_entropy")[90:100].mean(0).max() < 0.85  # before the rescue
    loss = without.column("task_loss")
    assert loss[-20:].mean() < loss[:20].mean() - 0.5  # nothing in the loss tells


def test_the_same_happens_in_transformers_own_block() -> None:
    from transformers import AutoConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    gradients = []
    for top_k in (1, 2):
        config = AutoConfig.for_model(
            "mixtral", hidden_size=8, intermediate_size=16, num_local_experts=4, num_experts_per_tok=top_k
        )  # fmt: skip
        block = MixtralSparseMoeBlock(config)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in block.parameters():
                weight.normal_(0, 0.3, generator=generator)
        out = block(torch.randn(2, 16, 8, generator=generator))
        (out[0] if isinstance(out, tuple) else out).square().mean().backward()
        gradients.append(float(block.gate.weight.grad.norm()))
    assert gradients[0] < 1e-6 * gradients[1]


def test_the_page_itself_names_the_mistake(both: tuple[TraceHistory, TraceHistory]) -> None:
    assert diagnose_trace(both[0]).advice.startswith("With num_experts_per_tok=1")
    assert "num_experts_per_tok" not in diagnose_trace(both[1]).advice


def test_one_answer_is_right_and_passes() -> None:
    assert isinstance(YOUR_MODEL, TraceLesson)
    assert YOUR_MODEL is COURSE[-1]
    assert [passed(YOUR_MODEL.check(one.text)) for one in YOUR_MODEL.answers] == [
        one.right for one in YOUR_MODEL.answers
    ]
    assert sum(one.right for one in YOUR_MODEL.answers) == 1
    assert not passed(YOUR_MODEL.check(None))
    assert not passed(YOUR_MODEL.check("something else"))


def test_its_charts_are_there_in_both_traces(both: tuple[TraceHistory, TraceHistory]) -> None:
    for history in both:
        assert set(YOUR_MODEL.figures) <= set(figure_names(history))


def test_the_conclusion_has_the_traces_own_numbers(both: tuple[TraceHistory, TraceHistory]) -> None:
    text = " ".join(YOUR_MODEL.conclude(*both))
    assert f"never fell below {both[0].by_layer('router_entropy').min():.2f} of 1" in text
    assert "gradient stayed below 10⁻⁷" in text
    assert f"falls to {both[1].by_layer('router_entropy').mean(1).min():.2f}" in text


@pytest.mark.parametrize(("value", "words"), [(5e-9, "10⁻⁸"), (0.02, "10⁻¹"), (1e-4, "10⁻³")])
def test_a_bound_is_a_power_of_ten(value: float, words: str) -> None:
    assert _rounded_up(value) == words


@pytest.mark.parametrize("code", [YOUR_MODEL.code, how_to.CODE])
def test_the_code_to_copy_calls_what_there_is(code: str) -> None:
    import moe_sim

    tree = ast.parse(code)
    watched = next(
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "moe_sim.watch"
    )
    inspect.signature(moe_sim.watch).bind(*watched.args, **{one.arg: one.value for one in watched.keywords})
    steps = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "trace.step"]
    assert len(steps) == 1


def test_the_page_asks_and_answers(both: tuple[TraceHistory, TraceHistory]) -> None:
    app = turned_to(opened(), "learn")
    button(app, "lesson-your-own-model").click()
    settled(app)
    assert len(app.get("plotly_chart")) == 2 * len(YOUR_MODEL.figures)
    assert not app.success
    for answer in YOUR_MODEL.answers:
        app.radio[0].set_value(answer.text)
        settled(app)
        html = " ".join(part.proto.body for part in app.get("html"))
        assert ("is not it" in html) == (not answer.right)
        assert bool(app.success) == answer.right
    assert np.isfinite(both[0].column("task_loss")).all()
