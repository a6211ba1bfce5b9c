"""Uploads straight to Streamlit's address, past every widget: the memory that they hold is limited, and freed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import httpx
import psutil
import pytest
from streamlit.proto.Common_pb2 import FileURLs
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.uploaded_file_manager import UploadedFile, UploadedFileRec
from websockets.asyncio.client import connect

from pages.visitor import uploads
from tests.bench.load_clients import LARGEST, Visitor
from tests.support.asynchronous import run_to_end
from tests.support.inspecting import eventually
from tests.support.serving import launch, wait_until_healthy

MEGABYTE = 1 << 20
FREED_SOON = """
import pandas  # 65 MB, which the server would load after a while
from moe_sim.server import uploads as limits
from pages.visitor import uploads
limits.LONGEST = 3.0
uploads.KEPT, uploads.RECONNECTING, uploads.INTERVAL = 8.0, 1.0, 0.2
from streamlit.web.cli import main
main()
"""
HEAD = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f.csv"\r\nContent-Type: text/csv\r\n\r\n'
TAIL = b"\r\n--x--\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Process]]:
    """The address and the process of a server that keeps uploads for seconds. It must not log an error."""
    log = tmp_path_factory.mktemp("uploads") / "log.txt"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MALLOC_MMAP_THRESHOLD_", str(MEGABYTE))  # glibc then returns what is freed to the system
        with launch(log, starter=("-c", FREED_SOON)) as (address, process):
            wait_until_healthy(address, process)
            yield address, psutil.Process(process.pid)
            assert "moe_errors_total 0.0" in httpx.get(f"{address}/metrics").text
    assert "Traceback" not in log.read_text(encoding="utf-8")


class Uploader:
    """A visitor who uploads files without a widget."""

    def __init__(self, client: httpx.AsyncClient, session: str) -> None:
        self._client, self._session = client, session
        self._files: list[str] = []
        """Those that were accepted."""

    async def put(self, megabytes: float, *, chunked: bool = False) -> int:
        """Uploads a file, with or without its length. Returns the status."""
        file = f"/_stcore/upload_file/{self._session}/{uuid4()}"
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        body = HEAD + bytes(int(megabytes * MEGABYTE)) + TAIL

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), MEGABYTE):
                yield body[start : start + MEGABYTE]

        content = pieces() if chunked else body
        status = (await self._client.put(file, content=content, headers=headers)).status_code
        self._files += [file] if status == 204 else []
        return status

    async def put_half(self, *, stay: bool) -> bytes:
        """Sends half a file and then nothing. Closes the connection, or else returns what the server answers."""
        url = self._client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"PUT /_stcore/upload_file/{self._session}/{uuid4()} HTTP/1.1\r\nHost: {url.host}\r\n"
                     f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {2 * MEGABYTE}\r\n"
                     "\r\n".encode())  # fmt: skip
        writer.write(HEAD + bytes(MEGABYTE))
        await writer.drain()
        answer = await reader.readline() if stay else b""
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return answer

    async def delete(self, count: int = 1) -> None:
        """Removes the first files."""
        for file in self._files[:count]:
            assert (await self._client.delete(file)).status_code == 204
        del self._files[:count]


@asynccontextmanager
async def uploader(address: str) -> AsyncIterator[Uploader]:
    """A visitor with an open page."""
    stream = f"{address.replace('http', 'ws')}/_stcore/stream"
    async with (
        httpx.AsyncClient(base_url=address, timeout=60) as client,
        connect(stream, max_size=LARGEST, subprotocols=["streamlit"], origin=address) as socket,
    ):
        await client.get("/_stcore/health")  # sets the cookie
        visitor = Visitor()
        await visitor.rerun(socket)
        yield Uploader(client, visitor.session)


@pytest.fixture(autouse=True)
def empty(server: tuple[str, psutil.Process]) -> None:
    """Waits until the files of the test before are gone."""

    async def wait() -> None:
        async with uploader(server[0]) as first, uploader(server[0]) as second:
            for one, megabytes in ((first, 39), (first, 39), (second, 38)):
                await until_accepted(one, megabytes, 20)
            await first.delete(2)
            await second.delete()

    run_to_end(wait)


async def until_accepted(visitor: Uploader, megabytes: float, seconds: float) -> None:
    """Uploads a file as soon as there is room, at most `seconds` from now."""
    async with asyncio.timeout(seconds):
        while await visitor.put(megabytes) != 204:
            await asyncio.sleep(0.3)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_session_may_hold_eighty_megabytes_until_it_removes_a_file(
    server: tuple[str, psutil.Process], chunked: bool
) -> None:
    address, process = server

    async def upload() -> list[int]:
        async with uploader(address) as visitor:
            statuses = [await visitor.put(30, chunked=chunked) for _ in range(8)]
            memory.append(process.memory_info().rss)
            await visitor.delete()
            return [*statuses, await visitor.put(30, chunked=chunked)]

    memory = [process.memory_info().rss]
    assert run_to_end(upload) == [204, 204, *[413] * 6, 204]
    assert memory[1] - memory[0] < 200 * MEGABYTE, "all eight would take 240 MB"


def test_files_that_no_page_reads_take_no_memory(server: tuple[str, psutil.Process]) -> None:
    def memory() -> float:
        return server[1].memory_full_info().uss / MEGABYTE

    async def upload() -> None:
        async with uploader(server[0]) as visitor:
            before = memory()
            assert [await visitor.put(15) for _ in range(5)] == [204] * 5
            # Measured: 0 MB, and 75 if held in memory.
            assert await asyncio.to_thread(eventually, lambda: memory() < before + 20, 5), memory() - before
            assert await visitor.put(15) == 413, "all five are still held"

    run_to_end(upload)


def test_a_file_on_the_disk_is_read_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = MemoryUploadedFileManager("")
    monkeypatch.setattr(uploads, "_manager", lambda: manager)
    contents = {"large": bytes(range(256)) * 8192, "small": b"1,2"}
    for name, content in contents.items():
        manager.add_file("mine", UploadedFileRec(name, name, "text/csv", content))
    before = uploads.Uploads().held()
    asyncio.run(uploads.Uploads().move_to_disk("mine"))
    asyncio.run(uploads.Uploads().move_to_disk("nobody"))
    assert uploads.Uploads().held() == before
    kept = manager.get_files("mine", list(contents))
    assert [isinstance(file.data, bytes) for file in kept] == [False, True]
    for file in kept:
        read = UploadedFile(file, FileURLs())
        assert (read.name, read.type, read.size) == (file.name, "text/csv", len(contents[file.name]))
        assert read.getvalue() == contents[file.name]


def test_without_a_place_on_the_disk_a_file_stays_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError("No space left on device")

    manager = MemoryUploadedFileManager("")
    monkeypatch.setattr(uploads, "_manager", lambda: manager)
    monkeypatch.setattr(uploads.tempfile, "TemporaryFile", refuse)
    manager.add_file("mine", UploadedFileRec("1", "a", "text/csv", bytes(2 * MEGABYTE)))
    asyncio.run(uploads.Uploads().move_to_disk("mine"))
    assert manager.get_files("mine", ["1"])[0].data == bytes(2 * MEGABYTE)


def test_uploads_at_the_same_time_count_while_they_arrive(server: tuple[str, psutil.Process]) -> None:
    async def upload() -> list[int]:
        async with uploader(server[0]) as visitor:
            return await asyncio.gather(*(visitor.put(30, chunked=True) for _ in range(8)))

    statuses = run_to_end(upload)
    assert set(statuses) <= {204, 413}
    assert statuses.count(204) <= 2


def test_files_count_by_what_they_cost_not_by_their_content_alone(server: tuple[str, psutil.Process]) -> None:
    async def upload() -> int:
        async with uploader(server[0]) as visitor:
            await visitor.put(39)
            await visitor.put(39)
            accepted = 0
            while accepted < 2_000 and await visitor.put(0) == 204:
                accepted += 1
            return accepted

    assert run_to_end(upload) < 600


def test_all_sessions_together_hold_120_megabytes_and_a_closed_one_makes_room(
    server: tuple[str, psutil.Process],
) -> None:
    async def upload() -> list[int]:
        async with uploader(server[0]) as late, uploader(server[0]) as third:
            async with uploader(server[0]) as first:
                statuses = [await one.put(39) for one in (first, first, third, late)]
            await until_accepted(late, 39, 5)
            return statuses

    assert run_to_end(upload) == [204, 204, 204, 503]


def test_a_file_is_freed_after_a_while_though_its_session_stays(server: tuple[str, psutil.Process]) -> None:
    async def upload() -> None:
        async with uploader(server[0]) as visitor:
            assert [await visitor.put(39) for _ in range(3)] == [204, 204, 413]
            await until_accepted(visitor, 39, 20)

    run_to_end(upload)


def test_an_upload_that_stops_ends_and_one_that_is_broken_off_is_no_error(server: tuple[str, psutil.Process]) -> None:
    async def upload() -> bytes:
        async with uploader(server[0]) as visitor:
            for _ in range(5):
                await visitor.put_half(stay=False)
            return await visitor.put_half(stay=True)

    assert b" 408 " in run_to_end(upload)


def test_other_requests_reach_streamlit(server: tuple[str, psutil.Process]) -> None:
    path = "/_stcore/upload_file/nobody/nothing"
    assert httpx.put(f"{server[0]}{path}", content=b"x").status_code == 400  # no such session
    assert httpx.options(f"{server[0]}{path}").status_code == 204
