"""Making sessions, adding runs to them, and changing what stands beside the runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...later import Later
from ...records import Duration, JsonObject, Run, Session, Status, Usage, UserId
from .. import writes
from ..vocabulary import ABSENT
from .base import Operated

if TYPE_CHECKING:
    from .. import amending, taking
else:
    amending = Later("sessile.storage.amending")
    taking = Later("sessile.storage.taking")


class Writing(Operated):
    """What can be changed in one session. Each is one atomic commit, made exactly once: it raises if it is not made."""

    def create_session(
        self,
        session_id: str | None = None,
        *,
        user_id: str | None = None,
        agent: str | None = None,
        kind: str = "agent",
        name: str | None = None,
        state: JsonObject | None = None,
        metadata: JsonObject | None = None,
        ttl: Duration | None = None,
    ) -> Session:
        """Make a session without runs. Agents, and `add_run`, make theirs by themselves.

        Args:
            session_id: any text of 1 to 255 bytes of UTF-8 without NUL. Default: a new UUID.
            user_id: whose session it is; None: nobody's.
            agent: the name of the agent, team or workflow that it belongs to.
            kind: `agent`, `team`, `workflow`, or a word of your own; lists filter by it.
            name: a title for people, up to 255 bytes.
            state: what the state begins with.
            metadata: what the application keeps beside the session; lists filter by it.
            ttl: how long after its last change it expires, in seconds or as a `timedelta`. Default: the storage's.

        Returns:
            The session as it is now.

        Raises:
            AlreadyExistsError: there is a session of that id, whoever's.
            InvalidInputError: an argument is wrong, too large, or names no user where the storage requires one.
            StorageError: the database failed; `error.written` says whether the session is made.
        """
        return self._run(
            writes.create_session,
            session_id,
            user_id=user_id,
            agent=agent,
            kind=kind,
            name=name,
            state=state,
            metadata=metadata,
            ttl=ttl,
        )

    async def acreate_session(
        self,
        session_id: str | None = None,
        *,
        user_id: str | None = None,
        agent: str | None = None,
        kind: str = "agent",
        name: str | None = None,
        state: JsonObject | None = None,
        metadata: JsonObject | None = None,
        ttl: Duration | None = None,
    ) -> Session:
        """As `create_session`, for asynchronous callers."""
        return await self._arun(
            writes.create_session,
            session_id,
            user_id=user_id,
            agent=agent,
            kind=kind,
            name=name,
            state=state,
            metadata=metadata,
            ttl=ttl,
        )

    def add_run(
        self,
        session_id: str,
        *,
        input: Any = None,
        output: Any = None,
        messages: Sequence[JsonObject] = (),
        status: Status = "completed",
        error: JsonObject | None = None,
        usage: Usage | None = None,
        state: JsonObject | None = None,
        user_id: UserId = None,
        agent: str | None = None,
        kind: str = "agent",
        format: str | None = None,
        run_id: str | None = None,
        metadata: JsonObject | None = None,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,
        first_token: Duration | None = None,
    ) -> Run:
        """Append one finished run; the session is made if it is not there. For code that has no `Agent`.

        ```python
        storage.add_run("s1", input="And of Italy?", output="Rome.", user_id="ada", run_id="request-4711")
        ```

        Args:
            session_id: which session.
            input: what was asked, JSON.
            output: what was answered, JSON.
            messages: the run's own messages, not the history that was sent along: JSON objects.
            status: `completed`, `failed` or `cancelled`.
            error: of a failed run: `{"type": …, "message": …}`.
            usage: what it has used: `Usage(requests=1, input_tokens=14, output_tokens=2, cost=Decimal("0.000021"))`.
            state: a patch of the session's state (RFC 7396: None removes a key), applied in the same commit.
            user_id: whose session it is; None: nobody's. `ANY_USER` adds to whoever's, and makes none.
            agent: the name of the agent, team or workflow.
            kind: as in `create_session`; it matters when the session is made.
            format: the format of the messages. `openai` means messages of chat completions or items of Responses;
                agents send them on as they are. Of a format with a name of your own, agents send only the run's input
                and output. Default: Pydantic AI's JSON form; messages that do not have it are refused.
            run_id: an id of your own makes the call repeatable for as long as the session lives: if it has a run of
                that id, that is returned, and nothing is written.
            metadata: what the application keeps beside the run.
            started_at, ended_at: when it was, for conversations that come from elsewhere: datetimes that name their
                time zone. Runs keep the order in which they are added. Default: now.
            first_token: how long after it began the first part of the answer came, seconds or a `timedelta`; only of
                an answer that was streamed.

        Returns:
            The run as it is stored.

        Raises:
            SessionNotFoundError: the session is another user's, or not there and `user_id` is `ANY_USER`.
            InvalidInputError: an argument is wrong, too large, or names no user where the storage requires one; or the
                session has a run of that `run_id` with another input or of another agent.
            StorageError: the database failed; `error.written` says whether the run is stored.
        """
        return self._run(
            writes.add_run,
            session_id,
            input=input,
            output=output,
            messages=messages,
            status=status,
            error=error,
            usage=usage,
            state=state,
            user_id=user_id,
            agent=agent,
            kind=kind,
            format=format,
            run_id=run_id,
            metadata=metadata,
            started_at=started_at,
            ended_at=ended_at,
            first_token=first_token,
        )

    async def aadd_run(
        self,
        session_id: str,
        *,
        input: Any = None,
        output: Any = None,
        messages: Sequence[JsonObject] = (),
        status: Status = "completed",
        error: JsonObject | None = None,
        usage: Usage | None = None,
        state: JsonObject | None = None,
        user_id: UserId = None,
        agent: str | None = None,
        kind: str = "agent",
        format: str | None = None,
        run_id: str | None = None,
        metadata: JsonObject | None = None,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,
        first_token: Duration | None = None,
    ) -> Run:
        """As `add_run`, for asynchronous callers."""
        return await self._arun(
            writes.add_run,
            session_id,
            input=input,
            output=output,
            messages=messages,
            status=status,
            error=error,
            usage=usage,
            state=state,
            user_id=user_id,
            agent=agent,
            kind=kind,
            format=format,
            run_id=run_id,
            metadata=metadata,
            started_at=started_at,
            ended_at=ended_at,
            first_token=first_token,
        )

    def amend_run(
        self,
        session_id: str,
        *,
        drop: int = 0,
        messages: Sequence[JsonObject] = (),
        format: str | None = None,
        status: Status | None = None,
        output: Any = ABSENT,
        error: JsonObject | None = ABSENT,
        usage: Usage | None = None,
        if_revision: int | None = None,
        user_id: UserId = None,
    ) -> Run:
        """Replace the end of a session: change the newest run of the current branch, which must have finished.

        One commit takes away its newest messages, and adds others. If several writers amend it at once, each change
        is made, one after the other. The log keeps what was there.

        ```python
        said = {"role": "assistant", "content": "Rome."}
        storage.amend_run("s1", drop=1, messages=[said], format="openai", output="Rome.")
        ```

        Args:
            session_id: which session.
            drop: how many of the run's own messages are taken away, the newest ones; those of members stay.
            messages: messages that are added, JSON objects.
            format: what these messages are in, as in `add_run`.
            status: `completed`, `failed` or `cancelled`. Default: as it was.
            output: what was answered, JSON. Default: as it was.
            error: `{"type": …, "message": …}`, or None. Default: as it was.
            usage: the run's own, without the runs below it. Default: as it was.
            if_revision: amend only if nobody has committed since that revision (`Session.revision`).
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The run as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the current branch has no run.
            ConflictError: the run has not finished, or the session is not at revision `if_revision` any more.
            InvalidInputError: an argument is wrong or too large, the run has fewer messages, or the call names no user
                where the storage requires one.
            StorageError: the database failed; `error.written` says whether the change is made.
        """
        return self._run(
            amending.amend,
            session_id,
            drop=drop,
            messages=messages,
            format=format,
            status=status,
            output=output,
            error=error,
            usage=usage,
            if_revision=if_revision,
            user_id=user_id,
        )

    async def aamend_run(
        self,
        session_id: str,
        *,
        drop: int = 0,
        messages: Sequence[JsonObject] = (),
        format: str | None = None,
        status: Status | None = None,
        output: Any = ABSENT,
        error: JsonObject | None = ABSENT,
        usage: Usage | None = None,
        if_revision: int | None = None,
        user_id: UserId = None,
    ) -> Run:
        """As `amend_run`, for asynchronous callers."""
        return await self._arun(
            amending.amend,
            session_id,
            drop=drop,
            messages=messages,
            format=format,
            status=status,
            output=output,
            error=error,
            usage=usage,
            if_revision=if_revision,
            user_id=user_id,
        )

    def update_state(
        self,
        session_id: str,
        patch: Mapping[str, Any] | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        remove: Collection[str] = (),
        user_id: UserId = None,
        if_revision: int | None = None,
    ) -> Session:
        """Change the session's state: merge a patch into it, put whole values, remove keys; in one commit.

        Writers who change different keys at the same time both win; for the same key the later one wins. Nothing is
        written where nothing changes.

        ```python
        storage.update_state("s1", {"basket": {"tea": 2, "milk": None}})   # merges; None removes
        storage.update_state("s1", set={"basket": {"tea": 1}, "address": None}, remove=["draft"])
        ```

        Args:
            session_id: which session.
            patch: merged as RFC 7396 says: objects merge, None removes a key, anything else replaces what is there.
            set: top-level keys and their new values, which replace what is there, objects and all; None is stored, as
                null.
            remove: top-level keys that are taken away; keys that are not there are passed over.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.
            if_revision: make the change only if nobody has committed since that revision (`Session.revision`).

        Returns:
            The session as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            ConflictError: the session is not at revision `if_revision` any more.
            InvalidInputError: an argument is wrong, too large, names one key in two ways, or names no user where the
                storage requires one.
            StorageError: the database failed; `error.written` says whether the change is made.
        """
        return self._run(writes.update_state, session_id, patch, set, remove, user_id=user_id, if_revision=if_revision)

    async def aupdate_state(
        self,
        session_id: str,
        patch: Mapping[str, Any] | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        remove: Collection[str] = (),
        user_id: UserId = None,
        if_revision: int | None = None,
    ) -> Session:
        """As `update_state`, for asynchronous callers."""
        return await self._arun(
            writes.update_state, session_id, patch, set, remove, user_id=user_id, if_revision=if_revision
        )

    def rename(self, session_id: str, name: str | None, *, user_id: UserId = None) -> Session:
        """Give the session a name for people to see.

        Args:
            session_id: which session.
            name: 1 to 255 bytes of UTF-8; None takes the name away.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The session as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed; `error.written` says whether the change is made.
        """
        return self._run(writes.rename, session_id, name, user_id=user_id)

    async def arename(self, session_id: str, name: str | None, *, user_id: UserId = None) -> Session:
        """As `rename`, for asynchronous callers."""
        return await self._arun(writes.rename, session_id, name, user_id=user_id)

    def claim(
        self, session_id: str, user_id: str | None = None, *, agent: str | None = None, kind: str | None = None
    ) -> Session:
        """Give a session that has no user to a user, once; or one that has no agent to an agent.

        For a conversation that begins before its user has signed in. If several users claim it at once, one of them
        gets it, and the others get `SessionNotFoundError`. Repeating the call changes nothing.

        ```python
        storage.claim("s1", "ada")     # it was nobody's, and is ada's now
        ```

        Args:
            session_id: which session.
            user_id: whose session it is to be; one that has this user already may be named as well.
            agent: the name of the agent, team or workflow that it is to belong to, if it has none.
            kind: `agent`, `team`, `workflow`, or a word of your own; only together with the agent, or as long as it
                has none.

        Returns:
            The session as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            ConflictError: it belongs to another agent already.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed; `error.written` says whether the change is made.
        """
        return self._run(writes.claim, session_id, user_id, agent=agent, kind=kind)

    async def aclaim(
        self, session_id: str, user_id: str | None = None, *, agent: str | None = None, kind: str | None = None
    ) -> Session:
        """As `claim`, for asynchronous callers."""
        return await self._arun(writes.claim, session_id, user_id, agent=agent, kind=kind)

    def set_metadata(self, session_id: str, metadata: Mapping[str, Any], *, user_id: UserId = None) -> Session:
        """Merge into what the application keeps beside the session; `sessions` filters by its top-level keys.

        Args:
            session_id: which session.
            metadata: merged as RFC 7396 says: objects merge, None removes a key, anything else replaces what is there.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The session as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, too large, or names no user where the storage requires one.
            StorageError: the database failed; `error.written` says whether the change is made.
        """
        return self._run(writes.set_metadata, session_id, metadata, user_id=user_id)

    async def aset_metadata(self, session_id: str, metadata: Mapping[str, Any], *, user_id: UserId = None) -> Session:
        """As `set_metadata`, for asynchronous callers."""
        return await self._arun(writes.set_metadata, session_id, metadata, user_id=user_id)

    def set_ttl(self, session_id: str, ttl: Duration | None, *, user_id: UserId = None) -> Session:
        """Say how long after its last change the session expires. Every later commit prolongs it.

        An expired session is absent on every read; `sweep` removes it.

        Args:
            session_id: which session.
            ttl: seconds, or a `timedelta`; None: never.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            The session as it is now.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed; `error.written` says whether the change is made.
        """
        return self._run(writes.set_ttl, session_id, ttl, user_id=user_id)

    async def aset_ttl(self, session_id: str, ttl: Duration | None, *, user_id: UserId = None) -> Session:
        """As `set_ttl`, for asynchronous callers."""
        return await self._arun(writes.set_ttl, session_id, ttl, user_id=user_id)

    def cancel_run(self, session_id: str, run_number: int | None = None, *, user_id: UserId = None) -> bool:
        """End a run for good, whether it is running, waits, or was interrupted. It cannot be resumed then.

        A process that works on it, wherever it is, sees that when it next renews its lease, within a third of the
        lease's time, and stores what it has. A run that nobody works on (paused, interrupted, or failed in a way
        that can be resumed) is cancelled when this returns.

        Args:
            session_id: which session.
            run_number: which run. Default: the newest one that is running; if none is, the newest of the current
                branch, if it is paused or was interrupted.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Returns:
            Whether there is such a run; if there is none, or it has ended, there is nothing to cancel.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: an argument is wrong, or names no user where the storage requires one.
            StorageError: the database failed; the run may have been asked.
        """
        return self._run(taking.cancel_run, session_id, run_number, user_id=user_id)

    async def acancel_run(self, session_id: str, run_number: int | None = None, *, user_id: UserId = None) -> bool:
        """As `cancel_run`, for asynchronous callers."""
        return await self._arun(taking.cancel_run, session_id, run_number, user_id=user_id)
