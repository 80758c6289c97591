"""State that outlives a session: a user's, in all of the user's sessions, and an application's, in everybody's.

Each is a session of its own, of the kind `scope`, under an id that no caller can name and in no list of sessions. In a
run its keys stand among those of the session's state, after `user:` and `app:`. What a run has changed there is told in
the commit that ends it, and then written to the scope, exactly once: after a crash between the two by whoever opens a
turn of that session next.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import InvalidInputError, SessileError, SessionNotFoundError, TooLargeError
from ..records import ANY_USER, Entry, JsonObject, Page, Session, UserId
from . import patch
from .computing import compute
from .core import Core
from .driver import Deadline, Span
from .encoding import size_of
from .filters import page_query
from .ids import RESERVED, check_id, uuid7
from .lists import sessions
from .readable import read_entries
from .snapshots import Draft, Snapshot
from .state import patched
from .vocabulary import SCOPE, ScopesPatched, ScopesSettled, ScopeWritten
from .wrapping import WrappedDriver
from .writes import checked_change, creation, existing_or_new
from .writes import delete as delete_session

logger = logging.getLogger("sessile")

KIND = "scope"
USER, APP = "user", "app"

MEMORY, MEMORIES = "memory", "memories"
"""The word, and the kind, of what is remembered about a user (`sessile.storage.memories`)."""

APPROVALS = "approvals"
"""The word, and the kind, of what a user has approved for good (`sessile.storage.granting`)."""

SCOPES = f"{RESERVED}scope:"
"""What the stored ids of scopes begin with."""


@dataclass(slots=True, frozen=True)
class ScopeName:
    """Which scope it is.

    Attributes:
        word: `user` or `app`, what its keys begin with in a run, before a colon; or `memory`, or `approvals`.
        user_id: of a user's, of memories and approvals: whose.
        app: of an application's: its name, or None.
    """

    word: str
    user_id: str | None = None
    app: str | None = None

    @property
    def stored_id(self) -> str:
        """The id under which it is stored."""
        name = (self.app if self.word == APP else self.user_id) or ""
        return f"{SCOPES}{self.word}:{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    @property
    def title(self) -> str:
        """How errors call it."""
        if self.word != APP:
            what = {USER: "The state", MEMORY: "What is remembered"}.get(self.word, "What is approved")
            return f"{what} of the user {self.user_id!r}"
        return "The application's state" if self.app is None else f"The state of the application {self.app!r}"


@dataclass(slots=True)
class Scoped:
    """The scopes of one turn.

    Attributes:
        session_id, user_id: of which session the turn is, and whose it is.
        scopes: which ones the turn has, by their word.
        heads: what they held when the turn was opened, or was written there last by it.
        settled: ids of changes in the session's head that are known to be written.
    """

    session_id: str
    user_id: str | None
    scopes: dict[str, ScopeName] = field(default_factory=dict[str, ScopeName])
    heads: dict[str, Snapshot] = field(default_factory=dict[str, Snapshot])
    settled: set[str] = field(default_factory=set[str])

    @property
    def states(self) -> dict[str, JsonObject]:
        """The state of each scope as it was when the turn was opened, or was written last by it."""
        return {word: {} if one.head is None else one.head.state for word, one in self.heads.items()}

    def with_state(self, own: JsonObject) -> JsonObject:
        """A session's state with those of the scopes among it."""
        if not self.scopes:
            return own
        starts = tuple(f"{word}:" for word in self.scopes)
        shown = {key: value for key, value in own.items() if not key.startswith(starts)}
        for word, state in self.states.items():
            shown |= {f"{word}:{key}": value for key, value in state.items()}
        return shown

    def split(self, operations: patch.Patch) -> tuple[patch.Patch, dict[str, patch.Patch]]:
        """What of a patch is the session's own, and what is each scope's, without what its keys begin with."""
        if not self.scopes:
            return operations, {}
        own: patch.Patch = []
        theirs: dict[str, patch.Patch] = {}
        for name, path, *value in operations:
            word, colon, key = path[0].partition(":")
            if colon and word in self.scopes:
                theirs.setdefault(word, []).append([name, [key, *path[1:]], *value])
            else:
                own.append([name, path, *value])
        return own, theirs


NO_SCOPES = Scoped("", None)
"""Of turns without any, which all share it: nothing is ever put into it."""


def checked_scopes(scopes: Any) -> tuple[str, ...]:
    """The scopes that an agent has, as its `scopes` name them; `InvalidInputError` for what names none."""
    given: Iterable[Any] = [scopes] if isinstance(scopes, str) else scopes
    names = tuple(dict.fromkeys(given))
    for name in names:
        if not isinstance(name, str) or not (name in (USER, APP) or (name.startswith("app:") and name != "app:")):
            raise InvalidInputError(
                f"{name!r} is no scope.",
                hint='Scopes are "user", "app", and "app:NAME" for one of several applications.',
            )
        check_id(name, "scope")
    if sum(name != USER for name in names) > 1:
        raise InvalidInputError("An agent has one application at most.", hint='Name either "app" or one "app:NAME".')
    return names


