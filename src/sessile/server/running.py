"""Running what is served: each run is a task of its own, whoever waits for it, reads it, or has gone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from pydantic_ai import DeferredToolResults
from pydantic_ai.exceptions import RunCancelled
from pydantic_ai.messages import (
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelResponse,
    TextPart,
    UserContent,
)

from ..agents import Agent, MemberEnded, MemberStarted, TeamEvent
from ..agents.messages.stored import dump_output
from ..agents.told import resume_told, run_told
from ..errors import (
    NotResumableError,
    RunCancelledError,
    SessileError,
    SessionBusyError,
    SessionNotFoundError,
    StepFailedError,
)
from ..live.result import RunResult
from ..live.streams import text_delta
from ..records import ANY_USER, JsonObject, Run, UserId
from ..storage.core import Core
from ..storage.forms import reviews_of
from ..storage.ids import RESERVED
from ..storage.repeating import find_run
from ..storage.storage import aoperate
from ..storage.vocabulary import Pending
from ..workflows import Workflow
from ..workflows.run.events import WorkflowEvent
from .problems import Problem, run_failed
from .serving import Served, View
from .shown import cut, outcome_of_result, outcome_of_run
from .streams import run_frames
from .work import LiveRun, Place

Prompt = str | list[UserContent]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks to be run.

    Attributes:
        input: a prompt, or what a workflow takes: an object has its arguments by name.
        session_id: in which session; None: in a new one.
        user_id: whose session a new one is; None: nobody's, or the user's whose view it is.
        anybodys: whether a session that is there may be any other user's: for administrators, who name none.
        run_id: an id that makes the request repeatable, or None.
        metadata: what is kept beside the run.
        after: the run that it is to follow, where the session goes back to, or None: the last one.
    """

    input: Any
    session_id: str | None
    user_id: UserId
    anybodys: bool = False
    run_id: str | None = None
    metadata: JsonObject | None = None
    after: int | None = None


class Telling:
    """A run that is about to begin here, or to go on, and what it then tells.

    Args:
        view: who has asked for it.
        name: what runs.
        quiet: whether nobody is to read it as it works.
        told: is given each event as it is, for other ways to write it down.
    """

    def __init__(
        self,
        view: View,
        name: str,
        *,
        quiet: bool = False,
        told: Callable[[Any], None] | None = None,
    ) -> None:
        self.view, self.name, self.quiet, self.told = view, name, quiet, told
        self._epoch, self._before = 1, ""
        self.session_id = self.run_id = ""
        self.number = 0
        self.live: LiveRun | None = None
        self.result: RunResult[Any] | None = None
        self.has_begun = asyncio.Event()

    def went_on(self, epoch: int, own: Sequence[ModelMessage]) -> None:
        """Another process has begun it, and it has said this before."""
        self._epoch = epoch
        self._before = "".join(
            part.content
            for message in own
            if isinstance(message, ModelResponse)
            for part in message.parts
            if isinstance(part, TextPart)
        )

    def begun(self, session_id: str, run_id: str, number: int) -> None:
        """The run is stored, and in progress."""
        self.session_id, self.run_id, self.number = session_id, run_id, number
        if not self.quiet:
            self.live = LiveRun(session_id, run_id, number, epoch=self._epoch, before=self._before)
            self.live.begin(self.name)
            self.view.server.work.begin(self.view.stored_id(session_id), self.live)
        self.has_begun.set()

    def put(self, event: Any) -> None:
        """Something has happened in the run."""
        if self.told is not None:
            self.told(event)
        if self.live is None:
            return
        if isinstance(event, WorkflowEvent):
            self.live.tell(event.kind, _step(event))
            return
        member: JsonObject = {}
        if isinstance(event, TeamEvent):
            member = {"member": event.member, "path": list(event.path), "run_id": event.run_id}
            answering, event = event.answering, event.event
            if isinstance(event, MemberStarted):
                self.live.tell("member.started", {**member, "task": cut(dump_output(event.task))})
                return
            if isinstance(event, MemberEnded):
                self.live.tell(
                    "member.ended", {**member, "status": event.status, "output": cut(dump_output(event.output))}
                )
                return
            if not answering:
                if text := text_delta(event):
                    self.live.tell("member.text", {**member, "text": text})
                return
        if text := text_delta(event):
            self.live.say(text)
        elif isinstance(event, FunctionToolCallEvent):
            call = {"tool_name": event.part.tool_name, "tool_call_id": event.part.tool_call_id}
            self.live.tell("tool.called", {**member, **call, "args": cut(dump_output(event.part.args))})
        elif isinstance(event, FunctionToolResultEvent):
            part = event.part
            call = {"tool_name": part.tool_name, "tool_call_id": part.tool_call_id}
            self.live.tell("tool.returned", {**member, **call, "content": cut(dump_output(part.content))})

    def ended(self, outcome: JsonObject | None) -> None:
        """The run has ended here; None: it is to go on elsewhere."""
        if outcome is not None:
            self.view.server.metrics.run(self.name, outcome["status"])
        if self.live is not None:
            self.live.end(outcome)
            self.view.server.work.ended(self.view.stored_id(self.session_id), self.live)


