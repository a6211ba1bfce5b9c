"""The Python in moe_sim/README.md runs as it stands, and does what the text says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

import moe_sim
from moe_sim import RunConfig, Trainer

README = (Path(moe_sim.__file__).parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(block: str) -> dict[str, Any]:
    """The names that a block defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(block, "README.md", "exec"), names)
    return names


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_runs(number: int) -> None:
    run(BLOCKS[number])


def test_the_charts_of_the_example_are_figures() -> None:
    [block] = [block for block in BLOCKS if "plot(" in block]
    calls = re.findall(r"^\w+\.plot\(.*?\)", block, re.MULTILINE)
    assert len(calls) == 2
    figures = run(re.sub(r"^(\w+\.plot)", r"figure = \1", block, flags=re.MULTILINE))
    assert isinstance(figures["figure"], go.Figure)


@pytest.mark.parametrize("seed", range(5))
def test_the_mechanism_of_the_example_prevents_the_collapse_of_the_example(seed: int) -> None:
    # Measured, α = 0: 5 to 7 dead experts, and one with 0.51 to 0.99 of the tokens; α = 1: none, and at most 0.23.
    [block] = [block for block in BLOCKS if "balancing=Entropy" in block]
    names = run(block.replace("run(steps=300)", "run(steps=1)"))
    parts = {"balancing": names["Entropy"], "task": names["Clusters"]}
    left_alone, balanced = (
        Trainer(RunConfig(seed=seed, aux_loss_coef=alpha), **parts).run(300) for alpha in (0.0, 1.0)
    )
    assert left_alone.last("dead_experts") >= 5
    assert balanced.last("dead_experts") == 0
    assert balanced.last("smoothed_load").max() < 0.3
