"""Outputs that somebody looks at before they are given: the run waits, as for the approval of a call."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic_ai import DeferredToolRequests
from pydantic_ai.messages import ToolCallPart

from ...errors import InvalidInputError
from ...live.result import RunResult
from ...records import JsonObject
from ...storage.forms import REVIEW
from ...storage.schema import check_schema
from ..messages.results import schema_of_output
from ..messages.stored import dump_output
from .job import Job

GIVE = "give_output"
"""What the call that stands for a run's output is called: a tool of that name is not looked for."""


def under_review(made: RunResult[Any], job: Job) -> RunResult[Any]:
    """A run that has an output as one that waits until somebody has looked at it; its caller does not see it."""
    call = ToolCallPart(GIVE, {"output": dump_output(made.output)}, tool_call_id=f"review_{secrets.token_hex(4)}")
    asked: JsonObject = {}
    output_type = output_type_of(job)
    if (schema := schema_of_output(made.output, output_type)) is not None:
        with suppress(InvalidInputError):  # it says more than an edit can be held against here: its types are, later
            asked["schema"] = check_schema(schema)
    waits = DeferredToolRequests(approvals=[call], metadata={call.tool_call_id: {REVIEW: asked}})
    own = None if made.agent_result is None else replace(made.agent_result, output=waits)
    return replace(made, output=waits, pending=waits, status="paused", agent_result=own)


def output_type_of(job: Job) -> Any:
    """Of which types the job's output is."""
    return job.options.get("output_type") or getattr(job.agent, "output_type", str)
