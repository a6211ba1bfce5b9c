"""Share and Export: links that reproduce a run, QR codes, embeds, slides."""

from __future__ import annotations

import json
from html import unescape
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import segno
from starlette.applications import Starlette
from starlette.routing import Route
from streamlit.testing.v1 import AppTest

from moe_sim import KNOBS, PRESETS, RunConfig
from moe_sim.config.codec import MOST_EVENTS
from moe_sim.config.thresholds import Thresholds
from moe_sim.history.to_json import run_to_json
from moe_sim.live.live_run import LiveRun
from moe_sim.server.slides import LONGEST_LINK, slide_endpoint
from pages.sidebar import sharing
from pages.visitor import address
from pages.visitor.commands import obey
from pages.visitor.view import HIDEABLE, View, view_from_query
from tests.live.test_branching import MOVES, PLAN, advance, assert_same, handled
from tests.support.apps import controls, opened, press, run_of, session_of, settled
from tests.support.asynchronous import run_to_end
from tests.support.inspecting import small_config


def query_of(link: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(link).query, keep_blank_values=True, strict_parsing=True))


def link_in(app: AppTest) -> str:
    """The first link in the dialog."""
    return app.code[0].value


@pytest.fixture(scope="module")
def original() -> LiveRun:
    return handled(small_config(), PLAN)


@pytest.mark.parametrize(
    ("url", "base", "path", "link"),
    [
        (None, "", "", "http://localhost:8501/?seed=7"),
        ("http://127.0.0.1:8600/", "", "learn", "http://127.0.0.1:8600/learn?seed=7"),
        ("https://lab.example/quiz", "", "", "https://lab.example/?seed=7"),
        ("https://lab.example/moe/quiz?x=1#y", "moe", "learn", "https://lab.example/moe/learn?seed=7"),
        ("https://lab.example/moe/", "/moe/", "", "https://lab.example/moe/?seed=7"),
        ("https://lab.example/a/b/anatomy", "a/b", "", "https://lab.example/a/b/?seed=7"),
    ],
)
def test_a_link_has_the_host_name_and_base_path_that_the_visitor_uses(
    url: str | None, base: str, path: str, link: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = SimpleNamespace(context=SimpleNamespace(url=url), get_option={"server.baseUrlPath": base}.get)
    monkeypatch.setattr(address, "st", here)
    assert address.address(path, {"seed": "7"}) == link


def test_any_query_survives_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "st", SimpleNamespace(context=SimpleNamespace(url=None), get_option=lambda name: ""))
    query = {"events": "5:top_k=2;8:aux_loss_coef=0.1", "hide": "seed,tabs", "odd": '&=#?+% "<script>α'}
    link = address.address("", query)
    assert query_of(link) == query
    assert "events=5:top_k=2;8:aux_loss_coef=0.1" in link
    assert not set(' "<>α') & set(link)


def test_a_link_with_changes_reproduces_the_run_to_the_last_digit(original: LiveRun) -> None:
    session = session_of(opened(dead_share="0.3"))
    session.show(original.branch)
    view = View(tab="router", hide=frozenset({"seed", "presets"}), level="expert")
    query = session.link(original.history.initial_config, original.history.events, view)
    app = opened(**query)
    assert not app.warning
    assert session_of(app).view == view
    assert session_of(app).thresholds == Thresholds(dead_share=0.3)
    run = run_of(app)
    assert run.start_config == original.history.initial_config
    again = advance(LiveRun(run.start_config, run.plan), len(original.history))
    assert_same(again.history, original.history)


def test_a_run_opened_from_a_link_makes_every_change_at_its_step(original: LiveRun) -> None:
    session = session_of(opened())
    run = run_of(opened(**session.link(original.history.initial_config, original.history.events)))
    run.budget = len(original.history)
    run.train()
    while run.state == "training":  # in addition to the scheduler, which may be slower
        run.touch()
        run.advance()
    assert run.state == "finished"
    assert_same(run.history, original.history)


def test_the_dialog_offers_a_link_with_the_changes_or_without() -> None:
    app = opened(num_experts="4", batch_tokens="64")
    run = run_of(app)
    for step in range(12):
        if step in MOVES:
            run.update(**MOVES[step])
        run.advance_by(1)
    press(app, "Share")
    assert len(app.code) == 2
    (label,) = (label for label in controls(app) if label.startswith("Include my changes"))
    assert label == "Include my changes so far (4 changes)"
    with_changes = query_of(link_in(app))
    assert with_changes["events"] == "0:router_noise=learned;5:top_k=2;5:capacity_factor=1;8:z_loss_coef=0.01"
    iframe = unescape(app.code[1].value)
    assert iframe.startswith('<iframe src="http')
    assert query_of(iframe.split('"')[1]) == with_changes | {"embed": "true"}
    again = run_of(opened(**with_changes))
    assert_same(advance(LiveRun(again.start_config, again.plan), 12).history, run.history)


def test_a_run_without_changes_has_its_plan_in_the_link() -> None:
    app = opened(seed="3")
    session_of(app).choose_preset("too-late")
    settled(app)
    press(app, "Share")
    run = run_of(opened(**query_of(link_in(app))))
    assert run.plan == PRESETS["too-late"].plan
    assert run.start_config == PRESETS["too-late"].config(3)


def test_starting_a_lecture_gives_a_link_for_viewers() -> None:
    app = opened()
    press(app, "Share")
    press(app, "Start a lecture")
    session = session_of(app)
    press(app, "Share")  # a browser keeps the dialog open; here every click runs the whole page
    link = app.code[-1].value
    assert query_of(link) == {"follow": session.lecture}
    assert session.lecture is not None
    assert session.server.lectures.get(session.lecture) is session.run
    assert run_of(opened(server=session.server, **query_of(link))) is session.run
    assert session.begin_lecture() == session.lecture


