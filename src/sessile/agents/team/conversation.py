"""What a member sees that answers the user in the place of its team: the conversation, and who has said what in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, UserPromptPart

from ...records import FINISHED, Run
from ...storage.vocabulary import ERASED_VALUE
from ..history.past import SessionPast, Summary
from ..history.sendable import question_and_answer
from ..messages.spoken import as_text
from .member import MemberRecorder
from .past import MemberPast, runs_below, whole_run


class Conversation(MemberPast):
    """The runs of a team: whole where the member itself has answered, else question and answer, with a word of who did.

    Of the run at hand there is what the member has done in it before it handed over, and was handed back to.
    """

    def __init__(self, recorder: MemberRecorder, model: Any) -> None:
        super().__init__(recorder, "team", model)
        assert recorder.above is not None, "a member has a team above it"
        self._name, self._at_hand = recorder.name, recorder.above.record

    async def runs(self, numbers: Sequence[int]) -> list[Run]:
        """See `Past`."""
        top = await SessionPast.runs(self, [number for number in numbers if number != self._own])
        found = [run for above in top for run in runs_below(above, self._path) if self._is_over(run, above)]
        own = self._at_hand.children if self._own in numbers else []
        return [*found, *(run for run in own if run.agent == self._name and run.status in FINISHED)]

    def _is_over(self, run: Run, above: Run) -> bool:
        return run.status in FINISHED or not self._goes_on(above)

    async def messages(self, run: Run) -> list[ModelMessage]:
        """See `Past`."""
        if any(run is child for child in self._at_hand.children):
            return whole_run(run, await self._said_in(run))
        by = next((child for child in reversed(run.children) if child.answers), None)
        if by is not None and by.agent == self._name and by.messages and by.output == run.output:
            return whole_run(by, await self._said_in(by))
        return _told(run, question_and_answer(await self._said_in(run)))

    async def keep_summary(self, summary: Summary) -> None:
        """See `Past`. Not one that tells of the run at hand, whose answer is not there yet."""
        if summary.upto < self._own:
            await super().keep_summary(summary)


def _told(run: Run, brief: list[ModelMessage]) -> list[ModelMessage]:
    """Question and answer of a run, the answer as it was given, and who has given it."""
    said: list[ModelMessage] = []
    for message in brief:
        if isinstance(message, ModelRequest) and run.answered_by is not None:
            message = ModelRequest([*message.parts, UserPromptPart(f"[{run.answered_by} has answered this.]")])
        elif isinstance(message, ModelResponse) and run.output is not None and run.output != ERASED_VALUE:
            message = ModelResponse([TextPart(as_text(run.output))])  # a person may have changed it since
        said.append(message)
    return said
