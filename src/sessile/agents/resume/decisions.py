"""What a run is resumed with: the user's decisions about tool calls, and results of calls that were made elsewhere."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from pydantic_ai import DeferredToolRequests, DeferredToolResults, ModelRetry, ToolApproved, ToolDenied
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse

from ...errors import InvalidInputError, NotResumableError
from ...records import FINISHED, JsonObject, Run
from ...storage.forms import FORM, REVIEW, about, check_answer, forms_of, unfilled
from ...storage.vocabulary import DecisionSent, Pending, RunDecided, ToolEnded
from ..messages.stored import ReadMedia, dump_tool_result, requests_of, to_plain
from ..options import Approval
from ..run.recorder import TEXT_OUTPUT, kept_result
from .progress import APPROVALS, progress_of

UNSURE = {"reason": "interrupted: the call had started, and it is not known whether it finished"}
"""The metadata of a pending call that had started when its process was gone."""


def with_sent(
    run: Run, epoch: int, now: int, given: DeferredToolResults, dumped: RunDecided
) -> tuple[DeferredToolResults, RunDecided]:
    """What the caller has decided, and what was decided before (`storage.decide`) about this pause; as stored, too.

    The newest decision about a call counts; if that holds no more, none does.
    """
    newest = _newest(run, epoch)
    if not newest or run.status != "paused":
        return given, dumped
    hold = {call: one for call, one in newest.items() if one.until is None or now < one.until}
    approvals: JsonObject = {call: one.approvals[call] for call, one in hold.items() if call in one.approvals}
    calls: JsonObject = {call: one.calls[call] for call, one in hold.items() if call not in one.approvals}
    whole = replace(
        given,
        approvals={**APPROVALS.validate_python(approvals), **given.approvals},
        calls={**calls, **given.calls},
    )
    returned = {call: {"outcome": "returned", "value": value} for call, value in calls.items()}
    return whole, dumped.but(approvals={**approvals, **dumped.approvals}, calls={**returned, **dumped.calls})


def _newest(run: Run, epoch: int) -> dict[str, DecisionSent]:
    """By tool call id: what was decided last about this pause, before anybody has resumed the run."""
    sent = [one for step in run.steps if (one := DecisionSent.read(step)) is not None and one.epoch == epoch]
    return {call: one for one in sent for call in (*one.approvals, *one.calls)}


def with_answers(run: Run, given: DeferredToolResults, dumped: RunDecided) -> tuple[DeferredToolResults, RunDecided]:
    """What is given, with forms that were filled as their tools will read it; as stored, too.

    Raises `InvalidInputError` for a form that was approved and not filled, or not as it asks.
    """
    forms = forms_of(Pending.of(run.pending).requests) if run.status == "paused" and run.pending is not None else {}
    answers = {call: to_plain(given.calls[call]) for call in forms if call in given.calls}
    for call, answer in answers.items():
        check_answer(call, forms[call], answer)
    if unsaid := [call for call in forms if call not in answers and is_yes(given.approvals.get(call, False))]:
        raise unfilled(unsaid[0])
    yes, said = dict.fromkeys(answers, True), {call: {FORM: answer} for call, answer in answers.items()}
    whole = DeferredToolResults(
        approvals={**given.approvals, **yes},
        calls={call: result for call, result in given.calls.items() if call not in answers},
        metadata={**given.metadata, **said},
    )
    stored = dumped.but(
        approvals={**dumped.approvals, **yes},
        calls={call: result for call, result in dumped.calls.items() if call not in answers},
        metadata={**dumped.metadata, **said},
    )
    return (whole, stored) if answers else (given, dumped)


def check_in_time(run: Run, epoch: int, now: int, given: DeferredToolResults) -> None:
    """Raise `NotResumableError` if what was decided before about a call holds no more, and the caller says nothing."""
    if run.status != "paused":
        return
    decided = given.approvals.keys() | given.calls.keys()
    newest = {call: one for call, one in _newest(run, epoch).items() if call not in decided}
    late = sorted((call, one.by or "somebody") for call, one in newest.items() if one.until and one.until <= now)
    if late:
        said = ", ".join(f"{call} (by {by})" for call, by in late)
        raise NotResumableError(
            f"What was decided about {said} holds no more: run {run.number} waits for another decision.",
            hint="Decide again, with storage.decide or by resuming it with approvals=; nothing was written.",
        )


def decidable_part(run: Run, given: DeferredToolResults) -> DeferredToolResults:
    """Those of the decisions that are about calls of the run itself, or of runs below it."""
    return part_of(given, set[str]().union(*decidable(run)))


def undecided(run: Run, given: DeferredToolResults) -> DeferredToolRequests | None:
    """All that a paused run waits for, if a part of it has not been decided; None if the run can go on."""
    calls = set[str]().union(*decidable(run)) - given.approvals.keys() - given.calls.keys()
    return requests_of(run) if calls and run.status == "paused" else None


def all_given(approvals: Mapping[str, Approval], results: DeferredToolResults | None) -> DeferredToolResults:
    """All that the caller has decided, in one object."""
    given = DeferredToolResults(approvals=dict(approvals))
    if results is not None:
        approved = {**results.approvals, **approvals}
        given = replace(results, approvals=approved, calls=dict(results.calls), metadata=dict(results.metadata))
    for call, decision in given.approvals.items():
        if not isinstance(decision, (bool, ToolApproved, ToolDenied)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"The decision about {call} must be True, False, ToolApproved or ToolDenied; it is {decision!r}."
            )
    return given


def waits(run: Run) -> bool:
    """Whether a run waits for decisions that its agent has asked for, and not for those about interrupted calls."""
    return run.status == "paused" and not Pending.of(run.pending).unsure


def noted(run: Run, given: DeferredToolResults, dumped: RunDecided) -> list[RunDecided]:
    """What is written down of the decisions that a run continues with."""
    if not given.approvals and not given.calls:
        return []
    return [dumped.but(paused=run.status == "paused", answers=waits(run), delegated=delegated(run))]


def delegated(run: Run) -> list[str]:
    """The calls of a paused run that only wait for others: a leader's calls of members that wait for a decision."""
    return [] if run.pending is None else Pending.of(run.pending).delegated or []


