"""What can be changed on a session: the operations behind the methods of `Storage`, whose texts say what they do.

Each is one atomic commit, made exactly once: it raises if it did not happen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from ..errors import (
    AlreadyExistsError,
    ClosedError,
    ConflictError,
    ConstraintError,
    CorruptDataError,
    HeldError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    SessionNotFoundError,
    StorageError,
    StorageFullError,
)
from ..records import ANY_USER, FINISHED, MICROSECOND, Duration, Entry, JsonObject, Run, Session, Status, Usage, UserId
from . import fold, patch
from .absence import ABANDONED, as_row, check_free, hidden_because, is_expired, is_recent
from .checks import moment_micros, ttl_micros
from .clock import AHEAD
from .computing import compute
from .core import Core
from .driver import Deadline, HeadRow, ListQuery
from .each import for_each, raise_refused
from .encoding import plain_json
from .formats import format_of
from .given import checked_messages, checked_patch, checked_usage
from .ids import check_id, check_optional_id, new_incarnation, uuid7
from .leases import is_alive, shown_heads
from .repeating import check_same, find_started, run_key
from .runs import build_runs, read_run, running
from .snapshots import Attempt, Change, Draft, Snapshot, owned, visible
from .state import state_entries
from .vocabulary import (
    SCOPE,
    MessageAdded,
    MetadataPatched,
    RunEnded,
    RunStarted,
    SessionClaimed,
    SessionCreated,
    SessionDeleted,
    SessionRenamed,
    SessionRepaired,
    TtlSet,
)


async def create_session(
    core: Core,
    session_id: str | None = None,
    *,
    user_id: str | None = None,
    agent: str | None = None,
    kind: str = "agent",
    name: str | None = None,
    state: JsonObject | None = None,
    metadata: JsonObject | None = None,
    ttl: Duration | None = None,
) -> Session:
    """See `Storage.create_session`."""
    session_id = uuid7() if session_id is None else session_id
    owner = core.check_access(session_id, check_one_user(user_id))
    given: Any = {"agent": agent, "kind": kind, "name": name, "state": state, "metadata": metadata, "ttl": ttl}
    created = await compute(core.driver, lambda: creation(core, session_id, user_id=owner, **given), state)

    async def change(snapshot: Snapshot) -> Draft:
        if snapshot.head is not None:
            raise AlreadyExistsError(f"There is a session {session_id!r} already.")
        return Draft([created()])

    return await _commit(core, session_id, ANY_USER, change)  # whoever's session stands there is in the way


async def add_run(
    core: Core,
    session_id: str,
    *,
    input: Any = None,
    output: Any = None,
    messages: Sequence[JsonObject] = (),
    status: Status = "completed",
    error: JsonObject | None = None,
    usage: Usage | None = None,
    state: JsonObject | None = None,
    user_id: UserId = None,
    agent: str | None = None,
    kind: str = "agent",
    format: str | None = None,
    run_id: str | None = None,
    metadata: JsonObject | None = None,
    started_at: datetime | None = None,
    ended_at: datetime | None = None,
    first_token: Duration | None = None,
) -> Run:
    """See `Storage.add_run`."""
    user_id = core.check_access(session_id, user_id)
    check_optional_id(run_id, "run_id")
    if status not in FINISHED:
        raise InvalidInputError(f"The status of an added run is completed, failed or cancelled, not {status!r}.")
    input, output, messages, merge = await compute(
        core.driver,
        lambda: (
            plain_json(input, "input"),
            plain_json(output, "output"),
            checked_messages(messages),
            checked_patch(state, "state"),
        ),
        input,
        output,
        messages,
        state,
    )
    error = None if error is None else checked_patch(error, "error")
    metadata = checked_patch(metadata, "metadata")
    check_optional_id(format, "format")
    format = format_of(messages, format)
    began, over = _checked_times(core, started_at, ended_at)
    first = ttl_micros(first_token, "first_token")
    started = RunStarted(input=input, metadata=metadata or None, started_at=began)
    counts = None if usage is None else checked_usage(usage)
    ended = RunEnded(status=status, output=output, error=error, usage=counts, ended_at=over, first_token=first)
    created = creation(core, session_id, user_id=user_id, agent=agent, kind=kind)
    deadline = core.deadline()
    key = None if run_id is None else run_key(run_id)
    attempt = Attempt()
    run_id = attempt.commit_id if run_id is None else run_id  # no other run has it, and one is enough
    there: list[tuple[Session, int]] = []

    async def change(snapshot: Snapshot) -> Draft | None:
        head, entries = existing_or_new(snapshot.head, session_id, user_id, created)
        same = None if key is None else await find_started(core, snapshot.head, run_id, deadline)
        if same is not None and same.run is not None:
            check_same(core, same, session_id, input, agent)
            there[:] = [(head, same.run)]
            return None
        number = head.run_count + 1
        entries.append(started.entry(run_id, number, None, agent))
        entries += [MessageAdded(message).entry(run_id, number, None, agent, format) for message in messages]
        if merge:
            entries += await state_entries(
                core.driver, head, lambda now: patch.from_merge_patch(merge, now), run_id, number, given=merge
            )
        entries.append(ended.entry(run_id, number, None, agent))
        return Draft(entries, number, key)

    committed = await core.commit(session_id, user_id, change, deadline, attempt=attempt)
    if committed is None:
        head, number = there[0]
        return await read_run(core, Snapshot(head, [], core.clock.now()), number, deadline)
    (run,) = (await compute(core.driver, lambda: build_runs(committed.entries), messages)).values()
    return run


def _checked_times(core: Core, started_at: Any, ended_at: Any) -> tuple[int | None, int | None]:
    """When a run that is added began and ended, in microseconds; refuses an end before the beginning."""
    if started_at is None and ended_at is None:
        return None, None
    began, over = moment_micros(started_at, "started_at"), moment_micros(ended_at, "ended_at")
    if began is None and over is not None:
        began = over
    if began is not None and over is None:
        over = began
    if began is not None and over is not None and over < began:
        raise InvalidInputError("ended_at lies before started_at.")
    return began, over


async def rename(core: Core, session_id: str, name: str | None, *, user_id: UserId = None) -> Session:
    """See `Storage.rename`."""
    user_id = core.check_access(session_id, user_id)
    check_optional_id(name, "name")
    return await _append(core, session_id, user_id, SessionRenamed(name=name).entry())


async def claim(
    core: Core, session_id: str, user_id: str | None = None, *, agent: str | None = None, kind: str | None = None
) -> Session:
    """See `Storage.claim`."""
    whose = core.check_access(session_id, check_one_user(user_id))
    for value, what in ((agent, "agent"), (kind, "kind")):
        check_optional_id(value, what)
    if user_id is None and agent is None and kind is None:
        raise InvalidInputError("Say to whom the session is to be given: user_id=, agent= or kind=.")

    async def change(snapshot: Snapshot) -> Draft | None:
        head = snapshot.head
        if head is None or head.user_id not in (None, whose):
            raise SessionNotFoundError(f"There is no session {session_id!r} that could be given to somebody.")
        if head.agent is not None and (agent not in (None, head.agent) or kind not in (None, head.kind)):
            raise ConflictError(f"Session {session_id!r} is of the {head.kind} {head.agent!r} already.")
        said = SessionClaimed(
            user_id=None if head.user_id == whose else check_one_user(whose),
            agent=None if head.agent == agent else agent,
            kind=None if head.kind == kind else kind,
        )
        return Draft([said.entry()], free=True) if said.json else None

    return await _commit(core, session_id, ANY_USER, change)  # to whom it belongs is looked at above


async def set_metadata(core: Core, session_id: str, metadata: Mapping[str, Any], *, user_id: UserId = None) -> Session:
    """See `Storage.set_metadata`."""
    user_id = core.check_access(session_id, user_id)
    merge = checked_patch(metadata, "metadata")

    async def change(snapshot: Snapshot) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        operations = patch.from_merge_patch(merge, head.metadata)
        return Draft([MetadataPatched(patch=operations).entry()]) if operations else None

    return await _commit(core, session_id, user_id, change)


async def update_state(
    core: Core,
    session_id: str,
    merge: Mapping[str, Any] | None = None,
    values: Mapping[str, Any] | None = None,
    remove: Collection[str] = (),
    *,
    user_id: UserId = None,
    if_revision: int | None = None,
) -> Session:
    """See `Storage.update_state`."""
    user_id = core.check_access(session_id, user_id)
    operations = await compute(core.driver, lambda: checked_change(merge, values, remove), merge, values)

    async def change(snapshot: Snapshot) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        if if_revision is not None and head.revision != if_revision:
            raise ConflictError(f"Session {session_id!r} is at revision {head.revision}, not {if_revision}.")
        entries = await state_entries(core.driver, head, operations, given=[merge, values])
        return Draft(entries) if entries else None

    return await _commit(core, session_id, user_id, change)


def checked_change(
    merge: Mapping[str, Any] | None, values: Mapping[str, Any] | None, remove: Collection[str]
) -> Callable[[JsonObject], patch.Patch]:
    """What a caller changes in a state, as a function that makes the operations for the state as it is."""
    merged, whole = checked_patch(merge, "patch"), checked_patch(values, "set")
    _check_keys(merged, whole, remove)
    last: patch.Patch = [
        *(["set", [key], value] for key, value in whole.items()),
        *(["del", [key]] for key in remove),
    ]
    return lambda now: [*patch.from_merge_patch(merged, now), *last]


def _check_keys(merge: Mapping[str, Any], values: Mapping[str, Any], remove: Any) -> None:
    """Refuse keys to remove that are no list of texts, and a key that is to be changed in two ways."""
    listed = isinstance(remove, (list, tuple, set, frozenset))
    if not listed or not all(isinstance(key, str) for key in cast("Collection[Any]", remove)):
        raise InvalidInputError(f"remove must be a list of keys, not a {type(cast('object', remove)).__name__}.")
    keys = [*merge, *values, *cast("Collection[str]", remove)]
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise InvalidInputError(f"The key {twice!r} of the state is to be changed in two ways.")


async def set_ttl(core: Core, session_id: str, ttl: Duration | None, *, user_id: UserId = None) -> Session:
    """See `Storage.set_ttl`."""
    user_id = core.check_access(session_id, user_id)
    return await _append(core, session_id, user_id, TtlSet(ttl=ttl_micros(ttl)).entry())


async def delete(core: Core, session_id: str, *, user_id: UserId = None) -> bool:
    """See `Storage.delete`."""
    return await _delete(core, session_id, core.check_access(session_id, user_id))


async def _delete(core: Core, session_id: str, user_id: UserId) -> bool:
    async def change(snapshot: Snapshot) -> Draft | None:
        if snapshot.head is None:
            return None
        check_free(snapshot.head)
        return Draft([SessionDeleted().entry()], free=True)

    deadline = core.deadline()
    try:
        committed = await core.commit(session_id, user_id, change, deadline)
        incarnation = None if committed is None else committed.head.incarnation
    except SessionNotFoundError:
        return False
    except (NewerVersionError, CorruptDataError):
        incarnation = await _bury_unread(core, session_id, user_id, deadline)
    except (StorageFullError, ConstraintError) as error:
        if error.written != "no":
            raise
        incarnation = await _bury_known(core, session_id, user_id, deadline)  # which needs no room, and no leave
    except (HeldError, ReadOnlyError, ClosedError):
        raise  # nothing is in the way but a rule
    except StorageError as error:
        if error.retryable or not await _discard(core, session_id, user_id, deadline):
            raise
        return True
    if not incarnation:
        return incarnation is not None
    try:
        await core.remove(session_id, incarnation, deadline)
    except StorageError as error:
        error.written = "yes"
        raise
    return True


async def _bury_known(core: Core, session_id: str, user_id: UserId, deadline: Deadline) -> str | None:
    """Mark a session as deleted, if there is room for that; its incarnation, or None if it is absent."""
    while (head := visible((await core.look(session_id, deadline)).head, user_id)) is not None:
        check_free(head)
        if await core.bury(as_row(head), deadline):
            return head.incarnation
        deadline.check("Deleting a session")
    return None


async def _bury_unread(core: Core, session_id: str, user_id: UserId, deadline: Deadline) -> str | None:
    """Mark a session as deleted of which nobody here understands more than its row.

    Returns its incarnation, None if it is absent, and an empty text if it is removed already.
    """
    while True:
        try:
            loaded = await core.driver.load(session_id, 0, deadline)
        except (NewerVersionError, CorruptDataError):
            if await _discard(core, session_id, user_id, deadline):
                return ""
            raise
        if loaded is None or loaded.head.hidden or is_expired(loaded.head, loaded.now):
            return None
        if user_id not in (ANY_USER, loaded.head.user_id):
            return None
        named = loaded.head._replace(session_id=session_id)  # also where the row says that it is another's
        if await core.bury(named, deadline):
            return named.incarnation
        deadline.check("Deleting a session")


async def _discard(core: Core, session_id: str, user_id: UserId, deadline: Deadline) -> bool:
    """Remove what not even the driver can read, for who may delete anybody's: nobody can say whose it is."""
    if user_id is not ANY_USER or not await core.driver.discard(session_id, deadline):
        return False
    await core.tell_indexes(session_id, "", deadline)
    return True


