"""A history that keeps a summary of what is older than its window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_ai import Agent as ModelAgent
from pydantic_ai import capture_run_messages
from pydantic_ai.exceptions import ContentFilterError, ModelHTTPError
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart

from ...errors import InvalidInputError
from ...records import Run
from ..messages.counted import usage_of
from ..messages.spoken import text_of
from .accepted import REFUSED
from .past import Past, Summary
from .sendable import flat, sendable
from .windows import ALL_PAGE, Window

logger = logging.getLogger("sessile")

SUMMARY_INSTRUCTIONS = (
    "Summarize the conversation for yourself, so that you can continue it without having read it: facts about "
    "the user, decisions, results, open points. Keep names and numbers. Answer with the summary alone."
)


PATIENCE = 4
"""How many times `every` runs are sent as they are because of a run before them that is still open."""

MOST_WAITING = 64
"""How many runs that a summary has passed before they ended are looked for again."""

SHORTEST = 2_000
"""How many characters of a run are not made shorter to be summarised."""


@dataclass(frozen=True)
class RollingSummary(Window):
    """A summary of the older runs, and the last runs themselves.

    At least `keep` runs are sent as they are; when `every` more have gathered, a model summarises them together with
    the summary so far, and the result is kept in the session. If that is more than the model takes, it is summarised in
    parts. If the model fails, the run uses the summary that is there and the newest runs after it, and the next
    run tries again. A run that is still running or paused holds up the summary until four times `every` have gathered;
    one that ends after a summary has passed it is sent along again, and told by the next summary. The window looks back
    100 runs at the most; in a long session that had no summary before, older runs are left out. What summarising uses
    counts in the usage of the run that it was done for, but not for its `usage_limits`.

    Args:
        keep: runs that are never summarised.
        every: how many runs beyond these are summarised at a time.
        model: the model that summarises; default: the agent's own.
        instructions: what it is told.
    """

    keep: int = 3
    every: int = 5
    model: Any = None
    instructions: str = SUMMARY_INSTRUCTIONS

    def __post_init__(self) -> None:
        if type(self.keep) is not int or type(self.every) is not int or self.keep < 0 or self.every < 1:
            raise InvalidInputError("keep must be a whole number of at least 0, and every of at least 1.")
        object.__setattr__(self, "newest", self.keep + self.every)

    async def select(self, past: Past) -> list[ModelMessage]:
        summary = past.summary or Summary()
        # Runs that were passed while they were open, and have ended since, come first.
        late = [number for number in summary.unfinished if not past.may_go_on(number)]
        numbers = past.numbers(self.keep + self.every + ALL_PAGE)
        runs = await past.runs([*late, *(number for number in numbers if number > summary.upto)])
        older = self._older(runs)
        if len(older) >= self.every:
            renewed = await self._renewed(past, summary, older)
            if renewed is not None:
                summary, runs = renewed, runs[len(older) :]
                await past.keep_summary(summary)
        groups = await sendable(past, runs[-(self.keep + PATIENCE * self.every) :])
        return [*([summary_message(summary.text)] if summary.text else []), *flat(groups)]

    def _older(self, runs: Sequence[Run]) -> Sequence[Run]:
        """The runs to be summarised, if they are enough."""
        older = runs[: len(runs) - self.keep] if self.keep else runs
        # What a run that is still open will say must not fall between summary and window. But the decision that a
        # run waits for may never come, and what is sent along must not grow for that.
        unfinished = [index for index, run in enumerate(older) if run.status in ("running", "paused")]
        if unfinished and len(older) - unfinished[0] < PATIENCE * self.every:
            return older[: unfinished[0]]
        return older

    async def _renewed(self, past: Past, summary: Summary, runs: Sequence[Run]) -> Summary | None:
        """The summary with these runs told as well; None if that has failed."""
        told = [words for group in await sendable(past, runs) if (words := text_of(group))]
        try:
            text = await self._in_parts(past, summary.text, told) if told else summary.text
        except Exception as error:  # noqa: BLE001 (whatever a provider's client raises: the run itself can do without)
            logger.warning("The rolling summary could not be renewed, and will be tried again: %s", error)
            return None
        passed = {run.number for run in runs}
        waiting = [number for number in summary.unfinished if number not in passed]
        waiting += [run.number for run in runs if past.may_go_on(run.number)]
        return Summary(text, max(summary.upto, *passed), tuple(waiting[-MOST_WAITING:]))

    async def _in_parts(self, past: Past, text: str, told: Sequence[str]) -> str:
        """The summary so far and what was said since as one; in parts, if the model does not take all at once."""
        try:
            return await self._ask(past, text, "\n".join(told))
        except ContentFilterError:
            if len(told) == 1:
                return text  # a provider does not want to hear of it, and would not the next time
        except ModelHTTPError as error:
            if error.status_code not in REFUSED or (len(told) == 1 and len(told[0]) <= SHORTEST):
                raise
            if len(told) == 1:
                return await self._in_parts(past, text, [_shortened(told[0])])
        half = len(told) // 2
        return await self._in_parts(past, await self._in_parts(past, text, told[:half]), told[half:])

    async def _ask(self, past: Past, text: str, spoken: str) -> str:
        prompt = f"The summary so far:\n{text}\n\nWhat was said since:\n{spoken}" if text else spoken
        agent = ModelAgent(past.asked(self.model), instructions=self.instructions)
        with capture_run_messages():  # so that it is not taken for the run that a caller captures
            result = await agent.run(prompt)
        past.spent(usage_of(result.usage, result.all_messages()))
        return result.output


def _shortened(text: str) -> str:
    """The first and the last quarter of a text."""
    quarter = len(text) // 4
    return f"{text[:quarter]}\n… (left out) …\n{text[-quarter:]}"


def summary_message(text: str) -> ModelRequest:
    """What tells a model what is older than the runs that follow."""
    return ModelRequest(parts=[UserPromptPart(f"Summary of our conversation before this point:\n{text}")])
