"""One run of a team, in each of the modes.

A team's run is a run of its leader, whose tool are the members. What a mode does of itself, without asking the leader's
model, is said in the leader's place, in a response that was made up: `collaborate` begins with a call of every member,
`route` ends with the member's answer, and a function of one's own is one call and its result. So pauses, resuming,
streams and histories of a team are those of an agent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic_ai import DeferredToolRequests, ModelRetry, RunContext, Tool
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import FunctionToolset
from pydantic_ai.usage import RunUsage

from ...errors import InvalidInputError, MemberFailedError
from ...live.result import RunResult
from ...storage.ids import uuid7
from ..messages.counted import made_up
from ..messages.spoken import as_text
from ..messages.stored import dump_output, load_input
from ..options import Prompt
from .work import MemberRuns

DELEGATE = "delegate_task"
"""The tool by which a leader asks a member."""

WORK = "work_together"
"""The call of a team's own function."""

DELEGATE_HELP = "Let a member of your team work on a task; returns its answer."


class Member:
    """A member of a team, for the team's own function."""

    def __init__(self, work: MemberRuns, name: str, usage: RunUsage) -> None:
        self._work, self._usage = work, usage
        self._asked = 0
        self.name = name

    async def run(self, prompt: Prompt) -> RunResult[Any]:
        """Let the member work on a prompt; several may work at the same time (`asyncio.gather`).

        When the team's run is resumed, its function is called again, and what has ended is not done again but gives
        what it gave before. So a function must ask each member the same things in the same order.

        Raises `MemberFailedError` if the member fails. Where it waits for a decision the team's run is paused by an
        error that must not be caught: Pydantic AI's `ApprovalRequired`.
        """
        self._asked += 1
        return await self._work.ask(self.name, prompt, f"{self.name}/{self._asked}", self._usage)


class Members(Mapping[str, Member]):
    """The members of a team by name, for the team's own function."""

    def __init__(self, work: MemberRuns, usage: RunUsage) -> None:
        self._members = {name: Member(work, name, usage) for name in work.roster.members}

    def __getitem__(self, name: str) -> Member:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


Function = Callable[[Any, Members], Awaitable[Any]]
"""A mode of one's own: an `async` function of what the team was asked, and of its members; returns the answer."""

Mode = Literal["coordinate", "route", "collaborate", "handoff"] | Function


