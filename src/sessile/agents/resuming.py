"""Going on with runs that were paused or interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ModelRetry, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse

from ..errors import InvalidInputError, NotResumableError
from ..records import FINISHED, Entry, JsonObject, Run, Usage
from ..storage import fold, patch, turns
from ..storage.ids import uuid7
from ..storage.storage import Storage
from ..storage.turns import Turn, TurnSpec
from .driving import Job, drive, join
from .member import MemberHistory, MemberRecorder
from .messages import count_responses, dump_tool_result, load_input, load_messages, load_requests, to_plain, usage_of
from .recorder import TOOL_ENDED, TOOL_STARTED, Recorder, Replay, to_the_end
from .result import RunResult

Approval = bool | ToolApproved | ToolDenied

DECIDED = "run.decided"
"""The kind of the entry that holds what a run was resumed with: the user's decisions and results of tool calls."""

UNSURE = {"reason": "interrupted: the call had started, and it is not known whether it finished"}
"""What a pending call says whose process was gone before it had ended."""

_approvals: TypeAdapter[dict[str, Approval]] = TypeAdapter(dict[str, Approval])


async def resume_run(
    storage: Storage,
    spec: TurnSpec,
    job: Job,
    number: int | None,
    approvals: Mapping[str, Approval],
    results: DeferredToolResults | None,
    *,
    refuse_conflicts: bool,
    member: MemberRecorder | None = None,
) -> RunResult[Any]:
    """Take the run over, prepare what it goes on with, and drive it. See `Agent.resume`.

    `member` is the run in a team's log whose messages this one keeps, in a session of the member's own.
    """
    given = _given(approvals, results)
    noted = await _dump(given)

    def check(turn: Turn, run: Run) -> list[Entry]:
        _check_resumable(run, given)
        return [turn.entry(DECIDED, data) for data in _decided(run, given, noted)]

    turn, run = await _take(storage, spec, number, job, check)
    recorder = Recorder(storage, turn, refuse_conflicts=refuse_conflicts)
    recorder.attempt_id = uuid7()
    recorder.record = run
    if member is not None:
        member.hold_together(recorder)
    return await _go_on(recorder, job, run, given)


async def resume_member(
    above: Recorder, run: Run, history: MemberHistory, job: Job, given: DeferredToolResults
) -> tuple[MemberRecorder, Coroutine[Any, Any, RunResult[Any]]]:
    """Go on with a member's run, after the one above it was taken over. Returns also what it goes on with.

    Of all that was decided it takes what it waits for itself, or members of its own do. A run that waits for more than
    that is left as it is: see `undecided`.
    """
    recorder, own = await take_member(above, run, history, given)
    return recorder, _go_on(recorder, job, run, own)


async def take_member(
    above: Recorder, run: Run, history: MemberHistory, given: DeferredToolResults
) -> tuple[MemberRecorder, DeferredToolResults]:
    """Take a member's run over; returns also what of the decisions is its."""
    own = decidable_part(run, given)
    decided = [Entry(DECIDED, data) for data in _decided(run, own, await _dump(own))]
    recorder = await MemberRecorder.take(above, run, history, decided)
    recorder.usage_earlier = run.own_usage
    return recorder, own


def decidable_part(run: Run, given: DeferredToolResults) -> DeferredToolResults:
    """What of the decisions is about calls that the run, or runs below it, can go on with."""
    return _part(given, set[str]().union(*_decidable(run)))


def undecided(run: Run, given: DeferredToolResults) -> DeferredToolRequests | None:
    """What a paused run waits for, if any of it has not been decided."""
    calls = set[str]().union(*_decidable(run)) - given.approvals.keys() - given.calls.keys()
    return load_requests(run.pending["requests"]) if calls and run.status == "paused" else None


async def _go_on(recorder: Recorder, job: Job, run: Run, given: DeferredToolResults) -> RunResult[Any]:
    join(recorder, job)
    try:
        asked = await _prepare(recorder, job, run, given)
    except BaseException:
        await to_the_end(recorder.put_back(run))
        raise
    if asked is not None:
        await to_the_end(recorder.pause(asked))
        return _paused(recorder, asked)
    return await drive(recorder, job)


