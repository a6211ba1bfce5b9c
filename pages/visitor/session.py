"""One visitor's session: the run they control, and what they may do to it. Everything else is read off the run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import streamlit as st
from pydantic import ValidationError

from moe_sim.config.codec import (
    events_from_text,
    events_to_text,
    from_query,
    thresholds_from_query,
    thresholds_to_query,
    to_query,
)
from moe_sim.config.events import Event
from moe_sim.config.knobs import KNOBS, problems
from moe_sim.config.presets import PRESETS
from moe_sim.config.run_config import RunConfig
from moe_sim.config.thresholds import Thresholds
from moe_sim.live.live_run import LiveRun
from moe_sim.server.messages import encode
from moe_sim.server.server import Server
from pages.visitor import hosting
from pages.visitor.address import AddressBar
from pages.visitor.comparison import ComparisonSession
from pages.visitor.feed import Feed
from pages.visitor.locking import synchronized
from pages.visitor.memory import or_notice_out_of_memory
from pages.visitor.view import View, view_from_query


class Session:
    """Holds the run, the thresholds and the notices for the visitor. Made by `current`.

    Streamlit may start the next script run of a session while the callback of the one before is still at work, so
    whatever acts on the run takes turns, and `settle` waits for whoever is acting.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.acting = threading.RLock()
        self.notices: list[str] = []
        self._address = AddressBar()
        self.feed = Feed()
        self._memory: dict[str, tuple[Hashable, Any]] = {}
        self.turns = 0
        """How often the page was told what to look at. What a browser says of itself may be old when it comes back."""
        self.following: str | None = None
        """The lecture that the visitor watches; they control nothing then."""
        self.lecture: str | None = None
        """The lecture that others may watch here."""
        self._comparison: ComparisonSession | None = None
        self.run = self._start_from(dict(st.query_params))
        self.opened_with = self.run.id
        """Tells a browser whether it still speaks to the same session."""

    def _start_from(self, query: dict[str, str]) -> LiveRun:
        config, notices = from_query(query)
        plan, event_notices = events_from_text(query.get("events", ""), config)
        self.thresholds, threshold_notices = thresholds_from_query(query)
        self.view, view_notices = view_from_query(query)
        self.turns += 1
        self.notices += notices + event_notices + threshold_notices + view_notices
        self.following = query.get("follow")
        if self.following is not None:
            lecture = self.server.lectures.get(self.following)
            if lecture is not None:
                return lecture
            self.following = None
            self.notices.append("That lecture is over, or never was. This is a run of your own.")
        made = or_notice_out_of_memory(lambda: LiveRun(config, plan, runs=self.server.runs), self.notices)
        run = self.server.scheduler.add(made or LiveRun(RunConfig(), runs=self.server.runs))
        run.thresholds = self.thresholds
        self._comparison = ComparisonSession.from_query(query, run, self.thresholds, self.server)
        if self.view.autoplay:
            (self._comparison.run if self._comparison else run).train()
        return run

    def comparison(self) -> ComparisonSession:
        """What the visitor compares; at first their run, with and without a balancing loss."""
        if self._comparison is None:
            self._comparison = ComparisonSession.beside(self.run, self.thresholds, self.server)
        return self._comparison

    @synchronized
    def follow_address(self) -> None:
        """Start the run that the address bar asks for if the visitor changed it (the back button, an edited link)."""
        query = self._address.put_by_visitor()
        if query is not None:
            self._let_go()
            self.run = self._start_from(query)
            self._show_in_lecture()

    @synchronized
    def follow_lecture(self) -> None:
        """Where a lecture is watched: the run that it shows now."""
        if self.following is None:
            return
        shown = self.server.lectures.get(self.following)
        if shown is None or shown.forgotten:
            self.branch_off()
            self.notices.append("The lecture is over. You go on with a run of your own.")
        else:
            self.run = shown

    @synchronized
    def branch_off(self) -> None:
        """Stop watching a lecture and go on with a run of one's own, from the step that it is at."""
        self._take(self.run.branch)

    @synchronized
    def begin_lecture(self) -> str:
        """Let others watch; returns the lecture's id, the same one every time."""
        self.lecture = self.lecture or self.server.lectures.begin(self.run)
        return self.lecture

    def _show_in_lecture(self) -> None:
        if self.lecture is not None:
            self.server.lectures.show(self.lecture, self.run)

    def _let_go(self) -> None:
        if self.following is None:
            self.server.scheduler.remove(self.run)
        if self._comparison is not None:
            self.server.scheduler.remove(self._comparison.run)
            self._comparison = None

    def look(self, **changes: Any) -> None:
        """Note what the visitor looks at now."""
        self.view = replace(self.view, **changes)

    def turn_to(self, tab: str) -> None:
        """Have the page open one of the second row of views."""
        self.look(tab=tab)
        self.turns += 1

    def settle(self) -> None:
        """Wait until nobody acts on the session."""
        with self.acting:
            pass

    def write_address(self, *, comparing: bool = False) -> None:
        """Put the whole configuration into the address bar: of the run, or of the comparison."""
        if comparing:
            base = self.comparison().run.plans[0]
            self._address.write(self.link(base.config, base.events) | self.comparison().to_query())
        elif self.following is not None:
            self._address.write({"follow": self.following} | self.view.to_query())
        else:
            self._address.write(self.link(self.run.start_config, self.run.plan))

    def link(self, config: RunConfig, events: tuple[Event, ...], view: View | None = None) -> dict[str, str]:
        """The query of a link to a run, with the thresholds of now and the view of now or another."""
        text = events_to_text(events)
        plan = {"events": text} if text else {}
        return to_query(config) | plan | thresholds_to_query(self.thresholds) | (view or self.view).to_query()

    @synchronized
    def show(self, make: Callable[[], LiveRun]) -> None:
        """Have the dashboard show another run, not one of knobs."""
        self._take(make)

    def _take(self, make: Callable[[], LiveRun]) -> None:
        """Put a run in the place of the one so far, which stays if the other cannot be made."""
        old, run = self.run, or_notice_out_of_memory(make, self.notices)
        if run is None:
            return
        self.feed.restart()
        run.thresholds = self.thresholds
        self.run = self.server.scheduler.add(run)
        self._show_in_lecture()
        if self.following is None:
            self.server.scheduler.remove(old)
        self.following = None

    def remembered(self, name: str, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gave for `key` the last time, made anew when the key is another: script runs are many."""
        if self._memory.get(name, (None,))[0] != key:
            self._memory[name] = (key, make())
        return self._memory[name][1]

    def next_message(self) -> str:
        """What the run did lately, for a page that is fed without the stream."""
        return self.feed.next(self.run, lambda start: encode(self.run, start, lectures=self.server.lectures))

    @property
    def preset(self) -> str | None:
        """The preset that the run is, whatever its seed; None if it is none."""
        config, plan = self.run.start_config, self.run.plan
        return next((n for n, p in PRESETS.items() if p.config(config.seed) == config and p.plan == plan), None)

    @synchronized
    def change(self, **changes: Any) -> None:
        """Set knobs: live ones act on the run going on, a structural one starts anew. Refused with a notice if the
        result would not be valid, and from whoever watches a lecture."""
        if self.following is not None:
            return
        if "num_experts" in changes and changes["num_experts"] < self.run.config.top_k:
            changes["top_k"] = changes["num_experts"]
            self.notices.append(f"Top-k was lowered to {changes['top_k']}, the number of experts.")
        try:
            if all(KNOBS[name].live for name in changes):
                self.run.update(**changes)
            else:
                self.restart(self.run.start_config.replace(**changes))
        except ValidationError as error:
            self.notices += problems(error).values()

    @synchronized
    def move_threshold(self, **changes: float) -> None:
        """Draw a line of the diagnosis elsewhere; the run goes on as it was."""
        try:
            self.thresholds = Thresholds(**{**self.thresholds.model_dump(), **changes})
        except ValidationError as error:
            self.notices += problems(error).values()
        if self.following is None:
            self.run.thresholds = self.thresholds
        if self._comparison is not None:
            self._comparison.run.thresholds = self.thresholds

    @synchronized
    def choose_preset(self, name: str) -> None:
        """Start a preset with the seed of now."""
        preset = PRESETS[name]
        self.restart(preset.config(self.run.config.seed), preset.plan)

    @synchronized
    def restart(self, config: RunConfig, plan: tuple[Event, ...] | None = None, *, train: bool | None = None) -> None:
        """Begin anew from step 0: goes on training if the run so far was, unless told otherwise."""

        def make(old: LiveRun = self.run) -> LiveRun:
            run = LiveRun(config, old.plan if plan is None else plan, old.rate, runs=self.server.runs)
            if train if train is not None else old.state == "training":
                run.train()
            return run

        self._take(make)

    @synchronized
    def new_seed(self) -> None:
        """Begin anew with other data and other weights."""
        self.change(seed=int(np.random.default_rng().integers(1, 100_000)))


def current() -> Session:
    """The session of the visitor whose script is running."""
    if "session" not in st.session_state:
        st.session_state["session"] = Session(hosting.server())
    return st.session_state["session"]
