"""A run as people read it: who said what, tool calls folded, members below their call, a workflow's steps, ratings."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from ..records import MICROSECOND, Entry, JsonObject, Rating, Run
from ..storage.lists import asked_of
from ..storage.vocabulary import (
    CallApproved,
    DecisionSent,
    EventSent,
    Pending,
    RunDecided,
    StepFailed,
    StepFinished,
)
from .said import Said, as_text, said_in, usage_text, value_text
from .values import clip, moment

FOLDED = 100
"""How many characters are shown of what a tool was given, and of what it returned."""

NOTHING_YET = "(nothing yet)"


class Line(NamedTuple):
    """One line of a transcript: how far in it stands, who says it (empty: a heading), and what."""

    depth: int
    who: str
    text: str


def transcript(run: Run, *, whole: bool = False, depth: int = 1) -> Iterator[Line]:
    """The lines of a run and of the runs below it; `whole`: with all that tools were given and have returned."""
    below = list(run.children)
    if run.messages:
        yield from _messages(run, below, whole, depth)
    elif run.input is not None:
        yield Line(depth, "input", value_text(run.input))
    yield from _steps(run.steps, whole, depth)
    if not run.messages and run.output is not None:
        yield Line(depth, "output", value_text(run.output))
    for child in below:
        yield from _child(child, whole, depth)
    if run.error is not None:
        yield Line(depth, "error", f"{run.error.get('type', 'Error')}: {run.error.get('message', '')}")
    yield from _waits(run, depth)
    for rating in run.ratings:
        yield Line(depth, f"rated by {rating.by or rating.source}", rating_text(rating))


def _messages(run: Run, below: list[Run], whole: bool, depth: int) -> Iterator[Line]:
    """What was said; each call of a tool with what it returned, and with the member that answered it."""
    parts = [part for message in run.messages for part in said_in(message)]
    if run.input is not None and not any(part.who == "user" for part in parts):  # kept without what was asked
        yield Line(depth, "input", value_text(run.input))
    returned: defaultdict[str | None, deque[Said]] = defaultdict(deque)
    for part in parts:
        if part.returned:
            returned[part.call].append(part)
    called = {part.call for part in parts if part.tool is not None}
    for part in parts:
        if part.tool is not None and not whole:
            results = returned[part.call]
            result = results.popleft().text if results else None
            yield Line(depth, f"tool {part.tool}", _folded(part, result))
        elif part.tool is not None:
            yield Line(depth, "agent calls", f"{part.tool} {part.text}")
        elif whole or not (part.returned and part.call in called):
            yield Line(depth, part.who, part.text)
        for child in [one for one in below if part.tool is not None and one.key == part.call]:
            below.remove(child)
            yield from _child(child, whole, depth)


def _folded(call: Said, result: str | None) -> str:
    came = (
        NOTHING_YET if result is None else clip(result.removeprefix(f"{call.tool} ").removeprefix("returned "), FOLDED)
    )
    return f"{clip(call.text, FOLDED)} → {came}"


def _child(child: Run, whole: bool, depth: int) -> Iterator[Line]:
    usage = f", {usage_text(child.usage)}" if child.usage.requests else ""
    yield Line(depth, "", f"Run of {child.agent or 'a member'}, {child.status}{usage}")
    yield from transcript(child, whole=whole, depth=depth + 1)
    if child.handoff is not None:
        reason = f": {child.handoff.reason}" if child.handoff.reason else ""
        yield Line(depth + 1, "handed over", f"to {child.handoff.to}{reason}")


def _steps(steps: list[Entry], whole: bool, depth: int) -> Iterator[Line]:
    """The journal of a workflow, and what was decided or sent from outside."""
    for entry in steps:
        step = StepFinished.read(entry) or StepFailed.read(entry)
        if step is not None:
            seconds = (step.ended_at - step.started_at) / MICROSECOND
            tried = "" if step.attempt == 1 else f", attempt {step.attempt}"
            yield Line(depth + step.path.count("."), f"step {step.path} {step.name}, {seconds:.1f} s{tried}",
                       _came_to(step, whole))  # fmt: skip
        elif (event := EventSent.read(entry)) is not None:
            yield Line(depth, f"event {event.name}", value_text(event.value))
        elif (sent := DecisionSent.read(entry)) is not None:
            said = {**sent.calls, **sent.approvals}
            until = (
                "" if sent.until is None else f", until {moment(datetime.fromtimestamp(sent.until / MICROSECOND, UTC))}"
            )
            yield Line(depth, f"decided by {sent.by or 'somebody'}{until}", as_text(said))
        elif (resumed := RunDecided.read(entry)) is not None and resumed.by is not None:
            yield Line(depth, f"decided by {resumed.by}", as_text({**resumed.calls, **resumed.approvals}))
        elif (call := CallApproved.read(entry)) is not None:
            yield Line(depth, f"approved before by {call.by or 'somebody'}", f"{call.tool_name} ({call.tool_call_id})")


def _came_to(step: StepFinished | StepFailed, whole: bool) -> str:
    if isinstance(step, StepFailed):
        again = "" if step.retry_in is None else f"; again in {step.retry_in:.1f} s"
        return f"failed: {step.error.get('type', 'Error')}: {step.error.get('message', '')}{again}"
    text = value_text(step.output)
    return f"{text if whole else clip(text, 2 * FOLDED)}{' (cached)' if step.cached else ''}"


def _waits(run: Run, depth: int) -> Iterator[Line]:
    if run.pending is None:
        return
    asked = asked_text(run.pending)
    for one in asked or [as_text(run.pending)]:
        yield Line(depth, "waits for", one)
    until: Any = Pending.of(cast(JsonObject, run.pending)).until if isinstance(run.pending, dict) else None
    if isinstance(until, int):
        yield Line(depth, "waits until", f"{moment(datetime.fromtimestamp(until / MICROSECOND, UTC))} UTC")


def asked_text(pending: Any) -> list[str]:
    """What a paused run waits for, in words."""
    if not isinstance(pending, dict):
        return []
    return [one_asked(one) for one in asked_of(Pending.of(cast(JsonObject, pending)))]


def one_asked(one: dict[str, Any]) -> str:
    """One thing that is waited for, in words."""
    if one["kind"] == "event":
        return f"event {one['name']}" + (f": {_form_text(one)}" if "schema" in one else "")
    if one["kind"] == "form":
        return f"a form of {one['tool_name']}: {_form_text(one)} ({one['tool_call_id']})"
    if one["kind"] == "review":
        args = one.get("args")
        output = cast(JsonObject, args).get("output") if isinstance(args, dict) else args
        return f"the review of {clip(as_text(output), FOLDED)} ({one['tool_call_id']})"
    what = {"approval": "approval of", "call": "the result of", "unsure": "whether to repeat"}[one["kind"]]
    return f"{what} {one['tool_name']} {clip(as_text(one['args']), FOLDED)} ({one['tool_call_id']})"


def _form_text(form: JsonObject) -> str:
    """What a form asks: its question, its fields (those that may stay empty with a question mark), what was wrong."""
    given = form.get("schema")
    schema = cast(JsonObject, given) if isinstance(given, dict) else {}
    properties, required = schema.get("properties"), schema.get("required")
    needed = cast("list[Any]", required) if isinstance(required, list) else []
    names = list(cast(JsonObject, properties)) if isinstance(properties, dict) else []
    fields = [name if name in needed else f"{name}?" for name in names]
    asked = as_text(form.get("question") or "")
    said = " ".join(part for part in (asked, f"[{', '.join(fields)}]" if fields else "") if part)
    wrong = f"; refused before: {as_text(form['problem'])}" if form.get("problem") else ""
    return clip(said or "a value", FOLDED) + clip(wrong, FOLDED)


def rating_text(rating: Rating) -> str:
    """What somebody has said about a run."""
    corrected = None if rating.correction is None else f"should be: {value_text(rating.correction)}"
    score = None if rating.score is None else f"{rating.score:g}"
    return ", ".join(part for part in (score, rating.label, rating.comment, corrected) if part is not None)
