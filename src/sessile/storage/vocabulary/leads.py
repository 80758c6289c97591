"""Who answers in a team whose members hand over to each other."""

from __future__ import annotations

from ...records import Entry, Run, Session
from .words import Word, field

KEPT_HANDOFFS = 32
"""How many handoffs the head remembers, of all branches; older ones stay in the log."""


class LeadPassed(Word, kind="lead.passed", version=6):
    """A member of a team has handed the conversation over to another one, which answers from now on.

    The head's `handoffs` gains `[run, team, from, to]`; only the newest 32 stay. Who leads is found by going through
    those of the runs of the current branch: each counts if its `from` leads by then, or nobody does yet. So of two runs
    at once that hand over the first one counts, and after a rewind those count that are left.
    """

    team: str = field(
        "which team of the session: the names from the session's own down, joined by `/`; absent: the session's own",
        default="",
    )
    was: str = field("who has led", name="from")
    to: str = field("who leads")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        if entry.run is None:
            return
        said = cls.of(entry.data)
        head.handoffs = [*head.handoffs, (entry.run, said.team, said.was, said.to)][-KEPT_HANDOFFS:]

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """The run's end says it, too."""
