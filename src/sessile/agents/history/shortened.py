"""Large results of tools, left out of histories and read again by a tool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart

from ...errors import InvalidInputError, RunNotFoundError, SessionNotFoundError
from ...live.session import current_session
from ...records import Run
from ..messages.spoken import as_text
from ..messages.stored import run_messages, to_plain
from ..messages.tokens import estimate_tokens
from .past import Past
from .windows import History, Window, window_of

BEGINNING = 200
"""How many characters of a result that is left out are sent."""

PAGE = 16_000
"""How many characters of it the tool gives at a time."""


@dataclass(frozen=True)
class Shortened(Window):
    """Another history, whose large results of tools are left out: their beginning is sent, and a name.

    The agent has a tool `read_tool_result`, which gives such a result by its name. The results themselves stay where
    they are, in the log of the session. Of what a member of a team did in earlier runs of the team, all is sent.

    Args:
        history: which runs are sent along: a number of runs, or another window.
        tokens: about how many tokens a result has at most that is sent whole.
    """

    history: History = 3
    tokens: int = 1_000

    def __post_init__(self) -> None:
        if type(self.tokens) is not int or self.tokens < 0:
            raise InvalidInputError(f"tokens must be a whole number of at least 0; it is {self.tokens!r}.")
        if isinstance(self.history, Shortened):
            raise InvalidInputError("A history is shortened once.")
        object.__setattr__(self, "newest", self.window.newest)

    @property
    def window(self) -> Window:
        """The other history."""
        return window_of(self.history)

    async def select(self, past: Past) -> list[ModelMessage]:
        """See `Window`."""
        return await self.window.select(cast(Past, _ShorterPast(past, self.tokens)))


class _ShorterPast:
    """The earlier runs, without large results of tools."""

    def __init__(self, past: Past, tokens: int) -> None:
        self._past, self._tokens = past, tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._past, name)

    async def messages(self, run: Run) -> list[ModelMessage]:
        """See `Past`."""
        messages = await self._past.messages(run)
        if run.parent_run_id is not None:
            return messages
        place = 0
        shorter: list[ModelMessage] = []
        for message in messages:
            if not isinstance(message, ModelRequest):
                shorter.append(message)
                continue
            parts = list(message.parts)
            for at, part in enumerate(parts):
                if isinstance(part, ToolReturnPart):
                    place += 1
                    parts[at] = self._shorter(part, f"{run.number}/{place}")
            shorter.append(replace(message, parts=parts) if parts != list(message.parts) else message)
        return shorter

    def _shorter(self, part: ToolReturnPart, name: str) -> ToolReturnPart:
        if estimate_tokens([ModelRequest(parts=[part])]) <= self._tokens:
            return part
        text = _text_of(part)
        note = f"… (left out; {len(text):,} characters in all: read_tool_result({name!r}) gives them)"
        return replace(part, content=f"{text[:BEGINNING]}{note}")


def _text_of(part: ToolReturnPart) -> str:
    return as_text(to_plain(part.content))


async def read_tool_result(name: str, start: int = 0) -> str:
    """Read a result of a tool that was left out of the conversation, by the name that stands in its place.

    Args:
        name: the name, for example "12/1".
        start: from which character on; long results come in parts.
    """
    session = current_session()
    number, _, place = name.partition("/")
    if not (number.isascii() and number.isdigit() and place.isascii() and place.isdigit() and len(name) < 20):
        return "That is no name of a result."
    try:
        run = await session.storage.aget_run(session.session_id, int(number), user_id=session.user_id)
    except (RunNotFoundError, SessionNotFoundError, InvalidInputError):
        return "There is no such result."
    results = _results(await run_messages(run, _no_media))
    if not 1 <= int(place) <= len(results):
        return "There is no such result."
    text = _text_of(results[int(place) - 1])
    first = max(0, start)
    rest = len(text) - first - PAGE
    more = f"\n({rest:,} more characters: start={first + PAGE})" if rest > 0 else ""
    return f"{text[first : first + PAGE]}{more}"


def tools_of(window: Window) -> list[Any]:
    """The tools that an agent with this history has for it."""
    return [read_tool_result] if isinstance(window, Shortened) else []


async def _no_media(digest: str) -> bytes:
    return b""  # only texts are read


def _results(messages: Sequence[ModelMessage]) -> list[ToolReturnPart]:
    """The results of tools in a run, in their order."""
    requests = [one for one in messages if isinstance(one, ModelRequest)]
    return [part for one in requests for part in one.parts if isinstance(part, ToolReturnPart)]
