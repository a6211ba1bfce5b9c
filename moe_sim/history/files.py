"""Atomic file writes, locks against other writers, and checks that a path is writable."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from moe_sim.config.errors import UserError


class CannotWriteError(UserError):
    """A file or directory cannot be written."""


def check_writable(path: Path) -> None:
    """Checks, before a long run, that a file can be written.

    Raises:
        CannotWriteError: if it cannot.
    """
    with _naming_the_file(path):
        if path.is_dir():
            raise IsADirectoryError(None, "it is a directory")
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(None, "it is write-protected")
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def make_directory(path: Path) -> None:
    """Creates a directory with its parents, if missing, and checks that files can be written in it.

    Raises:
        CannotWriteError: if that fails.
    """
    with _naming_the_file(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file atomically: readers never see part of it.

    Raises:
        CannotWriteError: if it cannot be written; the old content then stays.
    """
    with _naming_the_file(path):
        path = path.resolve()
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            part.write_bytes(content)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Holds the lock of a file or directory, so that no other process or thread holds it. The system releases it if the
    process dies.

    Args:
        path: what is locked, by a hidden file beside the file or in the directory; it is removed at the end.
        wait: seconds to wait for another holder.

    Raises:
        CannotWriteError: if another one holds it all that time, or the lock cannot be created.
    """
    real = path.resolve()
    lock = FileLock(real / ".lock" if real.is_dir() else real.with_name(f".{real.name}.lock"))
    try:
        with _naming_the_file(path):
            try:
                lock.acquire(timeout=wait)
            except Timeout:
                raise CannotWriteError(f"Another process is writing {path}.") from None
        yield
    finally:
        try:
            if lock.is_locked:
                with suppress(OSError):
                    Path(lock.lock_file).unlink()  # before the release: afterwards it may be another holder's
        finally:
            lock.release(force=True)


@contextmanager
def _naming_the_file(path: Path) -> Iterator[None]:
    """Turns an OSError into a CannotWriteError that names the user's file rather than a temporary one."""
    try:
        yield
    except OSError as error:
        raise CannotWriteError(f"Cannot write {path}: {error.strerror}.") from None
