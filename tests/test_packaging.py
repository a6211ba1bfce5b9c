"""`pip install .`: the wheel is complete, works outside the repository, needs only its dependencies, and has types."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

import pytest

import moe_sim
from moe_sim.cli.main import main
from moe_sim.config.extras import EXTRA_OF
from tests.support.installing import ROOT, Installed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
NOT_IN_CORE = ("streamlit", "plotly", "kaleido", "loky", "pyarrow", "distributed", "dask", "sse_starlette", "starlette",
               "prometheus_client", "segno")  # fmt: skip


def pins(lines: Iterable[str]) -> dict[str, str]:
    """Versions by package; a line that refers to our own extras stands for their packages."""
    found: dict[str, str] = {}
    for line in lines:
        if own := re.fullmatch(r"expert-collapse-lab\[(.+)\]", line):
            found |= pins(pin for extra in own[1].split(",") for pin in EXTRAS[extra])
        elif not line.startswith("#"):
            name, version = line.split("==")
            found[name] = version
    return found


CORE = pins(PROJECT["project"]["dependencies"])


def test_the_wheel_holds_every_file_of_the_package(installed: Installed) -> None:
    files = (file for file in (ROOT / "moe_sim").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    names = {file.relative_to(ROOT).as_posix() for file in files if file.name != "README.md"}
    assert {"moe_sim/py.typed", "moe_sim/sweep/gallery.parquet"} <= names
    packed = ZipFile(installed.wheel).namelist()
    assert {name for name in packed if ".dist-info/" not in name} == names


def test_the_installed_package_works_in_an_empty_folder(installed: Installed, tmp_path: Path) -> None:
    knobs = installed.python("-m", "moe_sim", "knobs", cwd=tmp_path)
    assert (knobs.returncode, knobs.stderr) == (0, "")
    assert knobs.stdout.startswith("aux_loss_coef=0\n")


def test_the_dependencies_suffice_to_train(installed: Installed, tmp_path: Path) -> None:
    code = f"""
import sys
for name in {NOT_IN_CORE}:
    sys.modules[name] = None  # its import fails
import moe_sim
from importlib.metadata import version
assert moe_sim.__file__ == {str(installed.folder / "moe_sim" / "__init__.py")!r}
assert moe_sim.__version__ == version("expert-collapse-lab") == {moe_sim.__version__!r}
assert "pandas" not in sys.modules
from moe_sim.cli.main import main
sys.exit(main(["train", "--steps", "3", "--out", "run.json", "--out", "run.csv"]))
"""
    done = installed.python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Starting.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.csv", "run.json"]


@pytest.mark.parametrize(
    ("package", "words", "sentence"),
    [
        ("plotly", ["train", "--out", "run.html"], "An HTML page needs the package plotly: pip install"),
        ("plotly", ["figures", "--out", "slides"], "Drawing needs the package plotly: pip install"),
        ("kaleido", ["figures", "--out", "slides"], "Drawing needs the package kaleido: pip install"),
        ("loky", ["sweep"], "The engine loky needs the package loky: pip install"),
        ("pyarrow", ["sweep", "--out", "s.parquet"], "A Parquet file needs the package pyarrow: pip install"),
    ],
)
def test_a_missing_extra_is_named_before_anything_is_computed(
    package: str, words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(words) == 2
    [line] = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1:]
    assert line == f'{sentence} "expert-collapse-lab[{EXTRA_OF[package]}]".'
    assert list(tmp_path.iterdir()) == []


def test_a_type_checker_finds_a_misspelled_knob_in_a_users_script(installed: Installed, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from moe_sim import RunConfig\n\nRunConfig(aux_loss_coef=0.1, top_k=2)\nRunConfig(alpha=0.1)\n")
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\n[mypy-torch.*]\nfollow_imports = skip\n")
    done = installed.python("-m", "mypy", "--cache-dir", str(tmp_path / "cache"), script.name, cwd=tmp_path)
    first, *_ = done.stdout.splitlines()
    assert first == 'script.py:4: error: Unexpected keyword argument "alpha" for "RunConfig"  [call-arg]'
    assert "Found 1 error" in done.stdout


def test_no_package_is_pinned_to_two_versions() -> None:
    app = pins((ROOT / "requirements.txt").read_text().splitlines())
    assert app == CORE | pins(EXTRAS["app"])
    tests = pins((ROOT / "tests" / "requirements.txt").read_text().splitlines())
    others = pins(EXTRAS["dask"]) | pins(PROJECT["build-system"]["requires"])
    assert {name: tests.get(name, app.get(name)) for name in others} == others


def test_messages_name_the_extra_that_installs_a_package() -> None:
    for package, extra in EXTRA_OF.items():
        assert package in {pin.split("==")[0] for pin in EXTRAS[extra]}
        assert package not in CORE
