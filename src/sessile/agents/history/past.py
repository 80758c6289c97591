"""The earlier runs of a session, as history windows read them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic_ai.messages import ModelMessage

from ...records import Run, Session, Usage
from ...storage import turns
from ...storage.computing import IN_JSON, computed
from ...storage.runs import only_missing
from ...storage.storage import Storage, aoperate
from ...storage.turns import Turn
from ...storage.vocabulary import SessionSummarized
from ..messages.counted import NOTHING
from ..messages.stored import ReadMedia, run_messages
from ..shown import question_of
from .known import Bodies, Key, known

logger = logging.getLogger(__name__)


MOST_MISSING = 50
"""How many runs may be missing where they are looked for, until no older ones are looked for."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A rolling summary.

    Attributes:
        text: what it says.
        upto: the number of the last run that it tells of.
        unfinished: the numbers of runs up to there that had not ended when it was made.
    """

    text: str = ""
    upto: int = 0
    unfinished: tuple[int, ...] = ()


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

    def may_go_on(self, number: int) -> bool:
        """Whether a run may still end in another way: it is running, or may be resumed."""
        ...

    @property
    def summary(self) -> Summary | None:
        """The rolling summary of the current branch, if one is kept."""
        ...

    async def keep_summary(self, summary: Summary) -> None:
        """Keep a new rolling summary in the session."""
        ...

    @property
    def question(self) -> str:
        """The text of what is asked in the run that the history is for."""
        ...

    def asked(self, own: Any) -> Any:
        """The model to be asked about the past: the one of an `override`, or this one, or that of the agent."""
        ...

    def spent(self, usage: Usage) -> None:
        """Count what has been used to choose the history as the run's."""
        ...


class SessionPast:
    """The earlier runs of the session that a turn works on; media are read by `read`, `model` is the agent's."""

    override: Any = None
    """The model that the agent was told to use instead of every other one (`pydantic_ai.Agent.override`)."""

    def __init__(self, storage: Storage, turn: Turn, read: ReadMedia, model: Any) -> None:
        self._storage, self._turn, self._read = storage, turn, read
        self.model = model
        self.used = NOTHING
        self._left = storage.settings.max_read_bytes
        self._came_along: set[int] = set()

    @property
    def _head(self) -> Session | None:
        return self._turn.before.head

    def numbers(self, count: int, *, below: int | None = None) -> list[int]:
        """See `Past`. None once the history has as many bytes as one call reads (`max_read_bytes`)."""
        if self._left <= 0:
            return []
        own = self._turn.number or None
        bounds = [bound for bound in (below, own) if bound is not None]
        return [] if self._head is None else self._head.last_on_path(count, below=min(bounds, default=None))

    async def runs(self, numbers: Sequence[int]) -> list[Run]:
        """See `Past`."""
        if not numbers:
            return []
        text = sum(len(row.body) for row in self._turn.before.rows)
        if text <= self._left:
            at_hand = await computed(lambda: turns.runs_at_hand(self._turn, numbers), size=text // IN_JSON)
            if at_hand is not None:
                self._came_along.update(numbers)
                return at_hand
        found, self._left = await aoperate(self._storage, turns.history, self._turn, numbers, self._left)
        if only_missing(found) and len(numbers) > MOST_MISSING:
            self._left = 0  # the head counts runs that are not in the log: nobody looks for all of them
        if self._left <= 0:
            logger.warning(
                "The history of session %r ends at max_read_bytes; what is older is left out",
                self._turn.spec.session_id,
            )
        return found

    async def messages(self, run: Run) -> list[ModelMessage]:
        """See `Past`."""
        return await run_messages(run, self._read)

    def known(self, numbers: Sequence[int]) -> dict[int, list[ModelMessage]]:
        """The messages of those of these runs that have completed, and were made of the log before; no I/O."""
        found: dict[int, list[ModelMessage]] = {}
        for number in numbers:
            if (own := self._bodies(number)) and (messages := known.get(self._key(number), own)) is not None:
                found[number] = messages
        return found

    def know(self, run: Run, messages: Sequence[ModelMessage]) -> None:
        """Keep the messages of a run that has just been read, and that nobody has changed, for the next ones."""
        if run.status == "completed" and run.number in self._came_along:  # all its commits are here
            known.put(self._key(run.number), self._bodies(run.number), messages)

    def _key(self, number: int) -> Key:
        return ("" if self._head is None else self._head.incarnation, number)

    def _bodies(self, number: int) -> Bodies:
        """The commits of a run that came with the look."""
        return tuple([row.body for row in self._turn.before.rows if row.run == number])

    def may_go_on(self, number: int) -> bool:
        """See `Past`."""
        return self._head is not None and number in self._head.open_runs

    @property
    def summary(self) -> Summary | None:
        """See `Past`. A summary of runs that a rewind has left, or that came after this one, is not its past."""
        head, own = self._head, self._turn.number
        if head is None or head.summary is None:
            return None
        stored = SessionSummarized.of(head.summary)
        if not head.on_path(stored.upto) or (own and stored.upto >= own):
            return None
        unfinished = tuple(number for number in stored.unfinished or () if number != own and head.on_path(number))
        return Summary(stored.text, stored.upto, unfinished)

    async def keep_summary(self, summary: Summary) -> None:
        """See `Past`."""
        head = self._head
        newer = head is not None and head.summary is not None and head.summary["upto"] > summary.upto
        if not newer:
            upto, text, unfinished = summary.upto, summary.text, summary.unfinished
            await aoperate(self._storage, turns.summarize, self._turn, upto, text, unfinished)

    @property
    def question(self) -> str:
        """See `Past`."""
        return question_of(self._turn.spec.input)

    def asked(self, own: Any) -> Any:
        """See `Past`."""
        return self.override or own or self.model

    def spent(self, usage: Usage) -> None:
        """See `Past`."""
        self.used = self.used + usage
