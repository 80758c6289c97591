"""Which messages are a run's own, and which of them are stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse


class Transcript:
    """The messages of one run, out of the list that Pydantic AI works on."""

    def __init__(self, attempt_id: str) -> None:
        self.attempt_id = attempt_id
        """The id that Pydantic AI stamps on the messages of this attempt; a resumed run has a fresh one."""
        self.messages: list[ModelMessage] = []
        """Pydantic AI's live list of messages, as the last hook saw it."""
        self.earlier: list[ModelMessage] = []
        """Of a resumed run: its messages of before, which are stored already."""
        self._made: list[ModelMessage] = []
        self._stored = 0

    def begin_anew(self) -> None:
        """Forget what this attempt has made: it is made again, and takes the place of what is stored of it."""
        self._made = []

    def observe(self, messages: list[ModelMessage]) -> None:
        """Remember where the run's messages stand."""
        self.messages = messages
        self.own(messages)

    def own(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """Of a run's messages those that this attempt has made, not the history that was sent along.

        Those that a history processor has taken out of the list since they were seen are among them.
        """
        own = [message for message in messages if message.run_id == self.attempt_id]
        made = self._made
        if made and (len(own) < len(made) or not _same(own[0], made[0])):
            known = [_key(message) for message in made]
            own = [*made, *(message for message in own if _key(message) not in known)]
        self._made = own
        return own

    def said(self, messages: Sequence[ModelMessage] | None = None) -> list[ModelMessage]:
        """All messages of the run as they are now, or in this list; those from before it was resumed too."""
        return [*self.earlier, *self.own(self.messages if messages is None else messages)]

    def unstored(self, messages: Sequence[ModelMessage]) -> list[ModelMessage]:
        """Of these messages those that this attempt has made, and that are not stored."""
        return self.own(messages)[self._stored :]

    def lost(self) -> None:
        """What was stored is not there any more: all of it is to be stored again."""
        self._stored = 0

    def stored(self, count: int) -> None:
        """So many more of this attempt's messages are stored."""
        self._stored += count


def _same(one: ModelMessage, other: ModelMessage) -> bool:
    return one is other or _key(one) == _key(other)


def _key(message: ModelMessage) -> Any:
    """What a message keeps when Pydantic AI makes a stamped copy of it."""
    parts = [
        (part.part_kind, getattr(part, "tool_call_id", None) or getattr(part, "timestamp", None))
        for part in message.parts
    ]
    return (message.kind, message.timestamp if isinstance(message, ModelResponse) else None, *parts)