async def _take(
    storage: Storage, spec: TurnSpec, number: int | None, job: Job, check: Callable[[Turn, Run], list[Entry]]
) -> tuple[Turn, Run]:
    """Take the run over; if that is cancelled when it is done already, the run is left as it was."""
    taking = asyncio.ensure_future(storage.arun_operation(turns.take_turn, spec, number, job.newest, check))
    try:
        return await to_the_end(taking)
    except asyncio.CancelledError:
        if not taking.cancelled():
            turn, run = taking.result()
            await Recorder(storage, turn).put_back(run)
        raise


# ---------------------------------------------------------------- decisions


def _given(approvals: Mapping[str, Approval], results: DeferredToolResults | None) -> DeferredToolResults:
    """All that the caller has decided, in one object."""
    results = DeferredToolResults() if results is None else results
    given = replace(results, approvals={**results.approvals, **approvals})
    for call, decision in given.approvals.items():
        if not isinstance(decision, (bool, ToolApproved, ToolDenied)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"The decision about {call} must be True, False, ToolApproved or ToolDenied; it is {decision!r}."
            )
    return given


def _waits(run: Run) -> bool:
    """Whether a run waits for decisions that its agent asked for (not for those about interrupted calls)."""
    return run.status == "paused" and not run.pending.get("unsure")


def _decided(run: Run, given: DeferredToolResults, noted: JsonObject) -> list[JsonObject]:
    """What is written down of the decisions that a run goes on with."""
    if not given.approvals and not given.calls:
        return []
    return [{**noted, "paused": run.status == "paused", "answers": _waits(run), "delegated": _delegated(run)}]


def _delegated(run: Run) -> list[str]:
    """The calls of a paused team's leader that wait because of what members wait for."""
    return [] if run.pending is None else run.pending.get("delegated", [])


def _part(given: DeferredToolResults, calls: Container[str]) -> DeferredToolResults:
    """The decisions about these calls."""
    return DeferredToolResults(
        approvals={call: decision for call, decision in given.approvals.items() if call in calls},
        calls={call: result for call, result in given.calls.items() if call in calls},
        metadata={call: data for call, data in given.metadata.items() if call in calls},
    )


def _for_leader(
    given: DeferredToolResults, delegated: Sequence[str], own: Sequence[ModelMessage]
) -> DeferredToolResults:
    """What the agent itself is given of the decisions: those about its own calls.

    Its calls of members are made again, and these then go on.
    """
    calls = {call.tool_call_id for message in own if isinstance(message, ModelResponse) for call in message.tool_calls}
    results = _part(given, calls)
    results.approvals.update(dict.fromkeys(delegated, True))
    return results


def _decidable(run: Run) -> tuple[set[str], set[str]]:
    """The tool calls of a run, and of runs below it, that can be approved, and those that can be answered.

    It waits for them; or, of an interrupted run, they had started and not finished.
    """
    if run.status == "paused":
        waiting = load_requests(run.pending["requests"])
        return {call.tool_call_id for call in waiting.approvals}, {call.tool_call_id for call in waiting.calls}
    approvals, calls = _progress(run).started, set[str]()
    for child in run.children:
        if child.status not in FINISHED:
            below = _decidable(child)
            approvals, calls = approvals | below[0], calls | below[1]
    return approvals, calls