class Teamwork(MemberRuns):
    """Coordinate: the leader asks members by tool calls, and answers itself."""

    delegated: Sequence[str] = ()
    """Of a paused run: the leader's calls of members that wait for a decision. Resumed, it makes them again."""

    @property
    def speaks(self) -> bool:
        """See `Company`."""
        return True

    def delegates(self, tool: str) -> bool:
        """See `Company`."""
        return tool in (DELEGATE, WORK)

    def toolset(self) -> FunctionToolset[Any]:
        """The members as a tool, and what the leader is told about them."""
        tool = self._tool()
        # A member that was interrupted goes on where it was, and asks about what it must not repeat.
        tool.metadata = {"idempotent": True}
        told: Any = self.roster.briefing if self.pool.is_fixed else lambda: self.roster.briefing
        return FunctionToolset([tool], id="sessile_team", instructions=told)

    def _tool(self) -> Tool[Any]:
        return Tool(self._delegate, name=DELEGATE, description=DELEGATE_HELP, prepare=self._described)

    async def _described(self, context: RunContext[Any], definition: ToolDefinition) -> ToolDefinition:
        """The tool with the members that there are."""
        properties = {
            "member": {"type": "string", "enum": list(self.roster.members), "description": "The member's name."},
            "task": {
                "type": "string",
                "description": "All that the member needs to know. Default: the request as it is.",
            },
        }
        schema = {"type": "object", "properties": properties, "required": ["member"], "additionalProperties": False}
        return replace(definition, parameters_json_schema=schema)

    async def _delegate(self, context: RunContext[Any], member: str, task: str | None = None) -> Any:
        if member not in self.roster.members:
            raise ModelRetry(f"There is no member {member!r}. The members are: {', '.join(self.roster.members)}.")
        prompt = await self._request() if task is None else task
        try:
            result = await self.ask(member, prompt, self._key(context.tool_call_id, context.messages), context.usage)
        except MemberFailedError as error:
            raise ToolFailed(error.message) from error
        return dump_output(result.output)

    def _key(self, call_id: str | None, messages: Sequence[ModelMessage]) -> str:
        """The key of a member's run: the id of the leader's call. Some models give one id to several calls: `id/2`."""
        said = [message for message in self._said(messages) if isinstance(message, ModelResponse)]
        count = sum(call.tool_call_id == call_id for message in said for call in message.tool_calls)
        return f"{call_id}/{count}" if count > 1 else f"{call_id}"

    def _said(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """The messages of the leader in this run, those from before it was resumed too."""
        return self.recorder.transcript.said(messages)

    async def _request(self) -> Any:
        """What the team was asked."""
        if self.job.prompt is not None:
            return self.job.prompt
        return await load_input(self.recorder.record.input, self.recorder.media)

    def next_response(self, messages: Sequence[ModelMessage]) -> ModelResponse | None:
        """What is said in the leader's place; None: its model is asked."""
        return None

    def _last_returned(self, tool: str) -> ToolReturnPart | None:
        """What a tool has returned right before the last response of the run."""
        requests = [one for one in self._said(self.recorder.transcript.messages) if isinstance(one, ModelRequest)]
        return returned_by(requests[-1], tool) if requests else None

    def _begins(self, messages: Sequence[ModelMessage]) -> bool:
        """Whether nothing was said in this run of the team."""
        return not any(isinstance(message, ModelResponse) for message in self._said(messages))

    def come_to(self, output: Any) -> Any:
        """The result of the team's run, made of what its leader has answered or waits for."""
        return self._merged(output) if isinstance(output, DeferredToolRequests) else self._answer(output)

    def _answer(self, output: Any) -> Any:
        return output

    def _answer_of_member(self, output: Any) -> Any:
        """What the member has answered whose call came last, where the leader has said no more than that."""
        answer = self._last_returned(DELEGATE)
        if answer is None:
            return output
        # Not there where the leader has answered in the same breath: Pydantic AI then says so in the member's place.
        result = self.results.get(self._key(answer.tool_call_id, self.recorder.transcript.messages))
        return output if result is None else result.output

    def _merged(self, requests: DeferredToolRequests) -> DeferredToolRequests:
        """What the leader waits for itself, and what its members wait for."""
        own = [call for call in requests.approvals if not self.delegates(call.tool_name)]
        self.delegated = [call.tool_call_id for call in requests.approvals if call not in own]
        metadata = {call: data for call, data in requests.metadata.items() if call not in self.delegated}
        merged = DeferredToolRequests(calls=list(requests.calls), approvals=own, metadata=metadata)
        for waiting in self.waiting.values():
            merged.approvals.extend(waiting.approvals)
            merged.calls.extend(waiting.calls)
            merged.metadata.update(waiting.metadata)
        return merged


class Collaboration(Teamwork):
    """Collaborate: all members work on the request at the same time, and the leader joins what they say."""

    def next_response(self, messages: Sequence[ModelMessage]) -> ModelResponse | None:
        """See `Teamwork`."""
        if not self._begins(messages):
            return None
        return made_up(
            *(ToolCallPart(DELEGATE, {"member": name}, tool_call_id=uuid7()) for name in self.roster.members)
        )


class Routing(Teamwork):
    """Route: the leader picks one member, whose answer is that of the team."""

    _chosen: str | None = None

    async def _delegate(self, context: RunContext[Any], member: str, task: str | None = None) -> Any:
        if self._chosen is not None and self._chosen != context.tool_call_id:
            raise ToolFailed("Another member has been chosen, and only one can be.")
        self._chosen = context.tool_call_id
        try:
            return await super()._delegate(context, member, task)
        except (ModelRetry, ToolFailed):
            self._chosen = None
            raise

    def next_response(self, messages: Sequence[ModelMessage]) -> ModelResponse | None:
        """See `Teamwork`."""
        answer = returned_by(messages[-1], DELEGATE)
        return None if answer is None else made_up(TextPart(as_text(answer.content)))

    def _answer(self, output: Any) -> Any:
        return self._answer_of_member(output)

    def _leader_answers(self) -> bool:
        return self._answers and self._chosen is None

    def _member_answers(self) -> bool:
        return self._answers


class OwnFunction(Teamwork):
    """A function of one's own asks the members and gives the answer; no leader's model is asked."""

    _given: tuple[Any] | None = None

    def _tool(self) -> Tool[Any]:
        return Tool(self._call, name=WORK)

    async def _call(self, context: RunContext[Any]) -> Any:
        function: Any = self.roster.mode
        assert not isinstance(function, str), "the team's mode is a function"
        try:
            given = await function(await self._request(), Members(self, context.usage))
        except (ModelRetry, ToolFailed) as error:
            raise InvalidInputError(
                f"The team's function has raised {type(error).__name__}: {error.message}",
                hint="No model would hear of it: handle what goes wrong in the function, or raise another error.",
            ) from error
        self._given = (given,)
        return dump_output(given)

    def next_response(self, messages: Sequence[ModelMessage]) -> ModelResponse:
        """See `Teamwork`."""
        if self._begins(messages):
            return made_up(ToolCallPart(WORK, {}, tool_call_id=uuid7()))
        returned = returned_by(messages[-1], WORK)
        assert returned is not None, "the call has either returned, or ended the run"
        return made_up(TextPart(as_text(returned.content)))

    def _answer(self, output: Any) -> Any:
        """What the function returned. If that was before the team's run was resumed: the JSON that was stored of it."""
        if self._given is not None:
            return self._given[0]
        returned = self._last_returned(WORK)
        return output if returned is None else returned.content

    def _leader_answers(self) -> bool:
        return self._answers and self._given is not None and isinstance(self._given[0], str)


def returned_by(message: ModelMessage, tool: str) -> ToolReturnPart | None:
    """What a tool has returned, if the message says so."""
    for part in message.parts:
        if isinstance(part, ToolReturnPart) and part.tool_name == tool and part.outcome == "success":
            return part
    return None
