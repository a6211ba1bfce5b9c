"""Damaged files of other tools are read, or refused with a sentence: fast, and in little memory."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from moe_sim.config.errors import InvalidInput
from moe_sim.history.trace_format import header_line, read_header, read_record, record_line
from tests.history.test_trace import damaged
from tests.support.imports import line, npy, parquet, pt, read, routed, router_trace, tokens_per_expert

MUTATIONS = 5_000
MOST_GROWTH = 200_000
"""Kilobytes."""
LONGEST = 240
"""Seconds, with much to spare: it takes about six."""


def originals() -> list[tuple[str, str, bytes]]:
    """A small file of each kind: its format, its ending, its content."""
    rng = np.random.default_rng(0)
    choices = rng.integers(0, 4, (3, 2, 2))
    steps, layers, experts = (axis.ravel().tolist() for axis in np.indices((2, 2, 3)))
    counts = rng.integers(0, 9, (2, 2, 3))
    rows = "".join(f"{row}\n" for row in ("step,layer,expert,tokens", *(
        f"{step},{layer},{expert},7" for step, layer, expert in zip(steps, layers, experts, strict=True)
    )))  # fmt: skip
    lists = choices.tolist()
    return [
        ("megatron-router", ".jsonl", b"".join(line(router_trace(step, 0, lists[step])) for step in range(3))),
        ("megatron-tokens", ".jsonl", b"".join(line(tokens_per_expert(step, 0, lists[step])) for step in range(3))),
        ("sglang", ".pt", pt({"rank": 0, "logical_count": torch.from_numpy(counts)})),
        ("vllm", ".npy", npy(choices.astype(np.int16))),
        ("vllm", ".json", routed(lists) + routed(lists)),
        ("table", ".csv", rows.encode()),
        ("table", ".parquet", parquet(step=steps, layer=layers, expert=experts, tokens=counts.ravel())),
    ]  # fmt: skip


def mutate(folder: Path) -> None:
    """Reads damaged files, and prints what came of them as JSON."""
    warnings.simplefilter("ignore")  # of libraries, about headers that look old
    files, rng, outcomes = originals(), random.Random(0), Counter()
    for name, ending, content in files:
        file = folder / f"original{ending}"
        file.write_bytes(content)
        assert read(name, file).records
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(MUTATIONS):
        name, ending, content = files[number % len(files)]
        file = folder / f"damaged{ending}"
        file.write_bytes(damaged(content, rng))
        try:
            imported = read(name, file)
        except InvalidInput:
            outcomes[f"{name}{ending} refused"] += 1
            continue
        outcomes[f"{name}{ending} read"] += 1
        header = read_header(header_line(imported.header))  # what is read can be written, and read again
        for record in imported.records:
            read_record(record_line(record), header)
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"growth": growth, "outcomes": outcomes}))


def test_no_damaged_file_does_harm() -> None:
    program = "import sys; from pathlib import Path; from tests.tracing.test_damaged_imports import mutate; "
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", f"{program}mutate(Path(sys.argv[1]))", folder],
            cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=LONGEST,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2_000:]
    report = json.loads(done.stdout)
    assert report["growth"] < MOST_GROWTH
    assert sum(report["outcomes"].values()) == MUTATIONS
    for name, ending, _ in originals():
        assert report["outcomes"][f"{name}{ending} refused"] > 20
        assert report["outcomes"][f"{name}{ending} read"] > 20
