"""Histories by what providers count: messages, tool calls, and tokens as earlier requests were counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic_ai.messages import ModelMessage, ModelResponse, ThinkingPart

from ...errors import InvalidInputError
from ..messages.tokens import estimate_tokens
from .past import Past
from .sendable import flat, question_and_answer, sent
from .windows import ALL_PAGE, Window

Count = Callable[[Sequence[ModelMessage]], int]

ENOUGH = 100
"""How many estimated tokens must have been counted by a provider, for its count to say anything."""

LEAST, MOST = 0.25, 4.0
"""How far a provider's count changes an estimate: what differs by more has been counted wrongly."""


@dataclass(frozen=True)
class Budget(Window):
    """As many of the last runs as keep to all limits that are given, newest first, whole runs only.

    A newest run that does not fit by itself is reduced to its question and its final answer if these fit. Where a
    hundred runs in a row have nothing to be sent, it looks no further back.

    Args:
        tokens: how many tokens at most, as the provider counts them: what it has counted of the runs at hand says by
            how much the estimate is wrong.
        messages: how many requests and responses at most.
        tool_calls: how many calls of tools at most, with their results.
        count: counts the tokens of messages; default: an estimate.
        calibrate: whether the count is set right by what the provider has counted; not needed with its tokenizer.
    """

    tokens: int | None = None
    messages: int | None = None
    tool_calls: int | None = None
    count: Count = estimate_tokens
    calibrate: bool = True

    def __post_init__(self) -> None:
        given = [one for one in (self.tokens, self.messages, self.tool_calls) if one is not None]
        if not given or any(type(one) is not int or one < 0 for one in given):
            raise InvalidInputError("A Budget needs tokens, messages or tool_calls: whole numbers of at least 0.")
        object.__setattr__(self, "newest", 8)

    async def select(self, past: Past) -> list[ModelMessage]:
        """See `Window`."""
        groups: list[list[ModelMessage]] = []
        below: int | None = None
        right = 1.0
        while numbers := past.numbers(8 if below is None else ALL_PAGE, below=below):
            found = await sent(past, numbers)
            if not found and below is not None:
                break
            if below is None and self.calibrate and self.tokens is not None:
                right = correction(found, self.count)
            for group in reversed(found):
                if not groups and not self._fits([group], right):
                    group = question_and_answer(group)
                if not self._fits([group, *groups], right):
                    return flat(groups)
                groups.insert(0, group)
            below = numbers[0]
        return flat(groups)

    def _fits(self, groups: Sequence[Sequence[ModelMessage]], right: float) -> bool:
        messages = flat(groups)
        calls = sum(len(one.tool_calls) for one in messages if isinstance(one, ModelResponse))
        return (
            (self.messages is None or len(messages) <= self.messages)
            and (self.tool_calls is None or calls <= self.tool_calls)
            and (self.tokens is None or self.count(messages) * right <= self.tokens)
        )


def correction(groups: Sequence[Sequence[ModelMessage]], count: Count) -> float:
    """What a count of tokens is to be multiplied by, so that it is what the provider has counted; 1.0: nobody knows.

    Between two requests of one run lie the messages by which the second is longer: its input tokens less those of the
    first are these messages' own. Of a run of one request only what came out was counted by itself.
    """
    between = [pair for group in groups for pair in _between(group, count)]
    apart = [pair for group in groups for pair in _answers(group, count)]
    for pairs in (between, apart):
        counted, estimated = (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0, 0)
        if estimated >= ENOUGH and counted > 0:
            return min(MOST, max(LEAST, counted / estimated))
    return 1.0


def _between(group: Sequence[ModelMessage], count: Count) -> list[tuple[int, int]]:
    """Tokens by the provider's count, and by ours, of what lies between the requests of a run."""
    responses = [place for place, one in enumerate(group) if isinstance(one, ModelResponse)]
    found: list[tuple[int, int]] = []
    for first, second in pairwise(responses):
        one, two = group[first], group[second]
        assert isinstance(one, ModelResponse), "these places have responses"
        assert isinstance(two, ModelResponse), "these places have responses"
        counted = two.usage.input_tokens - one.usage.input_tokens
        thought = any(isinstance(part, ThinkingPart) for part in one.parts)  # some providers drop it from what follows
        if one.usage.input_tokens and counted > 0 and not thought:
            found.append((counted, count(group[first:second])))
    return found


def _answers(group: Sequence[ModelMessage], count: Count) -> list[tuple[int, int]]:
    """Tokens of what models have answered; not where they have thought, which is counted and not always there."""
    said = [one for one in group if isinstance(one, ModelResponse) and one.usage.output_tokens]
    plain = [one for one in said if not any(isinstance(part, ThinkingPart) for part in one.parts)]
    return [(one.usage.output_tokens, count([one])) for one in plain if "reasoning_tokens" not in one.usage.details]
