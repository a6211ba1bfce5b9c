"""Finds the traces in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from moe_sim.history.trace_format import FILE_NAME

DEEPEST = 4
"""Levels of folders that are looked through."""
MOST_FOLDERS = 5_000
"""Folders that are looked at; further ones are not."""


def traces_in(folder: Path) -> list[Path]:
    """The files of all traces in a folder and in the folders within, in the order of their names; of a trace itself,
    that one. Links are not followed."""
    if folder.is_file():
        return [folder]
    found: list[Path] = []
    for count, (path, folders, files) in enumerate(os.walk(folder)):
        depth = len(Path(path).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if depth < DEEPEST else []
        if FILE_NAME in files:
            found.append(Path(path) / FILE_NAME)
        if count >= MOST_FOLDERS:
            break
    return sorted(found)
