"""History windows: which earlier runs of the session a run is sent along with.

A window holds whole runs, so it never separates a tool call from its result, and it reads no more than it sends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic_ai.messages import ModelMessage

from ...errors import InvalidInputError
from ..messages.tokens import estimate_tokens
from .past import Past
from .sendable import flat, question_and_answer, sent

ALL_PAGE = 100
"""How many runs are read at a time where the number of runs is not known beforehand."""


class Window(ABC):
    """Chooses the history of a run."""

    newest: int = 3
    """How many runs are read together with the head, in one look."""

    @abstractmethod
    async def select(self, past: Past) -> list[ModelMessage]:
        """The messages to send along, oldest first."""


@dataclass(frozen=True)
class LastRuns(Window):
    """The last `count` finished runs; the default window, with a count of 3."""

    count: int = 3

    def __post_init__(self) -> None:
        if type(self.count) is not int or self.count < 0:
            raise InvalidInputError(f"history must be a number of runs of at least 0; it is {self.count!r}.")
        object.__setattr__(self, "newest", self.count)

    async def select(self, past: Past) -> list[ModelMessage]:
        groups: list[list[ModelMessage]] = []
        below: int | None = None
        looked, factor = 0, 1
        while len(groups) < self.count and looked < self.count + ALL_PAGE:  # never far back past runs that failed
            numbers = past.numbers((self.count - len(groups)) * factor, below=below)
            if not numbers:
                break
            groups = await sent(past, numbers) + groups
            below = numbers[0]
            looked += len(numbers)
            factor *= 2  # a few reads, not one for each few runs that failed
        return flat(groups[-self.count :]) if groups else []


@dataclass(frozen=True)
class Given(Window):
    """Messages that a caller gives, in the place of the session's own."""

    messages: Sequence[ModelMessage]
    newest = 0

    async def select(self, past: Past) -> list[ModelMessage]:
        return list(self.messages)


@dataclass(frozen=True)
class AllRuns(Window):
    """Every finished run of the branch, up to the storage's `max_read_bytes`: its cost grows with the session."""

    async def select(self, past: Past) -> list[ModelMessage]:
        groups: list[list[ModelMessage]] = []
        below: int | None = None
        while numbers := past.numbers(ALL_PAGE, below=below):
            groups = await sent(past, numbers) + groups
            below = numbers[0]
        return flat(groups)


@dataclass(frozen=True)
class TokenBudget(Window):
    """As many of the last runs as fit into `tokens`, newest first, whole runs only.

    A newest run that does not fit by itself is reduced to its question and its final answer if these fit. `count`
    counts the tokens of messages; the default estimates them, thinking, tools and media included. Where a hundred runs
    in a row have nothing to be sent (they failed before a model had answered), it looks no further back.
    """

    tokens: int
    count: Callable[[Sequence[ModelMessage]], int] = estimate_tokens

    def __post_init__(self) -> None:
        if type(self.tokens) is not int or self.tokens < 0:
            raise InvalidInputError(f"tokens must be a whole number of at least 0; it is {self.tokens!r}.")
        object.__setattr__(self, "newest", 8)

    async def select(self, past: Past) -> list[ModelMessage]:
        left, groups = self.tokens, list[list[ModelMessage]]()
        below: int | None = None
        while numbers := past.numbers(8 if below is None else ALL_PAGE, below=below):
            found = await sent(past, numbers)
            if not found and below is not None:
                break
            for group in reversed(found):
                if not groups and self.count(group) > left:
                    group = question_and_answer(group)
                size = self.count(group)
                if size > left:
                    return flat(groups)
                groups.insert(0, group)
                left -= size
            below = numbers[0]
        return flat(groups)


History = int | Literal["all"] | Window | None
"""A number of runs, `"all"`, a window, or None for no history."""


def window_of(history: History) -> Window:
    """The window that a `history=` argument means."""
    if history is None:
        return LastRuns(0)
    if history == "all":
        return AllRuns()
    if isinstance(history, Window):
        return history
    return LastRuns(history)
