"""The package as `pip install` leaves it, apart from this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Installed:
    """A wheel, and the folder that it was installed into."""

    wheel: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a process that finds the installed package."""
        return {**os.environ, "PYTHONPATH": str(self.folder)}

    def python(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python with the installed package."""
        return subprocess.run(
            [sys.executable, *words], cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=120
        )


def install(folder: Path) -> Installed:
    """Build the wheel of a copy of the sources, so that nothing is left in them, and install it."""
    source, wheels, target = (folder / name for name in ("source", "wheels", "target"))
    shutil.copytree(ROOT / "moe_sim", source / "moe_sim", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(wheels), str(source)], check=True
    )
    [wheel] = wheels.iterdir()
    subprocess.run([*pip, "install", *offline, "--no-compile", "--target", str(target), str(wheel)], check=True)
    return Installed(wheel, target)