def part_of(given: DeferredToolResults, calls: Container[str]) -> DeferredToolResults:
    """The decisions about these calls."""
    return DeferredToolResults(
        approvals={call: decision for call, decision in given.approvals.items() if call in calls},
        calls={call: result for call, result in given.calls.items() if call in calls},
        metadata={call: data for call, data in given.metadata.items() if call in calls},
    )


def own_part(given: DeferredToolResults, delegated: Sequence[str], own: Sequence[ModelMessage]) -> DeferredToolResults:
    """Those of the decisions that are about the agent's own calls, for Pydantic AI.

    Those that it had delegated are approved: a team's leader calls its members again, and these then go on.
    """
    calls = {call.tool_call_id for message in own if isinstance(message, ModelResponse) for call in message.tool_calls}
    results = part_of(given, calls)
    results.approvals.update(dict.fromkeys(delegated, True))
    return results


def decidable(run: Run) -> tuple[set[str], set[str]]:
    """The ids of calls that can be approved, and of calls that can be answered, in a run and the runs below it.

    It waits for them; or, of an interrupted run, they had started and not finished.
    """
    if run.status == "paused":
        waiting = requests_of(run)
        return {call.tool_call_id for call in waiting.approvals}, {call.tool_call_id for call in waiting.calls}
    approvals, calls = progress_of(run).started, set[str]()
    for child in run.children:
        if child.status not in FINISHED:
            below = decidable(child)
            approvals, calls = approvals | below[0], calls | below[1]
    return approvals, calls


