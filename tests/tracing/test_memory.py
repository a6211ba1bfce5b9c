"""A recording needs as much memory after many steps as after a few."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import moe_sim
from moe_sim.tracing.watching import Watch
from tests.tracing.test_handwritten import WIDTH, IndicesOnly, Loop, Mask, Model

EARLY, MIDDLE, LATE = 60, 180, 300
"""Steps; all at the same distance from a record every 20 steps."""
SHARED = (type, ModuleType, nn.Module)
"""Not a recording's own: what leads to the rest of the process."""


def live() -> tuple[int, int]:
    """Objects and tensors that are alive."""
    gc.collect()
    objects = gc.get_objects()
    return len(objects), sum(issubclass(type(one), Tensor) for one in objects)


def state(watch: Watch) -> tuple[Counter[str], int]:
    """What can be reached from a recording, by kind, and the bytes of its tensors."""
    seen: dict[int, Any] = {}
    waiting: list[Any] = [watch]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, SHARED):
            continue
        seen[id(one)] = one
        if isinstance(one, FunctionType):  # its closure, and not the globals of its file
            waiting += [cell.cell_contents for cell in one.__closure__ or ()]
        elif isinstance(one, MethodType):
            waiting += [one.__self__, one.__func__]
        else:
            waiting += gc.get_referents(one)
    kinds = Counter(type(one).__name__ for one in seen.values() if not isinstance(one, int | float))
    return kinds, sum(one.nbytes for one in seen.values() if isinstance(one, Tensor))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, watch: Watch, steps: int) -> None:
    for _ in range(steps):
        loss = model(torch.randn(8, WIDTH)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watch.step(task_loss=loss, learning_rate=0.1)
        if watch.steps % 10 == 0:
            model.eval()
            with torch.no_grad():
                model(torch.randn(8, WIDTH))
            model.train()
            watch.log(eval_loss=0.5)


@pytest.mark.parametrize("kind", [Loop, IndicesOnly, Mask])
@pytest.mark.parametrize("every", [1, 20])
def test_nothing_grows_with_the_number_of_steps(every: int, kind: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Model(kind)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with moe_sim.watch(model, tmp_path, every=every) as watch:
        train(model, optimizer, watch, EARLY)
        early, own_early = live(), state(watch)
        train(model, optimizer, watch, MIDDLE - EARLY)
        middle = live()
        train(model, optimizer, watch, LATE - MIDDLE)
        late, own_late = live(), state(watch)
    assert own_late == own_early
    assert late[1] == early[1]
    # A leak would be an object each step. Torch, and whatever else runs in this process, keep some, once.
    grown = min(middle[0] - early[0], late[0] - middle[0])
    assert grown < (LATE - MIDDLE) / 2
    assert len(moe_sim.open_trace(tmp_path)) == LATE // every


def test_what_was_seen_while_layers_were_looked_for_is_not_kept(tmp_path: Path) -> None:
    """The scores of a first forward pass with many tokens are large: T · E numbers a layer."""
    torch.manual_seed(0)
    model = Model(Loop)
    with moe_sim.watch(model, tmp_path) as watch, torch.no_grad():
        model(torch.randn(10_000, WIDTH))
        watch.step()
        _, size = state(watch)
        assert 0 < size < 10_000
