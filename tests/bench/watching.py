"""What `watch` costs, and long traces: `python -m tests.bench.watching [--only overhead|memory|long|follow]`.

Leave the machine idle while it runs.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

import moe_sim
from moe_sim.tracing.watching import Watch
from tests.bench.long_traces import print_followed, print_long

SEQUENCES, LENGTH = 4, 64
LARGE = dict(vocab_size=4_096, hidden_size=512, intermediate_size=1_024, num_hidden_layers=4, num_attention_heads=8)
TINY = dict(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4)
RARELY = 20
"""The other `every` that is measured."""
GOALS = {1: 3.0, RARELY: 0.5}
"""Per cent of a step, by `every`."""
EARLY, LATE = 500, 5_000
"""The steps at which memory is looked at."""

Step = Callable[[], Tensor]


class Pausable:
    """A watch whose hooks are taken off the model and put back, without looking for the layers again.

    Args:
        model: to be watched.
        step: one training step of it.
        path: the folder of the trace.
        every: as for `watch`.
    """

    def __init__(self, model: nn.Module, step: Step, path: Path, every: int) -> None:
        step()
        self._others = {(id(table), key) for table, key in hooks_of(model)}  # transformers' own, since its first step
        self.watch: Watch = moe_sim.watch(model, path, every=every)
        self._model = model
        step()
        self.watch.step()  # finds the layers
        self.pause()

    def pause(self) -> None:
        """Takes all hooks off."""
        for hook in self.watch._hooks:
            hook.remove()
        for layer in self.watch._layers:
            layer.end()
        assert not self.hooks()

    def go_on(self) -> None:
        """Puts them back."""
        note = self.watch._note_tokens
        self.watch._hooks = [self._model.register_forward_pre_hook(note, with_kwargs=True, prepend=True)]
        for layer in self.watch._layers:
            layer.begin()

    def hooks(self) -> list[tuple[dict[int, Any], int]]:
        """The watch's own, as `hooks_of`."""
        return [(table, key) for table, key in hooks_of(self._model) if (id(table), key) not in self._others]


def hooks_of(model: nn.Module) -> list[tuple[dict[int, Any], int]]:
    """Where the hooks of a model's forward pass are kept: the dictionary and the key of each."""
    tables = (table for module in model.modules() for table in (module._forward_pre_hooks, module._forward_hooks))
    return [(table, key) for table in tables for key in table]


def mixtral(sizes: dict[str, int], sequences: int, length: int) -> tuple[nn.Module, Step]:
    """transformers' Mixtral of 8 experts, top-2, with random weights; and a training step on random tokens."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    config = MixtralConfig(
        num_key_value_heads=sizes["num_attention_heads"], num_local_experts=8,
        num_experts_per_tok=2, max_position_embeddings=length, output_router_logits=True, use_cache=False, **sizes,
    )  # fmt: skip
    model = MixtralForCausalLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    random = torch.Generator().manual_seed(1)
    mask = torch.ones(sequences, length, dtype=torch.long)

    def step() -> Tensor:
        tokens = torch.randint(0, sizes["vocab_size"], (sequences, length), generator=random)
        loss = model(input_ids=tokens, attention_mask=mask, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return model, step


def print_overhead(rounds: int) -> None:
    """Print how much longer a watched step takes, measured in two ways, as Markdown."""
    torch.set_num_threads(2)
    model, step = mixtral(LARGE, SEQUENCES, LENGTH)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        watches = {every: Pausable(model, step, Path(folder) / str(every), every) for every in (1, RARELY)}
        for _ in range(3):
            step()
        times = [time_of_round(step, watches, number) for number in range(rounds)]
        inside = {every: share_of_watch(step, one) for every, one in watches.items()}
        for one in watches.values():
            one.watch.close()
    bare = 1000 * statistics.median(one[0] for one in times) / RARELY
    print(f"Mixtral of {millions:.0f} million parameters, {SEQUENCES * LENGTH} tokens, {bare:.0f} ms a step, "
          f"{torch.get_num_threads()} threads, {rounds} rounds of {RARELY} steps of each kind in turn\n")  # fmt: skip
    print("| every | longer by, median ± standard error | CPU time in hooks and `step()` | goal |")
    print("| --- | --- | --- | --- |")
    for every, share in inside.items():
        longer = [100 * (one[every] / one[0] - 1) for one in times]
        # The standard error of a median is 1.25 times that of a mean, if the noise is normal.
        error = 1.253 * statistics.stdev(longer) / math.sqrt(rounds) if rounds > 1 else math.nan
        print(f"| {every} | {statistics.median(longer):.2f} ± {error:.2f} % | {share:.2f} % | ≤ {GOALS[every]} % |")


def time_of_round(step: Step, watches: dict[int, Pausable], number: int) -> dict[int, float]:
    """Seconds of `RARELY` steps without hooks (0) and with each watch. The kinds take turns step by step, in an order
    that rotates, so that noise affects all alike; and every watch writes as many records as it should."""
    kinds, total = [0, *watches], dict.fromkeys([0, *watches], 0.0)
    for turn in range(RARELY):
        first = (number + turn) % len(kinds)
        for kind in kinds[first:] + kinds[:first]:
            one = watches.get(kind)
            if one is not None:
                one.go_on()
            start = time.perf_counter()
            loss = step()
            if one is not None:
                one.watch.step(task_loss=loss)
            total[kind] += time.perf_counter() - start
            if one is not None:
                one.pause()
    return total


def share_of_watch(step: Step, one: Pausable) -> float:
    """Per cent of the thread's CPU time that the hooks and `step()` take themselves, over `2 * RARELY` steps."""
    spent = 0.0

    def timed(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            start = time.thread_time()
            result = call(*args, **kwargs)
            spent += time.thread_time() - start
            return result

        return run

    one.go_on()
    for table, key in one.hooks():
        table[key] = timed(table[key])
    end_step = timed(one.watch.step)
    start = time.thread_time()
    for _ in range(2 * RARELY):
        end_step(task_loss=step())
    total = time.thread_time() - start
    one.pause()
    return 100 * spent / total


def print_memory() -> None:
    """Print the process's memory while a tiny watched model trains."""
    torch.set_num_threads(1)
    model, step = mixtral(TINY, 2, 16)
    process, used = psutil.Process(), {}
    with tempfile.TemporaryDirectory() as folder, moe_sim.watch(model, folder) as trace:
        for number in range(1, LATE + 1):
            trace.step(task_loss=step())
            if number in (EARLY, LATE):
                gc.collect()
                used[number] = process.memory_info().rss / 2**20
    print(f"memory of a process that trains a tiny watched model, every = 1: {used[EARLY]:.1f} MB at step {EARLY:,}, "
          f"{used[LATE]:.1f} MB at step {LATE:,} ({used[LATE] - used[EARLY]:+.1f} MB)")  # fmt: skip


def main() -> None:
    """Parse the command line and run the benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.watching", description=__doc__)
    parser.add_argument("--only", choices=("overhead", "memory", "long", "follow"))
    parser.add_argument("--rounds", type=int, default=8, help="of the overhead, about half a minute each")
    parser.add_argument("--records", type=int, default=10_000, help="of the long trace")
    parser.add_argument("--chrome", default=None, help="path of a Chromium; found by itself otherwise")
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "overhead": lambda: print_overhead(options.rounds), "memory": print_memory,
        "long": lambda: print_long(options.records), "follow": lambda: print_followed(options.chrome),
    }  # fmt: skip
    for name, run in parts.items():
        if options.only in (None, name):
            run()
            print(flush=True)


if __name__ == "__main__":
    main()
