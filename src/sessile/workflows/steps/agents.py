"""Agents as steps: what they say is kept in the same commit as the step's result, as a run below the workflow's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NoReturn

from pydantic_ai import DeferredToolRequests, DeferredToolResults, RunContext, capture_run_messages
from pydantic_ai.messages import AgentStreamEvent, ModelMessage
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.run import AgentRunResult
from pydantic_ai.usage import RunUsage

from ...agents.agent import Agent, check_part, member_spec, run_part, stored_in
from ...agents.messages.counted import usage_of
from ...agents.messages.stored import (
    FORMAT,
    dump_input,
    dump_message,
    dump_output,
    dump_requests,
    load_messages,
    requests_of,
)
from ...agents.placeholders import with_state
from ...agents.resume.decisions import UNSURE, load_decisions, part_of
from ...agents.run.first import FirstPart, HearsFirst
from ...agents.run.standing import answers, approved, granted_calls, yes_or_no
from ...agents.team import Team
from ...errors import InvalidInputError, NotResumableError, SessileError, SessionBusyError, problem_of
from ...live.result import RunResult
from ...live.session import current_session
from ...live.streams import text_delta
from ...records import Entry, JsonObject, Usage
from ...storage import open_storage, turns
from ...storage.ids import uuid7
from ...storage.sameness import shared_by
from ...storage.storage import Storage, UserStorage, aoperate
from ...storage.turns import TurnSpec
from ...storage.uninterrupted import to_the_end
from ...storage.vocabulary import MessageAdded, Pending, RunEnded, RunStarted, RunTaken, Word, kind_of
from ..run.events import unheard
from ..run.journal import path_of
from ..run.pausing import Pause
from ..run.runtime import WorkflowRun, current_step
from .call import Call

PAUSE = 0.2
"""Seconds between two looks whether somebody is still working on a run in an agent's own session."""


@dataclass
class FilledInstructions(HearsFirst[Any]):
    """Puts the workflow's state into an agent's instructions, counts what is used, approves what was granted before."""

    usage: RunUsage = field(default_factory=RunUsage)
    approve: Callable[[DeferredToolRequests], Awaitable[DeferredToolResults | None]] | None = None
    first: FirstPart | None = None

    @property
    def first_part(self) -> FirstPart | None:
        """See `HearsFirst`."""
        return self.first

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """See `AbstractCapability`."""
        return None if self.approve is None else await self.approve(requests)

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """See `AbstractCapability`."""
        self.usage = ctx.usage
        return with_state(request_context, current_session().shown)


async def run_agent(run: WorkflowRun, call: Call, agent: Agent[Any], entries: list[Entry]) -> Any:
    """The agent's answer. With `session_id=` it answers in that session of its own, else inside the workflow's run.

    `entries` gets what the agent said, also if it fails. A team answers in a session of its own, always the same one
    for this step of this run, which is kept if the team has a storage. `Pause` if the agent waits for a decision.
    """
    options = dict(call.kwargs)
    if run.emit is not unheard:  # only then: an answer that nobody watches need not be streamed
        options["event_stream_handler"] = _telling(run, call, options.get("event_stream_handler"))
    if isinstance(agent, Team):  # its members need a session
        options.setdefault("session_id", current_step().own_session)
    if agent.storage is not None and isinstance(run.storage, UserStorage):
        agent = agent.for_user(run.storage.user_id)
    if "session_id" in options:
        return await _run_elsewhere(run, call, agent, {"user_id": run.user_id, **options}, entries)
    prompt = call.args[0] if call.args else options.pop("prompt", None)
    part = AgentPart(run, agent, dump_input(prompt))
    options["capabilities"] = [*(options.get("capabilities") or ()), part.watcher]
    with capture_run_messages() as messages:
        try:
            result: Any = await part.answered(prompt, options)
            output: Any = result.output
        except Exception as error:
            entries += await part.entries(messages, RunEnded(status="failed", error=problem_of(error)))
            raise
        except asyncio.CancelledError as error:  # what it has used counts all the same
            entries += await to_the_end(part.stopped(messages, error))
            raise
    if isinstance(output, DeferredToolRequests):
        await part.wait(result.new_messages(), output)
    entries += await part.entries(result.new_messages(), RunEnded(status="completed", output=dump_output(output)))
    return output


