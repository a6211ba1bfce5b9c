"""Memory does not grow while a model is watched, however long it trains."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import moe_sim
from moe_sim.history.trace_writer import TraceWriter
from moe_sim.tracing.layer_watch import LayerWatch
from moe_sim.tracing.tally import Tally
from moe_sim.tracing.watching import Watch
from tests.support.families import make_batch, make_model
from tests.tracing.test_handwritten import WIDTH, Loop, Model

EARLY, LATE = 101, 301
"""Steps that are recorded at either `every`: nothing waits for the next record then."""
OWN = (Watch, LayerWatch, Tally, TraceWriter, dict, list, set, tuple)
"""What the state of a watch consists of, beside single values."""


def handwritten() -> tuple[nn.Module, Callable[[int], Tensor]]:
    torch.manual_seed(0)
    model = Model(Loop)
    return model, lambda seed: model(torch.randn(8, WIDTH, generator=torch.Generator().manual_seed(seed))).sum()


def mixtral() -> tuple[nn.Module, Callable[[int], Tensor]]:
    model = make_model("mixtral").train()
    return model, lambda seed: model(**make_batch(seed, 2, 4)).loss


def live_objects() -> Counter[str]:
    """How many objects there are, by type. Tensors are counted with their elements."""
    gc.collect()
    kinds: Counter[str] = Counter()
    for one in gc.get_objects():
        kinds[type(one).__name__] += 1
        if issubclass(type(one), Tensor):  # isinstance would ask objects that only pretend, and warn of it
            kinds["elements"] += one.numel()
    return kinds


def state_of(watch: Watch) -> tuple[int, int]:
    """The parts and the elements of tensors that a watch keeps, without the model that it refers to."""
    waiting: list[Any] = [watch]
    known: set[int] = set()
    elements = 0
    while waiting:
        one = waiting.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        if isinstance(one, Tensor):
            elements += one.numel()
        elif isinstance(one, OWN):
            waiting += gc.get_referents(one)
    return len(known), elements


@pytest.mark.parametrize("every", [1, 20])
@pytest.mark.parametrize("make", [handwritten, mixtral])
@pytest.mark.filterwarnings("ignore")  # of transformers, about its own settings
def test_nothing_accumulates_over_300_steps(
    make: Callable[[], tuple[nn.Module, Callable[[int], Tensor]]], every: int, tmp_path: Path
) -> None:
    model, forward = make()
    live, state = {}, {}
    with moe_sim.watch(model, tmp_path, every=every) as watch:
        for step in range(1, LATE + 1):
            loss = forward(step)
            loss.backward()
            model.zero_grad()
            watch.step(task_loss=loss)
            watch.log(perplexity=loss.exp())
            if step % 50 == 0:
                model.eval()
                with torch.no_grad():
                    forward(step)
                model.train()
            if step in (EARLY, LATE):
                del loss
                live[step], state[step] = live_objects(), state_of(watch)
    assert len(moe_sim.open_trace(tmp_path)) == LATE // every + (every > 1)
    assert state[LATE] == state[EARLY]
    growth = live[LATE] - live[EARLY]
    # One object a record would be 10 at every 20th step. The counters themselves and pytest's threads make a few.
    assert growth["Tensor"] == growth["elements"] == 0
    assert growth.total() < 8, growth
