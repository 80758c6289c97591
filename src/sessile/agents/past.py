"""The earlier runs of a session, as history windows read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import ModelMessage

from ..records import Head, JsonObject, Run
from ..storage import turns
from .history import question_and_answer
from .messages import run_messages

if TYPE_CHECKING:
    from .member import MemberRecorder
    from .recorder import Recorder


class SessionPast:
    """The earlier runs of the recorder's session, for windows."""

    def __init__(self, recorder: Recorder, model: Any) -> None:
        self._recorder = recorder
        self.model = model

    @property
    def _head(self) -> Head | None:
        return self._recorder.turn.before.head

    def numbers(self, count: int, *, below: int | None = None) -> list[int]:
        """See `Past`."""
        own = self._recorder.turn.number or None
        bounds = [bound for bound in (below, own) if bound is not None]
        return [] if self._head is None else self._head.last_on_path(count, below=min(bounds, default=None))

    async def runs(self, numbers: Sequence[int]) -> list[Run]:
        """See `Past`."""
        recorder = self._recorder
        at_hand = turns.runs_at_hand(recorder.turn, numbers)
        if at_hand is not None or not numbers:
            return at_hand or []
        return await recorder.storage.arun_operation(turns.history, recorder.turn, numbers)

    async def messages(self, run: Run) -> list[ModelMessage]:
        """See `Past`."""
        return await run_messages(run, self._recorder.media)

    @property
    def summary(self) -> JsonObject | None:
        """See `Past`. A summary of runs that a rewind has left, or that came after this one, is not its past."""
        head, own = self._head, self._recorder.turn.number
        if head is None or head.summary is None or not head.on_path(head.summary["upto"]):
            return None
        return None if own and head.summary["upto"] >= own else head.summary

    async def keep_summary(self, upto: int, text: str) -> None:
        """See `Past`."""
        recorder, head = self._recorder, self._head
        newer = head is not None and head.summary is not None and head.summary["upto"] > upto
        if not newer:
            await recorder.storage.arun_operation(turns.summarize, recorder.turn, upto, text)


class MemberPast(SessionPast):
    """Earlier runs below the runs of a team's session: those of one member, or (`brief`) those of its team.

    Those of the run at hand are among them. Of a team's runs only question and answer are sent along, because what its
    leader has called is none of a member's tools. Windows count the runs of the session here, and look through them.
    """

    def __init__(self, recorder: MemberRecorder, model: Any, *, path: Sequence[str], brief: bool) -> None:
        super().__init__(recorder, model)
        self._path, self._brief = path, brief

    def numbers(self, count: int, *, below: int | None = None) -> list[int]:
        """See `Past`."""
        if not count or (below is not None and self._own >= below):
            return super().numbers(count, below=below)
        return [*super().numbers(count), self._own]  # so that what it has done in this run costs no further read

    @property
    def _own(self) -> int:
        """The number that the run at hand has, or will have."""
        return self._recorder.turn.number or (0 if self._head is None else self._head.run_count) + 1

    async def runs(self, numbers: Sequence[int]) -> list[Run]:
        """See `Past`."""
        top = await super().runs([number for number in numbers if number != self._own])
        if self._own in numbers:
            top = [*top, self._recorder.root.record]
        return [run for above in top for run in runs_below(above, self._path)]

    async def messages(self, run: Run) -> list[ModelMessage]:
        """See `Past`."""
        said = self._recorder.root.said.get(run.run_id)
        messages = await super().messages(run) if said is None else said
        return question_and_answer(messages) if self._brief else messages

    @property
    def summary(self) -> JsonObject | None:
        """See `Past`."""
        return None if self._path else super().summary

    async def keep_summary(self, upto: int, text: str) -> None:
        """See `Past`."""
        if not self._path:
            await super().keep_summary(upto, text)


def runs_below(run: Run, path: Sequence[str]) -> list[Run]:
    """The runs of the member at the end of a path of names, below a run; in the order of their start."""
    found = [run]
    for name in path:
        found = [child for above in found for child in above.children if child.owner == name]
    return found
