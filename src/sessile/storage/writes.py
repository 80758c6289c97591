"""What can be changed on a session. Every function is offered by `Storage`, synchronously and as `a…` coroutine.

Each is one atomic commit, made exactly once: it raises if it did not happen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from ..errors import (
    AlreadyExistsError,
    ConflictError,
    CorruptDataError,
    InvalidInputError,
    NewerVersionError,
    StorageError,
)
from ..records import FINISHED, MICROSECOND, Entry, Head, JsonObject, Run, Status, Usage
from . import fold, patch
from .core import ABANDONED, Change, Core, Draft, Snapshot, now_micros, owned, visible
from .driver import Deadline, HeadRow, ListQuery
from .encoding import check_json, decode_head
from .ids import check_id, check_optional_id, new_incarnation, uuid7
from .leases import is_alive
from .runs import build_runs, running, runs_in

REPEATABLE = 32
"""Among how many of the newest commits a repeated `add_run` looks for its run."""


async def create_session(
    core: Core,
    session_id: str | None = None,
    *,
    user_id: str | None = None,
    owner: str | None = None,
    kind: str = "agent",
    name: str | None = None,
    state: JsonObject | None = None,
    metadata: JsonObject | None = None,
    ttl: float | None = None,
) -> Head:
    """Make an empty session, under an id of its own if none is given.

    Raises `AlreadyExistsError`, also if the session of that id is another user's.
    """
    session_id = uuid7() if session_id is None else session_id
    core.check_access(session_id, user_id)
    created = creation(
        core, session_id, user_id=user_id, owner=owner, kind=kind, name=name, state=state, metadata=metadata, ttl=ttl
    )

    async def change(snapshot: Snapshot) -> Draft:
        if snapshot.head is not None:
            raise AlreadyExistsError(f"There is a session {session_id!r} already.")
        return Draft([created()])

    return await _commit(core, session_id, change)


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
    user_id: str | None = None,
    owner: str | None = None,
    kind: str = "agent",
    format: str | None = None,
    run_id: str | None = None,
    metadata: JsonObject | None = None,
) -> Run:
    """Append one finished run, in one commit; the session is made if it is not there. For code that has no Agent.

    Args:
        input, output: what was asked and what came out, JSON.
        messages: the run's own messages, JSON objects in the format that `format` names.
        status: `completed`, `failed` or `cancelled`.
        state: a patch of the session's state (RFC 7396), applied in the same commit.
        user_id, owner, kind: as in `create_session`; they matter when the session is made.
        run_id: an id of the caller's own makes the call repeatable: if a run of that id is among the session's last
            commits, it is returned and nothing is written.
        metadata: what the application keeps beside the run.

    Raises `SessionNotFoundError` if the session is another user's.
    """
    core.check_access(session_id, user_id)
    check_optional_id(run_id, "run_id")
    if status not in FINISHED:
        raise InvalidInputError(f"The status of an added run is completed, failed or cancelled, not {status!r}.")
    for value, what in ((input, "input"), (output, "output")):
        check_json(value, what)
    checked_patch(error, "error")
    checked_patch(metadata, "metadata")
    check_optional_id(format, "format")
    check_messages(messages)
    started: JsonObject = {"input": input}
    if metadata:
        started["metadata"] = metadata
    ended: JsonObject = {"status": status, "output": output}
    if error is not None:
        ended["error"] = error
    if usage is not None:
        ended["usage"] = checked_usage(usage)
    merge = checked_patch(state, "state")
    created = creation(core, session_id, user_id=user_id, owner=owner, kind=kind)
    deadline = core.deadline()
    known = None
    if run_id is not None:
        known = await core.look(session_id, deadline, newest=REPEATABLE)
        there = runs_in(known.rows, [row.run for row in known.rows if row.commit_id == run_id])
        if there:
            owned(known.head, session_id, user_id)
            return there.popitem()[1]
    run_id = uuid7() if run_id is None else run_id

    async def change(snapshot: Snapshot) -> Draft:
        head, entries = existing_or_new(snapshot.head, session_id, user_id, created)
        number = head.run_count + 1
        common: dict[str, Any] = {"run_id": run_id, "run": number, "owner": owner}
        entries.append(Entry(fold.RUN_STARTED, started, **common))
        entries.extend(Entry(fold.MESSAGE, message, format=format, **common) for message in messages)
        entries.extend(state_entries(head, patch.from_merge_patch(merge, head.state), run_id, number))
        entries.append(Entry(fold.RUN_ENDED, ended, **common))
        return Draft(entries, number)

    committed = await core.commit(session_id, change, deadline, known=known, commit_id=run_id)
    assert committed is not None, "this change always drafts something"
    owned(committed.head, session_id, user_id)  # a commit of this id that won the race may be another user's
    (run,) = build_runs(committed.entries).values()
    return run


async def rename(core: Core, session_id: str, name: str | None, *, user_id: str | None = None) -> Head:
    """Give the session a name for people to see, or take it away (None); at most 255 bytes."""
    core.check_access(session_id, user_id)
    check_optional_id(name, "name")
    return await _append(core, session_id, user_id, Entry(fold.RENAMED, {"name": name}))


async def set_metadata(core: Core, session_id: str, metadata: Mapping[str, Any], *, user_id: str | None = None) -> Head:
    """Merge into the session's metadata (RFC 7396: `None` removes a key, objects merge)."""
    core.check_access(session_id, user_id)
    merge = checked_patch(metadata, "metadata")

    async def change(snapshot: Snapshot) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        operations = patch.from_merge_patch(merge, head.metadata)
        return Draft([Entry(fold.METADATA, {"patch": operations})]) if operations else None

    return await _commit(core, session_id, change)


