"""The page *Your model* in a real browser, while a model trains in another process."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.driver import TIMEOUT
from tests.support.commands import running
from tests.support.serving import serving
from tests.support.traces import COLLAPSED, EVEN, write_trace

STEPS = 800
"""Of the training: enough for the page to be seen while the model is collapsed, and long after."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def server(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that shows a folder of traces."""
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with serving(log, "--", "--runs", str(runs)) as address:
        yield address
    assert "Traceback" not in log.read_text(encoding="utf-8")


def test_a_model_collapses_in_another_process_and_is_rescued(
    page: Page, server: str, runs: Path, shots: Path, tmp_path: Path
) -> None:
    page.goto(f"{server}/your_model")
    expect(page.get_by_text("No trace in")).to_be_visible(timeout=TIMEOUT)
    command = [sys.executable, "-m", "moe_sim", "demo", "--only", "mixtral-rescued", "--steps", str(STEPS)]
    with (
        (tmp_path / "demo.txt").open("wb") as output,
        running([*command, "--out", str(runs)], stdout=output, stderr=output) as training,
    ):
        verdict = page.get_by_test_id("stAlert")
        expect(verdict).to_contain_text(re.compile(r"^\S*Collapsed\. model\.layers\.\d\.mlp: expert \d takes"),
                                        timeout=3 * TIMEOUT)  # fmt: skip
        assert training.poll() is None  # it still trains
        expect(page.locator(".st-key-trace-experts_by_layer .main-svg").first).to_be_visible()
        page.screenshot(path=shots / "your-model-collapsed.png")
        expect(verdict).to_contain_text(re.compile(r"All 4 layers are fine.+are back since step \d+"),
                                        timeout=5 * TIMEOUT)  # fmt: skip
        assert training.wait(timeout=300) == 0
        expect(page.get_by_text(f"step {STEPS}, {STEPS} records")).to_be_visible(timeout=TIMEOUT)
        page.screenshot(path=shots / "your-model-rescued.png")


def test_a_layer_and_a_second_trace_are_chosen_and_a_link_keeps_them(page: Page, server: str, runs: Path) -> None:
    write_trace(runs / "bad", EVEN, COLLAPSED)
    write_trace(runs / "good", EVEN, EVEN)
    page.goto(f"{server}/your_model?trace=bad")
    expect(page.get_by_text("block.1: expert 0 takes 98 %")).to_be_visible(timeout=TIMEOUT)
    for name, option in (("Layer", "block.0: Balanced"), ("Beside it", "good")):
        page.get_by_test_id("stSelectbox").filter(has_text=name).get_by_role("combobox").click()
        page.get_by_role("option", name=option, exact=True).click()
    expect(page.get_by_text("All 2 layers are fine")).to_be_visible(timeout=TIMEOUT)
    expect(page).to_have_url(re.compile("trace=bad.*beside=good.*traced=block.0"))
    page.reload()
    expect(page.get_by_text("All 2 layers are fine")).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text("block.0: Balanced.", exact=False).first).to_be_visible()


def test_a_trace_is_uploaded_and_what_is_none_gets_a_sentence(
    page: Page, server: str, runs: Path, tmp_path: Path
) -> None:
    page.goto(f"{server}/your_model")
    page.get_by_text("Open a trace").click()
    broken = tmp_path / "broken.jsonl"
    broken.write_text("nonsense\n")
    page.locator("input[type=file]").set_input_files(broken)
    expect(page.get_by_text("Cannot read broken.jsonl. This is not a trace", exact=False)).to_be_visible(
        timeout=TIMEOUT
    )
    page.locator("input[type=file]").set_input_files(write_trace(tmp_path, COLLAPSED))
    expect(page.get_by_role("button", name="trace.jsonl (uploaded): Collapsed")).to_be_visible(timeout=TIMEOUT)
    expect(page.get_by_text("Expert 0 takes 98 %", exact=False).first).to_be_visible()


def test_the_export_dialog_has_files_to_take_away(page: Page, server: str, runs: Path, tmp_path: Path) -> None:
    write_trace(runs / "bad", EVEN, COLLAPSED)
    page.goto(f"{server}/your_model?trace=bad")
    page.get_by_role("button", name="Export").click()
    for name, begin in (("HTML", b"<!DOCTYPE html>"), ("CSV", b"step,"), ("Parquet", b"PAR1")):
        with page.expect_download() as started:
            page.get_by_role("dialog").get_by_role("button", name=name, exact=True).click()
        file = tmp_path / name
        started.value.save_as(file)
        assert file.read_bytes()[: len(begin)].lower() == begin.lower()
        assert started.value.suggested_filename.startswith("bad.")