def _check_resumable(run: Run, given: DeferredToolResults) -> None:
    """Refuse a run that cannot go on with what is given, before anything is written."""
    if run.durability == "workflow":
        raise NotResumableError(f"Run {run.number} is a workflow's.", hint="Resume it with the workflow.")
    if run.status != "paused" and run.durability != "step":
        raise NotResumableError(
            f"Run {run.number} was interrupted, and its steps were not stored.",
            hint='Run its input again; agents with durability="step" can be resumed.',
        )
    approvals, calls = _decidable(run)
    if unknown := (given.approvals.keys() - approvals) | (given.calls.keys() - calls):
        raise InvalidInputError(
            f"Run {run.number} does not wait for {', '.join(sorted(unknown))}.",
            hint="Look at what is pending: approvals= decides about its approvals, results= answers its calls.",
        )
    missing = (approvals | calls) - given.approvals.keys() - given.calls.keys()
    if missing and run.status == "paused":
        raise NotResumableError(
            f"Run {run.number} waits for decisions about {', '.join(sorted(missing))}.",
            hint="Pass them as approvals= or results=.",
        )
    changed = {
        call for call, one in given.approvals.items() if isinstance(one, ToolApproved) and one.override_args is not None
    }
    if changed & (_unsure(run) if run.status == "paused" else approvals):
        raise InvalidInputError("The arguments of a call that was interrupted cannot be changed.")


def _unsure(run: Run) -> set[str]:
    """Those of the calls that a paused run waits for, or members of it, that had started before it was interrupted."""
    metadata = load_requests(run.pending["requests"]).metadata
    return {call for call, said in metadata.items() if said == UNSURE}


async def _dump(given: DeferredToolResults) -> JsonObject:
    """Decisions as JSON."""
    return {
        "approvals": _approvals.dump_python(given.approvals, mode="json"),
        "calls": {call: await _dump_result(call, result) for call, result in given.calls.items()},
        "metadata": to_plain(given.metadata),
    }


async def _dump_result(call: str, result: Any) -> JsonObject:
    if isinstance(result, (ModelRetry, ToolFailed)):
        return {"outcome": "retry" if isinstance(result, ModelRetry) else "failed", "message": result.message}

    async def whole(value: Any) -> Any:
        return value

    return {"outcome": "returned", **await dump_tool_result(result, call, whole)}


async def _load(data: JsonObject, recorder: Recorder) -> DeferredToolResults:
    """The inverse of `_dump`."""
    return DeferredToolResults(
        approvals=dict(_approvals.validate_python(data["approvals"])),
        calls={call: await recorder.kept_result(result) for call, result in data["calls"].items()},
        metadata=data["metadata"],
    )


# ---------------------------------------------------------------- what is left of a run


@dataclass(slots=True)
class Progress:
    """How far an interrupted run had come, beside its messages.

    Attributes:
        results: what finished tool calls of the last response came to, by tool call id.
        started: those of them that had started and not finished.
        returned: how many tool calls of the run have returned something.
        answers: what a pause was answered with, if no message was stored since.
        decided: what the user decided since then about calls that were interrupted.
    """

    results: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    started: set[str] = field(default_factory=set[str])
    returned: int = 0
    answers: JsonObject | None = None
    decided: dict[str, Approval] = field(default_factory=dict[str, Approval])


def _progress(run: Run) -> Progress:
    progress = Progress()
    last = run.messages[-1].seq if run.messages else 0
    asked = max((message.seq for message in run.messages if message.data.get("kind") == "response"), default=0)
    for step in run.steps:
        data = step.data
        if step.kind == TOOL_ENDED:
            progress.returned += data["outcome"] == "returned"
        if step.kind in (TOOL_STARTED, TOOL_ENDED) and step.seq < asked:
            continue  # of an earlier response, whose calls may have had the same ids
        if step.kind == TOOL_STARTED:
            progress.started.add(data["tool_call_id"])
        elif step.kind == TOOL_ENDED:
            progress.started.discard(data["tool_call_id"])
            progress.results[data["tool_call_id"]] = data
        elif step.kind == DECIDED and step.seq > last:
            _decide(progress, data)
    return progress


def _unsaved_state(run: Run) -> patch.Patch:
    """What finished tools had changed in the state, members' tools too, and no commit has saved yet."""
    changes: patch.Patch = []
    for step in sorted(_all_steps(run), key=lambda step: step.seq):
        if step.kind == fold.STATE or (step.kind == DECIDED and step.data["paused"]):
            changes = []  # saved with the end of a member's run, or when the run was paused
        elif step.kind == TOOL_ENDED:
            changes = step.data.get("state", changes)
    return changes


