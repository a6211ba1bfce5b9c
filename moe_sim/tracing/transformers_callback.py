"""`trace_callback`: `watch` for models that transformers' Trainer trains."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from functools import cache
from numbers import Real
from typing import TYPE_CHECKING, Any

from moe_sim.config.extras import require
from moe_sim.history.trace_format import LONGEST_NAME, MOST_NUMBERS
from moe_sim.tracing.watching import Watch, watch

if TYPE_CHECKING:
    from transformers import TrainerCallback

OF_THE_MACHINE = ("_runtime", "_per_second", "epoch", "total_flos")
"""Endings of the names of logged numbers that say nothing about training, and are left out."""


def trace_callback(path: str | os.PathLike[str], **watch_arguments: Any) -> TrainerCallback:
    """Makes a callback that records the routing of a model while transformers' Trainer trains it.

        trainer = Trainer(model, arguments, train_dataset=data, callbacks=[moe_sim.trace_callback("runs/first")])

    There is one record for each optimizer step, however many batches are accumulated in it, and its number is the
    Trainer's own. What the Trainer logs is added to it: `loss`, `learning_rate`, `grad_norm`, `eval_loss` and other
    numbers, except times. Evaluations are counted apart, in the record of the step they follow. Training that resumes
    from a checkpoint continues the trace; steps that it repeats replace those recorded before.

    Args:
        path: the folder of the trace.
        **watch_arguments: as for `watch`: `every`, `token_mask`, `groups`, `layers` and so on.

    Raises:
        MissingPackage: without transformers.
        TypeError: if `watch` has no such argument.
    """
    require("transformers", "A callback of its Trainer")
    inspect.signature(watch).bind(None, path, **watch_arguments)  # a misspelled name is to be found before training
    return _callback_class()(path, watch_arguments)


def numbers_of(logs: Mapping[str, Any]) -> dict[str, float]:
    """What a trace can keep of the Trainer's logs."""
    numbers = {
        name: float(value)
        for name, value in logs.items()
        if isinstance(value, Real) and len(name) <= LONGEST_NAME and not name.endswith(OF_THE_MACHINE)
    }
    return dict(list(numbers.items())[:MOST_NUMBERS])


@cache
def _callback_class() -> type[Any]:
    """The class, made when it is first needed: transformers need not be installed, and takes seconds to load."""
    from transformers import TrainerCallback

    class TraceCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
        """Watches the model from the beginning of training to its end; see `trace_callback`."""

        def __init__(self, path: str | os.PathLike[str], watch_arguments: dict[str, Any]) -> None:
            self._path, self._watch_arguments = path, watch_arguments
            self._watch: Watch | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._close()  # of a training that an exception has ended
            self._watch = watch(kwargs["model"], self._path, **self._watch_arguments)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self._watch is not None:
                self._watch.step(state.global_step)

        def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if self._watch is not None:
                self._watch.end_evaluation()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if self._watch is not None and (numbers := numbers_of(logs or {})):
                self._watch.log(state.global_step, **numbers)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._close()

        def _close(self) -> None:
            if self._watch is not None:
                self._watch.close()
                self._watch = None

    return TraceCallback
