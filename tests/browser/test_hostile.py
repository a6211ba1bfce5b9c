"""Hostile input to a real browser and server: foreign markup stays text, no broken file crashes the server, and a
client that does not read delays nobody."""

from __future__ import annotations

import json
import re
import socket
import time
from urllib.parse import quote, urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Page, expect

from moe_sim import RunConfig, Trainer
from moe_sim.history.to_json import run_to_json
from moe_sim.sweep.table import frame_to_rows, table_bytes
from pages.text.markdown import JOINER
from tests.browser.driver import TIMEOUT, press, visit
from tests.hostile.test_tables import breaking
from tests.support.hostile import KEYS
from tests.support.serving import read_stream
from tests.support.sweep_rows import table

PAYLOADS = (
    "<img src=x onerror=window.hacked=1><svg onload=window.hacked=1>",
    "[a](javascript:window.hacked=1) ![x](https://evil.example/x.png)",
    "https://evil.example www.evil.example me@evil.example",
    "$x^2$ :material/delete: **b** :red[x] `c` :smile: {0}",
)


def assert_only_text(page: Page) -> None:
    """Assert that no injected script ran and that the notices contain only text."""
    assert page.evaluate("window.hacked") is None
    notices = page.get_by_test_id("stAlert")
    expect(notices.first).to_be_visible(timeout=TIMEOUT)
    markup = notices.get_by_test_id("stMarkdownContainer").locator(
        "a, img, svg, script, code, strong, em, .katex, span"
    )
    assert markup.count() == 0, markup.first.evaluate("node => node.outerHTML")


def test_markup_in_every_key_of_a_link_stays_text(page: Page, server: str) -> None:
    page.on("dialog", lambda dialog: pytest.fail("a link must not open a dialog"))
    query = {key: PAYLOADS[number % len(PAYLOADS)] for number, key in enumerate(KEYS) if key != "embed"}
    page.goto(f"{server}?{urlencode(query, quote_via=quote)}")
    assert_only_text(page)
    expect(page.locator(".ecl .toolbar")).to_be_visible(timeout=TIMEOUT)
    shown = " ".join(page.get_by_test_id("stAlert").all_inner_texts()).replace(JOINER, "")
    for payload in PAYLOADS:
        assert payload[:30] in shown
    assert "Traceback" not in page.locator("body").inner_text()


def test_markup_in_files_stays_text_and_a_file_that_crashes_its_reader_does_not_crash_the_server(
    page: Page, server: str
) -> None:
    trainer = Trainer(RunConfig(num_experts=2, batch_tokens=32))
    trainer.run(2)
    run = json.loads(run_to_json(trainer.history))
    run[PAYLOADS[0]] = PAYLOADS[1]
    visit(page, server)
    press(page, "Export")
    upload = page.get_by_test_id("stDialog").get_by_test_id("stFileUploaderDropzoneInput")
    upload.set_input_files({"name": "a.json", "mimeType": "application/json", "buffer": json.dumps(run).encode()})
    press(page, "Show it")
    expect(page.get_by_text("an unknown part")).to_be_visible(timeout=TIMEOUT)
    assert_only_text(page)

    page.goto(f"{server}/sweep")
    page.get_by_text("Open a sweep", exact=True).click(timeout=TIMEOUT)
    upload = page.get_by_test_id("stFileUploaderDropzoneInput")
    upload.set_input_files({"name": f"{PAYLOADS[0]}.parquet", "mimeType": "text/plain", "buffer": breaking()})
    expect(page.get_by_text("is not a table written by")).to_be_visible(timeout=TIMEOUT)
    assert_only_text(page)
    rows = frame_to_rows(table({"aux_loss_coef": (0.0, 0.1)}).assign(error=PAYLOADS[0]))
    name = f"{PAYLOADS[1].replace('/', ':')}.csv"
    upload.set_input_files({"name": name, "mimeType": "text/csv", "buffer": table_bytes(rows, ".csv")})
    expect(page.get_by_text("4 rows of")).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text("Table", exact=True)).to_have_count(1)  # the earlier one is gone
    page.get_by_text("Table", exact=True).click()
    expect(page.get_by_test_id("stDataFrame")).to_be_visible(timeout=TIMEOUT)
    assert page.evaluate("window.hacked") is None
    assert page.locator("a[href*=evil], a[href^=javascript], img[src*=evil]").count() == 0
    assert httpx.get(f"{server}/_stcore/health").status_code == 200


def test_the_server_also_rejects_a_file_that_is_too_large(page: Page, server: str) -> None:
    with page.expect_request(re.compile("upload_file")) as asked:
        visit(page, server)
        press(page, "Export")
        page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(
            {"name": "a.json", "mimeType": "application/json", "buffer": b"{}"}
        )
    answer = httpx.put(asked.value.url, files={"a.json": b" " * 42 * 2**20})
    assert answer.status_code == 413


def test_a_client_that_never_reads_its_stream_delays_nobody(page: Page, server: str) -> None:
    with page.expect_request(re.compile(r"/live/")) as asked:
        visit(page, f"{server}?autoplay=1&num_experts=16")
    address = asked.value.url.partition("?")[0]
    where = urlsplit(address)
    silent = [socket.create_connection((where.hostname, where.port)) for _ in range(20)]
    for one in silent:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.sendall(f"GET {where.path}?from=0 HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
    start, messages, known = time.perf_counter(), 0, 0
    with httpx.stream("GET", address, timeout=10) as response:
        for stop, message, _ in read_stream(response):
            assert message["from"] <= known
            messages, known = messages + 1, stop
            if messages == 20:
                break
    assert time.perf_counter() - start < 20
    for one in silent:
        one.close()
    for strange in ("-1", "nan", "9" * 5000, "²", "<script>", ""):
        with httpx.stream("GET", address, headers={"Last-Event-ID": strange.encode()}, timeout=10) as response:
            assert next(read_stream(response))[1]["from"] == 0
    page.close()
