"""What a team's members are sent along: their own earlier work, or their team's conversation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, TextPart

from ...records import FINISHED, Run
from ..history.past import SessionPast, Summary
from ..history.sendable import question_and_answer
from ..messages.counted import made_up
from ..shown import question_of
from .answers import without_answers
from .member import MemberRecorder
from .roster import MemberHistory


class MemberPast(SessionPast):
    """Earlier runs below the runs of a team's session: a member's `"own"`, or those of its `"team"`.

    Those of the run at hand are among them. Of a team's runs only question and answer are sent along: a member has not
    the tools that its leader has called. Windows count the runs of the session here, and look through them.
    """

    def __init__(self, recorder: MemberRecorder, history: MemberHistory, model: Any) -> None:
        super().__init__(recorder.storage, recorder.turn, recorder.media, model)
        self._root, self._asked = recorder.root, recorder
        self._brief = history == "team"
        self._path = recorder.path[:-1] if self._brief else recorder.path

    def numbers(self, count: int, *, below: int | None = None) -> list[int]:
        """See `Past`."""
        if not count or (below is not None and self._own >= below):
            return super().numbers(count, below=below)
        return [*super().numbers(count), self._own]  # so that what it has done in this run costs no further read

    @property
    def _own(self) -> int:
        """The number that the run at hand has, or will have."""
        return self._turn.number or (0 if self._head is None else self._head.run_count) + 1

    async def runs(self, numbers: Sequence[int]) -> list[Run]:
        """See `Past`."""
        top = await super().runs([number for number in numbers if number != self._own])
        if self._own in numbers:
            top = [*top, self._root.record]
        below = [(above, run) for above in top for run in runs_below(above, self._path)]
        return [run for above, run in below if run.status in FINISHED or not self._goes_on(above)]

    def _goes_on(self, above: Run) -> bool:
        """Whether what is open below a run of the session may be continued."""
        return above.number == self._own or above.durability == "step"

    async def messages(self, run: Run) -> list[ModelMessage]:
        """See `Past`."""
        messages = await self._said_in(run)
        return question_and_answer(messages) if self._brief else whole_run(run, messages)

    async def _said_in(self, run: Run) -> list[ModelMessage]:
        """The messages of a run, one below the run at hand among them."""
        said = self._root.said.get(run.run_id)
        return await super().messages(run) if said is None else said

    @property
    def question(self) -> str:
        """See `Past`. A member is asked by its team."""
        return question_of(self._asked.record.input)

    @property
    def summary(self) -> Summary | None:
        """See `Past`."""
        return None if self._path else super().summary

    async def keep_summary(self, summary: Summary) -> None:
        """See `Past`."""
        if not self._path:
            await super().keep_summary(summary)


def whole_run(run: Run, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The messages of a member's run, as it is sent them in later ones."""
    end = [] if run.handoff is None else [made_up(TextPart(f"(I have handed over to {run.handoff.to}.)"))]
    return [*map(without_answers, messages), *end]


def runs_below(run: Run, path: Sequence[str]) -> list[Run]:
    """The runs of the member at the end of a path of names, below a run; in the order of their start."""
    found = [run]
    for name in path:
        found = [child for above in found for child in above.children if child.agent == name]
    return found