class AgentPart:
    """A run of an agent below the workflow's run: always the same one for this attempt of this step of this run."""

    def __init__(self, run: WorkflowRun, agent: Agent[Any], prompt: Any) -> None:
        self.run, self.agent, self.prompt = run, agent, prompt
        self.run_id = run_id_of(run, current_step().attempt)
        self.watcher = FilledInstructions(approve=self._approve)
        self._approved: list[Word] = []
        self._started = run.now()
        self._kept = run.journal.parts.get(self.run_id)
        self.watcher.first = FirstPart() if self._kept is None else None

    async def answered(self, prompt: Any, options: dict[str, Any]) -> AgentRunResult[Any]:
        """What the agent returns; one that has waited for a decision continues with it, or waits on."""
        run = self.run
        if self._kept is None:
            return await run_part(self.agent, prompt, session_id=run.session_id, run_id=self.run_id, **options)
        requests = requests_of(self._kept)
        results = await decisions_for(run, self.run_id, requests)
        try:
            await check_part(self.agent, {call.tool_name for call in (*requests.approvals, *requests.calls)}, **options)
        except NotResumableError as refusal:
            raise Pause.for_decisions(self.run_id, requests, refusal) from None
        messages = await load_messages(self._kept.messages, partial(_media, run))
        return await run_part(
            self.agent, None, session_id=run.session_id, run_id=uuid7(), messages=messages, results=results, **options
        )

    async def wait(self, messages: list[ModelMessage], requests: DeferredToolRequests) -> NoReturn:
        """Keep what the agent has done so far, and leave the workflow's function until there is a decision."""
        pending = Pending(requests=dump_requests(requests)).json
        entries = await self.entries(messages, RunEnded(status="paused", pending=pending))
        await self.run.journal.keep(entries)
        waiting = self._kept or RunStarted.begun(entries[0])
        for entry in entries[1:] if self._kept is None else entries:
            kind_of(entry).tell(waiting, entry)
        self.run.journal.parts[self.run_id] = waiting
        raise Pause.for_decisions(self.run_id, requests)

    async def entries(self, messages: list[ModelMessage], ended: RunEnded) -> list[Entry]:
        """The entries of the agent's run, whose usage counts for the workflow's run as well."""
        usage = usage_of(self.watcher.usage, messages)
        started: Word = RunStarted(input=await self._keep(self.prompt), started_at=self._started)
        if self._kept is not None:
            started = RunTaken(epoch=self.run.journal.turn.epoch, until=0, was=self._kept.status)
        self.run.journal.usage = self.run.journal.usage + usage
        first = self.watcher.first
        return [
            self._entry(started),
            *[self._entry(MessageAdded(await dump_message(one, self._keep)), FORMAT) for one in messages],
            *map(self._entry, self._approved),
            self._entry(ended.but(usage=usage.to_json(), first_token=first and first.took)),
        ]

    async def _approve(self, requests: DeferredToolRequests) -> DeferredToolResults | None:
        """What was approved before of the agent's calls, in the workflow's session or for its user."""
        run = self.run
        user_id = run.journal.turn.user_id
        calls = yes_or_no(requests)
        grants = await granted_calls(run.storage, run.session_id, user_id, self.agent.name, calls)
        self._approved += [approved(one, grants[one.tool_call_id]) for one in calls if one.tool_call_id in grants]
        return answers(grants)

    async def stopped(self, messages: list[ModelMessage], error: BaseException) -> list[Entry]:
        """The entries of a run that was stopped, under an id of its own: that of the step may be used again."""
        if self._kept is not None:
            return []
        self.run_id = uuid7()
        return await self.entries(messages, RunEnded(status="cancelled", error=problem_of(error)))

    async def told(self, where: JsonObject, used: Usage, ended: RunEnded) -> list[Entry]:
        """The entries of a run in a session of its own (`where`), which has the messages: here it is told.

        What it has used is a part of the workflow's usage, as far as that has not been told before. A sum over all
        sessions of a storage takes it from the run that has used it: where that is kept in the workflow's database, it
        says so here.
        """
        run, storage = self.run, self.agent.storage
        elsewhere: str | None = where.get("run_id")
        if elsewhere is not None:
            used = used - run.journal.told.get(elsewhere, Usage())
        run.journal.count(used, elsewhere)
        if storage is not None and await shared_by(run.storage, storage, where["session_id"]):
            ended = ended.but(counted_there=True)
        started = RunStarted(input=await self._keep(self.prompt), started_at=self._started, metadata=where or None)
        return [self._entry(started), self._entry(ended.but(usage=used.to_json()))]

    def _entry(self, said: Word, format: str | None = None) -> Entry:
        turn = self.run.journal.turn
        return said.entry(self.run_id, turn.number, turn.spec.run_id, self.agent.name, format)

    async def _keep(self, value: Any) -> Any:
        return await aoperate(self.run.storage, turns.keep_media, self.run.journal.turn, value)


