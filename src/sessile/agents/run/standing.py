"""Tool calls that somebody has approved before they were made: they do not wait for anybody."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from pydantic_ai import DeferredToolRequests, DeferredToolResults, RunContext, ToolApproved
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import AgentDepsT

from ...errors import SessileError
from ...storage import granting
from ...storage.forms import FORM
from ...storage.granting import Grant
from ...storage.storage import Storage, aoperate
from ...storage.vocabulary import CallApproved
from .first import FirstPart, HearsFirst
from .recorder import Recorder

logger = logging.getLogger("sessile")


async def granted_calls(
    storage: Storage, session_id: str, user_id: str | None, agent: str | None, calls: list[ToolCallPart]
) -> dict[str, Grant]:
    """By tool call id: what approves a call. Where that cannot be read nothing is approved: people are asked."""
    if not calls or agent is None:
        return {}
    try:
        tools = sorted({call.tool_name for call in calls})
        found = await aoperate(storage, granting.standing, session_id, user_id, agent, tools)
    except SessileError as error:
        logger.warning("Which approvals hold in session %r could not be read; people are asked: %s", session_id, error)
        return {}
    return {call.tool_call_id: found[call.tool_name] for call in calls if call.tool_name in found}


def approved(call: ToolCallPart, grant: Grant) -> CallApproved:
    """What the log says of a call that was approved so."""
    return CallApproved(
        tool_call_id=call.tool_call_id,
        tool_name=call.tool_name,
        grant=grant.grant_id,
        scope=grant.scope,
        by=grant.by,
    )


async def approve(recorder: Recorder, requests: DeferredToolRequests) -> DeferredToolResults | None:
    """What was approved before of these calls of a run, which is noted there; None: nothing."""
    own = [call for call in yes_or_no(requests) if not recorder.company.delegates(call.tool_name)]
    session = recorder.session
    grants = await granted_calls(recorder.root.storage, session.session_id, session.user_id, recorder.record.agent, own)
    for call in own:
        if (grant := grants.get(call.tool_call_id)) is not None:
            await recorder.note(approved(call, grant))
    return answers(grants)


def yes_or_no(requests: DeferredToolRequests) -> list[ToolCallPart]:
    """The calls that are only to be approved: nobody has filled a form for later calls."""
    return [call for call in requests.approvals if FORM not in (requests.metadata.get(call.tool_call_id) or {})]


def answers(grants: Mapping[str, Grant]) -> DeferredToolResults | None:
    """What Pydantic AI is told; None: nothing."""
    return DeferredToolResults(approvals={call: ToolApproved() for call in grants}) if grants else None


@dataclass
class StandingApprovals(HearsFirst[AgentDepsT]):
    """Approves what was granted before, in a run of which nothing else is watched."""

    _: KW_ONLY
    recorder: Recorder = field(repr=False)
    id: str | None = "sessile_approvals"

    @property
    def first_part(self) -> FirstPart | None:
        """See `HearsFirst`."""
        return self.recorder.first

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[AgentDepsT], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """See `AbstractCapability`."""
        return await approve(self.recorder, requests)
