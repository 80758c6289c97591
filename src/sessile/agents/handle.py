"""A handle of one session, from `agent.session(id)`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, Unpack, overload

from pydantic_ai import DeferredToolRequests, DeferredToolResults

from ..live.result import OutputT, RunResult
from ..live.streams import AsyncRunStream, RunStream
from ..records import Branch, JsonObject, Message, Run, Session, UserId
from ..storage.faces import background
from ..storage.storage import Storage
from .inside import fork_inside
from .messages.stored import requests_of
from .options import Approval, Prompt, RunOptions


class Runs(Protocol[OutputT]):
    """What a handle calls: an agent or a team, with the arguments of `Agent`'s methods of these names."""

    def run(self, *args: Any, **kwargs: Any) -> RunResult[OutputT]:
        """See `Agent.run`."""
        ...

    async def arun(self, *args: Any, **kwargs: Any) -> RunResult[OutputT]:
        """See `Agent.arun`."""
        ...

    def stream(self, *args: Any, **kwargs: Any) -> Any:
        """See `Agent.stream`."""
        ...

    def astream(self, *args: Any, **kwargs: Any) -> Any:
        """See `Agent.astream`."""
        ...

    def resume(self, *args: Any, **kwargs: Any) -> RunResult[OutputT]:
        """See `Agent.resume`."""
        ...

    async def aresume(self, *args: Any, **kwargs: Any) -> RunResult[OutputT]:
        """See `Agent.aresume`."""
        ...


