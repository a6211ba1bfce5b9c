"""The app in an iframe of another site, where the browser keeps no cookies and denies storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from playwright.sync_api import Browser, FilePayload, FrameLocator, expect

from moe_sim import RunConfig, Trainer
from moe_sim.history.to_json import run_to_json
from tests.browser.conftest import new_visitor, watch_for_trouble
from tests.browser.driver import TIMEOUT, press, visit

STEPS = 12


@contextmanager
def course_page(body: str) -> Iterator[str]:
    """A page of another site. Yields its address: localhost is another site than 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            page = f'<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>A course</title>{body}'
            self.wfile.write(page.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = Thread(target=other.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{other.server_port}/"
        finally:
            other.shutdown()
            thread.join()


@contextmanager
def framed(chromium: Browser, server: str) -> Iterator[FrameLocator]:
    """The snippet of the Share dialog on a course page. Fails at the end on any console error."""
    context = new_visitor(chromium, height=900)
    page = context.new_page()
    visit(page, server)
    press(page, "Share")
    snippet = page.get_by_role("dialog").locator("code").filter(has_text="<iframe").inner_text()
    context.clear_cookies()
    with course_page(snippet) as address:
        page.goto(address)
        troubles = watch_for_trouble(page, server)
        frame = page.frame_locator("iframe")
        expect(frame.get_by_role("region", name="Expert utilization").locator(".main-svg").first).to_be_visible(
            timeout=TIMEOUT
        )
        assert not context.cookies(), "with a cookie, the test would not show how it goes without"
        yield frame
    context.close()
    assert not troubles


def saved_run() -> FilePayload:
    """A file with a run of two experts."""
    trainer = Trainer(RunConfig(num_experts=2, batch_tokens=32))
    trainer.run(STEPS)
    return {"name": "run.json", "mimeType": "application/json", "buffer": run_to_json(trainer.history).encode()}


def test_a_run_trains_and_a_file_opens_inside_another_sites_page(chromium: Browser, server: str) -> None:
    with framed(chromium, server) as frame:
        frame.get_by_role("button", name="Train", exact=True).click()
        expect(frame.locator(".ecl .done")).not_to_have_text("0", timeout=TIMEOUT)
        frame.get_by_test_id("stExpandSidebarButton").click()
        frame.get_by_role("button", name="Export", exact=True).click()
        frame.locator("input[type=file]").set_input_files(saved_run())
        frame.get_by_role("button", name="Show it", exact=True).click(timeout=TIMEOUT)
        expect(frame.get_by_text("A recorded run, as it was.")).to_be_visible(timeout=TIMEOUT)
        expect(frame.locator(f".ecl[data-step='{STEPS}']")).to_be_visible(timeout=TIMEOUT)
