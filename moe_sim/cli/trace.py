"""`python -m moe_sim trace …`: shows, exports and imports traces of other people's models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from unicodedata import category

from moe_sim.cli.arguments import EXIT_COLLAPSED, EXIT_USAGE, read_whole_number
from moe_sim.cli.trace_slides import write_slides
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
from moe_sim.history.trace_format import FILE_NAME, MOST_CELLS, NotATraceError
from moe_sim.history.trace_writer import TraceWriter
from moe_sim.tracing.importing.catalogue import FORMATS
from moe_sim.tracing.importing.imported import Options

SHOWN_LAYERS = 20
"""The layers that are listed unless all are asked for."""
TABLES = (".csv", ".parquet")
EXPORTS = (*TABLES, ".html")


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="action")
    show = actions.add_parser(
        "show", help="Print the verdict on each layer; exit code 3 if one has collapsed.", allow_abbrev=False
    )
    show.add_argument("path", metavar="DIR", help="a trace, or a folder with traces in it")
    show.add_argument("--all", action="store_true", help=f"list all layers, not only the {SHOWN_LAYERS} worst")
    export = actions.add_parser(
        "export", help="Write the numbers of a trace, a page with its charts, or slides.", allow_abbrev=False
    )
    export.add_argument("path", metavar="DIR", help="a trace")
    endings = f"ends in {', '.join(EXPORTS)}; without an ending, a folder for slides as SVG and PNG"
    export.add_argument("--out", required=True, metavar="FILE", help=endings)
    export.add_argument("--tidy", action="store_true", help="a table with one row per step, layer and expert")
    bring = actions.add_parser("import", help="Make a trace of what another tool has recorded.", allow_abbrev=False)
    bring.add_argument("path", metavar="FILE", help="a file, or a folder with the files of all ranks")
    bring.add_argument(
        "--format",
        required=True,
        metavar="NAME",
        help="; ".join(f"{name}: {one.description}" for name, one in FORMATS.items()),
    )
    bring.add_argument("--out", required=True, metavar="DIR", help="the folder of the trace")
    bring.add_argument("--experts", metavar="N", help="experts of each layer, where the file does not say")
    bring.add_argument("--expert-parallel", default="1", metavar="N",
                       help="processes over which the experts of a layer are spread (megatron-tokens)")  # fmt: skip
    bring.add_argument("--tokens-per-step", metavar="N", help="tokens that make a record (vllm); default: a response")


def trace(arguments: argparse.Namespace) -> int:
    """Show, export or import a trace.

    Returns:
        The exit code: 0; 3 if a layer of a trace that is shown has collapsed; or else 2 if one of several traces cannot
        be read.

    Raises:
        UserError: with a sentence, if a file cannot be read or written.
    """
    actions = {"show": _show, "export": _export, "import": _import}
    return actions[arguments.action](arguments)


def _show(arguments: argparse.Namespace) -> int:
    paths = traces_in(Path(arguments.path))
    if not paths:
        raise InvalidInput(f"There is no trace in {arguments.path}.")
    collapsed, unread, shown = False, 0, 0
    for path in paths:
        try:
            history = open_trace(path)
        except NotATraceError as error:
            if len(paths) == 1:
                raise
            print(_printable(str(error)), file=sys.stderr)
            unread += 1
            continue
        text = in_words(history, str(path.parent), None if arguments.all else SHOWN_LAYERS)
        print("\n" * bool(shown) + _printable(text))
        shown += 1
        collapsed |= any(verdict.state == "Collapsed" for verdict in diagnose_layers(history))
    return EXIT_COLLAPSED if collapsed else EXIT_USAGE if unread else 0


def _printable(text: str) -> str:
    """Without characters that control a terminal, which the names in a foreign trace could contain."""
    return "".join(one if one == "\n" or category(one)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for one in text)


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
    if kind and kind not in EXPORTS:
        raise InvalidInput(
            f"{str(out)[-40:]!r} must end in one of {', '.join(EXPORTS)}, or be a folder, whose name has no ending."
        )
    if arguments.tidy and kind not in TABLES:
        raise InvalidInput(f"--tidy is for {' and '.join(TABLES)}.")
    history = open_trace(arguments.path)
    if not kind:
        write_slides(history, out)
        return 0
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
    if arguments.format not in FORMATS:
        raise InvalidInput(unknown("format", arguments.format, FORMATS, f"; choose from {', '.join(FORMATS)}."))
    options = Options(
        _number(arguments.experts, "--experts", MOST_CELLS),
        read_whole_number("--expert-parallel", arguments.expert_parallel, 4_096),
        _number(arguments.tokens_per_step, "--tokens-per-step", 10**9),
    )
    if (Path(arguments.out) / FILE_NAME).exists():
        raise InvalidInput(f"{arguments.out} holds a trace already; choose another folder.")
    imported = FORMATS[arguments.format].read(Path(arguments.path), options)
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
