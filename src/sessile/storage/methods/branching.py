"""Forks, and branches within a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...later import Later
from ...records import Session, UserId
from .base import Operated

if TYPE_CHECKING:
    from .. import branches
else:
    branches = Later("sessile.storage.branches")


class Branching(Operated):
    """A new session from a point of another one, and a new branch in the same session."""

    def fork(
        self,
        source: str,
        *,
        at: int | None = None,
        session_id: str | None = None,
        user_id: UserId = None,
        name: str | None = None,
    ) -> Session:
        """Copy a session, up to and including one of its runs, into a new session, which is independent afterwards.

        The copy has the finished runs of the branch that ends there, numbered from 1, the state as it was after that
        run, metadata, media, the user, and the rolling summary if it tells of these runs only; `forked_from` names
        where it comes from, and its usage counts from zero. It is visible only when it is complete. Takes time in
        proportion to what is copied.

        Args:
            source: which session is copied.
            at: the number of the last run that is copied. Default: all of the current branch.
            session_id: the id of the copy. Default: a new one.
            user_id: whose session is copied; None: nobody's; `ANY_USER`: whoever's. The copy is the same user's.
            name: the name of the copy. Default: that of the source.

        Raises:
            SessionNotFoundError: there is no such session, it is another user's, or it was deleted meanwhile.
            RunNotFoundError: the session has no run of that number, or it was trimmed (`sessile.retention`).
            AlreadyExistsError: there is a session of the id that the copy is to have.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed; what was copied by then is removed, by `sweep` at the latest.
        """
        return self._run(branches.fork, source, at=at, session_id=session_id, user_id=user_id, name=name)

    async def afork(
        self,
        source: str,
        *,
        at: int | None = None,
        session_id: str | None = None,
        user_id: UserId = None,
        name: str | None = None,
    ) -> Session:
        """As `fork`, for asynchronous callers."""
        return await self._arun(branches.fork, source, at=at, session_id=session_id, user_id=user_id, name=name)

    def rewind(self, session_id: str, *, at: int, user_id: UserId = None, restore_state: bool = True) -> Session:
        """Go back to a run, to edit or regenerate what came after: the next run follows it.

        What is left stays as a branch: `branches` lists it, and rewinding to its last run returns to it. One commit;
        reads the log back to that run.

        Args:
            session_id: which session.
            at: the number of the run that becomes the last one of the current branch; 0: begin anew.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.
            restore_state: whether the state becomes what it was after that run.

        Returns:
            The session as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no run of that number, or it was trimmed (`sessile.retention`).
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed; `error.written` says whether the commit is made.
        """
        return self._run(branches.rewind, session_id, at=at, user_id=user_id, restore_state=restore_state)

    async def arewind(self, session_id: str, *, at: int, user_id: UserId = None, restore_state: bool = True) -> Session:
        """As `rewind`, for asynchronous callers."""
        return await self._arun(branches.rewind, session_id, at=at, user_id=user_id, restore_state=restore_state)