def scopes_of(names: Sequence[str], user_id: str | None) -> dict[str, ScopeName]:
    """The scopes of a run, by their word; a run without a user has no user's."""
    found: dict[str, ScopeName] = {}
    for name in names:
        word, _, app = name.partition(":")
        if word == APP or user_id is not None:
            found[word] = ScopeName(APP, app=app or None) if word == APP else ScopeName(USER, user_id)
    return found


# ---------------------------------------------------------------- one scope


def shared(core: Core) -> Core:
    """The core that reaches scopes: that of one user has ids of the user's own, and scopes are all users' storage's."""
    if core.user is None:
        return core
    assert isinstance(core.driver, WrappedDriver), "made by `users.core_of`"
    return replace(core, driver=core.driver.inner, user=None)


def checked_scope(core: Core, user_id: UserId, app: str | None) -> ScopeName:
    """The scope that a caller of `Storage.scope` means."""
    if user_id is ANY_USER or (user_id is not None and app is not None):
        raise InvalidInputError("A scope is one user's, or one application's.")
    if core.user is not None and app is not None:
        raise InvalidInputError(f"This storage serves the user {core.user!r} alone.")
    if app is not None:
        return ScopeName(APP, app=check_id(app, "app") or None)
    if user_id is not None or core.user is not None:
        whose = core.check_user(user_id)
        assert isinstance(whose, str), "neither ANY_USER nor None"
        return ScopeName(USER, whose)
    return ScopeName(APP)


async def look_at(core: Core, scope: ScopeName, deadline: Deadline) -> Snapshot:
    """The scope as it is; `head` is None if nothing was ever written to it."""
    snapshot = await core.look(scope.stored_id, deadline)
    if snapshot.head is not None and snapshot.head.user_id != scope.user_id:
        raise SessionNotFoundError(f"{scope.title} is stored as another user's: the database was altered.")
    return snapshot


def made(core: Core, scope: ScopeName, head: Session | None) -> tuple[Session, list[Entry]]:
    """Within a change: the head to write on, and the entry that makes the scope if it is not there."""
    kind = {MEMORY: MEMORIES, APPROVALS: APPROVALS}.get(scope.word, KIND)
    created = creation(
        core, scope.stored_id, user_id=scope.user_id, agent=None, kind=kind, name=scope.app, hidden=SCOPE, own_ttl=True
    )
    return existing_or_new(head, scope.stored_id, scope.user_id, created)


# ---------------------------------------------------------------- in a turn


async def open_scopes(
    core: Core, session_id: str, user_id: str | None, names: Sequence[str], head: Session | None
) -> Scoped:
    """Read the scopes of a turn, and write what a crash has left unwritten of earlier runs of its session."""
    scoped = Scoped(session_id, user_id, scopes_of(names, user_id))
    if not scoped.scopes:
        return scoped
    reach, deadline = shared(core), core.deadline()
    for word, scope in scoped.scopes.items():
        scoped.heads[word] = await look_at(reach, scope, deadline)
    if head is not None:
        for change in await _left(core, scoped, head, deadline):
            await _settle(core, scoped, change, head.incarnation, deadline)
    return scoped


async def _left(core: Core, scoped: Scoped, head: Session, deadline: Deadline) -> list[ScopesPatched]:
    """What the session's head names, and may not be written: the scopes know their last changes, and say so."""
    for word, snapshot in scoped.heads.items():
        written: list[str] = [] if snapshot.head is None else snapshot.head.scope_ids
        for one in head.scope_ids:
            last = one.partition(":")[0]  # the scope of a change that is written last
            if last == word and one in written:
                scoped.settled.add(one)
    left = [one for one in head.scope_ids if one not in scoped.settled]
    return await _told(core, head, left, deadline) if left else []


async def _told(core: Core, head: Session, ids: Sequence[str], deadline: Deadline) -> list[ScopesPatched]:
    """The changes of these ids, oldest first; they are near the end of the log."""
    wanted, found = set(ids), list[ScopesPatched]()
    span = Span(last=head.revision, limit=100, newest_first=True)
    while wanted:
        rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
        for entry in await read_entries(core.driver, rows):
            said = ScopesPatched.read(entry)
            if said is not None and said.id in wanted:
                wanted.discard(said.id)
                found.append(said)
        if len(rows) < span.limit:
            break
        span = span._replace(last=rows[-1].seq - 1)
    return sorted(found, key=lambda one: ids.index(one.id))


def told(core: Core, scoped: Scoped, changes: Mapping[str, patch.Patch]) -> ScopesPatched:
    """What a run's commit says of what it changes in scopes. Raises `TooLargeError` if one becomes too large."""
    app = scoped.scopes.get(APP)
    for word, operations in changes.items():
        before = scoped.states[word]
        size, had = size_of(patch.apply(before, operations)), size_of(before)
        if size > core.settings.max_state_bytes and size > had:
            raise TooLargeError(
                f"{scoped.scopes[word].title} has {size:,} bytes of JSON; the limit is "
                f"{core.settings.max_state_bytes:,}.",
                hint="Keep less in it, or make the storage with a larger max_state_bytes.",
            )
    last = APP if APP in changes else USER
    return ScopesPatched(
        id=f"{last}:{uuid7()}",
        user=changes.get(USER),
        app=changes.get(APP),
        app_name=None if app is None else app.app,
    )


