"""History windows: which earlier runs of the session a run is sent along with.

A window holds whole runs, so it never separates a tool call from its result, and it reads no more than it sends.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from pydantic_ai import Agent as ModelAgent
from pydantic_ai.exceptions import AgentRunError, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    TextPart,
    ToolReturnPart,
    UserPromptPart,
    repair_messages,
)

from ..errors import InvalidInputError
from ..records import FINISHED, JsonObject, Run
from .messages import answered, plain_text, text_of, to_plain
from .tools import as_text

logger = logging.getLogger("sessile")

ALL_PAGE = 100
"""How many runs are read at a time where the number of runs is not known beforehand."""


class Past(Protocol):
    """The earlier runs of the current branch, as a window may read them."""

    def numbers(self, count: int, *, below: int | None = None) -> list[int]:
        """The numbers of the last `count` runs (below a number), ascending."""
        ...

    async def runs(self, numbers: Sequence[int]) -> list[Run]:
        """These runs."""
        ...

    async def messages(self, run: Run) -> list[ModelMessage]:
        """A run's messages, ready to be sent."""
        ...

    @property
    def summary(self) -> JsonObject | None:
        """The rolling summary of the current branch, if one is kept."""
        ...

    async def keep_summary(self, upto: int, text: str) -> None:
        """Keep a new rolling summary in the session."""
        ...

    @property
    def model(self) -> Any:
        """The model of the agent that runs."""
        ...


class Window(ABC):
    """Chooses the history of a run."""

    newest: int = 3
    """How many runs are read together with the head, in one look."""

    @abstractmethod
    async def select(self, past: Past) -> list[ModelMessage]:
        """The messages to send along, oldest first."""


async def sendable(past: Past, runs: Sequence[Run]) -> list[list[ModelMessage]]:
    """The messages of finished runs that a model has answered, tool calls without a result closed."""
    result: list[list[ModelMessage]] = []
    for run in runs:
        if run.status in FINISHED:
            messages = await past.messages(run)
            if answered(messages):
                messages = harmless(messages) if run.status == "failed" else messages
                result.append(repair_messages(messages) if run.status != "completed" else messages)
    return result


UNANSWERED = 2_000
"""How many characters of a tool's result are sent again that no model has answered."""


