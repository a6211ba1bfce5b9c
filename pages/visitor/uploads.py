"""What visitors have uploaded: where it is held, and when it is freed."""

from __future__ import annotations

import asyncio
import mmap
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import cast

from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFileRec
from streamlit.web.server.starlette.starlette_routes import BASE_ROUTE_UPLOAD_FILE

from pages.visitor.hosting import base_path

KEPT = 600.0
"""Seconds for which a file is kept. The pages read it as soon as it is there, or when its button is pressed."""
RECONNECTING = 20.0
"""Seconds for which the files of a session without a connection are kept. Streamlit itself keeps them for minutes."""
FILE_OVERHEAD = 4_096
"""Bytes that a file counts beside its content."""
SMALLEST_ON_DISK = 1 << 20
"""Bytes from which a file is worth a place on the disk."""
INTERVAL = 2.0
"""Seconds between checks."""


def upload_path() -> str:
    """Returns the path to which browsers upload, up to `/SESSION/FILE`."""
    return f"{base_path()}/{BASE_ROUTE_UPLOAD_FILE}"


class Uploads:
    """The files that Streamlit holds, and for how long it has held them."""

    def __init__(self) -> None:
        self._arrived_at: dict[tuple[str, str], float] = {}
        self._connected_at: dict[str, float] = {}

    def held(self) -> Mapping[str, int]:
        """Returns the bytes held, by session."""
        return {session: sum(files.values()) for session, files in self._sizes().items()}

    def _sizes(self) -> dict[str, dict[str, int]]:
        files = _manager().file_storage.copy()
        return {session: {name: _cost(file) for name, file in own.copy().items()} for session, own in files.items()}

    async def move_to_disk(self, session: str) -> None:
        """Moves a session's large files out of the memory. Only those that a page reads are in it again, meanwhile."""
        for file in _manager().file_storage.get(session, {}).copy().values():
            if isinstance(file.data, bytes) and len(file.data) >= SMALLEST_ON_DISK:
                with suppress(OSError):  # without a place on the disk it stays in the memory
                    moved = file._replace(data=await asyncio.to_thread(_on_disk, file.data))
                    if _manager().get_files(session, [file.file_id]):  # not removed meanwhile
                        _manager().add_file(session, moved)

    def free(self, now: float) -> None:
        """Removes the files that have been kept for long enough, and those of sessions that have gone.

        Args:
            now: `time.monotonic()`.
        """
        files = {(session, name) for session, own in self._sizes().items() for name in own}
        self._arrived_at = {file: self._arrived_at.get(file, now) for file in files}
        self._connected_at = {
            session: now if Runtime.instance().is_active_session(session) else self._connected_at.get(session, now)
            for session, _ in files
        }
        for (session, name), arrived_at in self._arrived_at.items():
            if now - arrived_at > KEPT or now - self._connected_at[session] > RECONNECTING:
                _manager().remove_file(session, name)

    async def keep_freeing(self) -> None:
        """Calls `free` until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self.free(time.monotonic())


def _cost(file: UploadedFileRec) -> int:
    return len(file.data) + len(file.name) + len(file.type) + len(file.file_id) + FILE_OVERHEAD


def _on_disk(data: bytes) -> bytes:
    """Returns the same bytes, mapped from a file without a name. They are not quite `bytes`, but Streamlit needs only
    their length and their buffer."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return cast(bytes, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _manager() -> MemoryUploadedFileManager:
    manager = Runtime.instance().uploaded_file_mgr
    assert isinstance(manager, MemoryUploadedFileManager)
    return manager
