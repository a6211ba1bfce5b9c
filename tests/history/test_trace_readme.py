"""README.md of moe_sim/history describes the files that are written: its code reads them without this package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import moe_sim
from moe_sim.history import trace_format, trace_writer
from moe_sim.history.trace import TraceHistory, open_trace
from moe_sim.history.trace_format import Routed, TracedLayer, TraceHeader, TraceRecord
from moe_sim.history.trace_writer import TraceWriter

PACKAGE = Path(moe_sim.__file__).parent
README = (PACKAGE / "history" / "README.md").read_text(encoding="utf-8")
[CODE] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
HEADER = TraceHeader((TracedLayer("a.mlp", 4, "logits"), TracedLayer("b.mlp", 3)), "Model", groups=("x", "y"))
Counts = dict[int, dict[str, list[int]]]


def read_as_the_readme_says(folder: Path) -> Counts:
    """The counts, read by another process in which this package cannot be imported."""
    program = f"import sys\nsys.modules['moe_sim'] = sys.modules['numpy'] = None\n{CODE}\nprint(json.dumps(counts))"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return {int(step): layers for step, layers in json.loads(done.stdout).items()}


def read_by_this_package(history: TraceHistory) -> Counts:
    counts = history._tables["load"][: len(history)]
    parts = np.split(counts, history.header.offsets[1:-1], axis=1)
    return {
        step: {name: part[row].tolist() for name, part in zip(history.layer_names, parts, strict=True)}
        for row, step in enumerate(history.column("step").tolist())
    }


def make_trace(folder: Path) -> Counts:
    """A trace that was torn, continued, and went back to a checkpoint, with counts of every size; and its counts."""
    rng = np.random.default_rng(0)
    expected: Counts = {}
    for steps in (range(1, 8), range(5, 7)):
        with TraceWriter(folder, HEADER) as writer:
            for step in steps:
                counts = rng.integers(0, 10 ** (2 * step), HEADER.num_cells)
                routed = Routed(
                    np.add.reduceat(counts, [0, 4]), counts, rng.random(7).astype(np.float32), np.array([0.5, np.nan]),
                    np.ones(2), np.ones(2), np.stack([counts, 0 * counts]),
                )  # fmt: skip
                writer.write(TraceRecord(step, routed, routed if step % 2 else None, {"loss": 1 / step}))
                writer.write(TraceRecord(step, numbers={"eval_loss": 2.0, "diverged": np.inf}))
                expected[step] = {"a.mlp": counts[:4].tolist(), "b.mlp": counts[4:].tolist()}
        with writer.path.open("ab") as file:
            file.write(b'{"step":99,"training":{"tokens":[1,')  # a process that was killed
    del expected[7]  # training went back to step 5 and did not reach 7 again
    return expected


def test_the_code_of_the_readme_reads_what_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    expected = make_trace(folder)
    assert read_as_the_readme_says(tmp_path) == expected
    assert read_by_this_package(open_trace(folder)) == expected
    kinds = re.findall(r'"counts":"(\w+):', (folder / "trace.jsonl").read_text())
    assert {*kinds} == {"u1", "u2", "u4", "u8"}


def test_the_code_of_the_readme_reads_the_example_of_the_package(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    shutil.copytree(PACKAGE / "tracing" / "examples" / "mixtral-rescued", folder)
    counts = read_as_the_readme_says(tmp_path)
    assert len(counts) > 100
    assert counts == read_by_this_package(open_trace(folder))


def test_every_key_of_the_file_is_explained_and_none_is_invented(tmp_path: Path) -> None:
    make_trace(tmp_path)
    header, record = (json.loads(line) for line in (tmp_path / "trace.jsonl").read_bytes().splitlines()[:2])
    explained = {
        name for row in re.findall(r"^\| (`.+?) \|", README, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert explained == {*header, *record, *record["training"]}
    assert {field.name for field in fields(Routed)} == {*record["training"]}


def test_the_numbers_of_the_readme_are_those_of_the_code() -> None:
    limits = (trace_format.MOST_LAYERS, trace_format.MOST_CELLS, trace_format.MOST_GROUPS, trace_format.MOST_NUMBERS,
              trace_format.LONGEST_NAME)  # fmt: skip
    words = "Limits: {:,} layers, {:,} cells, {} groups, {} different numbers, names of {} characters, steps up to 2⁵³."
    assert words.format(*limits) in README
    assert trace_format.LARGEST_STEP == 2**53
    assert f"Version {trace_format.VERSION} stays readable" in README
    assert all(f"`{kind}`" in README for kind in trace_format.TYPES)
    assert f"From {trace_writer.THINNED_FROM // 2**20} MiB on" in README


def test_keys_that_a_later_version_may_add_are_ignored(tmp_path: Path) -> None:
    make_trace(tmp_path)
    before = read_by_this_package(open_trace(tmp_path))
    file = tmp_path / "trace.jsonl"
    changed = []
    for line in file.read_bytes().splitlines(keepends=True):
        try:
            document = json.loads(line)
        except ValueError:
            changed.append(line)
            continue
        for part in (document, document.get("training", {}), *document.get("layers", [])):
            part["of_the_future"] = {"a": [1]}
        changed.append(json.dumps(document, separators=(",", ":")).encode() + b"\n")
    file.write_bytes(b"".join(changed))
    assert read_by_this_package(open_trace(tmp_path)) == before


@pytest.mark.parametrize("missing", ["model", "framework", "settings", "groups", "every"])
def test_a_header_needs_no_more_than_the_readme_says(missing: str, tmp_path: Path) -> None:
    document = json.loads(trace_format.header_line(HEADER))
    del document[missing]
    assert trace_format.read_header(json.dumps(document).encode()).layers == HEADER.layers
