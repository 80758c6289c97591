"""Erasing one run, or one message of it, for good: somebody's data that must not be there any longer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from ..errors import InvalidInputError, RunNotFoundError, SessionBusyError, UnsupportedError
from ..records import Entry, JsonObject, Run, Session, UserId
from .absence import check_free
from .checks import check_count
from .core import Core
from .driver import RecordName, Span
from .files import KEY, mark_deleted
from .leases import is_alive
from .media import references
from .readable import read_entries, read_readable
from .rewriting import Choice, all_of_it, erase, rewrite_commits
from .runs import read_run, running
from .snapshots import Committed, Draft, Snapshot, owned
from .vocabulary import (
    ERASED,
    FileWritten,
    MessageAdded,
    RunAmended,
    RunEnded,
    RunStarted,
    SessionErased,
    SessionSummarized,
    ToolEnded,
    ToolStarted,
)

MEDIA = "media/"


async def erase_run(
    core: Core, session_id: str, run_number: int, *, message: int | None = None, user_id: UserId = None
) -> Run:
    """See `Storage.erase_run`.

    What is written is erased first, and the mark that something was erased comes last: whoever keeps an index of the
    session and sees it reads what is there now.
    """
    user_id = core.check_access(session_id, user_id)
    check_count(run_number, "run_number", least=1)
    if message is not None:
        check_count(message, "message", least=0)
    head = await _closed(core, session_id, run_number, user_id)
    chosen = all_of_it if message is None else await _of_message(core, head, run_number, message)
    await erase(core, session_id, Span(runs=(run_number, run_number)), chosen, user_id=user_id)
    media = await _summaries_and_media(core, head, run_number, files=message is None)
    said = SessionErased(run=run_number, message=message).entry()

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, session_id, user_id)
        return Draft([said], free=True)

    committed = await core.commit(session_id, user_id, change, core.deadline())
    assert committed is not None, "this change always drafts something"
    if media is not None:
        await remove_orphans(core, committed, media)
    return await read_run(core, Snapshot(committed.head, [], core.clock.now()), run_number, core.deadline())


async def _closed(core: Core, session_id: str, number: int, user_id: UserId) -> Session:
    """The head after the run is over: one that nobody works on, and that could be continued, is cancelled."""
    deadline = core.deadline()
    seen: list[Session] = []

    async def change(snapshot: Snapshot) -> Draft | None:
        head = owned(snapshot.head, session_id, user_id)
        check_free(head)
        if number > head.run_count:
            raise RunNotFoundError(f"Session {session_id!r} has no run {number}.")
        seen[:] = [head]
        opened = head.open_runs.get(number)
        if opened is None:
            return None
        if opened.status == "running" and await is_alive(core, snapshot, number, opened, deadline):
            raise SessionBusyError(f"Run {number} of session {session_id!r} is running.", hint="Cancel it first.")
        return Draft([RunEnded(status="cancelled", epoch=opened.epoch).entry(opened.run_id, number)], number, free=True)

    committed = await core.commit(session_id, user_id, change, deadline)
    return seen[0] if committed is None else committed.head


async def _of_message(core: Core, head: Session, number: int, index: int) -> Choice:
    """The choice of one message, and of what says the same beside it.

    That is the input, of the first; the output, of the last; and of a message with calls of tools the steps of these.
    """
    deadline = core.deadline()
    run = await read_run(core, Snapshot(head, [], core.clock.now()), number, deadline)
    if index >= len(run.messages):
        raise InvalidInputError(f"Run {number} has {len(run.messages)} messages of its own, and no message {index}.")
    found = run.messages[index]
    before = sum(one.seq == found.seq for one in run.messages[:index])
    span = Span(first=found.seq, last=found.seq, limit=1)
    rows = await core.driver.entries(head.session_id, head.incarnation, span, deadline)
    entries = await read_entries(core.driver, rows)
    places = [place for place, one in enumerate(entries) if MessageAdded.read(one) and one.run_id == run.run_id]
    calls = set(_call_ids(found.data))
    words = {"": False, RunStarted.KIND: index == 0}
    words |= dict.fromkeys((RunEnded.KIND, RunAmended.KIND), index == len(run.messages) - 1)

    def chosen(place: int, entry: Entry) -> bool:
        if entry.run_id != run.run_id:
            return False
        if entry.kind == MessageAdded.KIND:
            return (entry.seq, place) == (found.seq, places[before])
        call = ToolStarted.read(entry) or ToolEnded.read(entry)
        return words.get(entry.kind, False) or (call is not None and call.tool_call_id in calls)

    return chosen


def _call_ids(value: Any) -> Iterator[str]:
    """The ids of the calls of tools that a message has, in whatever format."""
    if isinstance(value, list):
        for item in cast(list[Any], value):
            yield from _call_ids(item)
    elif isinstance(value, dict):
        node = cast(JsonObject, value)
        yield from (node[name] for name in ("tool_call_id", "call_id") if isinstance(node.get(name), str))
        for item in node.values():
            yield from _call_ids(item)


def _may_tell(summary: SessionSummarized, number: int) -> bool:
    """Whether a summary may tell of a run, which one does that does not say, being damaged, how far it goes."""
    try:
        return type(summary.upto) is not int or summary.upto >= number
    except KeyError:
        return True


async def _summaries_and_media(core: Core, head: Session, number: int, *, files: bool) -> set[str] | None:
    """Erase the rolling summaries that tell of a run, and the files that it has written, if these are to go.

    Returns the hashes of all media that the session still names; None if that cannot be said, because there are commits
    that this version cannot read.
    """
    passed: list[int] = []
    named: set[str] = set()
    own: set[str | None] = set()

    def change(place: int, entry: Entry) -> Entry:
        if files and entry.run == number and entry.kind == RunStarted.KIND:
            own.add(entry.run_id)
        summary, file = SessionSummarized.read(entry), FileWritten.read(entry)
        if summary is not None and _may_tell(summary, number):
            entry.data = summary.but(text=ERASED).json  # the head's goes with the mark
        if file is not None and file.run_id in own:
            entry.data = FileWritten.erase(entry)
        named.update(references(entry.data))
        return entry

    await rewrite_commits(core, head, Span(), change, passed=passed)
    return None if passed else named


async def delete_file(core: Core, session_id: str, user_id: UserId, name: str, version: int | None = None) -> int:
    """See `Files.delete`. They are in no list first, then out of the log, and their contents go last.

    Whoever calls again after an error, or after a crash, continues with what is left.
    """
    if not core.driver.capabilities.rewrites:
        raise UnsupportedError(f"The driver {core.driver.name!r} cannot rewrite commits.")
    user_id = core.check_access(session_id, user_id)
    count, head, deleted = await mark_deleted(core, session_id, user_id, name, version)
    if not deleted:
        return 0
    await rewrite_commits(core, head, Span(key=KEY), lambda place, entry: _without_files(entry, deleted))
    passed: list[int] = []
    named: set[str] = set()

    def note(place: int, entry: Entry) -> Entry:
        named.update(references(entry.data))
        return entry

    now = await core.head_of(session_id, user_id, core.deadline())
    await rewrite_commits(core, now, Span(), note, passed=passed)
    if not passed:
        await remove_orphans(core, Committed(now, []), named)
    return count


def _without_files(entry: Entry, deleted: set[str]) -> Entry:
    file = FileWritten.read(entry)
    if file is not None and file.id in deleted:
        entry.data = FileWritten.erase(entry)
    return entry


async def remove_orphans(core: Core, committed: Committed, named: set[str]) -> None:
    """Remove media that nothing in the session names any more.

    A run in progress may have put some aside that it will name: then they stay, and the caller is told.
    """
    head, after = committed.head, ""
    deadline = core.deadline()
    orphans: list[str] = []
    named = named | await _named_since(core, head)
    while True:
        where = (head.session_id, head.incarnation, MEDIA)
        keys = await core.driver.record_keys(*where, deadline, after=after)
        orphans += [key for key in keys if _digest_in(key) not in named]
        if not keys:
            break
        after = keys[-1]
    if orphans:
        await _check_idle(core, head)
    contents: dict[str, list[str]] = {}
    for key in sorted(orphans):  # what names the parts of a content comes before them
        contents.setdefault(_digest_in(key), []).append(key)
    for digest, own in contents.items():
        await _remove(core, head, digest, own)


def _digest_in(key: str) -> str:
    return key.removeprefix(MEDIA).partition("/")[0]


async def _remove(core: Core, head: Session, digest: str, keys: list[str]) -> None:
    """Remove a content, and put it back if a commit has named it meanwhile, or a run has begun that may name it.

    They may have seen that it was there. Who looks later than that sees that it has gone, and writes it again
    (`files.write`, `turns.start_turn`).
    """
    deadline = core.deadline()
    where = (head.session_id, head.incarnation)
    values = await core.driver.get_records([RecordName(*where, key) for key in keys], deadline)
    for key in keys:
        await core.driver.put_record(*where, key, None, deadline)
    try:
        await _check_idle(core, head)
        back = digest in await _named_since(core, head)
    except SessionBusyError:
        await _put_back(core, head, keys, values)
        raise
    if back:
        await _put_back(core, head, keys, values)


async def _put_back(core: Core, head: Session, keys: list[str], values: Sequence[bytes | None]) -> None:
    for key, value in reversed(list(zip(keys, values, strict=True))):
        if value is not None:
            await core.driver.put_record(head.session_id, head.incarnation, key, value, core.deadline())


async def _named_since(core: Core, head: Session) -> set[str]:
    """The hashes of media that commits after this head name: what was written while it was read what is named."""
    deadline = core.deadline()
    rows = await core.all_rows(head, Span(first=head.revision + 1), deadline)
    found = (await read_readable(core.driver, rows)).entries
    return {digest for entry in found for digest in references(entry.data)}


async def _check_idle(core: Core, head: Session) -> None:
    """Raise `SessionBusyError` if a run of the session is in progress now."""
    snapshot = await core.look(head.session_id, core.deadline())
    now = snapshot.head
    if now is None or now.incarnation != head.incarnation:
        return
    for number, run in running(now).items():
        if await is_alive(core, snapshot, number, run, core.deadline()):
            raise SessionBusyError(
                f"All is erased but media, because a run of session {head.session_id!r} is running, which may need "
                "them.",
                hint="Call it again when that run has ended.",
                written="yes",
            )