def harmless(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The messages of a failed run without what may have made it fail, and would make every later run fail, too.

    A request may have been refused for what a tool has returned: because it is too long, an image that the model does
    not take, or text that cannot be sent. So of a last request that was not answered only short, sound text is left.
    """
    *before, last = messages
    if not isinstance(last, ModelRequest):
        return list(messages)
    return [*before, replace(last, parts=[_harmless(part) for part in last.parts])]


def _harmless(part: ModelRequestPart) -> ModelRequestPart:
    if isinstance(part, ToolReturnPart):
        return replace(part, content=_short(as_text(to_plain(part.content))))
    return replace(part, content=_short(plain_text(part.content))) if isinstance(part, UserPromptPart) else part


def _short(text: str) -> str:
    sound = text.encode(errors="replace").decode()
    return sound if len(sound) <= UNANSWERED else f"{sound[:UNANSWERED]} … (cut off)"


def flat(groups: Sequence[Sequence[ModelMessage]]) -> list[ModelMessage]:
    """Groups of messages as one list."""
    return [message for group in groups for message in group]


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
            groups = await sendable(past, await past.runs(numbers)) + groups
            below = numbers[0]
            looked += len(numbers)
            factor *= 2  # a few reads, not one for each few runs that failed
        return flat(groups[-self.count :]) if groups else []


@dataclass(frozen=True)
class AllRuns(Window):
    """Every finished run of the branch: its cost grows with the session."""

    async def select(self, past: Past) -> list[ModelMessage]:
        groups: list[list[ModelMessage]] = []
        below: int | None = None
        while numbers := past.numbers(ALL_PAGE, below=below):
            groups = await sendable(past, await past.runs(numbers)) + groups
            below = numbers[0]
        return flat(groups)


def estimate_tokens(messages: Sequence[ModelMessage]) -> int:
    """About how many tokens messages have: four characters of text each, the usual rule of thumb for English.

    Source: OpenAI, "What are tokens and how to count them?" (help.openai.com/en/articles/4936856).
    """
    return (len(text_of(messages)) + 3) // 4


@dataclass(frozen=True)
class TokenBudget(Window):
    """As many of the last runs as fit into `tokens`, newest first, whole runs only.

    A newest run that does not fit by itself is reduced to its question and its final answer if these fit. `count`
    counts the tokens of messages; the default estimates them. Where a hundred runs in a row have nothing to be sent
    (they failed before a model had answered), it looks no further back.
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
            found = await sendable(past, await past.runs(numbers))
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


def question_and_answer(messages: Sequence[ModelMessage]) -> list[ModelMessage]:
    """The first prompt and the last text of a run's messages."""
    requests = [message for message in messages if isinstance(message, ModelRequest)]
    prompts = [part for message in requests for part in message.parts if isinstance(part, UserPromptPart)]
    texts = [part for m in messages if isinstance(m, ModelResponse) for part in m.parts if isinstance(part, TextPart)]
    return [ModelRequest(parts=[part]) for part in prompts[:1]] + [ModelResponse(parts=[part]) for part in texts[-1:]]


SUMMARY_INSTRUCTIONS = (
    "Summarize the conversation for yourself, so that you can go on with it without having read it: facts about "
    "the user, decisions, results, open points. Keep names and numbers. Answer with the summary alone."
)


PATIENCE = 4
"""How many times `every` runs are sent as they are because of a run before them that is still open."""


@dataclass(frozen=True)
class RollingSummary(Window):
    """A summary of the older runs, and the last runs themselves.

    At least `keep` runs are sent as they are; when `every` more have gathered, a model summarises them together with
    the summary so far, and the result is kept in the session. If the model fails, the run goes on with the summary
    that is there and the runs after it, and the next run tries again. Runs from one on that is still at work or paused
    are summarised when it has ended, or when four times `every` runs have gathered. It looks back 100 runs at the most,
    so of a long session that had no summary before the oldest runs are left out. What it costs is not counted as the
    run's.

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
        summary = past.summary
        text, upto = ("", 0) if summary is None else (summary["text"], summary["upto"])
        numbers = [number for number in past.numbers(self.keep + self.every + ALL_PAGE) if number > upto]
        runs = await past.runs(numbers)
        older = runs[: len(runs) - self.keep] if self.keep else runs
        # What a run that is still open comes to say must not fall between summary and window. But the decision that a
        # run waits for may never come, and what is sent along must not grow for that.
        unfinished = [index for index, run in enumerate(older) if run.status in ("running", "paused")]
        if unfinished and len(older) - unfinished[0] < PATIENCE * self.every:
            older = older[: unfinished[0]]
        if len(older) >= self.every:
            renewed = await self._summarize(past, text, older)
            if renewed is not None:
                text, runs = renewed, runs[len(older) :]
                await past.keep_summary(older[-1].number, text)
        groups = await sendable(past, runs)
        return [*([_summary_message(text)] if text else []), *flat(groups)]

    async def _summarize(self, past: Past, text: str, runs: Sequence[Run]) -> str | None:
        spoken = text_of(flat(await sendable(past, runs)))
        if not spoken:
            return text
        prompt = f"The summary so far:\n{text}\n\nWhat was said since:\n{spoken}" if text else spoken
        agent = ModelAgent(self.model or past.model, instructions=self.instructions)
        try:
            return (await agent.run(prompt)).output
        except (AgentRunError, UserError, OSError) as error:
            logger.warning("The rolling summary could not be renewed, and will be tried again: %s", error)
            return None


def _summary_message(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(f"Summary of our conversation before this point:\n{text}")])


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
