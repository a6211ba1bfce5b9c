"""Set-up shared by all tests: repeatable Hypothesis runs, one torch thread, which tests stay together, two builders."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import settings

from moe_sim import History, RunConfig, StepRecord
from moe_sim.history.columns import COARSE, MOST_CHOICES, PER_CHOICE, PER_EXPERT
from moe_sim.processes.nursery import Nursery
from tests.support.installing import Installed, install
from tests.support.records import append

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("repeatable")
torch.set_num_threads(1)

LONGEST = {"test_keyboard", "test_accessibility", "test_faults"}
"""Files of browser tests that take longest."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, the tests of one file stay together, and so do files marked as one group: they share
    trained runs. Browser tests share nothing; the longest begin first, so that none is left alone at the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)
    for item in items:
        if item.get_closest_marker("xdist_group") is None and item.path.parent.name != "browser":
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The package, built and installed outside the repository."""
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    """Starts child processes."""
    nursery = Nursery()
    yield nursery
    nursery.stop()


@pytest.fixture(scope="session")
def make_record() -> Callable[..., StepRecord]:
    """Build a record from a load; whatever is not given is unremarkable."""

    def build(step: int, load: list[float] | np.ndarray, **given: object) -> StepRecord:
        share = np.asarray(load, dtype=float)
        num_experts = len(share)
        lowest = share.min()
        looked_at = step % COARSE == 0
        values: dict[str, object] = dict(
            step=step,
            task_loss=2.0,
            balance_loss=1.0,
            auxiliary_loss=1.0,
            z_loss=0.5,
            imbalance_ratio=share.max() / lowest if lowest else np.inf,
            max_violation=share.max() * num_experts - 1,
            load_cv=share.std() / share.mean(),
            load_entropy=0.9,
            dead_experts=int((share < 0.1 / num_experts).sum()),
            dropped_fraction=0.0,
            unserved_fraction=0.0,
            efficiency=share.mean() / share.max(),
            specialization=0.5,
            router_entropy=0.5,
            router_logit_rms=1.0,
            router_logit_max=3.0,
            router_noise_std=0.0,
            router_task_gradient=0.1,
            router_balance_gradient=0.1,
            router_gradient_cosine=0.0,
            eval_task_loss=2.0 if looked_at else np.nan,
            eval_limited_loss=np.nan,
            eval_sorted_loss=np.nan,
            load=share,
            first_load=share,
            importance=share,
            processed=share,
            preferred_load=share,
            selection_bias=np.zeros(num_experts),
            grad_norm=np.ones(num_experts),
            weight_change=np.full(num_experts, 0.01),
            weight_distance=np.full(num_experts, 0.5),
            smoothed_load=share,
            eval_load=share if looked_at else np.full(num_experts, np.nan),
            dropped_by_choice=np.zeros(MOST_CHOICES),
        )
        values |= given
        arrays = {name: np.atleast_2d(values[name]) for name in PER_EXPERT + PER_CHOICE}  # type: ignore[call-overload]
        return StepRecord(**values | arrays)

    return build


@pytest.fixture(scope="session")
def make_history(make_record: Callable[..., StepRecord]) -> Callable[..., History]:
    """Build a history of equal steps under one configuration."""

    def build(config: RunConfig, load: list[float] | np.ndarray, steps: int, **given: object) -> History:
        history = History(config)
        for step in range(1, steps + 1):
            append(history, make_record(step, load, **given))
        return history

    return build
