"""Command lines that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from moe_sim.cli.main import main


def rejection(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The one sentence on stderr that rejects a command line."""
    assert main([*map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removesuffix("\n")
