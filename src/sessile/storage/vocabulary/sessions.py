"""What happens to a session as a whole: its beginning and end, its name, its state, its branches."""

from __future__ import annotations

from typing import Any, cast

from ...records import Entry, JsonObject, Run, Session
from .. import patch as patches
from .words import Word, erased_value, field

Operations = list[list[Any]]
"""A patch; see `sessile.storage.patch`."""


class SessionCreated(Word, kind="session.created"):
    """The session begins. Always the first entry of the first commit, and nowhere else.

    The head begins with these values; `created_at` is the time of the commit.
    """

    session_id: str = field("the caller's id of the session")
    kind: str = field("`agent`, `team`, `workflow`, or what the caller says; `cache`: the kept result of a step")
    agent: str | None = field("the name of the agent, team or workflow that made it", default=None, once="owner")
    user_id: str | None = field("whose session it is", default=None)
    name: str | None = field("a title for people", default=None)
    state: JsonObject | None = field("the state that it begins with", default=None)
    metadata: JsonObject | None = field("what the application keeps beside it", default=None)
    ttl: int | None = field("microseconds after its last commit at which the session expires", default=None)
    forked_from: JsonObject | None = field('of a fork: `{"session_id": …, "run": …}`, where it was taken', default=None)
    hidden: str | None = field(
        "why the session is in no list: `building` (a fork in the making), `cache` (the kept result of a step)",
        default=None,
    )
    incarnation: str = field("random; a session that is deleted and made again under its id is another one")

    @classmethod
    def head(cls, entry: Entry) -> Session:
        """The head that the session begins with."""
        said = cls.of(entry.data)
        return Session(
            session_id=said.session_id,
            incarnation=said.incarnation,
            kind=said.kind,
            agent=said.agent,
            user_id=said.user_id,
            name=said.name,
            metadata=said.metadata or {},
            state=said.state or {},
            ttl_us=said.ttl,
            forked_from=said.forked_from,
            hidden=cast(Any, said.hidden),
        )

    @classmethod
    def state_after(cls, state: JsonObject, entry: Entry) -> JsonObject:
        """See `Word.state_after`."""
        return cls.of(entry.data).state or {}


class SessionClaimed(Word, kind="session.claimed", version=3):
    """A session that began without a user, or without an agent, has been given to one, which the head has now."""

    user_id: str | None = field("whose session it is; absent: as before", default=None)
    agent: str | None = field(
        "the name of the agent, team or workflow that it belongs to; absent: as before", default=None
    )
    kind: str | None = field("of which kind it is; absent: as before", default=None)

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        said = cls.of(entry.data)
        head.user_id, head.agent = said.user_id or head.user_id, said.agent or head.agent
        head.kind = said.kind or head.kind


class SessionErased(Word, kind="session.erased", version=3):
    """Something that was said in a run has been erased: what stood there was replaced by marks before this commit.

    A rolling summary that tells of the run is gone from the head: `summary` becomes null.
    """

    run: int = field("the number of the run")
    message: int | None = field("which of its messages, from 0; absent: all of the run", default=None)

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        if head.summary is not None and head.summary.get("upto", 0) >= cls.of(entry.data).run:
            head.summary = None


class SessionRenamed(Word, kind="session.renamed"):
    """The session has another name."""

    name: str | None = field("its name from now on, or null")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.name = cls.of(entry.data).name


class MetadataPatched(Word, kind="session.metadata"):
    """The session's metadata have changed."""

    patch: Operations = field("what has changed, as operations (see above)")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.metadata = patches.apply(head.metadata, cls.of(entry.data).patch)


class TtlSet(Word, kind="session.ttl"):
    """The session lives for another time."""

    ttl: int | None = field("microseconds after its last commit at which the session expires; null: never")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.ttl_us = cls.of(entry.data).ttl


class SessionRewound(Word, kind="session.rewound"):
    """The current branch ends at an earlier run, or at the end of another branch; the next run follows it.

    In the head `tip` becomes that run. The state is patched by an entry of its own.
    """

    run: int = field("the number of the run; 0: before the first")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.tip = cls.of(entry.data).run