async def delete_user(core: Core, user_id: str) -> int:
    """See `Storage.delete_user`."""
    check_id(user_id, "user_id")
    await core.prepare(core.deadline())

    async def remove(row: HeadRow) -> bool:
        if await _delete(core, row.session_id, user_id):
            return True
        await remove_unchanged(core, row)  # expired, half deleted or half made: absent, and to be removed all the same
        return False

    total = 0
    while True:
        removed, refused = await for_each(core, ListQuery(user_id=user_id, hidden=None, limit=100), remove)
        total += removed
        if not removed:
            raise_refused(refused, f"All other sessions of the user, {total}, were deleted.")
            return total


async def sweep(core: Core, *, abandoned_after: Duration = ABANDONED / MICROSECOND) -> int:
    """See `Storage.sweep`."""
    await core.prepare(core.deadline())
    await core.set_clock(core.deadline())
    now = core.clock.now()
    abandoned = now - (ttl_micros(abandoned_after, "abandoned_after") or 0)

    async def remove(row: HeadRow) -> bool:
        return await remove_unchanged(core, row)

    async def remove_hidden(row: HeadRow) -> bool:
        return not _is_in_use(row, abandoned, now) and await remove_unchanged(core, row)

    async def repair(row: HeadRow) -> bool:
        return await _unless_newer(core, row.session_id, _repair(core, row))

    async def note(row: HeadRow) -> bool:
        return await _unless_newer(core, row.session_id, _note(core, row.session_id))

    before = now - int(core.settings.lease * MICROSECOND)
    expired, refused = await for_each(core, ListQuery(expired_before=now, hidden=None, limit=100), remove)
    hidden, refused_too = await for_each(core, ListQuery(hidden=True, limit=100), remove_hidden)
    _, not_repaired = await for_each(core, ListQuery(since=now + AHEAD, now=now, limit=100, with_state=False), repair)
    at_work = ListQuery(status="running", until=before, now=now, limit=100, with_state=False)
    _, not_noted = await for_each(core, at_work, note)
    await core.driver.sweep(now - ABANDONED, core.deadline())
    raise_refused(
        {**refused, **refused_too, **not_repaired, **not_noted},
        f"The others were swept; {expired + hidden} were removed.",
    )
    return expired + hidden