def _step(event: WorkflowEvent) -> JsonObject:
    told = {field.name: getattr(event, field.name) for field in fields(event) if field.name != "kind"}
    return {name: value for name, value in told.items() if value not in (None, "", 0.0, False)}


# ---------------------------------------------------------------- driving


async def drive(telling: Telling, work: Coroutine[Any, Any, RunResult[Any]]) -> JsonObject:
    """Let a run work to its end; returns what has come of it.

    Raises what keeps it from beginning, and `NotStoredError`. A run that has failed has ended, and is returned.
    """
    view = telling.view
    try:
        async with view.server.slots.taken_by(view.caller.user_id):
            result = telling.result = await work
    except asyncio.CancelledError:
        telling.ended(None)
        raise
    except Exception as error:  # whatever models, tools and steps raise: the run is stored as failed
        if not telling.has_begun.is_set() or (isinstance(error, SessileError) and not _is_an_end(error)):
            telling.ended(None)
            raise
        outcome = await stored_outcome(view, telling.session_id, telling.number)
    else:
        if result.status == "completed":
            outcome = outcome_of_result(result, telling.name)
        else:
            outcome = await stored_outcome(view, result.session_id, result.number)
    finally:
        work.close()  # where no place was free for it
    telling.ended(outcome)
    return outcome


def _is_an_end(error: SessileError) -> bool:
    return isinstance(error, (StepFailedError, RunCancelledError, RunCancelled))


async def stored_outcome(view: View, session_id: str, number: int) -> JsonObject:
    """What the log says that has come of a run."""
    run = await view.storage.aget_run(session_id, number, user_id=view.reads)
    return outcome_of_run(session_id, run, whole_errors=view.is_administrator)


def asked_by(
    view: View,
    given: Any,
    session_id: str,
    *,
    user_id: str | None = None,
    key: str | None = None,
    metadata: JsonObject | None = None,
    after: int | None = None,
) -> Asked:
    """What a caller asks to be run; `key` makes the request repeatable."""
    anybodys = view.is_administrator and user_id is None
    whose: UserId = view.owner(user_id)
    if anybodys and session_id.startswith(RESERVED):  # a user's own session, which is not made by others
        whose = ANY_USER
    run_id = None if key is None else f"key:{key}"
    return Asked(given, session_id, whose, anybodys, run_id, metadata, after)


def session_of(view: View, name: str, key: str) -> str:
    """The session of a request that names none, but has a key: the same one when it comes again."""
    return hashlib.sha256(f"{view.caller.user_id}\0{name}\0{key}".encode()).hexdigest()[:32]


def launched(telling: Telling, asked: Asked) -> asyncio.Task[JsonObject]:
    """A new run, in a task of its own."""
    runner = telling.view.runner(telling.name)
    return telling.view.server.work.spawn(drive(telling, _run_anybodys(telling, runner, asked)))


async def _run_anybodys(telling: Telling, runner: Served, asked: Asked) -> RunResult[Any]:
    await _go_back(telling.view, asked)
    try:
        return await _run(telling, runner, asked)
    except SessionNotFoundError:  # before anything began: it is another user's
        if not asked.anybodys:
            raise
    return await _run(telling, runner, replace(asked, user_id=ANY_USER))


async def _go_back(view: View, asked: Asked) -> None:
    """Go back to the run that a new one is to follow; a request that comes again has done so before."""
    if asked.after is None or asked.session_id is None:
        return
    session = await view.storage.aget_session(asked.session_id, user_id=view.reads)
    if session is None:
        raise SessionNotFoundError(f"There is no session {asked.session_id!r}.")
    if session.tip == asked.after:
        return
    if asked.run_id is not None:
        known = await aoperate(view.storage, _run_of, asked.session_id, asked.run_id, user_id=view.reads)
        if known is not None:
            return
    await view.storage.arewind(asked.session_id, at=asked.after, user_id=view.reads)


async def _run(telling: Telling, runner: Served, asked: Asked) -> RunResult[Any]:
    if isinstance(runner, Workflow):
        args, kwargs = arguments_of(asked.input)
        known = asked.run_id is not None
        stream = runner.astream(
            *args,
            session_id=asked.session_id,
            user_id=asked.user_id,
            run_id=asked.run_id,
            run_metadata=asked.metadata,
            **kwargs,
        )
        return await _streamed(telling, stream, known=known)
    return await run_told(
        runner,
        asked.input,
        telling,
        None if telling.quiet and telling.told is None else telling.put,
        session_id=asked.session_id,
        user_id=asked.user_id,
        run_id=asked.run_id,
        run_metadata=asked.metadata,
    )


