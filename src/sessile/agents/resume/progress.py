"""How far a run had come before it was interrupted, beside its messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter
from pydantic_ai.messages import ModelMessage

from ...records import Entry, Run, Usage
from ...storage import patch
from ...storage.vocabulary import RunAmended, RunDecided, ScopesPatched, StatePatched, ToolEnded, ToolStarted
from ..messages.counted import count_responses, usage_of
from ..options import Approval

APPROVALS: TypeAdapter[dict[str, Approval]] = TypeAdapter(dict[str, Approval])

CUT = ("interrupted", "incomplete")
"""Pydantic AI's words for a message that is not whole."""


@dataclass(slots=True)
class Progress:
    """How far an interrupted run had come, beside its messages.

    Attributes:
        results: what the finished tool calls of the last response returned or raised, by tool call id.
        started: those of them that had started and not finished.
        returned: how many tool calls of the run have returned something.
        answers: what a pause was answered with, if no message was stored since.
        decided: what the user decided since then about calls that were interrupted.
    """

    results: dict[str, ToolEnded] = field(default_factory=dict[str, ToolEnded])
    started: set[str] = field(default_factory=set[str])
    returned: int = 0
    answers: RunDecided | None = None
    decided: dict[str, Approval] = field(default_factory=dict[str, Approval])


def progress_of(run: Run) -> Progress:
    """How far a run had come, out of its log."""
    progress = Progress()
    outputs: set[str] = set()  # of functions that make the output: Pydantic AI does not count them as tools
    last = run.messages[-1].seq if run.messages else 0
    asked = max((message.seq for message in run.messages if message.data.get("kind") == "response"), default=0)
    for step in run.steps:
        started, ended, decided = ToolStarted.read(step), ToolEnded.read(step), RunDecided.read(step)
        if started is not None and started.output:
            outputs.add(started.tool_call_id)
        progress.returned += ended is not None and ended.outcome == "returned" and ended.tool_call_id not in outputs
        if decided is not None and step.seq > last:
            _decide(progress, decided)
        if step.seq < asked:
            continue  # of an earlier response, whose calls may have had the same ids
        if started is not None:
            progress.started.add(started.tool_call_id)
        elif ended is not None:
            progress.started.discard(ended.tool_call_id)
            progress.results[ended.tool_call_id] = ended
    return progress


def unsaved_state(run: Run) -> patch.Patch:
    """The changes of the state, by tools that had finished, that are in no state of the session yet."""
    changes: patch.Patch = []
    for step in sorted(_all_steps(run), key=lambda step: step.seq):
        decided, ended = RunDecided.read(step), ToolEnded.read(step)
        if step.kind in (StatePatched.KIND, ScopesPatched.KIND) or (decided is not None and decided.paused):
            changes = []  # saved with the end of a member's run, or when the run was paused
        elif ended is not None and ended.state is not None:
            changes = ended.state
    return changes


def _all_steps(run: Run) -> Iterator[Entry]:
    yield from run.steps
    for child in run.children:
        yield from _all_steps(child)


def _decide(progress: Progress, decided: RunDecided) -> None:
    if decided.answers:
        progress.answers = decided
    else:
        progress.decided.update(APPROVALS.validate_python(decided.approvals))


def unstored_usage(messages: Sequence[ModelMessage], returned: int, stored: Usage) -> Usage:
    """What a run has used according to its messages, less what the log has counted already."""
    used = usage_of(count_responses(messages)) + Usage(tool_calls=returned)
    beyond = used - stored  # below zero where agents in tools have counted with this one
    counts = {name: count for name, count in beyond.to_json().items() if count > 0}
    return Usage.from_json(counts)


def without_cut(run: Run) -> list[Entry]:
    """What says that the newest messages do not count that were not whole when the run was interrupted, or failed.

    Half a response would pass for an answer: the model is asked for it once more. And where steps are stored, what has
    become of tool calls is known from those, and not from a request that says that they were interrupted.
    """
    return [
        RunAmended(dropped=count).entry(one.run_id, run.number, one.parent_run_id, one.agent)
        for one, count in _with_cut(run, run.durability == "step")
    ]


def drop_cut(run: Run) -> None:
    """Take those messages out of the run, as `without_cut` says."""
    for one, count in _with_cut(run, run.durability == "step"):
        del one.messages[-count:]


def _with_cut(run: Run, stepwise: bool, unended: Sequence[str] = ("interrupted", "failed")) -> list[tuple[Run, int]]:
    """The runs, this one or below it, that end with messages that are not whole, and how many these are.

    A run below it that has failed has ended for good.
    """
    found = [one for child in run.children for one in _with_cut(child, stepwise, ("interrupted",))]
    if run.status not in unended:
        return found
    whole = list(run.messages)
    while whole and whole[-1].data.get("state") in CUT and (stepwise or whole[-1].data.get("kind") == "response"):
        whole.pop()
    count = len(run.messages) - len(whole)
    return [*found, (run, count)] if count else found