class SessionSummarized(Word, kind="session.summarized"):
    """The rolling summary of the older runs has been written anew. The head's `summary` becomes this object."""

    upto: int = field("the number of the last run that it tells of")
    text: str = field("the summary")
    unfinished: list[int] | None = field(
        "the numbers of runs up to there that had not ended by then; how they end stands in a later summary",
        default=None,
    )

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.summary = entry.data


class SessionReady(Word, kind="session.ready"):
    """A fork is complete, and from now on there for everybody: `hidden` becomes null."""

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.hidden = None


class SessionRepaired(Word, kind="session.repaired", droppable=True):
    """Nothing but a commit at the true time, for a session whose last one was made in the future."""

    updated_at: int = field("the time, microseconds UTC, that the session had before")


class SessionRewritten(Word, kind="session.rewritten", droppable=True):
    """Commits before this one were rewritten, as when something is erased; whoever keeps a copy reads them again."""

    runs: list[list[int]] = field("the runs that these commits belong to, as ranges `[first, last]`; 0: to none")


class SessionResealed(Word, kind="session.resealed", version=4):
    """Nothing but a commit, with which the head was written anew under other keys. The session is unchanged."""

    @classmethod
    def is_quiet(cls, entry: Entry) -> bool:
        """See `Word.is_quiet`."""
        return True


class SessionTrimmed(Word, kind="session.trimmed", version=4):
    """The contents of the oldest runs were removed. They are on no branch any more: the head's `trimmed` is `upto`."""

    upto: int = field("the number of the last run that was removed")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.trimmed = max(head.trimmed, cls.of(entry.data).upto)

    @classmethod
    def is_quiet(cls, entry: Entry) -> bool:
        """See `Word.is_quiet`."""
        return True

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """A fork has no such runs, which it could number."""
        return None


ERASING = frozenset((SessionErased.KIND, SessionRewritten.KIND, SessionResealed.KIND, SessionTrimmed.KIND))
"""What is said once something must not be there any longer: of heads from before that none may be kept."""


class SessionHeld(Word, kind="session.held", version=4):
    """Nothing of the session may be deleted from now on, and it does not expire; or it may again."""

    reason: str | None = field("why; null: it may be deleted again")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.hold = cls.of(entry.data).reason

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """A fork is another session."""
        return None


class SessionDeleted(Word, kind="session.deleted"):
    """The session is deleted, and from now on there for nobody: `hidden` becomes `deleted`. Its rows go after that."""

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.hidden = "deleted"


class StatePatched(Word, kind="state.patched"):
    """The session's state has changed, by its run or from outside."""

    patch: Operations = field("what has changed, as operations (see above)")
    undo: Operations = field("the operations that lead back, for rewinding")

    @classmethod
    def fold(cls, head: Session, entry: Entry) -> None:
        """See `Word.fold`."""
        head.state = patches.apply(head.state, cls.of(entry.data).patch)

    @classmethod
    def state_after(cls, state: JsonObject, entry: Entry) -> JsonObject:
        """See `Word.state_after`."""
        return patches.apply(state, cls.of(entry.data).patch)

    @classmethod
    def state_before(cls, state: JsonObject, entry: Entry) -> JsonObject:
        """See `Word.state_before`."""
        return patches.apply(state, cls.of(entry.data).undo)

    @classmethod
    def fork(cls, entry: Entry, number: int) -> Entry | None:
        """Forks write what each of their runs changed anew, because other runs' changes are left out."""
        return None


class StateKept(Word, kind="state.kept", droppable=True):
    """The state that a workflow's run began with, and its replays begin with as well. `data` is the state itself."""

    def __init__(self, state: JsonObject) -> None:
        super().__init__()
        self.json = state

    @property
    def state(self) -> JsonObject:
        """The state."""
        return self.json

    @classmethod
    def erase(cls, entry: Entry) -> Any:
        """See `Word.erase`."""
        return erased_value(entry.data)


class ResultKept(Word, kind="result.kept", droppable=True):
    """What a step returned, for other runs; alone in a hidden session, which expires."""

    name: str = field("the name of the step")
    output: Any = field("what it returned, in the form of a step's output", erased=erased_value)

    @classmethod
    def tell(cls, run: Run, entry: Entry) -> None:
        """It belongs to no run."""
