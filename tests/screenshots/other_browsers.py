"""The first minute in Firefox and in WebKit: `python -m tests.screenshots.other_browsers FOLDER`.

Opens the page, lets the router collapse, presses Rescue, waits until all experts are back, and leaves pictures of each
moment. It needs the Debian packages firefox-esr, webkit2gtk-driver and xvfb; a browser that is missing is named.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.serving import free_port, serving

PATIENCE = 90.0
"""Seconds to wait for each moment."""
MOMENTS = {
    "ready": ("", "document.querySelectorAll('.ecl .main-svg').length > 1"),
    "collapsed": ("[data-command=toggle]", "document.querySelector('.ecl .word').textContent === 'Collapsed'"),
    "rescued": (".ecl .rescue", "document.querySelector('.ecl .evidence').textContent.includes('back after')"),
}
"""What is clicked, and what is true once the moment has come."""


class Driver(Protocol):
    """What the two protocols have in common."""

    def open(self, address: str) -> None:
        """Opens a page."""
        ...

    def evaluate(self, expression: str) -> Any:
        """Returns the value of a JavaScript expression."""
        ...

    def picture(self) -> bytes:
        """Returns a PNG of the window."""
        ...


class Firefox:
    """WebDriver BiDi, which Firefox speaks by itself."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection, self._numbers = connection, itertools.count(1)
        self._call("session.new", capabilities={})
        self._context = self._call("browsingContext.getTree")["contexts"][0]["context"]
        self._call("browsingContext.setViewport", context=self._context, viewport={"width": 1280, "height": 720})

    def _call(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self._connection.recv())).get("id") != number:
            pass  # an event
        if answer["type"] == "error":
            raise RuntimeError(answer["message"])
        return answer["result"]

    def open(self, address: str) -> None:
        self._call("browsingContext.navigate", context=self._context, url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        result = self._call(
            "script.evaluate", expression=f"JSON.stringify({expression} ?? null)", awaitPromise=False,
            target={"context": self._context},
        )  # fmt: skip
        if result["type"] != "success":
            raise RuntimeError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    def picture(self) -> bytes:
        return base64.b64decode(self._call("browsingContext.captureScreenshot", context=self._context)["data"])


class WebKit:
    """The classic WebDriver, through WebKitWebDriver."""

    def __init__(self, address: str, browser: str) -> None:
        self._client = httpx.Client(base_url=address, timeout=PATIENCE)
        options = {"webkitgtk:browserOptions": {"binary": browser, "args": ["--automation"]}}
        self._session = self._post("/session", capabilities={"alwaysMatch": options})["sessionId"]
        self._post(f"/session/{self._session}/window/rect", width=1280, height=820)

    def _post(self, path: str, **body: Any) -> Any:
        return self._value(self._client.post(path, json=body))

    def _value(self, response: httpx.Response) -> Any:
        if response.is_error:
            raise RuntimeError(response.json()["value"]["message"])
        return response.json()["value"]

    def open(self, address: str) -> None:
        self._post(f"/session/{self._session}/url", url=address)

    def evaluate(self, expression: str) -> Any:
        return self._post(f"/session/{self._session}/execute/sync", script=f"return {expression}", args=[])

    def picture(self) -> bytes:
        return base64.b64decode(self._value(self._client.get(f"/session/{self._session}/screenshot")))


@contextmanager
def firefox() -> Iterator[Driver]:
    """A headless Firefox with an empty profile."""
    port = free_port()
    with tempfile.TemporaryDirectory() as profile:
        command = [program("firefox-esr"), "--headless", "--no-remote", "--profile", profile]
        with running([*command, f"--remote-debugging-port={port}"]), connected(port) as connection:
            yield Firefox(connection)


@contextmanager
def connected(port: int) -> Iterator[ClientConnection]:
    """A connection to a Firefox that may still be starting."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with connect(f"ws://127.0.0.1:{port}/session", max_size=None) as connection:
                yield connection
                return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextmanager
def webkit() -> Iterator[Driver]:
    """WebKitGTK's small browser on a screen in memory."""
    port, display = free_port(), f":{90 + os.getpid() % 100}"
    browser = next(iter(sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"), reverse=True)), None)
    if browser is None:
        raise FileNotFoundError("MiniBrowser is not installed")
    screen = [program("Xvfb"), display, "-screen", "0", "1400x900x24"]
    with running(screen), running([program("WebKitWebDriver"), f"--port={port}"], DISPLAY=display):
        time.sleep(2)
        yield WebKit(f"http://127.0.0.1:{port}", str(browser))


def program(name: str) -> str:
    """The path of a program.

    Raises:
        FileNotFoundError: if it is not installed.
    """
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed")
    return path


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[None]:
    """A program that runs until the end of the block."""
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def live_through(name: str, driver: Driver, address: str, folder: Path) -> None:
    """Goes through the moments, and prints when each of them came."""
    began = time.monotonic()
    driver.open(address)
    for moment, (click, condition) in MOMENTS.items():
        if click:
            driver.evaluate(f"document.querySelector('{click}').click()")
        while not driver.evaluate(condition):
            if time.monotonic() - began > PATIENCE:
                raise TimeoutError(f"{name} is not {moment} after {PATIENCE:.0f} s")
            time.sleep(0.1)
        print(f"{name}: {moment} after {time.monotonic() - began:.1f} s", flush=True)
        time.sleep(1)
        (folder / f"{name}-{moment}.png").write_bytes(driver.picture())


def main() -> None:
    """Visit the page with both browsers."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    with serving(folder / "server.log") as address:
        for name, start in (("firefox", firefox), ("webkit", webkit)):
            try:
                with start() as driver:
                    live_through(name, driver, address, folder)
            except FileNotFoundError as error:
                print(f"{name}: {error}")
    print(f"pictures are in {folder}")


if __name__ == "__main__":
    main()
