"""Host settings from environment variables, and the sentence for an invalid value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moe_sim.config.errors import InvalidInput
from moe_sim.config.settings import Settings, read_settings, settings_table, variable_of

VARIABLES = [variable_of(name) for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def _no_variables_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_the_variables_keep_their_names() -> None:
    assert VARIABLES == [
        "MOE_SIM_LOG", "MOE_SIM_FRAME_ANCESTORS", "MOE_SIM_WORKERS", "MOE_SIM_RUNS",
        "MOE_SIM_SLOW_START", "MOE_SIM_SWEEP_RUNS",
        "MOE_SIM_SWEEP_STEPS", "MOE_SIM_DASK", "BROWSER_PATH",
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
        ("BROWSER_PATH", "/usr/bin/chromium", "browser_path", None),
    ],
)
def test_a_variable_sets_its_field(
    variable: str, text: str, field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    assert getattr(read_settings(), field) == (text if value is None else value)


def test_an_empty_dask_address_means_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_SIM_DASK", "")
    assert read_settings().dask is None


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("MOE_SIM_LOG", "xml", "text or json"),
        ("MOE_SIM_WORKERS", "-1", "a whole number of 0 or more"),
        ("MOE_SIM_WORKERS", "two", "a whole number of 0 or more"),
        ("MOE_SIM_RUNS", "0", "a whole number of 1 or more"),
        ("MOE_SIM_RUNS", "1.5", "a whole number of 1 or more"),
        ("MOE_SIM_SWEEP_RUNS", "many", "a whole number of 1 or more"),
        ("MOE_SIM_SWEEP_STEPS", "", "a whole number of 1 or more"),
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


def test_a_long_value_is_truncated_in_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_SIM_RUNS", "x" * 1000)
    with pytest.raises(InvalidInput, match=r"must be a whole number of 1 or more, not 'x{40}'"):
        read_settings()


def test_the_table_has_a_row_for_each_variable() -> None:
    rows = settings_table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == VARIABLES
    assert all(row.count("|") == 4 for row in rows)


def test_the_readme_of_the_pages_holds_the_table() -> None:
    readme = Path(__file__).resolve().parents[2] / "pages" / "README.md"
    assert settings_table() in readme.read_text(encoding="utf-8")