def figures_of(entries: Sequence[Entry], error: Exception) -> list[Entry]:
    """Of what an agent said only that it was asked, and what it has used; for where all of it is too large."""
    figures: list[Entry] = []
    for entry in entries:
        started, ended = RunStarted.read(entry), RunEnded.read(entry)
        if started is not None:
            figures.append(replace(entry, data=started.but(input=None).json))
        elif ended is not None:
            kept = ended.but(status="failed", output=None, error=problem_of(error))
            figures.append(replace(entry, data=kept.json))
    return figures


def run_id_of(run: WorkflowRun, attempt: int) -> str:
    """The id of the run of an agent, in one attempt of the running step: the same after a crash."""
    return str(run.step_uuid(f"run/{attempt}", path_of(current_step().path)))


async def decisions_for(run: WorkflowRun, run_id: str, requests: DeferredToolRequests) -> DeferredToolResults:
    """What was decided about the calls that an agent's run waits for; `Pause` if that is not all of them."""
    given = DeferredToolResults()
    for decided in run.journal.decided:
        asked = (decided.asked or {}).get(run_id, ())
        loaded = await load_decisions(decided, partial(_media, run))
        # What was approved before a call began says nothing about one that may have happened already.
        fits = [call for call in asked if requests.metadata.get(call) != UNSURE or loaded.metadata.get(call) == UNSURE]
        given.update(part_of(loaded, fits))
    waiting = {call.tool_call_id for call in (*requests.approvals, *requests.calls)}
    if waiting - given.approvals.keys() - given.calls.keys():
        raise Pause.for_decisions(run_id, requests)
    return part_of(given, waiting)


async def _run_elsewhere(
    run: WorkflowRun, call: Call, agent: Agent[Any], options: dict[str, Any], entries: list[Entry]
) -> Any:
    """The agent's answer in a session of its own; `entries` gets what it has used, also if it fails.

    Without a storage that session lasts as long as the step.
    """
    part = AgentPart(run, agent, dump_input(call.args[0] if call.args else options.get("prompt")))
    async with AsyncExitStack() as stack:
        if (kept := agent.storage) is None:
            kept = await stack.enter_async_context(open_storage("memory://"))
            agent = stored_in(agent, kept)
        at: list[str] = []
        try:
            result = await _answer_elsewhere(run, call, agent, options, at, for_now=part.agent.storage is None)
            if result.pending is not None and part.agent.storage is None:
                raise InvalidInputError(
                    f"Agent {agent.name!r} waits for a decision about a tool call, and nothing is kept of its session.",
                    hint="Give it a storage, or decide in the workflow, with ctx.wait_for_event, before the step.",
                )
        except Pause:
            raise
        except (Exception, asyncio.CancelledError) as error:
            stopped = not isinstance(error, Exception)
            spec = member_spec(agent, options["session_id"], options["user_id"])
            entries += await to_the_end(_figures(part, kept, spec, at, RunEnded(
                status="cancelled" if stopped else "failed", error=problem_of(error))))  # fmt: skip
            raise
    output = dump_output(result.output)
    where = _where(part, result.session_id, result.run_id)
    entries += await part.told(where, result.usage, RunEnded(status="completed", output=output))
    return result.output