async def _unless_newer(core: Core, session_id: str, action: Awaitable[None]) -> bool:
    """Do what is left to the programs of the version that has written a session, if that is a newer one."""
    try:
        await action
    except NewerVersionError as error:
        core.skipped(session_id, "What is to be written down", error)
    return False


def _is_in_use(row: HeadRow, abandoned: int, now: int) -> bool:
    """Whether a hidden session is no rest of something: a fork that is being made, a kept result, a scope.

    What was kept ahead of time, by a clock that was wrong, is of no use to anybody.
    """
    why = hidden_because(row)
    if why == SCOPE:
        return True
    if why == "cache":
        return row.updated_at <= now + AHEAD
    return why in ("building", "sealed") and row.updated_at > abandoned and is_recent(row, now)


async def remove_unchanged(core: Core, row: HeadRow) -> bool:
    """Remove a session as it was found, unless somebody has committed to it since; returns whether it was removed."""
    deadline = core.deadline()
    if await core.bury(row, deadline):
        await core.remove(row.session_id, row.incarnation, deadline)
        return True
    if not core.driver.capabilities.transactional_head:
        await core.look(row.session_id, deadline)  # its head may lag since a crash: the next list has it as it is
    return False


async def _repair(core: Core, row: HeadRow) -> None:
    """Let a session that was updated in the future have the true time, unless somebody has done that meanwhile."""

    async def change(snapshot: Snapshot) -> Draft | None:
        head = snapshot.head
        if head is None or not core.clock.is_ahead(head.updated_us):
            return None
        return Draft([SessionRepaired(updated_at=head.updated_us).entry()], free=True)

    await core.commit(row.session_id, ANY_USER, change, core.deadline())


