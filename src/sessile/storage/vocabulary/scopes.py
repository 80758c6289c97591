"""What a run changes in the state that outlives its session: the user's, and the application's.

Two logs have a part in it. The run's own commit says what has changed (`ScopesPatched`), whole or not at all with the
rest of the run; then it is written to the log of the scope, once (`ScopeWritten`). The heads of both remember by an id
how far that has come, so that who finds a crash between the two knows what is left to write.
"""

from __future__ import annotations

from ...records import Entry, Session
from .sessions import Operations
from .words import Word, field

REMEMBERED = 32
"""How many of the changes that were written last the head of a scope names."""


class ScopesPatched(Word, kind="scopes.patched", version=4):
    """A run has changed the state of its user or its application; it is written there after this commit.

    The head's `scope_ids` gains the id, until `scopes.settled`.
    """

    id: str = field("random; the scope's own log has the change once under the key `scope:` and this id")
    user: Operations | None = field("what has changed in the user's state, as operations (see above)", default=None)
    app: Operations | None = field("what has changed in the application's state", default=None)
    app_name: str | None = field("which application's, where it has a name", default=None)

    @property
    def in_state(self) -> Operations:
        """The changes as a run sees them, in its session's state."""
        theirs = {"user": self.user or [], "app": self.app or []}
        return [
            [name, [f"{word}:{path[0]}", *path[1:]], *value]
            for word, changes in theirs.items()
            for name, path, *value in changes
        ]

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.scope_ids = [*head.scope_ids, cls.of(entry.data).id]

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """It was done by another session."""
        return None


class ScopesSettled(Word, kind="scopes.settled", version=4):
    """Changes of scopes are written where they belong: the head's `scope_ids` loses these."""

    ids: list[str] = field("their ids")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        settled = set(cls.of(entry.data).ids)
        head.scope_ids = [one for one in head.scope_ids if one not in settled]

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """It was done by another session."""
        return None


class ScopeWritten(Word, kind="scope.written", version=4):
    """In the log of a scope: a change that a run has made is in its state. `scope_ids` has the last 32 of them."""

    id: str = field("the id of the change")
    session_id: str | None = field("the id of the session whose run has made it, as its caller says it", default=None)

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.scope_ids = [*head.scope_ids, cls.of(entry.data).id][-REMEMBERED:]
