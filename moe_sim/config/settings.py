"""Host settings from environment variables, read and checked once when the server or a command starts."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Le
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from moe_sim.config.errors import InvalidInput

MOST_WORKERS = 4
"""Default limit of worker processes: each takes about 35 MB of its own."""


def _source_list(text: str) -> str:
    if not re.fullmatch(r"[\x21-\x2b\x2d-\x3a\x3c-\x7e]+( [\x21-\x2b\x2d-\x3a\x3c-\x7e]+)*", text):
        raise PydanticCustomError("source_list", "addresses separated by spaces")
    return text


def _scheduler_address(text: str | None) -> str | None:
    if not text:
        return None
    parts = urlsplit(text if "://" in text else f"tcp://{text}")
    try:
        valid = parts.hostname and parts.port != 0 and not parts.path.strip("/") and not re.search(r"[\s@?#]", text)
    except ValueError:  # the port is no number, or too large
        valid = False
    if not valid:
        raise PydanticCustomError("scheduler_address", "an address such as tcp://scheduler:8786")
    return text


def _program(text: str | None) -> str | None:
    if text and shutil.which(text) is None:
        raise PydanticCustomError("program", "the path or the name of a program")
    return text or None


def _folder(path: Path | None) -> Path | None:
    if path is not None and (not str(path).isprintable() or os.path.isfile(path)):
        raise PydanticCustomError("folder", "a folder")
    return path


class Settings(BaseSettings):
    """The settings of a server or command. Each field is an environment variable, `MOE_SIM_` and its name."""

    model_config = SettingsConfigDict(env_prefix="MOE_SIM_", frozen=True, extra="ignore", populate_by_name=True)

    log: Literal["text", "json"] = Field(
        default="text",
        description="`text`, or `json`: one object per line with time, level, logger, thread, message and exception",
    )
    frame_ancestors: Annotated[str, AfterValidator(_source_list)] = Field(
        default="* file:",
        description="sites that may embed the page in an iframe: a Content-Security-Policy source list, separated by "
        "spaces",
    )
    workers: int = Field(
        default_factory=lambda: min(os.cpu_count() or 1, MOST_WORKERS),
        ge=0,
        le=64,
        description="worker processes that train: 200 MB that all share, and 35 MB each. 0: the server process trains",
        json_schema_extra={"default": f"one per core, at most {MOST_WORKERS}"},
    )
    runs: int = Field(
        default=60,
        ge=1,
        le=10_000,
        description="different runs that train at once; later visitors wait in a queue",
    )
    slow_start: bool = Field(
        default=True,
        description="whether the first 100 steps of a visitor's run are slow enough to watch, until the visitor sets a "
        "rate",
        json_schema_extra={"default": "on"},
    )
    sweep_runs: int = Field(default=1_000, ge=1, le=100_000, description="largest number of runs in a visitor's sweep")
    sweep_steps: int = Field(
        default=600_000, ge=1, le=1_000_000_000, description="largest number of steps of all its runs together"
    )
    sweep_seconds: int = Field(
        default=1_800, ge=1, le=1_000_000, description="longest that it may take here, as estimated"
    )
    dask: Annotated[str | None, AfterValidator(_scheduler_address)] = Field(
        default=None,
        description="address of a Dask scheduler that computes the sweeps",
        json_schema_extra={"default": "this machine"},
    )
    traces: Annotated[Path | None, AfterValidator(_folder)] = Field(
        default=None,
        description="folder whose traces the page *Your model* shows; also `--runs FOLDER` after `--`, or that folder "
        "in `MOE_SIM_RUNS`",
        json_schema_extra={"default": "an example"},
    )
    browser_path: Annotated[str | None, AfterValidator(_program)] = Field(
        default=None,
        validation_alias="BROWSER_PATH",
        description="the Chromium that `python -m moe_sim figures` uses",
        json_schema_extra={"default": "the first on the PATH"},
    )

    @model_validator(mode="before")
    @classmethod
    def _runs_may_be_a_folder(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Takes a folder in `MOE_SIM_RUNS` for that of the traces, as the option `--runs`."""
        runs = given.get("runs")
        if isinstance(runs, str) and not runs.strip().isdigit() and (os.sep in runs or os.path.isdir(runs)):
            given = {"traces": runs} | {name: value for name, value in given.items() if name != "runs"}
        return {name: value for name, value in given.items() if name != "traces" or value != ""}


def read_settings(arguments: Sequence[str] = ()) -> Settings:
    """Reads the settings of this process from the environment.

    Args:
        arguments: of the command line; only `--runs FOLDER` is read, and takes precedence.

    Raises:
        InvalidInput: with a sentence that names the variable, its value and what it must be.
    """
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    options.add_argument("--runs", dest="traces", type=Path, metavar="FOLDER")
    try:
        known, _ = options.parse_known_args(list(arguments))
    except argparse.ArgumentError:
        raise InvalidInput("--runs needs a folder: streamlit run app.py -- --runs FOLDER") from None
    try:
        return Settings(**{name: value for name, value in vars(known).items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        variable = variable_of(str(first["loc"][0]))
        raise InvalidInput(f"{variable} must be {_allowed(first)}, not {str(first['input'])[:40]!r}.") from None


def _allowed(problem: ErrorDetails) -> str:
    """The allowed values, worded to follow “must be”."""
    match problem["type"]:
        case "source_list" | "scheduler_address" | "program" | "folder":
            return problem["msg"]
        case "literal_error":
            return str(problem["ctx"]["expected"]).replace("'", "")
        case "bool_parsing":
            return "on or off"
    metadata = Settings.model_fields[str(problem["loc"][0])].metadata
    least = next(bound.ge for bound in metadata if isinstance(bound, Ge))
    most = next(bound.le for bound in metadata if isinstance(bound, Le))
    return f"a whole number from {least} to {most:,}"


def variable_of(name: str) -> str:
    """The environment variable of a field."""
    field = Settings.model_fields.get(name)
    alias = field.validation_alias if field is not None else name
    return str(alias) if alias else f"MOE_SIM_{name.upper()}"


def settings_table() -> str:
    """All settings as a Markdown table, for the README."""
    lines = ["| variable | meaning | default |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        default = extra["default"] if isinstance(extra, dict) else f"`{field.default}`"
        lines.append(f"| `{variable_of(name)}` | {field.description} | {default} |")
    return "\n".join(lines)
