"""The Sweep page through Streamlit's own test harness: the gallery, then the visitor's own sweep."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from moe_sim import RunConfig
from moe_sim.config.codec import from_query
from moe_sim.config.errors import InvalidInput, UserError
from moe_sim.config.settings import Settings
from moe_sim.server.server import Server
from moe_sim.sweep.driver import Sweep
from moe_sim.sweep.engines import engine_named
from moe_sim.sweep.estimate import Estimate, Estimates
from moe_sim.sweep.gallery import GRID, gallery
from moe_sim.sweep.grid import Cell, Grid
from moe_sim.sweep.limits import Limits
from moe_sim.sweep.measures import axes_of
from moe_sim.sweep.queue import SweepQueue
from moe_sim.sweep.table import frame_to_rows, rows_to_frame, table_bytes
from moe_sim.sweep.wording import command_of
from pages.sweeps.my_sweeps import MySweeps
from pages.sweeps.table import link_to
from pages.sweeps.upload import opened_table
from pages.sweeps.views import VIEWS
from pages.visitor import hosting
from tests.support.sweep_rows import ALPHAS, row_of, table

FRAME = Path(__file__).resolve().parents[2] / "pages" / "frame.py"
LIMITS = Limits(runs=100, steps=40_000)


@pytest.fixture(autouse=True)
def server() -> Iterator[Server]:
    """A server whose sweeps run, and are timed, in this process."""
    server = Server(Settings(workers=0))
    server.sweeps = SweepQueue(lambda cells: Sweep(cells, engine_named("serial")), LIMITS)
    hosting.install(lambda: server)
    yield server
    server.stop()


@pytest.fixture
def queue(server: Server) -> SweepQueue:
    return server.sweeps


def opened(**query: str) -> AppTest:
    """Opens the Sweep page with a link."""
    app = AppTest.from_file(str(FRAME), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.run()
    app.switch_page("sweep.py")
    return settled(app)


def settled(app: AppTest) -> AppTest:
    app.run()
    assert not app.exception
    assert not app.error
    return app


def sweeps_of(app: AppTest) -> MySweeps:
    return app.session_state["sweeps"]


def words(app: AppTest) -> str:
    """All text on the page, as the visitor reads it."""
    texts = (item.value for item in (*app.markdown, *app.caption, *app.warning, *app.info))
    return "\n".join(texts).replace("\\", "")


def small(app: AppTest, values: str = "0,0.1") -> AppTest:
    """Fills in a short sweep: α alone, two seeds, ten steps."""
    control(app.selectbox, "Second knob").select("none")
    settled(app)
    control(app.text_input, "Values of Load-balancing coefficient α").input(values)
    control(app.number_input, "Seeds").set_value(2)
    control(app.number_input, "Steps").set_value(10)
    return settled(app)


def control(kind, label: str):
    return next(one for one in kind if one.label == label)


def measured(app: AppTest) -> AppTest:
    """Waits until the page says how long the sweep takes."""
    deadline = time.monotonic() + 120
    while "measuring how long" in words(app):
        assert time.monotonic() < deadline
        settled(app)
    return app


def start(app: AppTest) -> AppTest:
    control(app.button, "Start").click()
    return settled(app)


def finished(app: AppTest) -> AppTest:
    deadline = time.monotonic() + 120
    while sweeps_of(app).under_way:
        assert time.monotonic() < deadline
        settled(app)
    return settled(app)


def view(app: AppTest, name: str) -> AppTest:
    next(group for group in app.get("button_group") if name in group.options).set_value(name)
    return settled(app)


def test_the_gallery_matches_its_command() -> None:
    frame = gallery()
    assert axes_of(frame) == GRID.axes
    assert set(frame["run"]) == {cell.run for cell in GRID.cells()}
    assert set(frame["status"]) <= {"done", "diverged"}
    assert GRID.seeds >= 5


def test_the_first_visit_shows_the_gallery_with_its_description_and_command() -> None:
    app = opened()
    assert "α × experts × k" in words(app)
    assert app.code[0].value == command_of(GRID, "moe_sim/sweep/gallery.parquet")
    assert len(app.get("plotly_chart")) == 1
    assert not app.warning


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_opens(name: str) -> None:
    app = view(opened(), name)
    assert len(app.get("plotly_chart")) == (name != "Table")
    assert len(app.dataframe) == (name == "Table")


def test_a_view_follows_its_choices() -> None:
    app = opened()
    control(app.selectbox, "Measure").select("imbalance_ratio")
    settled(app)
    control(app.selectbox, "Against").select("num_experts")
    settled(app)
    assert "Imbalance ratio max/min against experts" in words(app)
    assert {one.label for one in app.main.selectbox} == {"Measure", "Against", "One line per", "Top-k"}


def test_the_form_shows_the_number_of_runs_and_their_base_configuration() -> None:
    app = small(opened(router_noise="gaussian", seed="5"))
    assert "**4 runs**, a few seconds" in words(measured(app))
    assert (
        "Everything else is as in your run on the Live page: Router noise gaussian, the rest at the defaults."
        in words(app)
    )
    assert "with the seeds 5, 6, …" in control(app.number_input, "Seeds").help


def test_the_results_of_a_sweep_replace_the_gallery() -> None:
    app = finished(start(small(opened())))
    rows = sweeps_of(app).sweep.rows
    assert [(row["aux_loss_coef"], row["seed"], row["steps"]) for row in rows] == [
        (0.0, 0, 10), (0.0, 1, 10), (0.1, 0, 10), (0.1, 1, 10)
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"done"}
    assert app.code[0].value == "python -m moe_sim sweep aux_loss_coef=0,0.1 --seeds 2 --steps 10 --out sweep.parquet"
    assert "4 runs" in words(app)
    progress_bar = app.get("progress")[0]
    assert progress_bar.value == 100
    assert "Finished, 4 of 4 runs." in progress_bar.proto.text
    view(app, "Table")
    assert len(app.dataframe[0].value) == 4


def test_start_takes_the_values_on_the_screen_even_if_no_script_run_has_seen_them() -> None:
    app = small(opened())
    control(app.text_input, "Values of Load-balancing coefficient α").input("0.3")
    control(app.number_input, "Steps").set_value(12)
    rows = sweeps_of(finished(start(app))).sweep.rows
    assert [(row["aux_loss_coef"], row["seed"], row["steps"]) for row in rows] == [(0.3, 0, 12), (0.3, 1, 12)]


def test_start_with_invalid_values_that_no_script_run_has_seen_adds_a_notice(queue: SweepQueue) -> None:
    app = small(opened())
    control(app.text_input, "Values of Load-balancing coefficient α").input("-1")
    start(app)
    assert "must be a number from 0 to 10" in words(app)
    assert not sweeps_of(app).under_way
    assert sweeps_of(app).sweep is None


def test_the_gallery_can_be_shown_again() -> None:
    app = finished(start(small(opened())))
    next(group for group in app.get("button_group") if "Gallery" in group.options).set_value("Gallery")
    settled(app)
    assert "α × experts × k" in words(app)
    assert "--seeds 5" in app.code[0].value


def test_starting_a_larger_sweep_runs_only_what_is_missing() -> None:
    app = finished(start(small(opened())))
    small(app, "0,0.1,1")
    assert "**6 runs**, 4 of them already done" in words(app)
    before = sweeps_of(app).sweep.rows
    app = finished(start(app))
    sweep = sweeps_of(app).sweep
    assert sweep.rows[:4] == before
    assert len(sweep.rows) == 6


def test_a_cancelled_sweep_ends_and_keeps_its_rows(queue: SweepQueue) -> None:
    app = small(opened())
    control(app.number_input, "Steps").set_value(5000)
    app = start(settled(app))
    began = time.monotonic()
    control(app.button, "Cancel").click()
    app = finished(settled(app))
    assert time.monotonic() - began < 10
    assert sweeps_of(app).sweep.state == "cancelled"
    assert "Start the same sweep again to run only what is missing." in app.get("progress")[0].proto.text
    assert set(sweeps_of(app).kept) == {row["run"] for row in sweeps_of(app).sweep.rows}
    assert not control(app.button, "Start").disabled


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ("0,none", "Load-balancing coefficient α (aux_loss_coef) must be a number from 0 to 10, not 'none'."),
        ("", "must be a number from 0 to 10"),
        ("0..10:90", "180 runs are more than the 100 that a sweep on this page may have."),
        ("0..10:900,0..9:900,0..8:900", "runs are more than the 100"),
    ],
)
def test_invalid_values_get_one_sentence_and_no_start(values: str, sentence: str) -> None:
    app = small(opened(), values)
    assert sentence in words(app)
    assert control(app.button, "Start").disabled


def test_invalid_combinations_are_counted_with_the_reason() -> None:
    app = opened()
    for label, name in (("First knob", "num_experts"), ("Second knob", "top_k")):
        control(app.selectbox, label).select(name)
        settled(app)
    control(app.text_input, "Values of Experts").input("2,8")
    control(app.text_input, "Values of Top-k").input("1,4")
    control(app.number_input, "Steps").set_value(10)
    settled(app)
    assert "**9 runs**" in words(app)
    assert "3 runs with invalid combinations skipped. Top-k (top_k) must be from 1 to 2" in words(app)


def test_the_form_keeps_its_values_while_other_pages_are_open() -> None:
    app = small(opened(), "0,0.5")
    for page in ("live.py", "sweep.py"):
        app.switch_page(page)
        settled(app)
    assert control(app.text_input, "Values of Load-balancing coefficient α").value == "0,0.5"
    assert control(app.selectbox, "Second knob").value == "none"
    assert control(app.number_input, "Seeds").value == 2


def test_failed_runs_are_listed_with_their_configuration(monkeypatch: pytest.MonkeyPatch, queue: SweepQueue) -> None:
    class Failing(Sweep):
        def run(self, on_row=None):
            for cell in self._cells.values():
                self._rows[cell.key] = row_of(cell, *(("failed", "it broke") if cell.config.seed else ()))
            self.state = "finished"
            return self.rows

    monkeypatch.setattr(queue, "_start", lambda cells: Failing(cells, engine_named("serial")))
    app = finished(start(small(opened())))
    assert "2 runs without a result" in [box.label for box in app.expander]
    assert "- α 0.1, seed 1: failed. it broke" in words(app)


def test_a_sweep_that_could_not_run_says_why_and_draws_no_empty_chart(
    monkeypatch: pytest.MonkeyPatch, queue: SweepQueue
) -> None:
    class Unable(Sweep):
        def run(self, on_row=None):
            raise UserError("No worker answers.")

    monkeypatch.setattr(queue, "_start", lambda cells: Unable(cells, engine_named("serial")))
    app = finished(start(small(opened())))
    assert app.get("progress")[0].proto.text == "The sweep could not run. No worker answers."
    assert not app.get("plotly_chart")
    assert not app.dataframe


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_a_file_written_by_the_command_line_opens_with_its_own_axes(ending: str) -> None:
    app = opened()
    frame = table({"aux_loss_coef": ALPHAS, "capacity_factor": (1.0, None)})
    sweeps_of(app).open(f"mine{ending}", table_bytes(frame_to_rows(frame), ending))
    settled(app)
    assert "24 rows of mine" in words(app)
    assert not app.code
    pd.testing.assert_frame_equal(sweeps_of(app).table().frame, frame)
    assert list(sweeps_of(app).table().axes) == ["aux_loss_coef", "capacity_factor"]


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


IMPOSSIBLE = rows_to_frame([row_of(Cell(RunConfig(), 10))]).assign(num_experts=10_000)
STRANGE = rows_to_frame([row_of(Cell(RunConfig(), 10))]).assign(status="[a link](https://example.org)")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.csv", b"step,task_loss\r\n1,2.3\r\n"), ("nothing.csv", b""), ("noise.parquet", b"PAR1 and then nothing"),
        ("empty.parquet", b""), ("other.parquet", parquet(pd.DataFrame({"a": [1]}))), ("noise.csv", bytes(range(256))),
        ("impossible.parquet", parquet(IMPOSSIBLE)), ("strange.parquet", parquet(STRANGE)),
    ],
)  # fmt: skip
def test_any_other_file_is_refused_with_one_sentence(name: str, content: bytes) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} is not a table written by python -m moe_sim sweep.$"):
        opened_table(name, content)


def test_a_file_with_too_many_rows_is_not_unpacked() -> None:
    frame = pd.DataFrame({"run": ["x"] * 20_001})
    with pytest.raises(InvalidInput, match=r"big\.parquet has more than the 20,000 rows"):
        opened_table("big.parquet", parquet(frame))


def test_the_link_of_a_row_opens_exactly_its_run() -> None:
    config = RunConfig(aux_loss_coef=0.03, capacity_factor=None, top_k=2, seed=4, balancing="importance")
    cell = Cell(config, 10)
    for row in (row_of(cell), rows_to_frame([row_of(cell)]).to_dict("records")[0]):
        parts = urlsplit(link_to(row))
        query = dict(parse_qsl(parts.query))
        assert parts.path == "/"
        assert from_query(query) == (config, [])
        assert query["autoplay"] == "1"
        assert set(query) == {"v", "aux_loss_coef", "top_k", "seed", "balancing", "autoplay"}


def test_the_page_says_that_it_measures_and_start_is_there_meanwhile(server: Server) -> None:
    permit = threading.Event()
    server.estimates = Estimates(lambda config: 0.001 * permit.wait(20))
    app = small(opened())
    assert "**4 runs**, measuring how long they take …" in words(app)
    assert not control(app.button, "Start").disabled
    permit.set()
    assert "**4 runs**, a few seconds" in words(measured(app))


@pytest.mark.parametrize("seconds", [10.0, 0.9])
def test_a_sweep_that_would_take_too_long_cannot_be_started(server: Server, seconds: float) -> None:
    server.sweeps.limits = Limits(seconds=30, run_seconds=8 if seconds < 1 else 1e9)
    server.estimates = Estimates(lambda config: seconds)
    app = measured(small(opened()))
    sentence = "This sweep would take" if seconds > 1 else "A single run would take"
    assert sentence in words(app)
    assert control(app.button, "Start").disabled


def test_start_waits_for_the_measurement_and_refuses_what_would_take_too_long(server: Server) -> None:
    permit = threading.Event()
    server.estimates = Estimates(lambda config: 1e6 * permit.wait(20))
    app = small(opened())
    threading.Timer(0.3, permit.set).start()
    control(app.button, "Start").click()
    app.run()
    assert sweeps_of(app).sweep is None
    assert "This sweep would take" in words(app)


def test_a_visitor_has_one_sweep_at_a_time_whatever_the_browser_sends(queue: SweepQueue) -> None:
    mine, cells = MySweeps(queue), Grid(RunConfig(num_experts=2, batch_tokens=32), {}, 2, 2_000)
    mine.start(cells)
    with pytest.raises(InvalidInput, match="One sweep at a time"):
        mine.start(cells)
    assert queue.waiting == 0


def test_the_waiting_line_tells_how_long_it_is(server: Server) -> None:
    running = server.sweeps.book([Cell(RunConfig(batch_tokens=2048), 5_000)], estimate=Estimate(45.0, 45.0))
    app = start(small(opened()))
    assert [bar.proto.text for bar in app.get("progress")] == ["Queued: 1 sweep ahead of yours, about 45 s."]
    running.cancel()
    assert finished(app)
