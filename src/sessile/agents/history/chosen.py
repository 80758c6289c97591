"""Histories that are chosen by their size, and by what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic_ai.messages import ModelMessage

from ...errors import InvalidInputError
from ...records import Run
from ...tokens import ranked
from ..messages.spoken import text_of
from ..messages.tokens import estimate_tokens
from .measured import Count, correction
from .past import Past, Summary
from .sendable import flat, question_and_answer, sendable, sent
from .summary import PATIENCE, SUMMARY_INSTRUCTIONS, RollingSummary, summary_message
from .windows import ALL_PAGE, Window

LOOKED_AT = 100
"""How many of the last runs are looked through for what is asked."""

AUTO_INSTRUCTIONS = (
    f"{SUMMARY_INSTRUCTIONS} Under the headings Facts, Decisions, Open tasks; what is done or withdrawn goes. Keep "
    "every open task and every decision that holds, word for word if need be."
)


@dataclass(frozen=True)
class Auto(RollingSummary):
    """A good default for long sessions: the last runs as they are, as many as fit, and a summary of what is older.

    When the runs that are sent as they are have more than `tokens`, the older ones are summarised, down to half of
    that, so that a provider's cache of the beginning holds for a while. The summary names open tasks and decisions. A
    newest run that is too large by itself is reduced to question and answer. What `RollingSummary` says holds
    otherwise.

    Args:
        tokens: how many tokens of runs are sent along at most, beside the summary: a quarter of what the model takes
            leaves room for its work.
        share: which share of what the model takes is sent instead, for example 0.25, where Pydantic AI knows how much
            it takes (`model.context_window`); else `tokens` holds.
        calibrate: whether the count is set right by what the provider has counted of the runs at hand.
        model, instructions: as for `RollingSummary`.
        count: counts the tokens of messages; default: an estimate.
    """

    keep: int = field(default=1, init=False)
    every: int = field(default=1, init=False)
    tokens: int = 16_000
    instructions: str = AUTO_INSTRUCTIONS
    count: Count = estimate_tokens
    share: float | None = None
    calibrate: bool = False

    def __post_init__(self) -> None:
        if type(self.tokens) is not int or self.tokens < 1:
            raise InvalidInputError(f"tokens must be a whole number of at least 1; it is {self.tokens!r}.")
        if self.share is not None and not (isinstance(self.share, (int, float)) and 0 < self.share <= 1):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"share must be above 0, and 1 at most; it is {self.share!r}.")
        object.__setattr__(self, "newest", 8)

    async def select(self, past: Past) -> list[ModelMessage]:
        """See `Window`."""
        summary = past.summary or Summary()
        late = [number for number in summary.unfinished if not past.may_go_on(number)]
        numbers = past.numbers(8)
        if numbers and numbers[0] > summary.upto + 1:  # there is more that no summary tells
            numbers = past.numbers(PATIENCE * ALL_PAGE)
        runs = await past.runs([*late, *(number for number in numbers if number > summary.upto)])
        each = [await sendable(past, [run]) for run in runs]
        right = correction([group for groups in each for group in groups], self.count) if self.calibrate else 1.0
        most = max(1, round(self._most(past) / right))
        older = self._too_much(runs, [sum(map(self.count, one)) for one in each], most)
        if older:
            renewed = await self._renewed(past, summary, older)
            if renewed is not None:
                summary, runs = renewed, runs[len(older) :]
                await past.keep_summary(summary)
        groups = _fitting(await sendable(past, runs), most, self.count)
        return [*([summary_message(summary.text)] if summary.text else []), *flat(groups)]

    def _most(self, past: Past) -> int:
        """How many tokens are sent along."""
        takes = getattr(past.asked(None), "context_window", None) if self.share is not None else None
        return self.tokens if takes is None or self.share is None else max(1, int(takes * self.share))

    def _too_much(self, runs: Sequence[Run], sizes: Sequence[int], most: int) -> Sequence[Run]:
        """The oldest runs, if all are more than is sent: as many as must go until half of that is left."""
        if sum(sizes) <= most:
            return []
        kept, size = 0, 0
        while kept < len(runs) - 1 and size + sizes[-1 - kept] <= most // 2:
            size += sizes[-1 - kept]
            kept += 1
        return self._older(runs if kept == 0 else runs[: len(runs) - kept + 1])


@dataclass(frozen=True)
class Relevant(Window):
    """The last runs, and those of the last hundred that have words of what is asked, rarer words first.

    Args:
        tokens: how many tokens are sent along at most; the last runs come first.
        keep: how many of the last runs are sent along whatever is asked.
        count: counts the tokens of messages; default: an estimate.
    """

    tokens: int = 8_000
    keep: int = 2
    count: Count = estimate_tokens

    def __post_init__(self) -> None:
        for value in (self.tokens, self.keep):
            if type(value) is not int or value < 0:
                raise InvalidInputError(f"tokens and keep must be whole numbers of at least 0; one is {value!r}.")
        object.__setattr__(self, "newest", 8)

    async def select(self, past: Past) -> list[ModelMessage]:
        """See `Window`."""
        groups = await sent(past, past.numbers(LOOKED_AT))
        cut = max(0, len(groups) - self.keep)
        older, last = groups[:cut], _fitting(groups[cut:], self.tokens, self.count)
        left = self.tokens - sum(map(self.count, last))
        chosen: list[int] = []
        for index in ranked([text_of(group) for group in older], past.question):
            size = self.count(older[index])
            if size <= left:
                chosen.append(index)
                left -= size
        return flat([*(older[index] for index in sorted(chosen)), *last])


def _fitting(groups: Sequence[list[ModelMessage]], tokens: int, count: Count) -> list[list[ModelMessage]]:
    """As many of the last runs as fit; a newest one that does not, as question and answer, if these do."""
    kept: list[list[ModelMessage]] = []
    for group in reversed(groups):
        if not kept and count(group) > tokens:
            group = question_and_answer(group)
        size = count(group)
        if size > tokens:
            break
        kept.insert(0, group)
        tokens -= size
    return kept