def _where(part: AgentPart, session_id: str, run_id: str) -> JsonObject:
    return {} if part.agent.storage is None else {"session_id": session_id, "run_id": run_id}


async def _figures(
    part: AgentPart, storage: Storage, spec: TurnSpec, at: Sequence[str], ended: RunEnded
) -> list[Entry]:
    """The entries of a run in a session of its own that has failed or was stopped, with what it has used."""
    if not at:
        return []
    spec.run_id = at[-1]
    try:
        found = await aoperate(storage, turns.repeated, spec, same=False)
    except SessileError:  # whatever is wrong there, the step fails for what it has failed
        return []
    if found is None:
        return []
    if ended.status == "cancelled":  # the id of the step may be used again
        part.run_id = uuid7()
    return await part.told(_where(part, spec.session_id, spec.run_id), found.run.usage, ended)


async def _answer_elsewhere(
    run: WorkflowRun, call: Call, agent: Agent[Any], options: dict[str, Any], at: list[str], *, for_now: bool
) -> RunResult[Any]:
    """What an agent returns in a session of its own: once for each attempt of the step, whatever crashes in between.

    Its run there has an id that is derived from the step (`at` gets it): one that has completed is taken, one that is
    open is continued. `Pause` if it waits for a decision.
    """
    result = await _begun_elsewhere(agent, call, options, run, at)
    while result.pending is not None and not for_now:
        given = await decisions_for(run, result.run_id, result.pending)
        rest = {name: value for name, value in options.items() if name not in ("prompt", "run_id", "run_metadata")}
        try:
            result = await agent.aresume(run_number=result.number, results=given, **rest)
        except NotResumableError as refusal:
            if not await _still_waits(agent, result, options["user_id"]):
                raise
            raise Pause.for_decisions(result.run_id, result.pending, refusal) from None
    return result


async def _still_waits(agent: Agent[Any], result: RunResult[Any], user_id: Any) -> bool:
    """Whether an agent's run waits for decisions, as before: these could not be carried out."""
    storage = agent.storage
    assert storage is not None, "it has answered in a session of its own"
    return (await storage.aget_run(result.session_id, result.number, user_id=user_id)).status == "paused"


async def _begun_elsewhere(
    agent: Agent[Any], call: Call, options: dict[str, Any], run: WorkflowRun, at: list[str]
) -> RunResult[Any]:
    """The agent's run of this attempt; of an earlier one that has failed, and can be resumed, that."""
    attempt, tried = current_step().attempt, 1
    while True:
        run_id = run_id_of(run, tried)
        at.append(options.get("run_id", run_id))
        try:
            return await agent.arun(*call.args, **{"run_id": run_id, **options})
        except NotResumableError as error:
            if "run_id" in options or tried == attempt or getattr(error.result, "status", None) != "failed":
                raise
            tried += 1
        except SessionBusyError as error:
            if error.at_work != (run_id,):
                raise
            await asyncio.sleep(PAUSE)  # its process is gone, but its lease holds a little longer


async def _media(run: WorkflowRun, digest: str) -> bytes:
    return await aoperate(run.storage, turns.turn_media, run.journal.turn, digest)


def _telling(run: WorkflowRun, call: Call, other: Any) -> Any:
    """A handler of the agent's events that tells the pieces of text to who listens to the workflow."""

    async def told(events: AsyncIterable[AgentStreamEvent]) -> AsyncGenerator[AgentStreamEvent]:
        async for event in events:
            if text := text_delta(event):
                run.tell("step.text", call.name, call.path, text=text)
            yield event

    async def handler(context: Any, events: AsyncIterable[AgentStreamEvent]) -> None:
        async with aclosing(told(events)) as heard:  # a handler may leave before the end
            if other is not None:
                await other(context, heard)
            else:
                async for _ in heard:
                    pass

    return handler
