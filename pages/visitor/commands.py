"""What the dashboard's buttons do. Commands come from the browser: whatever is not known is ignored."""

from __future__ import annotations

from typing import Any

from pages.visitor.playback import play
from pages.visitor.replay import REFUSED, Replay, replay_from
from pages.visitor.session import Session
from pages.visitor.view import LOG_AXES, TABS


def obey(session: Session, command: dict[str, Any]) -> None:
    """Do what a button asks. Who watches a lecture may look around, and act on nothing."""
    with session.acting:
        match command:
            case {"name": "resync"}:
                session.feed.restart()
            case {"name": "view", "tab": str() as tab, "log": list() as log} if tab in TABS:
                session.look(tab=tab, log=tuple(name for name in LOG_AXES if name in log))
            case _ if session.following is None:
                _act(session, command)


def _act(session: Session, command: dict[str, Any]) -> None:
    run = session.run
    match command:
        case {"name": "freeze"}:
            session.change(frozen=not run.config.frozen)
        case {"name": "resume"}:
            _resume(session, replay_from(command))
        case {"name": "reset"}:
            session.restart(run.start_config, train=False)
        case {"name": "lost", "run_id": run.id} if run.forgotten:
            session.restart(run.start_config, train=False)
            session.notices.append("The run was put away after a long pause and starts again from step 0.")
        case _:
            play(run, command)


def _resume(session: Session, replay: Replay | None) -> None:
    """Compute again what was trained before the connection was lost, unless something else was begun since."""
    if session.run.id != session.opened_with:
        return
    if replay is None or len(replay.plans) > 1:
        session.notices.append(REFUSED)
    else:
        session.show(lambda: replay.run(session.server.runs))
