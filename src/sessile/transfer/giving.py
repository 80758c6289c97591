"""Giving a session that is nobody's to a user, among those whose ids are the user's own."""

from __future__ import annotations

from ..errors import AlreadyExistsError, SessionBusyError, SessionNotFoundError
from ..records import ANY_USER, Session
from ..storage import Storage
from ..storage.absence import as_row, check_free
from ..storage.core import Core
from ..storage.storage import operate
from ..storage.users import space_of
from ..storage.writes import remove_unchanged
from .copying import copy_one


def give(storage: Storage, session_id: str, user_id: str, *, agent: str | None = None) -> Session:
    """Give a session that has no user to one, so that `storage.for_user(user_id)` has it, under the same id.

    As `storage.claim`, which leaves it under its id that all users share, where servers do not look for what is a
    user's. It is copied whole (its log, media, times and incarnation stay as they are), and then removed where it was.
    Who calls again, after a crash in the middle, ends what was begun; repeating the call changes nothing.

    Args:
        storage: all sessions, and not those of one user.
        session_id: which session, under the id that all users share.
        user_id: whose it is to be.
        agent: the agent that it is to belong to, if it has none.

    Returns:
        The session, under the id by which it is stored now.

    Raises:
        SessionNotFoundError: there is none, or it is another user's.
        SessionBusyError: a run of it is in progress; ask again when that has ended.
        HeldError: it is held, and may not be removed from where it is.
        AlreadyExistsError: the user has a session of that id already.
        ConflictError: it belongs to another agent already.
        StorageError: the database failed; call it again.
    """
    mine, stored = storage.for_user(user_id), f"{space_of(user_id)}{session_id}"
    session = storage.get_session(session_id, user_id=ANY_USER)
    own = mine.get_session(session_id)
    if session is None:
        if own is None:
            raise SessionNotFoundError(f"There is no session {session_id!r}.")
        return _whole(storage, stored)
    if own is not None and own.incarnation != session.incarnation:
        hint = "Fork one of them under another id."
        raise AlreadyExistsError(f"The user has a session {session_id!r} already.", hint=hint)
    _check_idle(session)
    session = storage.claim(session_id, user_id, agent=agent)
    while True:  # until nothing was written to it while it was copied
        _check_idle(session)
        copy_one(storage, mine, session_id)
        if operate(storage, _removed, session_id, session.revision):
            return _whole(storage, stored)
        session = _whole(storage, session_id)


async def _removed(core: Core, session_id: str, revision: int) -> bool:
    """Remove the session where it was, if it is at the revision that was copied; returns whether it is gone."""
    head = (await core.look(session_id, core.deadline())).head
    return head is None or (head.revision == revision and await remove_unchanged(core, as_row(head)))


def _check_idle(session: Session) -> None:
    check_free(session)
    if any(run.status == "running" for run in session.open_runs.values()):
        raise SessionBusyError(f"A run of session {session.session_id!r} is in progress.")


def _whole(storage: Storage, stored: str) -> Session:
    found = storage.get_session(stored, user_id=ANY_USER)
    if found is None:
        raise SessionNotFoundError("The session was deleted meanwhile.")
    return found