async def update_state(
    core: Core,
    session_id: str,
    state: Mapping[str, Any],
    *,
    user_id: str | None = None,
    if_revision: int | None = None,
) -> Head:
    """Merge into the session's state (RFC 7396: `None` removes a key, objects merge).

    Writers who change different keys at the same time both win; for the same key the later one wins. With
    `if_revision` the change is made only if nobody has committed since that revision, else `ConflictError`.
    """
    core.check_access(session_id, user_id)
    merge = checked_patch(state, "state")

    async def change(snapshot: Snapshot) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        if if_revision is not None and head.revision != if_revision:
            raise ConflictError(f"Session {session_id!r} is at revision {head.revision}, not {if_revision}.")
        entries = state_entries(head, patch.from_merge_patch(merge, head.state))
        return Draft(entries) if entries else None

    return await _commit(core, session_id, change)


async def expire(core: Core, session_id: str, ttl: float | None, *, user_id: str | None = None) -> Head:
    """Let the session expire `ttl` seconds after its last change, or never (None).

    Every later commit prolongs it. An expired session is absent on every read; `sweep` removes it.
    """
    core.check_access(session_id, user_id)
    return await _append(core, session_id, user_id, Entry(fold.TTL, {"ttl": ttl_micros(ttl)}))


async def delete(core: Core, session_id: str, *, user_id: str | None = None) -> bool:
    """Delete a session with its runs, state and media; False if there is none (or if it is another user's).

    A commit first, from which on it is absent for everybody; then the removal, which `sweep` finishes after a crash.
    An error with `written == "yes"` says that the commit was made and the removal failed.
    """
    core.check_access(session_id, user_id)

    async def change(snapshot: Snapshot) -> Draft | None:
        if visible(snapshot.head, user_id) is None:
            return None
        return Draft([Entry(fold.DELETED, None)])

    deadline = core.deadline()
    committed = await core.commit(session_id, change, deadline)
    if committed is None:
        return False
    try:
        await core.driver.delete(session_id, committed.head.incarnation, deadline)
    except StorageError as error:
        error.written = "yes"
        raise
    return True