async def _note(core: Core, session_id: str) -> None:
    """Write down which runs of a session are interrupted."""
    deadline = core.deadline()

    async def change(snapshot: Snapshot) -> Draft | None:
        entries = await interrupted_entries(core, snapshot, deadline, noted=True)
        return Draft(entries, free=True) if entries else None

    await core.commit(session_id, ANY_USER, change, deadline)


# ---------------------------------------------------------------- parts that other writers share


async def interrupted_entries(
    core: Core, snapshot: Snapshot, deadline: Deadline, *, noted: bool = False
) -> list[Entry]:
    """Entries that write down which running runs have lost their process; `noted` by a sweep, and nothing else."""
    head = snapshot.head
    if head is None:
        return []
    ended = RunEnded(status="interrupted", noted=True) if noted else RunEnded(status="interrupted")
    return [
        ended.entry(run.run_id, number)
        for number, run in running(head).items()
        if not await is_alive(core, snapshot, number, run, deadline)
    ]


def creation(
    core: Core,
    session_id: str,
    *,
    user_id: UserId,
    agent: str | None,
    kind: str = "agent",
    name: str | None = None,
    state: JsonObject | None = None,
    metadata: JsonObject | None = None,
    ttl: Duration | None = None,
    forked_from: JsonObject | None = None,
    hidden: str | None = None,
    own_ttl: bool = False,
) -> Any:
    """Checks the values now, and returns a function that makes the entry that creates the session.

    With `own_ttl` a `ttl` of None means never, and not the storage's own.
    """
    check_id(kind, "kind")
    for value, what in ((agent, "agent"), (name, "name")):
        check_optional_id(value, what)
    state = None if state is None else checked_patch(state, "state")
    metadata = None if metadata is None else checked_patch(metadata, "metadata")
    lives = ttl_micros(ttl)

    def created() -> Entry:
        return SessionCreated(
            session_id=session_id,
            kind=kind,
            agent=agent,
            user_id=None if user_id is ANY_USER else user_id,
            name=name,
            state=state,
            metadata=metadata,
            ttl=core.settings.ttl_us if ttl is None and not own_ttl else lives,
            forked_from=forked_from,
            hidden=hidden,
            incarnation=new_incarnation(),
        ).entry()

    return created