def _all_steps(run: Run) -> Iterator[Entry]:
    yield from run.steps
    for child in run.children:
        yield from _all_steps(child)


def _decide(progress: Progress, data: JsonObject) -> None:
    if data["answers"]:
        progress.answers = data
    else:
        progress.decided.update(_approvals.validate_python(data["approvals"]))


async def _prepare(recorder: Recorder, job: Job, run: Run, given: DeferredToolResults) -> DeferredToolRequests | None:
    """Put together what the run goes on with; returns the calls that must be decided about first, if any."""
    job.own = await load_messages(run.messages, recorder.media)
    recorder.earlier = list(job.own)
    recorder.usage_earlier = run.own_usage
    if job.team is not None:
        job.team.given = given
    if _waits(run):
        job.results = _for_leader(given, _delegated(run), job.own)
        return None
    progress = _progress(run)
    progress.decided.update(given.approvals)
    if run.status != "paused" and recorder.above is None:
        recorder.restore_state(_unsaved_state(run))
    replay = _replay(job, progress)
    recorder.replay = replay
    recorder.usage_unstored = _beyond(job.own, progress.returned, run.own_usage)
    if job.team is not None:
        job.team.given.approvals.update(progress.decided)
    if progress.answers is not None:
        answers = await _load(progress.answers, recorder)
        if job.team is not None:
            job.team.given.update(answers)
        job.results = _for_leader(answers, progress.answers.get("delegated", []), job.own)
        job.results.approvals.update({call: no for call, no in replay.decided.items() if not _yes(no)})
    if not run.messages:
        job.prompt = await load_input(run.input, recorder.media)
    idempotent = idempotent_tools(job)
    asked = [one for one in replay.unsure if one.tool_call_id not in replay.decided and one.tool_name not in idempotent]
    if not asked:
        return None
    return DeferredToolRequests(approvals=asked, metadata={call.tool_call_id: UNSURE for call in asked})


def _replay(job: Job, progress: Progress) -> Replay:
    """What is given again. Takes the response that is out of the run's own messages."""
    *before, last = job.own or [None]
    response = last if isinstance(last, ModelResponse) and progress.answers is None else None
    source = response
    if response is not None:
        job.own = [message for message in before if message is not None]
    elif progress.answers is not None:
        source = next(message for message in reversed(job.own) if isinstance(message, ModelResponse))
    calls = {} if source is None else {call.tool_call_id: call for call in source.tool_calls}
    return Replay(
        response,
        {call: result for call, result in progress.results.items() if call in calls},
        [call for call in calls.values() if call.tool_call_id in progress.started],
        progress.decided,
    )


def _yes(decision: Approval) -> bool:
    return isinstance(decision, ToolApproved) or decision is True


def _beyond(messages: Sequence[ModelMessage], returned: int, stored: Usage) -> Usage:
    """What these messages say that the run has used, beyond what the log says already."""
    used = usage_of(count_responses(messages)) + Usage(tool_calls=returned)
    beyond = used - stored  # below zero where agents in tools have counted with this one
    return Usage(**{name: max(0, amount) for name, amount in asdict(beyond).items()})


def idempotent_tools(job: Job) -> set[str]:
    """The names of the agent's function tools that are declared idempotent by `metadata={"idempotent": True}`."""
    toolsets = [*getattr(job.agent, "toolsets", ()), *(job.options.get("toolsets") or ())]
    names: set[str] = set()
    for toolset in toolsets:
        for name, tool in getattr(toolset, "tools", {}).items():
            metadata: dict[str, Any] = getattr(tool, "metadata", None) or {}
            if metadata.get("idempotent") is True:
                names.add(name)
    return names


def _paused(recorder: Recorder, requests: DeferredToolRequests) -> RunResult[Any]:
    return RunResult(
        output=requests,
        session_id=recorder.session.session_id,
        run_id=recorder.run_id,
        number=recorder.turn.number,
        status="paused",
        usage=recorder.record.usage,
        state=recorder.session.state,
        pending=requests,
        owner=recorder.record.owner,
        members=recorder.members,
    )