async def _streamed(telling: Telling, stream: Any, *, known: bool) -> RunResult[Any]:
    """A workflow's run; `known` says that it may have begun before."""
    async with stream:
        if known:
            view = telling.view
            run = await view.storage.aget_run(stream.session_id, stream.number, user_id=view.reads)
            telling.went_on(run.epoch, [])
        telling.begun(stream.session_id, stream.run_id, stream.number)
        async for event in stream:
            telling.put(event)
    return stream.result


def arguments_of(given: Any) -> tuple[list[Any], JsonObject]:
    """What a workflow is called with: an object has its arguments by name, anything else is the only one."""
    if isinstance(given, dict):
        return [], cast(JsonObject, given)
    return ([] if given is None else [given]), {}


async def finished(task: asyncio.Task[JsonObject]) -> JsonObject:
    """What has come of a run, when it has; the run does not depend on who waits for it."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise Problem(
                503,
                "interrupted",
                "The server ends, and the run was interrupted.",
                hint="Look at the session; send the request again under the same Idempotency-Key.",
                retryable=True,
                written="unknown",
                headers={"Retry-After": "1"},
            ) from None
        raise


async def begun(telling: Telling, task: asyncio.Task[JsonObject]) -> None:
    """Wait until a run has begun, or was there before; raises what keeps it from that."""
    waiter = asyncio.ensure_future(telling.has_begun.wait())
    try:
        await asyncio.wait([task, waiter], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
    if not telling.has_begun.is_set():
        outcome = await finished(task)
        telling.session_id, telling.run_id, telling.number = (
            outcome["session_id"],
            outcome["run_id"],
            outcome["number"],
        )


def checked(outcome: JsonObject) -> JsonObject:
    """The outcome of a run that has not failed; raises the problem of one that has."""
    if outcome["status"] == "failed":
        error: JsonObject = outcome["error"] or {}
        raise run_failed(outcome["session_id"], outcome["run_id"], outcome["number"], error.get("type"))
    return outcome


# ---------------------------------------------------------------- requests that come again


async def joined(telling: Telling, asked: Asked, error: SessileError) -> None:
    """Join the run of a request that came before, where it is running elsewhere or has ended; else raise `error`."""
    again = isinstance(error, (SessionBusyError, NotResumableError))
    if asked.run_id is None or asked.session_id is None or not again:
        raise error
    view = telling.view
    found = await aoperate(view.storage, _run_of, asked.session_id, asked.run_id, user_id=view.reads)
    if found is None:
        raise error
    telling.session_id, telling.run_id, telling.number = asked.session_id, found.run_id, found.number


async def awaited(telling: Telling) -> JsonObject:
    """What has come of a run that is running elsewhere, when it has."""
    async for _ in run_frames(telling.view, telling.session_id, telling.number, Place()):
        pass
    return await stored_outcome(telling.view, telling.session_id, telling.number)


async def _run_of(core: Core, session_id: str, run_id: str, *, user_id: UserId) -> Run | None:
    """The run that an id was given to, however long ago."""
    user_id = core.check_access(session_id, user_id)
    deadline = core.deadline()
    found = await find_run(core, await core.head_of(session_id, user_id, deadline), run_id, deadline)
    return None if found is None else found.run


# ---------------------------------------------------------------- going on


def check_reviewer(view: View, run: Run, approvals: Iterable[str]) -> None:
    """Refuse what somebody who is no administrator says about an output that is reviewed before it is given to them."""
    if view.is_administrator or run.pending is None:
        return
    if reviews_of(Pending.of(run.pending).requests).keys() & {*approvals}:
        raise Problem(403, "forbidden", "What an agent answers is reviewed by administrators.")


async def resumed(
    view: View,
    name: str,
    session_id: str,
    run: Run,
    results: DeferredToolResults,
    *,
    epoch: int | None = None,
    told: Callable[[Any], None] | None = None,
) -> tuple[Telling, asyncio.Task[JsonObject]]:
    """Let a run go on here, in a task of its own; who asks has decided what is given, of the run's `epoch`.

    Raises a problem (403) where that is not theirs to decide.
    """
    check_reviewer(view, run, results.approvals)
    telling = Telling(view, name, told=told)
    by = view.caller.user_id
    runner = view.runner(name)
    if isinstance(runner, Workflow):
        stream = runner.astream(
            session_id, run_number=run.number, user_id=view.reads, results=results, by=by, epoch=epoch, resume=True
        )
        work = _streamed(telling, stream, known=True)
    else:
        assert isinstance(runner, Agent)
        work = resume_told(
            runner,
            telling,
            telling.put,
            session_id=session_id,
            user_id=view.reads,
            run_number=run.number,
            results=results,
            by=by,
            epoch=epoch,
        )
    return telling, view.server.work.spawn(drive(telling, work))