async def delete_user(core: Core, user_id: str) -> int:
    """Delete all sessions of a user, also those made meanwhile; returns how many.

    One that this version cannot read does not keep the others: they are deleted, and then its error is raised.
    """
    check_id(user_id, "user_id")
    await core.prepare(core.deadline())

    async def remove(row: HeadRow) -> bool:
        if await delete(core, row.session_id, user_id=user_id):
            return True
        await _remove(core, row)  # expired, half deleted or half made: absent for everybody, to be removed all the same
        return False

    total = 0
    while True:
        removed, refused = await _for_each(core, ListQuery(user_id=user_id, hidden=None, limit=100), remove)
        total += removed
        if not removed:
            _raise(refused, f"All other sessions of the user, {total}, were deleted.")
            return total


async def sweep(core: Core, *, building_after: float = ABANDONED / MICROSECOND) -> int:
    """Remove what is expired, half deleted, or a fork not touched for `building_after` seconds; returns how many.

    Also writes down, for sessions whose newest run's process is gone, that the run is interrupted. Run it now and
    then, from one process or from many. A session that this version cannot read does not keep the others from being
    swept; its error is raised in the end.
    """
    await core.prepare(core.deadline())
    now = now_micros()
    abandoned = now - int(building_after * MICROSECOND)

    async def remove(row: HeadRow) -> bool:
        return await _remove(core, row)

    async def remove_hidden(row: HeadRow) -> bool:
        return not _is_in_use(decode_head(row), abandoned) and await _remove(core, row)

    async def note(row: HeadRow) -> bool:
        await _note(core, row.session_id)
        return False

    before = now - int(core.settings.lease * MICROSECOND)
    expired, refused = await _for_each(core, ListQuery(expired_before=now, hidden=None, limit=100), remove)
    hidden, refused_too = await _for_each(core, ListQuery(hidden=True, limit=100), remove_hidden)
    _, not_noted = await _for_each(core, ListQuery(status="running", until=before, now=now, limit=100), note)
    await core.driver.sweep(now - ABANDONED, core.deadline())
    _raise(refused or refused_too or not_noted, f"The others were swept; {expired + hidden} were removed.")
    return expired + hidden


async def _for_each(
    core: Core, query: ListQuery, action: Callable[[HeadRow], Awaitable[bool]]
) -> tuple[int, StorageError | None]:
    """Act on each session that the query finds: how often that was successful, and why one could not be read."""
    done, refused = 0, None
    while True:
        page = await core.driver.list(query, core.deadline())
        for row in page:
            try:
                done += await action(row)
            except (NewerVersionError, CorruptDataError) as error:
                refused = refused or error
        if len(page) < query.limit:
            return done, refused
        query = replace(query, after=(page[-1].updated_at, page[-1].session_id))


def _raise(error: StorageError | None, more: str) -> None:
    if error is not None:
        error.message += f" {more}"
        raise error


def _is_in_use(head: Head, abandoned: int) -> bool:
    """Whether a hidden session is no rest of something: a fork that is being made, or a kept result."""
    return head.hidden == "cache" or (head.hidden == "building" and head.updated_at > abandoned)


async def _remove(core: Core, row: HeadRow) -> bool:
    """Remove a session that a list has found, unless somebody has committed to it since."""
    deadline = core.deadline()
    buried = await core.bury(decode_head(row), deadline)
    if buried:
        await core.driver.delete(row.session_id, row.incarnation, deadline)
    return buried


async def _note(core: Core, session_id: str) -> None:
    """Write down which runs of a session are interrupted."""
    deadline = core.deadline()

    async def change(snapshot: Snapshot) -> Draft | None:
        entries = await interrupted_entries(core, snapshot, deadline)
        return Draft(entries) if entries else None

    await core.commit(session_id, change, deadline)


# ---------------------------------------------------------------- parts that other writers share


async def interrupted_entries(core: Core, snapshot: Snapshot, deadline: Deadline) -> list[Entry]:
    """Entries that write down which running runs have lost their process."""
    head = snapshot.head
    if head is None:
        return []
    return [
        Entry(fold.RUN_ENDED, {"status": "interrupted"}, run_id=run.run_id, run=number)
        for number, run in running(head).items()
        if not await is_alive(core, snapshot, number, run, deadline)
    ]


