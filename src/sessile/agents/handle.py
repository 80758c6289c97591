"""A handle of one session, from `agent.session(id)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Unpack

from pydantic_ai import DeferredToolRequests, DeferredToolResults

from ..records import Branch, Head, JsonObject, Message, Run
from ..storage.storage import Storage
from .messages import load_requests
from .options import RunOptions
from .result import OutputT, RunResult
from .streaming import AsyncRunStream, RunStream

if TYPE_CHECKING:
    from .agent import Agent, Approval, Prompt


@dataclass(frozen=True)
class SessionHandle(Generic[OutputT]):
    """One session of an agent: what `Agent` and `Storage` offer, without naming the session each time.

    Reading makes no session: before its first run there is none, its state is empty and its lists are.
    """

    agent: Agent[OutputT]
    storage: Storage
    session_id: str
    user_id: str | None = None

    @property
    def _key(self) -> dict[str, Any]:
        return {"session_id": self.session_id, "user_id": self.user_id}

    # ------------------------------------------------------------ running

    def run(
        self, prompt: Prompt | None, *, run_metadata: JsonObject | None = None, **options: Unpack[RunOptions]
    ) -> RunResult[OutputT]:
        """See `Agent.run`."""
        return self.agent.run(prompt, run_metadata=run_metadata, **self._key, **options)

    async def arun(
        self, prompt: Prompt | None, *, run_metadata: JsonObject | None = None, **options: Unpack[RunOptions]
    ) -> RunResult[OutputT]:
        """See `Agent.arun`."""
        return await self.agent.arun(prompt, run_metadata=run_metadata, **self._key, **options)

    def stream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT]:
        """See `Agent.stream`."""
        return self.agent.stream(prompt, events=events, run_metadata=run_metadata, **self._key, **options)

    def astream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream[OutputT]:
        """See `Agent.astream`."""
        return self.agent.astream(prompt, events=events, run_metadata=run_metadata, **self._key, **options)

    def resume(
        self,
        *,
        run: int | None = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """See `Agent.resume`."""
        return self.agent.resume(run=run, approvals=approvals, results=results, **self._key, **options)

    async def aresume(
        self,
        *,
        run: int | None = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """See `Agent.aresume`."""
        return await self.agent.aresume(run=run, approvals=approvals, results=results, **self._key, **options)

    # ------------------------------------------------------------ reading

    def head(self) -> Head | None:
        """The session's head, or None before its first run."""
        return self.storage.session(**self._key)

    async def ahead(self) -> Head | None:
        """The `async` twin of `head`."""
        return await self.storage.asession(**self._key)

    def state(self) -> JsonObject:
        """The session's state."""
        return _state(self.head())

    async def astate(self) -> JsonObject:
        """The `async` twin of `state`."""
        return _state(await self.ahead())

    def summary(self) -> str | None:
        """The rolling summary of the older runs, if the agent's history keeps one."""
        return _summary(self.head())

    async def asummary(self) -> str | None:
        """The `async` twin of `summary`."""
        return _summary(await self.ahead())

    def runs(self, *, last: int | None = None) -> list[Run]:
        """See `Storage.runs`."""
        return self.storage.runs(self.session_id, last=last, user_id=self.user_id)

    async def aruns(self, *, last: int | None = None) -> list[Run]:
        """The `async` twin of `runs`."""
        return await self.storage.aruns(self.session_id, last=last, user_id=self.user_id)

    def messages(self, *, last_runs: int | None = None) -> list[Message]:
        """See `Storage.messages`."""
        return self.storage.messages(self.session_id, last_runs=last_runs, user_id=self.user_id)

    async def amessages(self, *, last_runs: int | None = None) -> list[Message]:
        """The `async` twin of `messages`."""
        return await self.storage.amessages(self.session_id, last_runs=last_runs, user_id=self.user_id)

    def pending(self) -> dict[int, DeferredToolRequests]:
        """The tool calls that wait for a decision, by the number of their paused run."""
        head = self.head()
        return _pending([self.storage.run(**self._key, number=number) for number in _paused(head)])

    async def apending(self) -> dict[int, DeferredToolRequests]:
        """The `async` twin of `pending`."""
        head = await self.ahead()
        return _pending([await self.storage.arun(**self._key, number=number) for number in _paused(head)])

    def branches(self) -> list[Branch]:
        """See `Storage.branches`."""
        return self.storage.branches(**self._key)

    async def abranches(self) -> list[Branch]:
        """The `async` twin of `branches`."""
        return await self.storage.abranches(**self._key)

    # ------------------------------------------------------------ changing

    def update_state(self, state: Mapping[str, Any]) -> Head:
        """See `Storage.update_state`."""
        return self.storage.update_state(self.session_id, state, user_id=self.user_id)

    async def aupdate_state(self, state: Mapping[str, Any]) -> Head:
        """The `async` twin of `update_state`."""
        return await self.storage.aupdate_state(self.session_id, state, user_id=self.user_id)

    def rename(self, name: str | None) -> Head:
        """See `Storage.rename`."""
        return self.storage.rename(self.session_id, name, user_id=self.user_id)

    async def arename(self, name: str | None) -> Head:
        """The `async` twin of `rename`."""
        return await self.storage.arename(self.session_id, name, user_id=self.user_id)

    def fork(self, *, at: int | None = None, session_id: str | None = None) -> SessionHandle[OutputT]:
        """See `Storage.fork`; returns a handle of the new session."""
        head = self.storage.fork(self.session_id, at=at, session_id=session_id, user_id=self.user_id)
        return SessionHandle(self.agent, self.storage, head.session_id, self.user_id)

    async def afork(self, *, at: int | None = None, session_id: str | None = None) -> SessionHandle[OutputT]:
        """The `async` twin of `fork`."""
        head = await self.storage.afork(self.session_id, at=at, session_id=session_id, user_id=self.user_id)
        return SessionHandle(self.agent, self.storage, head.session_id, self.user_id)

    def rewind(self, *, at: int, restore_state: bool = True) -> Head:
        """See `Storage.rewind`."""
        return self.storage.rewind(self.session_id, at=at, user_id=self.user_id, restore_state=restore_state)

    async def arewind(self, *, at: int, restore_state: bool = True) -> Head:
        """The `async` twin of `rewind`."""
        return await self.storage.arewind(self.session_id, at=at, user_id=self.user_id, restore_state=restore_state)

    def cancel(self, *, run: int | None = None) -> bool:
        """See `Storage.cancel_run`."""
        return self.storage.cancel_run(self.session_id, run, user_id=self.user_id)

    async def acancel(self, *, run: int | None = None) -> bool:
        """The `async` twin of `cancel`."""
        return await self.storage.acancel_run(self.session_id, run, user_id=self.user_id)

    def delete(self) -> bool:
        """See `Storage.delete`."""
        return self.storage.delete(**self._key)

    async def adelete(self) -> bool:
        """The `async` twin of `delete`."""
        return await self.storage.adelete(**self._key)


def _state(head: Head | None) -> JsonObject:
    return {} if head is None else head.state


def _summary(head: Head | None) -> str | None:
    return None if head is None or head.summary is None else head.summary["text"]


def _paused(head: Head | None) -> list[int]:
    return [] if head is None else [number for number, run in head.open_runs.items() if run.status == "paused"]


def _pending(runs: list[Run]) -> dict[int, DeferredToolRequests]:
    return {run.number: load_requests(run.pending["requests"]) for run in runs if run.pending}
