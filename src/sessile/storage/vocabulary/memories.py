"""What is remembered about a user, in a log of the user's own, whose state is the memories by their ids."""

from __future__ import annotations

from ...records import Entry, JsonObject, Session
from .words import ERASED, Word, field


class MemoryWritten(Word, kind="memory.written", version=5):
    """A memory is new, or says something else. The head's `state` has it under its id: all of this but the id.

    When it is forgotten its texts are taken out of the log.
    """

    id: str = field("the memory's own id")
    memory: str = field("what is remembered, in words; `[erased]` once it is forgotten")
    topics: list[str] | None = field("what it is about, in a few words", default=None)
    created_at: int = field("when it was first written, microseconds UTC")
    updated_at: int = field("when it was written last, or heard again")
    expires_at: int | None = field("when it is forgotten by itself, or null: never", default=None)
    session_id: str | None = field("the session that it comes from, as its caller says it", default=None)
    run_id: str | None = field("the run that it comes from", default=None)
    agent: str | None = field("the name of who has written it in that run", default=None)

    @property
    def kept(self) -> JsonObject:
        """What the state has of it."""
        return {name: value for name, value in self.json.items() if name != "id"}

    @property
    def forgotten(self) -> JsonObject:
        """What is left of it when it is forgotten; before that its texts are in the state, and stay."""
        return self.but(memory=ERASED, topics=None).json

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        said = cls.of(entry.data)
        head.state = {**head.state, said.id: said.kept}


class MemoryForgotten(Word, kind="memory.forgotten", version=5):
    """Memories are forgotten: the head's `state` has them no more."""

    ids: list[str] = field("their ids")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        gone = set(cls.of(entry.data).ids)
        head.state = {name: value for name, value in head.state.items() if name not in gone}