def creation(
    core: Core,
    session_id: str,
    *,
    user_id: str | None,
    owner: str | None,
    kind: str = "agent",
    name: str | None = None,
    state: JsonObject | None = None,
    metadata: JsonObject | None = None,
    ttl: float | None = None,
    forked_from: JsonObject | None = None,
    hidden: str | None = None,
) -> Any:
    """Checks the values now, and returns a function that makes the entry that creates the session."""
    check_id(kind, "kind")
    for value, what in ((owner, "owner"), (name, "name")):
        check_optional_id(value, what)
    for value, what in ((state, "state"), (metadata, "metadata")):
        if value is not None:
            checked_patch(value, what)
    values: JsonObject = {
        "kind": kind,
        "owner": owner,
        "user_id": user_id,
        "name": name,
        "state": state,
        "metadata": metadata,
        "ttl": ttl_micros(core.settings.ttl if ttl is None else ttl),
        "forked_from": forked_from,
        "hidden": hidden,
    }
    data = {"session_id": session_id, **{key: value for key, value in values.items() if value is not None}}
    data["kind"] = kind
    return lambda: Entry(fold.CREATED, {**data, "incarnation": new_incarnation()})


def existing_or_new(head: Head | None, session_id: str, user_id: str | None, created: Any) -> tuple[Head, list[Entry]]:
    """The head to write on, and the entries that must come first: none, or the one that creates the session."""
    if head is not None:
        return owned(head, session_id, user_id), []
    entry = created()
    return fold.fold(None, 0, 0, [entry]), [entry]


def state_entries(
    head: Head, operations: patch.Patch, run_id: str | None = None, run: int | None = None
) -> list[Entry]:
    """The entry that patches the state, with what leads back, or none if nothing changes."""
    effective = patch.diff(head.state, patch.apply(head.state, operations))
    if not effective:
        return []
    data = {"patch": effective, "undo": patch.undo(head.state, effective)}
    return [Entry(fold.STATE, data, run_id=run_id, run=run)]


def check_messages(messages: Any) -> None:
    """Refuse what is not a sequence of JSON objects."""
    if not isinstance(messages, (list, tuple)):
        raise InvalidInputError(f"messages must be a list of objects, not {type(messages).__name__}.")
    for index, message in enumerate(cast("Sequence[Any]", messages)):
        if not isinstance(message, dict):
            raise InvalidInputError(f"messages[{index}] must be a dict, not {type(message).__name__}.")
        check_json(message, f"messages[{index}]")


def checked_usage(usage: Any) -> JsonObject:
    """Usage as JSON; refuses what is not counts."""
    if not isinstance(usage, Usage):
        raise InvalidInputError(f"usage must be a Usage, not {type(usage).__name__}.")
    for name in Usage.__dataclass_fields__:
        count = getattr(usage, name)
        if type(count) is not int or not 0 <= count < 2**63:
            raise InvalidInputError(f"usage.{name} must be a whole number of at least 0; it is {count!r}.")
    return usage.to_json()


def checked_patch(value: Any, what: str) -> Mapping[str, Any]:
    """A mapping that is JSON, or an error before any I/O."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInputError(f"{what} must be a dict, not {type(value).__name__}.")
    check_json(value, what)
    return value  # pyright: ignore[reportUnknownVariableType] (checked above)


def ttl_micros(ttl: Any) -> int | None:
    """Seconds as microseconds; refuses what is not None or a number of at least 0."""
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not 0 <= ttl < 1e10:
        raise InvalidInputError(f"ttl must be a number of seconds, or None; it is {ttl!r}.")
    return round(ttl * MICROSECOND)


async def _append(core: Core, session_id: str, user_id: str | None, entry: Entry) -> Head:
    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, session_id, user_id)
        return Draft([entry])

    return await _commit(core, session_id, change)


async def _commit(core: Core, session_id: str, change: Change) -> Head:
    """Commit, and return the head after it, or as it is if there was nothing to write."""
    seen: list[Head] = []

    async def remembering(snapshot: Snapshot) -> Draft | None:
        draft = await change(snapshot)
        if draft is None and snapshot.head is not None:
            seen.append(snapshot.head)
        return draft

    committed = await core.commit(session_id, remembering, core.deadline())
    return seen[-1] if committed is None else committed.head
