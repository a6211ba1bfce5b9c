"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CannotWriteError(Exception):
    """The message is a sentence for the user."""


def check_writable(path: Path) -> None:
    """Find out, before a long run, whether a file can be written.

    Raises:
        CannotWriteError: if it cannot.
    """
    with _named(path):
        if path.is_dir():
            raise IsADirectoryError(None, "it is a directory")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(None, "it is write-protected")
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def make_directory(path: Path) -> None:
    """Make a directory with all that lead to it, if it is not there, and see that files can be written in it.

    Raises:
        CannotWriteError: if that cannot be.
    """
    with _named(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it, whatever happens in between.

    Raises:
        CannotWriteError: if it cannot be written; what stood there before stays then.
    """
    with _named(path):
        path = path.resolve()
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file it was, the user's and not a temporary one."""
    try:
        yield
    except OSError as error:
        raise CannotWriteError(f"Cannot write {path}: {error.strerror}.") from None
