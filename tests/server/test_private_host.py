"""What pages/README.md says about a private installation: which names open the websocket, and who reads metrics."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.asynchronous import run_to_end
from tests.support.serving import ROOT, launch, wait_until_healthy

HOSTING = (ROOT / "pages" / "README.md").read_text(encoding="utf-8")


def opens(address: str, host: str) -> bool:
    """Whether a page of `host` that reaches the server under that name, as after DNS rebinding, opens the websocket."""
    where = httpx.URL(address)

    async def open_it() -> bool:
        try:
            async with connect(f"ws://{host}/_stcore/stream", host=where.host, port=where.port,
                               subprotocols=["streamlit"], origin=f"http://{host}"):  # fmt: skip
                return True
        except InvalidStatus:
            return False

    return run_to_end(open_it)


@pytest.mark.parametrize("restricted", [False, True])
def test_with_the_documented_setting_only_the_named_hosts_open_the_websocket(
    restricted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = re.search(r'(STREAMLIT_SERVER_ALLOWED_HOSTS)="(.+?)"', HOSTING)
    assert setting
    if restricted:
        monkeypatch.setenv(*setting.groups())
    with launch(tmp_path / "log.txt") as (address, process):
        wait_until_healthy(address, process)
        assert opens(address, "lab.example:8080")
        assert opens(address, "localhost:8501")
        assert opens(address, "evil.example:8501") is not restricted
        if not restricted:  # what the proxy has to block
            assert "moe_errors_total" in httpx.get(f"{address}/metrics").text
            assert "active_sessions" in httpx.get(f"{address}/_stcore/metrics").text


def test_the_documented_proxy_rule_blocks_both_metrics_addresses_and_nothing_else() -> None:
    rule = re.search(r"location ~ (\S+) \{ return 404; \}", HOSTING)
    assert rule
    for base in ("", "/lab/moe"):
        for path in ("/metrics", "/_stcore/metrics"):
            assert re.search(rule.group(1), base + path)
        for path in ("/", "/compare", "/_stcore/health", "/_stcore/stream", "/live/metrics-1", "/slide/x/imbalance"):
            assert not re.search(rule.group(1), base + path)
