"""Decisions about what paused runs wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...records import UserId, Waiting
from .. import deciding
from ..deciding import Decision
from .base import Operated


class Deciding(Operated):
    """What people say about tool calls that wait for them."""

    def decide(
        self,
        session_id: str,
        run_number: int | None = None,
        *,
        approvals: Mapping[str, Decision] | None = None,
        results: Mapping[str, Any] | None = None,
        by: str | None = None,
        user_id: UserId = None,
    ) -> Waiting:
        """Store a decision that a paused run waits for; no agent is needed. Whoever calls `resume` continues with it.

        One commit. A run that waits for several calls may be decided about one by one; `Waiting.is_decided` says
        whether all are. If several decisions were made about one call, the newest counts. What is given to `resume`
        itself counts before all of them.

        ```python
        storage.decide("s1", approvals={"call_7": True, "call_8": "Too expensive."}, by="bob", user_id="ada")
        agent.resume("s1", user_id="ada")     # later, in the process that has the agent
        ```

        Args:
            session_id: which session.
            run_number: the run's number. Default: the newest of the current branch that waits.
            approvals: by tool call id: True, False, text (no, for this reason), or a mapping (yes, with these arguments
                in place of the model's).
            results: by tool call id: the JSON results of calls that are executed elsewhere.
            by: who has decided.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            What the run waits for, and all that was decided.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no run of that number.
            NotResumableError: the run does not wait.
            InvalidInputError: it waits for other calls, an argument is wrong, or no user is named where the storage
                requires one.
            StorageError: the database failed; `error.written` says whether the decision is stored.
        """
        return self._run(
            deciding.decide,
            session_id,
            run_number,
            approvals=approvals,
            results=results,
            by=by,
            user_id=user_id,
        )

    async def adecide(
        self,
        session_id: str,
        run_number: int | None = None,
        *,
        approvals: Mapping[str, Decision] | None = None,
        results: Mapping[str, Any] | None = None,
        by: str | None = None,
        user_id: UserId = None,
    ) -> Waiting:
        """As `decide`, for asynchronous callers."""
        return await self._arun(
            deciding.decide,
            session_id,
            run_number,
            approvals=approvals,
            results=results,
            by=by,
            user_id=user_id,
        )
