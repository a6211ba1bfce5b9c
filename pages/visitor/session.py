"""One visitor's session: the run they control and the actions on it. Everything else is derived from the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import streamlit as st
from pydantic import ValidationError

from moe_sim.config.codec import (
    MOST_EVENTS,
    events_from_text,
    events_to_text,
    from_query,
    thresholds_from_query,
    thresholds_to_query,
    to_link,
)
from moe_sim.config.errors import InvalidInput
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS, problems
from moe_sim.config.presets import PRESETS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.live.lectures import NoRoom
from moe_sim.live.live_run import LiveRun
from moe_sim.server.messages import encode
from moe_sim.server.server import Server
from moe_sim.tasks.own_text import OwnText, own_text
from pages.text.notices import Notices
from pages.visitor import hosting
from pages.visitor.address import AddressBar
from pages.visitor.comparison import ComparisonSession, plan_of
from pages.visitor.course import CourseProgress
from pages.visitor.feed import Feed
from pages.visitor.locking import synchronized
from pages.visitor.memory import or_notice_out_of_memory
from pages.visitor.museum import MuseumVisit
from pages.visitor.quiz import QuizProgress
from pages.visitor.trace_choice import TraceChoice, without_choice
from pages.visitor.view import View, view_from_query


class Session:
    """Holds the visitor's run, thresholds and notices. `current` creates it.

    Streamlit may start the next script run of a session while a callback of the previous one is still running. Methods
    that act on the run therefore hold the lock `acting`, and `settle` waits for it.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.presence = hosting.presence()
        self.acting = threading.RLock()
        self.notices = Notices()
        self._address = AddressBar()
        self.feed = Feed()
        self._cache: dict[str, tuple[Hashable, Any]] = {}
        self.turns = 0
        """How often Python has set the view. The browser follows only a new number, since its own view may be newer."""
        self.following: str | None = None
        """The id of the lecture that the visitor watches and cannot control."""
        self.leave_for: str | None = None
        """The title of the page to open next, after a button of the dashboard."""
        self.dialog: Literal["share", "export"] | None = None
        """The dialog to open next."""
        self.course, self.quiz, self.museum = CourseProgress(), QuizProgress(), MuseumVisit.from_query(st.query_params)
        self.next_values: dict[str, Any] = {}
        """The values that widgets get when they are drawn next. A callback that wrote them to `st.session_state` could
        be interrupted (see `reported`)."""
        self._lecture: str | None = None
        self._text: OwnText | None = None
        """The visitor's own text, known for as long as this refers to it."""
        self._comparison: ComparisonSession | None = None
        self.traces = TraceChoice.from_query(st.query_params)
        """What the visitor looks at on the page *Your model*."""
        self.run = self._start_from(dict(st.query_params))
        self.opened_with = self.run.id
        """The first run's id, from which a browser can tell whether the session is still the same."""

    def _start_from(self, query: dict[str, str]) -> LiveRun:
        config, notices = from_query(query)
        plan, event_notices = events_from_text(query.get("events", ""), config)
        self.thresholds, threshold_notices = thresholds_from_query(query)
        self.view, view_notices = view_from_query(query)
        self.turns += 1
        self.notices.extend(notices + event_notices + threshold_notices + view_notices)
        self.following = query.get("follow")
        if self.following is not None:
            lecture = self.server.lectures.get(self.following)
            if lecture is not None:
                lecture.keep_for(self.presence)
                return lecture
            self.following = None
            self.notices.append("That lecture has ended or does not exist. This is your own run.")
        made = or_notice_out_of_memory(lambda: LiveRun(config, plan, runs=self.server.runs), self.notices)
        run = self.server.scheduler.add(made or LiveRun(RunConfig(), runs=self.server.runs))
        run.keep_for(self.presence)
        run.thresholds, run.slow_start = self.thresholds, self.server.settings.slow_start
        self._comparison = ComparisonSession.from_query(query, run, self.thresholds, self.server)
        if self.view.autoplay:
            (self._comparison.run if self._comparison else run).train()
        return run

    def comparison(self) -> ComparisonSession:
        """Returns the comparison; at first the visitor's run with and without the load-balancing loss."""
        if self._comparison is None:
            self._comparison = ComparisonSession.beside(self.run, self.thresholds, self.server)
        return self._comparison

    @synchronized
    def follow_address(self) -> None:
        """Starts the run in the address bar if the visitor changed it (back button, edited link)."""
        before = self._address.written
        query = self._address.put_by_visitor()
        if query is None:
            return
        self.traces = TraceChoice.from_query(query)
        if without_choice(query) != without_choice(before):
            self._release_runs()
            self.run = self._start_from(query)
            self._show_in_lecture()

    @synchronized
    def follow_lecture(self) -> None:
        """Switches to the run that the watched lecture shows now, or branches off if the lecture has ended."""
        if self.following is None:
            return
        shown = self.server.lectures.get(self.following)
        if shown is None or shown.forgotten:
            self.branch_off()
            self.notices.append("The lecture has ended. You continue with your own run.")
        else:
            self.run = shown
            self.run.keep_for(self.presence)

    @synchronized
    def branch_off(self) -> None:
        """Stops watching a lecture and continues with a copy of its run from the current step."""
        self._replace_run(self.run.branch)

    @property
    def lecture(self) -> str | None:
        """The id of the visitor's own lecture, unless it has ended."""
        going = self._lecture is not None and self.server.lectures.get(self._lecture) is not None
        return self._lecture if going else None

    @synchronized
    def begin_lecture(self) -> str | None:
        """Lets others watch. Returns the lecture's id, which stays the same. If there is no room, adds a notice."""
        if self.lecture is None:
            try:
                self._lecture = self.server.lectures.begin(self.run, self.presence)
            except NoRoom as error:
                self.notices.append(str(error))
        return self.lecture

    def _show_in_lecture(self) -> None:
        if self.lecture is not None:
            self.server.lectures.show(self.lecture, self.run)

    def _release_runs(self) -> None:
        if self.following is None:
            self.server.scheduler.remove(self.run)
        if self._comparison is not None:
            self.server.scheduler.remove(self._comparison.run)
            self._comparison = None

    def go_back_to(self, query: str) -> None:
        """Makes `follow_address` open a query string next, after Back or Forward."""
        self._address.go_back_to(query)

    def look(self, **changes: Any) -> None:
        """Records what the visitor looks at."""
        self.view = replace(self.view, **changes)

    def turn_to(self, tab: str) -> None:
        """Makes the page open a tab."""
        self.look(tab=tab)
        self.turns += 1

    def open_dialog(self, name: Literal["share", "export"]) -> None:
        """Makes the next script run show a dialog."""
        self.dialog = name

    def put_next_values(self) -> None:
        """Gives widgets their next values. Repeated if it is interrupted."""
        while self.next_values:
            key = next(iter(self.next_values))
            st.session_state[key] = self.next_values[key]
            del self.next_values[key]

    def settle(self) -> None:
        """Waits for an action in progress."""
        with self.acting:
            pass

    def look_at_trace(self, **changes: str) -> None:
        """Records what the visitor looks at on the page *Your model*."""
        self.traces = replace(self.traces, **changes)

    def write_address(self, *, comparing: bool = False, watching: bool = False, exhibit: int | None = None) -> None:
        """Writes the whole configuration of the run or the comparison to the address bar, and on the page of traces
        what is looked at there; in the museum, the number of the exhibit alone, since its run names the mistake."""
        traces = self.traces.to_query() if watching else {}
        if comparing:
            base = self.comparison().run.plans[0]
            self._address.write(self.link(base.config, base.events) | self.comparison().to_query())
        elif exhibit is not None:
            self._address.write({"exhibit": str(exhibit)})
        elif self.following is not None:
            self._address.write({"follow": self.following} | self.view.to_query() | traces)
        else:
            self._address.write(self.link(*self._on_screen()) | traces)

    def _on_screen(self) -> tuple[RunConfig, tuple[Event, ...]]:
        """What it takes to see the same run again: its configuration at step 0, and all changes, made and planned. If
        they are too many for a link, the current configuration and the planned changes."""
        plan = plan_of(self.run)
        config, events = plan.config, plan.events
        if events and events[0].step == 0:
            config, events = config.replace(**events[0].changes), events[1:]
        if sum(len(event.changes) for event in events) > MOST_EVENTS:
            return self.run.start_config, self.run.plan
        return config, events

    def link(self, config: RunConfig, events: tuple[Event, ...], view: View | None = None) -> dict[str, str]:
        """Returns the query of a link to a run, with the current thresholds and the current or another view."""
        text = events_to_text(events)
        plan = {"events": text} if text else {}
        return to_link(config) | plan | thresholds_to_query(self.thresholds) | (view or self.view).to_query()

    @synchronized
    def show(self, make: Callable[[], LiveRun]) -> None:
        """Shows another run, such as a recorded or replayed one."""
        self._replace_run(make)

    def _replace_run(self, make: Callable[[], LiveRun]) -> None:
        """Replaces the run. The old one stays if memory does not suffice for the new one."""
        old, run = self.run, or_notice_out_of_memory(make, self.notices)
        if run is None:
            return
        self.feed.restart()
        run.thresholds, run.slow_start = self.thresholds, old.slow_start
        self.run = self.server.scheduler.add(run)
        self.run.keep_for(self.presence)
        self._show_in_lecture()
        if self.following is None:
            self.server.scheduler.remove(old)
        self.following = None

    def remembered(self, name: str, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns `make()`, cached under `name` until `key` changes. Script runs are frequent."""
        if self._cache.get(name, (None,))[0] != key:
            self._cache[name] = (key, make())
        return self._cache[name][1]

    def next_message(self) -> str:
        """Returns the next message, for pages without the stream."""
        lectures, layer = self.server.lectures, self.view.layer_index
        return self.feed.next(self.run, lambda start: encode(self.run, start, lectures=lectures, layer=layer))

    @property
    def preset(self) -> str | None:
        """The name of the preset that the run started from, with any seed, or None."""
        config, plan = self.run.start_config, self.run.plan
        return next((n for n, p in PRESETS.items() if p.config(config.seed) == config and p.plan == plan), None)

    @synchronized
    def change(self, **changes: Any) -> None:
        """Sets knobs. Live ones act on the current run; a structural one restarts it. Invalid values are refused with a
        notice. Has no effect while the visitor watches a lecture, nor while a run is replayed: after a lost connection,
        the browser reports its sliders as they were to the new session, which would take that for a change."""
        if self.following is not None or self.run.catching_up:
            return
        experts = changes.get("num_experts")
        if isinstance(experts, int) and experts < self.run.config.top_k:
            changes["top_k"] = experts
            self.notices.append(f"Top-k was lowered to {changes['top_k']}, the number of experts.")
        try:
            if all(KNOBS[name].live for name in changes):
                self.run.update(**changes)
            else:
                self.restart(self.run.start_config.replace(**changes))
        except ValidationError as error:
            self.notices.extend(problems(error).values())

    @synchronized
    def move_threshold(self, **changes: float) -> None:
        """Changes thresholds of the diagnosis, which do not affect the run."""
        try:
            self.thresholds = Thresholds(**{**self.thresholds.model_dump(), **changes})
        except ValidationError as error:
            self.notices.extend(problems(error).values())
        if self.following is None:
            self.run.thresholds = self.thresholds
        if self._comparison is not None:
            self._comparison.run.thresholds = self.thresholds

    @synchronized
    def use_text(self, content: str) -> None:
        """Starts the language model on a text of the visitor's own, which this session remembers. If it is not
        suitable, adds a notice."""
        try:
            self._text = own_text(content)
        except InvalidInput as error:
            self.notices.append(str(error))
        else:
            self.change(own_text=self._text.key)

    @synchronized
    def choose_preset(self, name: str) -> None:
        """Starts a preset with the current seed."""
        preset = PRESETS[name]
        self.restart(preset.config(self.run.config.seed), preset.plan)

    @synchronized
    def restart(self, config: RunConfig, plan: tuple[Event, ...] | None = None, *, train: bool | None = None) -> None:
        """Restarts from step 0. If `train` is None, the new run trains if the old one was training."""

        def make(old: LiveRun = self.run) -> LiveRun:
            run = LiveRun(config, old.plan if plan is None else plan, old.rate, runs=self.server.runs)
            if train if train is not None else old.state == "training":
                run.train()
            return run

        self._replace_run(make)

    @synchronized
    def new_seed(self) -> None:
        """Restarts with another seed, that is, with other data and weights."""
        self.change(seed=int(np.random.default_rng().integers(1, 100_000)))


def current() -> Session:
    """Returns the session of the visitor whose script is running."""
    session = st.session_state.get("session")
    if session is None:  # not read back: the state may be emptied at any time, when the visitor leaves
        session = st.session_state["session"] = Session(hosting.server())
    return session