def settled_in(scoped: Scoped, head: Session | None) -> ScopesSettled | None:
    """What says that changes of earlier runs are written, if the head still names such."""
    ids = [] if head is None else [one for one in head.scope_ids if one in scoped.settled]
    return ScopesSettled(ids=ids) if ids else None


async def settle(core: Core, scoped: Scoped, said: ScopesPatched, incarnation: str) -> None:
    """Write what a run has just committed to its scopes. That it cannot be now is logged: it is told, and not lost.

    `incarnation` is that of the session with this commit.
    """
    try:
        await _settle(core, scoped, said, incarnation, core.deadline(), new=True)
    except SessileError as error:  # whatever it is: the run's own commit is there
        logger.warning(
            "What a run of session %r has changed in the state of its user or application is in its log, and is "
            "written there when the session is opened next: %s",
            scoped.session_id,
            error,
        )


async def _settle(
    core: Core, scoped: Scoped, said: ScopesPatched, incarnation: str, deadline: Deadline, *, new: bool = False
) -> None:
    scopes = {USER: ScopeName(USER, scoped.user_id), APP: ScopeName(APP, app=said.app_name)}
    for word, operations in ((USER, said.user), (APP, said.app)):
        if operations is None:
            continue
        known = scoped.heads.get(word) if scoped.scopes.get(word) == scopes[word] else None
        change = Change(said.id, scoped.session_id, operations, known if new else None)
        after = await _write(shared(core), scopes[word], change, known, deadline)
        if word == USER and after is not None and after.head is not None and after.head.revision == 1:
            found = (await core.look(scoped.session_id, deadline)).found
            if found is None or found.hidden is not None or found.incarnation != incarnation:
                # All of the user's was deleted at this moment. (A deletion that comes later finds the state as well.)
                await delete_session(shared(core), scopes[word].stored_id, user_id=ANY_USER)
                after = Snapshot(None, [], core.clock.now())
        if known is not None and after is not None:
            scoped.heads[word] = after
    scoped.settled.add(said.id)


@dataclass(slots=True, frozen=True)
class Change:
    """A change of one scope: its id, whose it is, and the scope before it was made, which cannot have it."""

    id: str
    session_id: str
    operations: patch.Patch
    older: Snapshot | None


async def _write(
    core: Core, scope: ScopeName, made_by: Change, known: Snapshot | None, deadline: Deadline
) -> Snapshot | None:
    """Patch the state of a scope, unless that was done for this change; the scope after it."""
    key = f"scope:{made_by.id}"

    async def change(snapshot: Snapshot) -> Draft | None:
        if snapshot.head is not None and snapshot is not made_by.older:
            there = made_by.id in snapshot.head.scope_ids
            if there or await core.find(snapshot.head, key, deadline, limit=1):
                return None
        head, entries = made(core, scope, snapshot.head)
        entries += await compute(core.driver, lambda: patched(head, made_by.operations), head.state, made_by.operations)
        written = ScopeWritten(id=made_by.id, session_id=made_by.session_id).entry()
        return Draft([*entries, written], key=key, free=True)

    committed = await core.commit(scope.stored_id, scope.user_id, change, deadline, known=known)
    return None if committed is None else Snapshot(committed.head, [], core.clock.now())


# ---------------------------------------------------------------- from outside


async def state(core: Core, user_id: str | None, app: str | None) -> JsonObject:
    """See `Scope.state`."""
    scope = checked_scope(core, user_id, app)
    head = (await look_at(shared(core), scope, core.deadline())).head
    return {} if head is None else head.state


async def update(
    core: Core,
    user_id: str | None,
    app: str | None,
    merge: Mapping[str, Any] | None,
    values: Mapping[str, Any] | None,
    remove: Collection[str],
) -> JsonObject:
    """See `Scope.update`."""
    scope, reach = checked_scope(core, user_id, app), shared(core)
    operations = checked_change(merge, values, remove)
    seen: list[Session] = []

    async def change(snapshot: Snapshot) -> Draft | None:
        head, entries = made(reach, scope, snapshot.head)
        seen[:] = [head]
        entries += await compute(
            reach.driver, lambda: patched(head, operations(head.state)), head.state, [merge, values]
        )
        return Draft(entries) if entries else None

    committed = await reach.commit(scope.stored_id, scope.user_id, change, core.deadline())
    return (seen[-1] if committed is None else committed.head).state


async def delete(core: Core, user_id: str | None, app: str | None) -> bool:
    """See `Scope.delete`."""
    return await delete_session(shared(core), checked_scope(core, user_id, app).stored_id, user_id=ANY_USER)


async def listed(core: Core, user_id: UserId, limit: int, cursor: str | None) -> Page[Session]:
    """See `Storage.scopes`."""
    query = page_query(core.user or core.check_user(user_id), limit, cursor, {"kind": KIND}, with_state=True)
    return await sessions(shared(core), replace(query, hidden=True))