def test_the_export_dialog_opens_with_and_without_steps() -> None:
    app = opened(num_experts="2", batch_tokens="64")
    press(app, "Export")
    assert any(text.value.startswith("Step 0 of the run.") for text in app.markdown)
    run_of(app).advance_by(3)
    press(app, "Export")
    assert any(text.value.startswith("Step 3 of the run.") for text in app.markdown)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 10_000, b"<svg onload=alert(1)>"])
def test_a_file_that_is_not_a_run_is_refused_with_a_notice_and_the_current_run_stays(content: bytes) -> None:
    session = session_of(opened())
    run = session.run
    sharing._load(session, content)
    (notice,) = session.notices
    assert notice.endswith(".")
    assert session.run is run
    assert not run.forgotten


def test_a_loaded_run_is_shown_as_it_was_and_reset_retrains_it(original: LiveRun) -> None:
    app = opened(collapse_share="0.9")
    session = session_of(app)
    sharing._load(session, run_to_json(original.history, original.probe).encode())
    settled(app)
    assert "A recorded run, as it was." in app.warning[0].value
    assert session.run.is_recorded
    assert session.run.thresholds == Thresholds(collapse_share=0.9)
    assert_same(session.run.history, original.history)
    session.change(aux_loss_coef=3.0)
    settled(app)
    assert session.run.config == original.config
    obey(session, {"name": "reset"})
    assert not session.run.is_recorded
    assert session.run.start_config == original.history.initial_config
    again = advance(LiveRun(session.run.start_config, session.run.plan), len(original.history))
    assert_same(again.history, original.history)


def test_a_full_link_without_changes_fits_into_a_qr_code() -> None:
    config = RunConfig(
        **{name: knob.maximum / 3 for name, knob in KNOBS.items() if knob.kind is float and knob.minimum == 0}
    )
    session = session_of(opened())
    view = View(tab="specialization", log=(), hide=frozenset(HIDEABLE), autoplay=True, level="practitioner")
    query = session.link(config, PLAN, view) | {"embed": "true"}
    assert view_from_query(query) == (view, [])
    link = "https://a-rather-long-name.university.example/courses/deep-learning/learn?" + "&".join(
        f"{name}={value}" for name, value in query.items()
    )
    assert segno.make(link, error="l").version <= 40


def test_a_link_with_many_changes_fits_into_a_qr_code() -> None:
    app = opened(num_experts="2", batch_tokens="64")
    run = run_of(app)
    for count in range(MOST_EVENTS // 2):
        run.update(aux_loss_coef=0.001 * (count + 1))
        run.advance_by(1)
    press(app, "Share")
    assert len(query_of(link_in(app))["events"].split(";")) == MOST_EVENTS // 2
    assert not app.exception


def fetch(runs: dict[str, LiveRun], path: str, **query: str) -> httpx.Response:
    """Returns the endpoint's response."""
    server = Starlette(routes=[Route("/slide/{run_id}/{name}", slide_endpoint(runs.get))])

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=server)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.get(path, params=query)

    return run_to_end(get)


@pytest.mark.parametrize("name", ["routing_map", "imbalance", "utilization"])
def test_a_slide_is_a_large_figure_with_small_print_about_the_run(name: str, original: LiveRun) -> None:
    answer = fetch({"a": original}, f"/slide/a/{name}", link="https://lab.example/?seed=0")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    figure = json.loads(answer.text)
    assert (figure["layout"]["width"], figure["layout"]["height"]) == (1600, 900)
    print_ = figure["layout"]["annotations"][-1]["text"]
    for words in ("num_experts=4", "seed=0", "moved 0:router_noise=learned", "step 30", "https://lab.example/?seed=0"):
        assert words in print_.replace("<br>", " ")


def test_a_slide_of_a_run_without_steps_can_be_drawn() -> None:
    answer = fetch({"a": LiveRun(small_config())}, "/slide/a/imbalance")
    assert answer.status_code == 200
    assert json.loads(answer.text)["layout"]["annotations"][-1]["text"].endswith("step 0")


@pytest.mark.parametrize(
    "path", ["/slide/b/imbalance", "/slide/a/nothing", "/slide/a/__class__", "/slide/a/%3Cscript%3E", "/slide/%00/x"]
)
def test_an_unknown_run_or_chart_gives_404(path: str, original: LiveRun) -> None:
    answer = fetch({"a": original}, path)
    assert answer.status_code == 404
    assert answer.json() == {"error": "There is no such chart (any more)."}


@pytest.mark.parametrize(
    "link", ["<img src=x onerror=alert(1)>", "<a href='javascript:alert(1)'>x</a>", "</script>", "&lt;b&gt;", "\x00"]
)
def test_markup_in_a_link_is_only_text(link: str, original: LiveRun) -> None:
    answer = fetch({"a": original}, "/slide/a/imbalance", link=link)
    print_ = json.loads(answer.text)["layout"]["annotations"][-1]["text"].replace("<br>", " ")
    assert "<" not in print_
    assert unescape(print_).endswith(link)


def test_a_link_of_any_length_gives_a_few_lines_of_small_print(original: LiveRun) -> None:
    answer = fetch({"a": original}, "/slide/a/imbalance", link="x" * (10 * LONGEST_LINK))
    assert answer.status_code == 200
    assert len(json.loads(answer.text)["layout"]["annotations"][-1]["text"].split("<br>")) == 5