def existing_or_new(
    head: Session | None, session_id: str, user_id: UserId, created: Any
) -> tuple[Session, list[Entry]]:
    """The head to write on, and the entries that must come first: none, or the one that creates the session."""
    if head is not None:
        return owned(head, session_id, user_id), []
    if user_id is ANY_USER:
        raise SessionNotFoundError(
            f"There is no session {session_id!r}.",
            hint="ANY_USER reaches sessions, and makes none: name the user, or None for a session without one.",
        )
    entry = created()
    return fold.fold(None, 0, 0, [entry]), [entry]


def check_one_user(user_id: Any) -> Any:
    """Refuse `ANY_USER` where a session is made: it does not say whose it is to be."""
    if user_id is ANY_USER:
        raise InvalidInputError("A session has one user, or none: ANY_USER cannot make one.")
    return user_id


async def _append(core: Core, session_id: str, user_id: UserId, entry: Entry) -> Session:
    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, session_id, user_id)
        return Draft([entry], free=True)

    return await _commit(core, session_id, user_id, change)


async def _commit(core: Core, session_id: str, user_id: UserId, change: Change) -> Session:
    """Commit, and return the head after it, or as it is if there was nothing to write."""
    seen: list[Session] = []

    async def remembering(snapshot: Snapshot) -> Draft | None:
        draft = await change(snapshot)
        if draft is None and snapshot.head is not None:
            seen.append(snapshot.head)
        return draft

    deadline = core.deadline()
    committed = await core.commit(session_id, user_id, remembering, deadline)
    return await shown(core, seen[-1] if committed is None else committed.head, deadline)


async def shown(core: Core, head: Session, deadline: Deadline) -> Session:
    """A session as the next read will show it; what it shows of leases is not worth an error of what is written."""
    with suppress(StorageError):
        await shown_heads(core, [head], deadline)
    return head
