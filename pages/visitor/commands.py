"""Handles the dashboard's buttons. Commands come from the browser; unknown ones are ignored."""

from __future__ import annotations

from typing import Any

from moe_sim.diagnosis.verdict import diagnose
from pages.visitor.comparison import ComparisonSession
from pages.visitor.playback import play
from pages.visitor.replay import REFUSED, Replay, replay_from
from pages.visitor.session import Session
from pages.visitor.view import LAYERS, LOG_AXES, TABS


def obey(session: Session, command: dict[str, Any]) -> None:
    """Executes a command. Viewers of a lecture may change what they look at, but not the run."""
    with session.acting:
        match command:
            case {"name": "resync"}:
                session.feed.restart()
            case {"name": "back", "query": str() as query}:
                session.go_back_to(query)
            case {"name": "view", "tab": str() as tab, "log": list() as log, "layer": int() as layer} if (
                tab in TABS and layer in range(len(LAYERS))
            ):
                if layer != session.view.layer:
                    session.feed.restart()
                session.look(tab=tab, log=tuple(name for name in LOG_AXES if name in log), layer=int(layer))
            case _ if session.following is None:
                _act(session, command)


def obey_beside(session: Session, comparison: ComparisonSession, command: dict[str, Any]) -> None:
    """Executes a command of the Compare page."""
    match command:
        case {"name": "back", "query": str() as query}:
            session.go_back_to(query)
        case _:
            comparison.command(command)


def _act(session: Session, command: dict[str, Any]) -> None:
    run = session.run
    match command:
        case {"name": "alpha", "value": int() | float() as value} if not isinstance(value, bool):
            session.change(aux_loss_coef=value)
        case {"name": "freeze"}:
            session.change(frozen=not run.config.frozen)
        case {"name": "rescue"}:
            session.change(**diagnose(run.history, run.config, run.thresholds).remedy)
        case {"name": "see both"}:
            _see_both(session)
        case {"name": "resume"}:
            _resume(session, replay_from(command))
        case {"name": "reset"}:
            session.restart(run.start_config, train=False)
        case {"name": "lost", "run_id": run.id} if run.forgotten:
            session.restart(run.start_config, train=False)
            session.notices.append("The run was discarded after a long pause and restarts from step 0.")
        case _:
            play(run, command)


def _see_both(session: Session) -> None:
    """Compares the run with itself as it would be without the change that brought its experts back."""
    run = session.run
    rescued_at = diagnose(run.history, run.config, run.thresholds).rescued_at
    if rescued_at is not None:
        session.comparison().beside_unrescued(run, rescued_at)
        session.leave_for = "Compare"


def _resume(session: Session, replay: Replay | None) -> None:
    """Replays the run from before the connection was lost, unless another has been started since."""
    if session.run.id != session.opened_with:
        return
    if replay is None or len(replay.plans) > 1:
        session.notices.append(REFUSED)
    else:
        session.show(lambda: replay.run(session.server.runs))