def check_resumable(run: Run, given: DeferredToolResults) -> None:
    """Refuse a run that cannot continue with what is given, before anything is written."""
    if run.durability == "workflow":
        raise NotResumableError(f"Run {run.number} is a workflow's.", hint="Resume it with the workflow.")
    accepted = progress_of(run).answers if run.status == "interrupted" else None
    is_given = accepted is not None and "output" in (accepted.reviewed or {})  # no model, and no tool, is asked
    if run.status != "paused" and run.durability != "step" and not is_given:
        raise NotResumableError(
            f"Run {run.number} was interrupted, and its steps were not stored.",
            hint='Run its input again; agents with durability="step" can be resumed.',
        )
    approvals, calls = decidable(run)
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
    check_unredacted(run, given)


def check_unredacted(run: Run, given: DeferredToolResults) -> None:
    """Refuse to execute a call with arguments that a redaction has put in the place of the model's.

    It would be done with them: a letter sent to `[mail]`. Who approves it says the arguments, or says no.
    """
    calls = {call for one in (run, *_below(run)) for call in redacted_calls(one)}
    blind = {
        call
        for call, said in given.approvals.items()
        if call in calls and is_yes(said) and getattr(said, "override_args", None) is None
    }
    if blind:
        raise InvalidInputError(
            f"The arguments of {', '.join(sorted(blind))} were redacted before they were stored: run {run.number} "
            "cannot continue with them.",
            hint="Approve with ToolApproved(override_args={…}), or deny (a call that may have happened can only be "
            "denied); nothing was written.",
        )


def redacted_calls(run: Run) -> set[str]:
    """Of the calls in the run's last response, and those that it waits for, whose arguments are not the model's.

    That response's text is one of them: a function may make the output of it.
    """
    responses = (m.data for m in reversed(run.messages) if m.data.get("kind") == "response")
    last: JsonObject = next(responses, JsonObject())
    waiting: JsonObject = {} if run.pending is None else Pending.of(run.pending).requests or {}
    said: list[Any] = [*(last.get("parts") or []), *(waiting.get("approvals") or [])]
    calls = [cast(JsonObject, one) for one in said if isinstance(one, dict)]
    calls = [one for one in calls if about(waiting, str(one.get("tool_call_id")), REVIEW) is None]
    redacted = [call for call in calls if call.get("redacted")]
    return {call.get("tool_call_id", TEXT_OUTPUT) for call in redacted}


def _below(run: Run) -> Iterator[Run]:
    for child in run.children:
        yield child
        yield from _below(child)


def _unsure(run: Run) -> set[str]:
    """Of the calls that a paused run waits for: those that had started before it was interrupted."""
    metadata = requests_of(run).metadata
    return {call for call, said in metadata.items() if said == UNSURE}


async def dump_decisions(given: DeferredToolResults, by: str | None = None) -> RunDecided:
    """Decisions as they are stored, of a run that has not asked for them."""
    return RunDecided(
        approvals=APPROVALS.dump_python(given.approvals, mode="json"),
        calls={call: await _dump_result(call, result) for call, result in given.calls.items()},
        metadata=to_plain(given.metadata),
        paused=False,
        answers=False,
        delegated=[],
        by=by,
    )


async def _dump_result(call: str, result: Any) -> JsonObject:
    if isinstance(result, (ModelRetry, ToolFailed)):
        return {"outcome": "retry" if isinstance(result, ModelRetry) else "failed", "message": result.message}

    async def whole(value: Any) -> Any:
        return value

    return {"outcome": "returned", **await dump_tool_result(result, call, whole)}


async def load_decisions(decided: RunDecided, media: ReadMedia) -> DeferredToolResults:
    """The inverse of `dump_decisions`; `media` reads what lies beside the log."""
    return DeferredToolResults(
        approvals=dict(APPROVALS.validate_python(decided.approvals)),
        calls={call: await kept_result(ToolEnded.of(result), media) for call, result in decided.calls.items()},
        metadata=decided.metadata,
    )


def is_yes(decision: Approval) -> bool:
    """Whether a call is to be executed."""
    return isinstance(decision, ToolApproved) or decision is True
