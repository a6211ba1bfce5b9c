"""`trace_callback` in transformers' own Trainer: what it records is what an independent instrument counts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import moe_sim
from moe_sim.config.errors import MissingPackage
from moe_sim.history.trace_format import TracedLayer, TraceHeader
from moe_sim.history.trace_writer import TraceWriter
from moe_sim.tracing.transformers_callback import numbers_of
from moe_sim.tracing.watching import NothingToWatchError
from tests.support.families import counted, counts_of, make_batch, make_model

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers and accelerate, about their own settings

EXPERTS, ACCUMULATED, STEPS, EVALUATED_EVERY = 8, 2, 5, 2
Passes = list[tuple[bool, np.ndarray]]
"""Of each forward pass: whether it was one of training, and its mask."""


def rows(first_seed: int, batches: int) -> list[dict[str, Tensor]]:
    """Sequences, every other one padded."""
    return [{name: values[row] for name, values in make_batch(first_seed + batch).items()}
            for batch in range(batches) for row in range(2)]  # fmt: skip


def make_trainer(folder: Path, *callbacks: Any, model: Any = None, **arguments: Any) -> Any:
    """A Trainer of a tiny random Mixtral: two batches a step, an evaluation after every other step."""
    from transformers import Trainer, TrainingArguments

    settings: dict[str, Any] = dict(
        max_steps=STEPS, per_device_train_batch_size=2, per_device_eval_batch_size=2,
        gradient_accumulation_steps=ACCUMULATED, logging_steps=1, eval_strategy="steps", eval_steps=EVALUATED_EVERY,
        save_strategy="no", learning_rate=1e-3, report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    return Trainer(
        make_model("mixtral") if model is None else model, TrainingArguments(str(folder), **settings | arguments),
        train_dataset=rows(0, 2 * ACCUMULATED * STEPS), eval_dataset=rows(900, 2), callbacks=list(callbacks),
    )  # fmt: skip


@contextmanager
def instrument(model: torch.nn.Module) -> Iterator[tuple[dict[str, list[np.ndarray]], Passes]]:
    """The choices of each layer, forward pass by forward pass, and what kind of pass each was."""
    passes: Passes = []

    def note(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        passes.append((module.training, kwargs["attention_mask"].numpy(force=True).copy()))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    with counted(model) as seen:
        yield seen, passes
    hook.remove()


def expected_counts(choices: list[np.ndarray], passes: Passes, training: bool, each: int) -> list[list[int]]:
    """Counts of a layer, in groups of `each` passes of one kind."""
    these = [index for index, (kind, _) in enumerate(passes) if kind == training]
    groups = [these[begin : begin + each] for begin in range(0, len(these), each)]
    return [counts_of([choices[index] for index in group], [passes[index][1] for index in group], EXPERTS)
            for group in groups]  # fmt: skip


def test_counts_are_those_of_an_independent_instrument_and_evaluations_are_apart(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, moe_sim.trace_callback(tmp_path / "trace"))
    with instrument(trainer.model) as (seen, passes):
        trainer.train()
    history = moe_sim.open_trace(tmp_path / "trace")
    assert history.column("step").tolist() == list(range(1, STEPS + 1))
    assert history.layer_names == [*seen]
    assert [kind for kind, _ in passes].count(False) == 2 * 3  # after steps 2, 4 and 5, two batches each
    for layer, choices in enumerate(seen.values()):
        begin, end = history.header.offsets[layer : layer + 2]
        recorded = history._tables["load"][:STEPS, begin:end].tolist()
        assert recorded == expected_counts(choices, passes, True, ACCUMULATED)
        evaluated = {row: one.counts[begin:end].tolist() for row, one in sorted(history._evaluations.items())}
        assert [*evaluated] == [1, 3, 4]
        assert [*evaluated.values()] == expected_counts(choices, passes, False, 2)


def test_what_the_trainer_logs_is_in_the_record_of_its_step(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, moe_sim.trace_callback(tmp_path / "trace"))
    trainer.train()
    history = moe_sim.open_trace(tmp_path / "trace")
    assert {"loss", "learning_rate", "grad_norm", "eval_loss"} <= {*history.numbers}
    assert not any("runtime" in name or "second" in name or name == "epoch" for name in history.numbers)
    for name in ("loss", "learning_rate", "grad_norm", "eval_loss"):
        logged = {entry["step"]: entry[name] for entry in trainer.state.log_history if name in entry}
        recorded = dict(zip(history.column("step").tolist(), history.column(name).tolist(), strict=True))
        assert {step: value for step, value in recorded.items() if not math.isnan(value)} == logged
        assert len(logged) == (3 if name == "eval_loss" else STEPS)


def test_a_resumed_training_continues_the_trace_from_its_checkpoint(tmp_path: Path) -> None:
    folder, arguments = tmp_path / "trace", dict(save_strategy="steps", save_steps=2, eval_strategy="no")
    make_trainer(tmp_path, moe_sim.trace_callback(folder), max_steps=3, **arguments).train()
    assert moe_sim.open_trace(folder).column("step").tolist() == [1, 2, 3]
    trainer = make_trainer(tmp_path, moe_sim.trace_callback(folder), **arguments)
    with instrument(trainer.model) as (seen, passes):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    history = moe_sim.open_trace(folder)
    assert history.column("step").tolist() == [1, 2, 3, 4, 5]
    [first, *_] = seen.values()
    again = expected_counts(first, passes, True, ACCUMULATED)
    assert len(again) == 3
    assert history._tables["load"][2:5, :EXPERTS].tolist() == again


def test_the_trace_is_closed_and_no_hook_remains(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, moe_sim.trace_callback(tmp_path / "trace"))

    def hooks() -> int:
        return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in trainer.model.modules())

    trainer.train()
    assert hooks() == 0
    layers = tuple(TracedLayer(f"model.layers.{index}.mlp", EXPERTS) for index in range(3))
    TraceWriter(tmp_path / "trace", TraceHeader(layers)).close()  # it would wait for whoever still writes
    before = len(moe_sim.open_trace(tmp_path / "trace"))
    trainer.evaluate()
    assert hooks() == 0
    assert len(moe_sim.open_trace(tmp_path / "trace")) == before


def test_training_can_begin_again_after_an_exception(tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Failing(TrainerCallback):  # type: ignore[misc, unused-ignore]
        failed = False

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2 and not self.failed:
                self.failed = True
                raise RuntimeError("out of memory")

    trainer = make_trainer(tmp_path, moe_sim.trace_callback(tmp_path / "trace", every=2), Failing())
    with pytest.raises(RuntimeError, match="out of memory"):
        trainer.train()
    trainer.train()
    assert moe_sim.open_trace(tmp_path / "trace").column("step").tolist() == [1, 3, 5]


def test_arguments_are_those_of_watch(tmp_path: Path) -> None:
    callback = moe_sim.trace_callback(tmp_path / "trace", every=2, layers="*.1.mlp", settings={"note": "first"})
    make_trainer(tmp_path, callback).train()
    header = json.loads((tmp_path / "trace" / "trace.jsonl").read_bytes().splitlines()[0])
    assert [layer["name"] for layer in header["layers"]] == ["model.layers.1.mlp"]
    assert (header["every"], header["settings"]) == (2, {"note": "first"})
    with pytest.raises(TypeError, match="evry"):
        moe_sim.trace_callback(tmp_path, evry=2)


def test_a_model_without_experts_gets_a_sentence_at_the_first_step(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = dict(vocab_size=120, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = LlamaForCausalLM(LlamaConfig(**sizes))
    with pytest.raises(NothingToWatchError, match="No layer of LlamaForCausalLM was seen to route tokens"):
        make_trainer(tmp_path, moe_sim.trace_callback(tmp_path / "trace"), model=model).train()


def test_only_numbers_that_a_trace_can_keep_are_taken() -> None:
    logs = {
        "loss": np.float32(0.5), "grad_norm": 2, "note": "warm-up", "list": [1], "x" * 300: 1.0, "epoch": 0.1,
        "eval_samples_per_second": 9.0, "train_runtime": 1.0, "diverged": math.inf,
    }  # fmt: skip
    assert numbers_of(logs) == {"loss": 0.5, "grad_norm": 2.0, "diverged": math.inf}
    assert len(numbers_of({str(index): index for index in range(100)})) == 64


def test_without_transformers_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackage, match=r"A callback of its Trainer needs the package transformers: pip install"):
        moe_sim.trace_callback(tmp_path)
