"""Why a run pauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic_ai import DeferredToolRequests

from ...errors import NotResumableError
from ...records import JsonObject


class Pause(BaseException):
    """Leaves the workflow's function, because it waits for events, or for decisions, that have not come.

    Attributes:
        names: the names of the events.
        requests: the tool calls of agents in steps that wait for a decision.
        asked: the ids of the agents' runs, with the ids of their calls.
        until: when the first of them is waited for no longer, microseconds UTC.
        forms: by the name of an event, the form that a person is to fill.
        refusal: why a decision that was made cannot be carried out, if that is why it is still waited for.
    """

    refusal: NotResumableError | None = None

    def __init__(
        self,
        names: Sequence[str],
        until: int | None = None,
        requests: DeferredToolRequests | None = None,
        asked: Mapping[str, list[str]] | None = None,
        forms: Mapping[str, JsonObject] | None = None,
    ) -> None:
        self.names = list(dict.fromkeys(names))
        self.until = until
        self.requests = requests
        self.asked = dict(asked or {})
        self.forms = dict(forms or {})
        super().__init__(f"waits for {self.text}")

    @property
    def text(self) -> str:
        """What is waited for, in words."""
        asked = self.requests or DeferredToolRequests()
        calls = dict.fromkeys(call.tool_name for call in (*asked.approvals, *asked.calls))
        return ", ".join([*self.names, *(f"a decision about {tool}" for tool in calls)])

    @classmethod
    def of(cls, pauses: Sequence[Pause]) -> Pause:
        """One for all that is waited for at the same time."""
        ends = [pause.until for pause in pauses if pause.until is not None]
        requests = [pause.requests for pause in pauses if pause.requests is not None]
        names = [name for pause in pauses for name in pause.names]
        asked = {run_id: calls for pause in pauses for run_id, calls in pause.asked.items()}
        forms = {name: form for pause in pauses for name, form in pause.forms.items()}
        one = cls(names, min(ends, default=None), together(requests) if requests else None, asked, forms)
        one.refusal = next((pause.refusal for pause in pauses if pause.refusal is not None), None)
        return one

    @classmethod
    def for_decisions(
        cls, run_id: str, requests: DeferredToolRequests, refusal: NotResumableError | None = None
    ) -> Pause:
        """One for the decisions that an agent's run waits for."""
        calls = [call.tool_call_id for call in (*requests.approvals, *requests.calls)]
        one = cls((), None, requests, {run_id: calls})
        one.refusal = refusal
        return one


def together(requests: Sequence[DeferredToolRequests]) -> DeferredToolRequests:
    """What several agents wait for, as one."""
    return DeferredToolRequests(
        calls=[call for one in requests for call in one.calls],
        approvals=[call for one in requests for call in one.approvals],
        metadata={call: data for one in requests for call, data in one.metadata.items()},
    )
