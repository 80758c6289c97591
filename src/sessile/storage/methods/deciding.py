"""Decisions about what paused runs wait for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...later import Later
from ...records import Duration, UserId, Waiting
from .base import Operated

if TYPE_CHECKING:
    from .. import deciding, granting
    from ..deciding import Decision
    from ..granting import Grant, Reach
else:
    deciding = Later("sessile.storage.deciding")
    granting = Later("sessile.storage.granting")


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
        always: Reach | None = None,
        ttl: Duration | None = None,
        epoch: int | None = None,
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
            by: who has decided; it stands in the log.
            always: `"session"` or `"user"`: approve also what the same agent asks for the same tool from now on, in
                this session or in all sessions of its user, whatever the arguments; see `grant`. A user's is written
                after the decision: a failure in between leaves it out, and the call may be repeated.
            ttl: for how long the decision holds, and what is approved for good, in seconds or as a `timedelta`.
                Default: without a limit. A run that is resumed later waits for another decision.
            epoch: the `Waiting.epoch` of what whoever decides has looked at; goes with `run_number`. A run may go on
                meanwhile, and ask something else under the same id of a call. Default: whatever it asks now.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            What the run waits for, and all that was decided.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no run of that number.
            NotResumableError: the run does not wait.
            RunWentOnError: it has another epoch: what was decided about is over.
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
            always=always,
            ttl=ttl,
            epoch=epoch,
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
        always: Reach | None = None,
        ttl: Duration | None = None,
        epoch: int | None = None,
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
            always=always,
            ttl=ttl,
            epoch=epoch,
            user_id=user_id,
        )

    def grant(
        self,
        tool: str,
        agent: str,
        session_id: str | None = None,
        *,
        by: str | None = None,
        ttl: Duration | None = None,
        user_id: UserId = None,
    ) -> Grant:
        """Approve all calls of one tool by one agent: in one session, or in all sessions of one user. One commit.

        Such calls do not wait any more, whatever their arguments; the log of the run says of each by which grant it was
        approved, and by whom. It holds for this agent (of a team: for the member of that name) and for nobody else, not
        in forks of the session, and not for calls that may have happened before an interruption. Calls that wait
        already are decided with `decide`.

        ```python
        granted = storage.grant("send_mail", "support", user_id="ada", by="ada", ttl=3600)
        storage.revoke(granted.grant_id, user_id="ada", by="ada")
        ```

        Args:
            tool: the tool's name, as the model sees it.
            agent: the agent's name.
            session_id: only in this session, which must be there. Default: in all sessions of the user.
            by: who approves; it stands in the log.
            ttl: for how long it holds, in seconds or as a `timedelta`. Default: until it is revoked.
            user_id: whose session it is; or, without a session, for whose sessions it holds.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or neither a session nor a user is named.
            StorageError: the database failed; `error.written` says whether it is stored.
        """
        return self._run(granting.grant, tool, agent, session_id, by=by, ttl=ttl, user_id=user_id)

    async def agrant(
        self,
        tool: str,
        agent: str,
        session_id: str | None = None,
        *,
        by: str | None = None,
        ttl: Duration | None = None,
        user_id: UserId = None,
    ) -> Grant:
        """As `grant`, for asynchronous callers."""
        return await self._arun(granting.grant, tool, agent, session_id, by=by, ttl=ttl, user_id=user_id)

    def grants(self, session_id: str | None = None, *, user_id: UserId = None) -> list[Grant]:
        """What is approved for good, and has not expired: of a user, or all that holds in a session. Oldest first.

        Args:
            session_id: all that holds in this session, its own and its user's. Default: the user's.
            user_id: whose session it is, or whose approvals.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: neither a session nor a user is named.
            StorageError: the database could not be read.
        """
        return self._run(granting.grants, session_id, user_id=user_id)

    async def agrants(self, session_id: str | None = None, *, user_id: UserId = None) -> list[Grant]:
        """As `grants`, for asynchronous callers."""
        return await self._arun(granting.grants, session_id, user_id=user_id)

    def revoke(
        self, grant_id: str, session_id: str | None = None, *, by: str | None = None, user_id: UserId = None
    ) -> bool:
        """Take back what was approved for good; calls that have begun go on. One commit.

        Args:
            grant_id: the `Grant.grant_id`.
            session_id: of one that holds in a session: which. Default: one of the user's.
            by: who takes it back; it stands in the log.
            user_id: whose session it is, or whose approvals.

        Returns:
            Whether it held until now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: neither a session nor a user is named.
            StorageError: the database failed; `error.written` says whether it is stored.
        """
        return self._run(granting.revoke, grant_id, session_id, by=by, user_id=user_id)

    async def arevoke(
        self, grant_id: str, session_id: str | None = None, *, by: str | None = None, user_id: UserId = None
    ) -> bool:
        """As `revoke`, for asynchronous callers."""
        return await self._arun(granting.revoke, grant_id, session_id, by=by, user_id=user_id)
