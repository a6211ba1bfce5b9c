"""What recording costs: `python -m tests.bench records`."""

from __future__ import annotations

import torch

from moe_sim import PRESETS, RunConfig, Trainer
from moe_sim.history.columns import row_width
from tests.bench.timing import medians


def print_records(repeats: int) -> None:
    """Print a step with and without its record, as Markdown."""
    torch.set_num_threads(1)
    print("| a step | ms | without its record | the record |\n| --- | --- | --- | --- |")
    for words, config in (
        ("defaults", RunConfig()), ("64 experts, top-2", RunConfig(num_experts=64, top_k=2)),
        ("three layers", RunConfig(num_layers=3)), ("language model", PRESETS["language-model"].config()),
    ):  # fmt: skip
        with_records, without = Trainer(config), Trainer(config)
        row = torch.zeros(1, row_width(config.num_layers, config.num_experts)).numpy()
        without.recorder.record = lambda *_, row=row: row  # type: ignore[method-assign, misc]
        times = medians({"with": with_records.step, "without": without.step}, repeats)
        share = 1 - times["without"] / times["with"]
        print(f"| {words} | {times['with']:.2f} | {times['without']:.2f} | {share:.0%} |", flush=True)
