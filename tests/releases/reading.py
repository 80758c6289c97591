"""What a user reads of a storage's sessions, without what differs from one storage to the next."""

from __future__ import annotations

from typing import Any

from sessile import ANY_USER, Storage


def reading_of(storage: Storage) -> dict[str, Any]:
    """All sessions: what they are, and what was said in their runs."""
    page = storage.sessions(user_id=ANY_USER, limit=1000, with_state=True)
    assert not page.unreadable
    return {session.session_id: _session(storage, session) for session in page}


def _session(storage: Storage, session: Any) -> dict[str, Any]:
    runs = storage.runs(session.session_id, last=100, user_id=ANY_USER)
    assert not runs.unreadable
    return {
        "agent": session.agent,
        "branches": len(storage.branches(session.session_id, user_id=ANY_USER)),
        "kind": session.kind,
        "metadata": session.metadata,
        "name": session.name,
        "state": session.state,
        "status": session.status,
        "user": session.user_id,
        "runs": [
            {
                "input": run.input,
                "messages": len(run.messages),
                "number": run.number,
                "output": run.output,
                "status": run.status,
            }
            for run in runs
        ],
    }
