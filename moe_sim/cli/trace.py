"""`python -m moe_sim trace …`: shows, exports and imports traces of other people's models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from moe_sim.cli.arguments import EXIT_COLLAPSED, read_whole_number
from moe_sim.config.errors import InvalidInput
from moe_sim.config.extras import require
from moe_sim.config.suggestions import unknown
from moe_sim.config.words import percent, plural
from moe_sim.diagnosis.traces import diagnose_layers, diagnose_trace, ranking
from moe_sim.history.files import check_writable, write_whole
from moe_sim.history.to_csv import frame_to_csv
from moe_sim.history.to_parquet import frame_to_parquet
from moe_sim.history.trace import TraceHistory, open_trace
from moe_sim.history.trace_files import traces_in
from moe_sim.history.trace_format import FILE_NAME, MOST_CELLS
from moe_sim.history.trace_writer import TraceWriter

SHOWN_LAYERS = 20
"""The layers that are listed unless all are asked for."""
EXPORTS = (".csv", ".parquet", ".html")


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    show = actions.add_parser(
        "show", help="Print the verdict on each layer; exit code 3 if one has collapsed.", allow_abbrev=False
    )
    show.add_argument("path", metavar="DIR", help="a trace, or a folder with traces in it")
    show.add_argument("--all", action="store_true", help=f"list all layers, not only the {SHOWN_LAYERS} worst")
    export = actions.add_parser(
        "export", help="Write the numbers of a trace, or a page with its charts.", allow_abbrev=False
    )
    export.add_argument("path", metavar="DIR", help="a trace")
    export.add_argument("--out", required=True, metavar="FILE", help=f"ends in {', '.join(EXPORTS)}")
    export.add_argument("--tidy", action="store_true", help="a table with one row per step, layer and expert")
    bring = actions.add_parser("import", help="Make a trace of what another tool has recorded.", allow_abbrev=False)
    bring.add_argument("path", metavar="FILE", help="a file, or a folder with the files of all ranks")
    bring.add_argument("--format", required=True, metavar="NAME", help="; ".join(_described_formats()))
    bring.add_argument("--out", required=True, metavar="DIR", help="the folder of the trace")
    bring.add_argument("--experts", metavar="N", help="experts of each layer, where the file does not say")
    bring.add_argument("--expert-parallel", default="1", metavar="N",
                       help="processes over which the experts of a layer are spread (megatron-tokens)")  # fmt: skip
    bring.add_argument("--tokens-per-step", metavar="N", help="tokens that make a record (vllm); default: a response")


def trace(arguments: argparse.Namespace) -> int:
    """Show, export or import a trace.

    Returns:
        The exit code: 0, or 3 if a layer of a trace that is shown has collapsed.

    Raises:
        UserError: with a sentence, if a file cannot be read or written.
    """
    actions = {"show": _show, "export": _export, "import": _import}
    return actions[arguments.action](arguments)


def _show(arguments: argparse.Namespace) -> int:
    paths = traces_in(Path(arguments.path))
    if not paths:
        raise InvalidInput(f"There is no trace in {arguments.path}.")
    collapsed = False
    for number, path in enumerate(paths):
        history = open_trace(path)
        print("\n" * bool(number) + in_words(history, str(path.parent), None if arguments.all else SHOWN_LAYERS))
        collapsed |= any(verdict.state == "Collapsed" for verdict in diagnose_layers(history))
    return EXIT_COLLAPSED if collapsed else 0


def in_words(history: TraceHistory, name: str, most_layers: int | None = None) -> str:
    """The verdict on a model and a table of its layers, the worst first."""
    verdict, verdicts = diagnose_trace(history), diagnose_layers(history)
    header = history.header
    about = ", ".join(filter(None, [header.model, header.framework, plural(len(history), "record")]))
    steps = f", to step {int(history.last('step')):,}" if len(history) else ""
    lines = [f"{name} ({about}{steps})", f"{verdict.state}: {verdict.evidence}", verdict.advice]
    order = ranking(history, verdicts) if len(history) else list(range(history.num_layers))
    rows = [("layer", "experts", "per token", "busiest", "max/min", "dead", "verdict")]
    for layer in order[:most_layers]:
        load, experts = history.now(layer), header.layers[layer].num_experts
        ratio = history.by_layer("smoothed_imbalance", len(history) - 1)[-1, layer] if len(history) else float("nan")
        rows.append((
            header.layers[layer].name, f"{experts:,}", f"{history.top_k(layer):.3g}", percent(load.max()),
            "∞" if ratio == float("inf") else f"{ratio:.3g}",
            f"{int(history.by_layer('dead_experts', len(history) - 1)[-1, layer])}" if len(history) else "–",
            verdicts[layer].state,
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines += [""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if most_layers is not None and len(order) > most_layers:
        lines.append(f"… and {plural(len(order) - most_layers, 'layer')} more; --all lists them.")
    return "\n".join(line for index, line in enumerate(lines) if line or index > 2)


def _export(arguments: argparse.Namespace) -> int:
    out = Path(arguments.out)
    kind = out.suffix.lower()
    if kind not in EXPORTS:
        raise InvalidInput(f"{str(out)[-40:]!r} must end in one of {', '.join(EXPORTS)}.")
    history = open_trace(arguments.path)
    check_writable(out)
    if kind == ".html":
        require("plotly", "An HTML page")
        from moe_sim.charts.trace_page import trace_to_html

        write_whole(out, trace_to_html(history).encode())
    elif kind == ".csv":
        write_whole(out, frame_to_csv(history.to_frame(tidy=arguments.tidy)).encode())
    else:
        write_whole(out, frame_to_parquet(history.to_frame(tidy=arguments.tidy), "trace"))
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from moe_sim.tracing.importing.catalogue import FORMATS  # which loads torch
    from moe_sim.tracing.importing.imported import Options

    if arguments.format not in FORMATS:
        raise InvalidInput(unknown("format", arguments.format, FORMATS, f"; choose from {', '.join(FORMATS)}."))
    options = Options(
        _number(arguments.experts, "--experts", MOST_CELLS),
        read_whole_number("--expert-parallel", arguments.expert_parallel, 4_096),
        _number(arguments.tokens_per_step, "--tokens-per-step", 10**9),
    )
    imported = FORMATS[arguments.format].read(Path(arguments.path), options)
    if (Path(arguments.out) / FILE_NAME).exists():
        raise InvalidInput(f"{arguments.out} holds a trace already; choose another folder.")
    with TraceWriter(arguments.out, imported.header) as writer:
        for record in imported.records:
            writer.write(record)
    for notice in imported.notices:
        print(notice, file=sys.stderr)
    records, layers = plural(len(imported.records), "record"), plural(len(imported.header.layers), "layer")
    print(f"{records} of {layers}: {arguments.out}")
    return 0


def _number(text: str | None, option: str, most: int) -> int | None:
    return None if text is None else read_whole_number(option, text, most)


def _described_formats() -> list[str]:
    return [
        "megatron-router, megatron-tokens: Megatron-LM's JSON lines", "sglang: its recorder's .pt",
        "vllm: routed experts", "table: step, layer, expert, tokens",
    ]  # fmt: skip
