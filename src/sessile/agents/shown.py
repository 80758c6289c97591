"""Few-shot examples that are shown to a model before the history: which ones, and how they become messages."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

from pydantic_ai.messages import ModelMessage

from ..errors import InvalidInputError
from ..records import JsonObject


class Shown(Protocol):
    """Examples, as `sessile.insight.examples` picks them."""

    @property
    def used(self) -> list[JsonObject]:
        """Which runs they are from."""
        ...

    def pydantic_ai(self) -> list[Any]:
        """They as messages of Pydantic AI's."""
        ...


Shows = Shown | Sequence[ModelMessage] | Callable[[str], Any]
"""Examples; messages; or a function of the question, synchronous or not, that returns the one or the other."""


class ShownMessages(NamedTuple):
    """Examples of one run as messages, and which runs they are from."""

    messages: list[ModelMessage]
    used: list[JsonObject]


Choose = Callable[[str], Awaitable[ShownMessages]]


def check_shows(shows: Any) -> None:
    """Refuse what can be no examples."""
    if shows is None or callable(shows) or hasattr(shows, "pydantic_ai"):
        return
    if isinstance(shows, Sequence) and not isinstance(shows, (str, bytes)):
        return
    raise InvalidInputError(
        f"examples must be examples, messages, or a function of the question; they are {shows!r}.",
        hint="Pick them with sessile.insight.examples(storage, …).",
    )


def question_of(asked: Any) -> str:
    """The text of what is asked: of a prompt, or of one that was stored."""
    parts = cast("list[Any]", [asked] if isinstance(asked, str) else asked or ())
    return "\n".join(part for part in parts if isinstance(part, str))


async def choose(shows: Shows, question: str) -> ShownMessages:
    """The examples for a question. A synchronous function is called in a thread: it may ask an index."""
    chosen: Any = shows
    if callable(shows):
        chosen = await asyncio.to_thread(shows, question)
        if inspect.isawaitable(chosen):
            chosen = await chosen
        check_shows(chosen)
    if hasattr(chosen, "pydantic_ai"):
        shown = cast(Shown, chosen)
        return ShownMessages(shown.pydantic_ai(), shown.used)
    return ShownMessages(list(cast("Sequence[ModelMessage]", chosen or ())), [])


__all__ = ["Choose", "Shown", "ShownMessages", "Shows", "check_shows", "choose", "question_of"]
