"""Host settings from environment variables, and the sentence for an invalid value."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moe_sim.config.errors import InvalidInput
from moe_sim.config.settings import Settings, read_settings, settings_table, variable_of
from tests.support.serving import ROOT

VARIABLES = [variable_of(name) for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def _no_variables_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_the_variables_keep_their_names() -> None:
    assert VARIABLES == [
        "MOE_SIM_LOG", "MOE_SIM_FRAME_ANCESTORS", "MOE_SIM_WORKERS", "MOE_SIM_RUNS",
        "MOE_SIM_SLOW_START", "MOE_SIM_SWEEP_RUNS",
        "MOE_SIM_SWEEP_STEPS", "MOE_SIM_SWEEP_SECONDS", "MOE_SIM_DASK", "MOE_SIM_TRACES", "BROWSER_PATH",
    ]  # fmt: skip


def test_without_variables_the_defaults_apply() -> None:
    settings = read_settings()
    assert (settings.log, settings.frame_ancestors) == ("text", "* file:")
    assert settings.workers == min(os.cpu_count() or 1, 4)
    assert (settings.runs, settings.sweep_runs, settings.sweep_steps) == (60, 1_000, 600_000)
    assert settings.dask is settings.browser_path is None


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("MOE_SIM_LOG", "json", "log", "json"),
        ("MOE_SIM_FRAME_ANCESTORS", "https://a.example https://*.b.example:8000", "frame_ancestors", None),
        ("MOE_SIM_WORKERS", "0", "workers", 0),
        ("MOE_SIM_RUNS", "7", "runs", 7),
        ("MOE_SIM_SWEEP_RUNS", "5", "sweep_runs", 5),
        ("MOE_SIM_SWEEP_STEPS", "5000000", "sweep_steps", 5_000_000),
        ("MOE_SIM_DASK", "tls://scheduler:8786", "dask", None),
        ("MOE_SIM_DASK", "[::1]:8786", "dask", None),
        ("MOE_SIM_DASK", "scheduler", "dask", None),
        ("BROWSER_PATH", sys.executable, "browser_path", None),
    ],
)
def test_a_variable_sets_its_field(
    variable: str, text: str, field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(read_settings(), field) == (text if value is None else value)


def test_the_folder_of_the_traces_may_be_given_in_three_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOE_SIM_RUNS", str(tmp_path))
    assert (read_settings().traces, read_settings().runs) == (tmp_path, 60)
    monkeypatch.setenv("MOE_SIM_RUNS", "7")
    monkeypatch.setenv("MOE_SIM_TRACES", "not-there-yet")
    assert (read_settings().traces, read_settings().runs) == (Path("not-there-yet"), 7)
    assert read_settings(["--other", "--runs", "runs"]).traces == Path("runs")
    assert read_settings(["--runs=runs/deeper"]).traces == Path("runs/deeper")


def test_an_option_without_a_folder_is_rejected_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match="--runs needs a folder"):
        read_settings(["--runs"])
    monkeypatch.setenv("MOE_SIM_TRACES", __file__)
    with pytest.raises(InvalidInput, match="MOE_SIM_TRACES must be a folder, not"):
        read_settings()


def test_an_empty_address_or_path_means_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_SIM_DASK", "")
    monkeypatch.setenv("BROWSER_PATH", "")
    monkeypatch.setenv("MOE_SIM_TRACES", "")
    settings = read_settings()
    assert settings.dask is settings.browser_path is settings.traces is None


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("MOE_SIM_LOG", "xml", "text or json"),
        ("MOE_SIM_WORKERS", "-1", "a whole number from 0 to 64"),
        ("MOE_SIM_WORKERS", "two", "a whole number from 0 to 64"),
        ("MOE_SIM_WORKERS", "65", "a whole number from 0 to 64"),
        ("MOE_SIM_RUNS", "0", "a whole number from 1 to 10,000"),
        ("MOE_SIM_RUNS", "1.5", "a whole number from 1 to 10,000"),
        ("MOE_SIM_SLOW_START", "maybe", "on or off"),
        ("MOE_SIM_SWEEP_RUNS", "many", "a whole number from 1 to 100,000"),
        ("MOE_SIM_SWEEP_STEPS", "", "a whole number from 1 to 1,000,000,000"),
        ("BROWSER_PATH", "/no/such/browser", "the path or the name of a program"),
        *(("MOE_SIM_DASK", text, "an address such as tcp://scheduler:8786")
          for text in ("a b", "tcp://", "tcp://host:port", "host:99999", "host:0", "a:8786:1", "host/path", " ")),
        *(("MOE_SIM_FRAME_ANCESTORS", text, "addresses separated by spaces")
          for text in ("", " ", "*; script-src x", "a, b", "a\nSet-Cookie: b", "höhle")),
    ],
)  # fmt: skip
def test_an_invalid_value_is_rejected_with_a_sentence(
    variable: str, text: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(InvalidInput) as error:
        read_settings()
    assert str(error.value) == f"{variable} must be {allowed}, not {text!r}."


INVALID = "; \n"
"""Invalid for every variable, and so must it be for one that is added."""


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_is_checked(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, INVALID)
    with pytest.raises(InvalidInput, match=f"^{variable} must be .+, not '; \\\\n'.$"):
        read_settings()


@pytest.mark.parametrize("variable", ["MOE_SIM_WORKERS", "BROWSER_PATH"])
def test_a_server_with_an_invalid_value_prints_one_sentence_and_exits(variable: str) -> None:
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless", "true", "--server.port", "0",
               "--server.address", "127.0.0.1", "--logger.hideWelcomeMessage", "true"]  # fmt: skip
    environment = os.environ | {variable: INVALID}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout.strip() == ""
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith(f"{variable} must be ")


def test_a_long_value_is_truncated_in_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_SIM_RUNS", "x" * 1000)
    with pytest.raises(InvalidInput, match=r"must be a whole number from 1 to 10,000, not 'x{40}'"):
        read_settings()


def test_the_table_has_a_row_for_each_variable() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == VARIABLES
    assert all(row.count("|") == 4 for row in rows)


def test_the_readme_of_the_pages_holds_the_table() -> None:
    readme = Path(__file__).resolve().parents[2] / "pages" / "README.md"
    assert settings_table() in readme.read_text(encoding="utf-8")