@dataclass(frozen=True)
class AgentSession(Generic[OutputT]):
    """One session of an agent: what `Agent` and `Storage` offer, without naming the session each time.

    Reading makes no session: before its first run there is none, its state is empty and its lists are.
    """

    agent: Runs[OutputT]
    storage: Storage
    session_id: str
    user_id: UserId = None

    @property
    def _key(self) -> dict[str, Any]:
        return {"session_id": self.session_id, "user_id": self.user_id}

    # ------------------------------------------------------------ running

    def run(
        self,
        prompt: Prompt | None,
        *,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Run the agent on a prompt in this session; see `Agent.run`."""
        return self.agent.run(prompt, run_id=run_id, run_metadata=run_metadata, **self._key, **options)

    async def arun(
        self,
        prompt: Prompt | None,
        *,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """As `run`, for asynchronous callers."""
        return await self.agent.arun(prompt, run_id=run_id, run_metadata=run_metadata, **self._key, **options)

    @overload
    def stream(
        self,
        prompt: Prompt | None,
        *,
        events: Literal[False] = False,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT]: ...

    @overload
    def stream(
        self,
        prompt: Prompt | None,
        *,
        events: bool,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT, Any]: ...

    def stream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT, Any]:
        """Run it, and iterate over the answer as it comes; see `Agent.stream`."""
        return self.agent.stream(
            prompt, events=events, run_id=run_id, run_metadata=run_metadata, **self._key, **options
        )

    @overload
    def astream(
        self,
        prompt: Prompt | None,
        *,
        events: Literal[False] = False,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream[OutputT]: ...

    @overload
    def astream(
        self,
        prompt: Prompt | None,
        *,
        events: bool,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream[OutputT, Any]: ...

    def astream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream[OutputT, Any]:
        """As `stream`, for asynchronous callers."""
        return self.agent.astream(
            prompt, events=events, run_id=run_id, run_metadata=run_metadata, **self._key, **options
        )

    def resume(
        self,
        *,
        run_number: int | None = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
        adopt: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Continue a run that waits for a decision, or was interrupted; see `Agent.resume`."""
        return self.agent.resume(
            run_number=run_number,
            approvals=approvals,
            results=results,
            by=by,
            epoch=epoch,
            adopt=adopt,
            **self._key,
            **options,
        )

    async def aresume(
        self,
        *,
        run_number: int | None = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
        adopt: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """As `resume`, for asynchronous callers."""
        return await self.agent.aresume(
            run_number=run_number,
            approvals=approvals,
            results=results,
            by=by,
            epoch=epoch,
            adopt=adopt,
            **self._key,
            **options,
        )

    # ------------------------------------------------------------ reading

    def get_session(self) -> Session | None:
        """The session as it is now, or None before its first run; see `Storage.get_session`."""
        return self.storage.get_session(**self._key)

    async def aget_session(self) -> Session | None:
        """As `get_session`, for asynchronous callers."""
        return await self.storage.aget_session(**self._key)

    def state(self) -> JsonObject:
        """The session's state, empty before its first run; see `Storage.get_session`."""
        return _state(self.get_session())

    async def astate(self) -> JsonObject:
        """As `state`, for asynchronous callers."""
        return _state(await self.aget_session())

    def summary(self) -> str | None:
        """The rolling summary of the older runs, if the agent's history keeps one; see `Storage.get_session`."""
        return _summary(self.get_session())

    async def asummary(self) -> str | None:
        """As `summary`, for asynchronous callers."""
        return _summary(await self.aget_session())

    def runs(self, *, last: int | None = None) -> list[Run]:
        """Runs of the current branch, oldest first; see `Storage.runs`."""
        return self.storage.runs(self.session_id, last=last, user_id=self.user_id)

    async def aruns(self, *, last: int | None = None) -> list[Run]:
        """As `runs`, for asynchronous callers."""
        return await self.storage.aruns(self.session_id, last=last, user_id=self.user_id)

    def messages(self, *, last_runs: int | None = None) -> list[Message]:
        """Their messages, flat; see `Storage.messages`."""
        return self.storage.messages(self.session_id, last_runs=last_runs, user_id=self.user_id)

    async def amessages(self, *, last_runs: int | None = None) -> list[Message]:
        """As `messages`, for asynchronous callers."""
        return await self.storage.amessages(self.session_id, last_runs=last_runs, user_id=self.user_id)

    def pending(self) -> dict[int, DeferredToolRequests]:
        """The tool calls that wait for a decision, by the number of their paused run; see `Storage.get_run`."""
        head = self.get_session()
        return _pending([self.storage.get_run(**self._key, run_number=number) for number in _paused(head)])

    async def apending(self) -> dict[int, DeferredToolRequests]:
        """As `pending`, for asynchronous callers."""
        head = await self.aget_session()
        return _pending([await self.storage.aget_run(**self._key, run_number=number) for number in _paused(head)])

    def branches(self) -> list[Branch]:
        """The branches of the session; see `Storage.branches`."""
        return self.storage.branches(**self._key)

    async def abranches(self) -> list[Branch]:
        """As `branches`, for asynchronous callers."""
        return await self.storage.abranches(**self._key)

    # ------------------------------------------------------------ changing

    def update_state(
        self,
        patch: Mapping[str, Any] | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        remove: Collection[str] = (),
    ) -> Session:
        """Merge into the state, set keys of it whole, or remove them; see `Storage.update_state`."""
        return self.storage.update_state(self.session_id, patch, set=set, remove=remove, user_id=self.user_id)

    async def aupdate_state(
        self,
        patch: Mapping[str, Any] | None = None,
        *,
        set: Mapping[str, Any] | None = None,
        remove: Collection[str] = (),
    ) -> Session:
        """As `update_state`, for asynchronous callers."""
        return await self.storage.aupdate_state(self.session_id, patch, set=set, remove=remove, user_id=self.user_id)

    def rename(self, name: str | None) -> Session:
        """Give the session a name, or (None) take it away; see `Storage.rename`."""
        return self.storage.rename(self.session_id, name, user_id=self.user_id)

    async def arename(self, name: str | None) -> Session:
        """As `rename`, for asynchronous callers."""
        return await self.storage.arename(self.session_id, name, user_id=self.user_id)

    def fork(
        self,
        *,
        at: int | None = None,
        message: int | None = None,
        results: Mapping[str, Any] | None = None,
        session_id: str | None = None,
    ) -> AgentSession[OutputT]:
        """Copy the session up to a run into a new one, which is returned as such an object; see `Storage.fork`.

        With `message` or `results` the copy ends inside of that run, and `resume` goes on from there: the run stands
        there as interrupted, with what it had done by then, and what it had changed in the state as far as steps were
        stored (`durability="step"`).

        Args:
            at: the run's number. Default: the newest of the current branch.
            message: how many of the run's messages are kept. If the last of them is a response with tool calls, these
                are executed anew; else the model is asked again.
            results: by tool call id: what these calls are to have returned instead, JSON. The run goes on after the
                response that has made them; its other calls keep their results, and none is executed again.
            session_id: the id of the copy. Default: a new one.

        Raises:
            InvalidInputError: the run is a team's or a workflow's, it has not so many messages, or no response of it
                has made these calls.
        """
        if message is not None or results is not None:
            work = self.afork(at=at, message=message, results=results, session_id=session_id)
            return background.run(work)
        head = self.storage.fork(self.session_id, at=at, session_id=session_id, user_id=self.user_id)
        return AgentSession(self.agent, self.storage, head.session_id, self.user_id)

    async def afork(
        self,
        *,
        at: int | None = None,
        message: int | None = None,
        results: Mapping[str, Any] | None = None,
        session_id: str | None = None,
    ) -> AgentSession[OutputT]:
        """As `fork`, for asynchronous callers."""
        if message is None and results is None:
            head = await self.storage.afork(self.session_id, at=at, session_id=session_id, user_id=self.user_id)
            return AgentSession(self.agent, self.storage, head.session_id, self.user_id)
        if at is None:
            found = await self.aget_session()
            at = 0 if found is None else found.tip
        head = await fork_inside(
            self.storage,
            self.session_id,
            at,
            message=message,
            results=results,
            session_id=session_id,
            user_id=self.user_id,
        )
        return AgentSession(self.agent, self.storage, head.session_id, self.user_id)

    def rewind(self, *, at: int, restore_state: bool = True) -> Session:
        """Go back to a run: the next one follows it; see `Storage.rewind`."""
        return self.storage.rewind(self.session_id, at=at, user_id=self.user_id, restore_state=restore_state)

    async def arewind(self, *, at: int, restore_state: bool = True) -> Session:
        """As `rewind`, for asynchronous callers."""
        return await self.storage.arewind(self.session_id, at=at, user_id=self.user_id, restore_state=restore_state)

    def cancel(self, *, run_number: int | None = None) -> bool:
        """Ask the process that works on a run to cancel it; see `Storage.cancel_run`."""
        return self.storage.cancel_run(self.session_id, run_number, user_id=self.user_id)

    async def acancel(self, *, run_number: int | None = None) -> bool:
        """As `cancel`, for asynchronous callers."""
        return await self.storage.acancel_run(self.session_id, run_number, user_id=self.user_id)

    def delete(self) -> bool:
        """Delete the session with its runs, its state and its media; see `Storage.delete`."""
        return self.storage.delete(**self._key)

    async def adelete(self) -> bool:
        """As `delete`, for asynchronous callers."""
        return await self.storage.adelete(**self._key)


def _state(head: Session | None) -> JsonObject:
    return {} if head is None else head.state


def _summary(head: Session | None) -> str | None:
    return None if head is None or head.summary is None else head.summary["text"]


def _paused(head: Session | None) -> list[int]:
    return [] if head is None else [number for number, run in head.open_runs.items() if run.status == "paused"]


def _pending(runs: list[Run]) -> dict[int, DeferredToolRequests]:
    return {run.number: requests_of(run) for run in runs if run.pending}
