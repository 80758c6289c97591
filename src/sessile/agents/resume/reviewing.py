"""What somebody says about an output before it is given: accept it, change it, or send it back with a remark."""

from __future__ import annotations

from typing import Any

from pydantic_ai import DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.messages import ModelRequest, UserPromptPart

from ...errors import InvalidInputError
from ...live.result import RunResult
from ...records import JsonObject, Run
from ...storage.encoding import encode
from ...storage.forms import REVIEW, check_edit
from ...storage.undivided import kept_whole
from ...storage.vocabulary import MessageAdded, Pending, RunDecided
from ..messages.results import fits_output, load_output
from ..messages.stored import FORMAT, dump_message, load_messages, requests_of
from ..run.ending import result_without_model
from ..run.job import Job
from ..run.recorder import Recorder
from ..run.reviewed import output_type_of
from .decisions import is_yes
from .progress import progress_of

EDITED = "Before this answer was given, a person has changed it. What was given is:\n\n"
"""What models are told of an answer that is not the one that they have made."""

SENT_BACK = "This answer was not given: the person who reviews it does not accept it."
"""With which words the model continues."""


def call_of(run: Run) -> str | None:
    """The id of the call that stands for the output of a run that waits for its review."""
    if run.status != "paused" or run.pending is None or Pending.of(run.pending).requests is None:
        return None
    metadata = requests_of(run).metadata
    return next((call for call, said in metadata.items() if REVIEW in said), None)


def with_review(run: Run, given: DeferredToolResults, stored: RunDecided, job: Job) -> RunDecided:
    """What was decided, with what comes of it for the output; `InvalidInputError` for an edit that it cannot be."""
    call = call_of(run)
    if call is None or call not in given.approvals:
        return stored
    decision = given.approvals[call]
    if not is_yes(decision):
        message = decision.message if isinstance(decision, ToolDenied) else ""
        said = "" if message == ToolDenied().message else message
        return stored.but(reviewed={"remark": said})
    requests = requests_of(run)
    asked = next(one for one in requests.approvals if one.tool_call_id == call)
    changed = decision.override_args if isinstance(decision, ToolApproved) else None
    if changed is not None:
        check_edit(changed, requests.metadata[call][REVIEW])
        if not fits_output(changed["output"], output_type_of(job)):
            raise InvalidInputError(
                f"{run.agent!r} gives no such output: it is of none of its types.",
                hint="Nothing was written; the run goes on waiting.",
            )
    output = (changed or asked.args_as_dict())["output"]
    return stored.but(reviewed={"output": output, "edited": changed is not None})


def unfinished_review(run: Run) -> JsonObject | None:
    """What was decided about the output of a run that was interrupted before anything came of that."""
    answers = progress_of(run).answers if run.status != "paused" else None
    return None if answers is None else answers.reviewed


def remark_of(reviewed: JsonObject) -> str:
    """With which words the model continues, where its output was sent back."""
    remark: str = reviewed.get("remark") or ""
    return f"{SENT_BACK} They say: {remark}" if remark else f"{SENT_BACK} Answer again."


async def give(recorder: Recorder, job: Job, run: Run, reviewed: JsonObject) -> RunResult[Any]:
    """End a run with the output that somebody has accepted; no model is asked."""
    own = await load_messages(run.messages, recorder.media)
    recorder.transcript.earlier = list(own)
    recorder.meter.earlier = run.own_usage
    if job.went_on is not None:
        job.went_on(recorder.turn.epoch, ())
    if job.begun is not None:
        job.begun(recorder.session.session_id, recorder.run_id, recorder.turn.number)
    output = reviewed["output"]
    if reviewed.get("edited"):
        said = output if isinstance(output, str) else encode(output)
        note = ModelRequest([UserPromptPart(EDITED + said)], run_id=recorder.run_id)
        recorder.held.append(recorder.entry(MessageAdded(await dump_message(note, recorder.keep)), FORMAT))
        own.append(note)
    await kept_whole(recorder.storage, recorder.give(output))
    given = await load_output(output, output_type_of(job), recorder.media)
    return result_without_model(recorder, given, "completed", own)
