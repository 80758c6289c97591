"""Threads of LangGraph's as sessions: which there are, and what may be dropped of them."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from ..errors import SessionNotFoundError, UnsupportedError
from ..storage.extending import (
    Core,
    Draft,
    Entry,
    Session,
    Snapshot,
    Storage,
    all_entries,
    aoperate,
    commit,
    look,
    operate,
    rewrite,
    started_session,
    state_changed,
)
from .ids import digest, short, stored_id
from .langgraph_saved import (
    CHECKPOINT,
    DROPPED,
    WRITES,
    Saved,
    Values,
    content_of,
    digests,
    drop_contents,
    folded,
    pruned,
)
from .stored import passing_over, reading, reads_stored

KIND = "langgraph"
FREED_AT_ONCE = 100
"""How many contents are held in memory while they are removed."""

PAGE = 200
"""How many entries are read back at a time."""

GONE = "langgraph:gone"
"""The key of the commits that say which checkpoints were dropped."""

Config = Any
"""LangChain's `RunnableConfig`."""

Moment = tuple[str, int]
"""Which session it is, and how often something was taken out of it: what is known to be beside it holds as long."""

Making = Callable[[Moment], tuple[Entry, dict[str, bytes]]]
"""Makes an entry, and by their hashes the contents that it needs."""

Choose = Callable[[dict[str, Saved]], set[str]]
"""Which checkpoints of a session are to go."""


class NothingError(Exception):
    """There is nothing to write."""


def place_of(config: Config) -> tuple[str, str]:
    """Thread and namespace."""
    given = config["configurable"]
    return str(given["thread_id"]), str(given.get("checkpoint_ns") or "")


def config_of(thread_id: str, ns: str | None, checkpoint_id: str | None) -> Config:
    """A config that names a checkpoint, as far as it is known."""
    given = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
    return {"configurable": {name: value for name, value in given.items() if value is not None}}


def session_id_of(thread_id: str, ns: str) -> str:
    """The id of the session of a namespace."""
    return stored_id("langgraph-sub", thread_id, ns) if ns else stored_id("langgraph", thread_id)


def beginning(thread_id: str, ns: str) -> dict[str, Any]:
    """What the session of a namespace begins with."""
    return {"kind": KIND, "agent": short(thread_id), "metadata": {"thread_id": thread_id, "checkpoint_ns": ns}}


def key_of(checkpoint_id: str) -> str:
    """The key of the commits of a checkpoint."""
    return f"langgraph:{checkpoint_id}" if len(checkpoint_id) <= 120 else f"langgraph:~{digest(checkpoint_id)}"


def moment_of(head: Session) -> Moment:
    """Changes where what is beside the log may have gone."""
    return head.incarnation, pruned(head)


def asked_for(config: Config | None) -> dict[str, Any]:
    """What lists of sessions are asked for."""
    return {} if config is None else {"agent": short(str(config["configurable"]["thread_id"]))}


def is_of(session: Session, config: Config | None) -> bool:
    """Whether a session is of the thread, and of the namespace if one is named; of any if `config` is None.

    What its metadata says, which others may change, has to be what its id is made of.
    """
    thread, ns = session.metadata.get("thread_id"), session.metadata.get("checkpoint_ns")
    if not isinstance(thread, str) or not isinstance(ns, str) or session_id_of(thread, ns) != session.session_id:
        return False
    given = {} if config is None else config["configurable"]
    return config is None or (thread == str(given["thread_id"]) and given.get("checkpoint_ns") in (None, ns))


def newest_of(found: list[tuple[Session, Saved]], limit: int | None) -> list[tuple[Session, Saved]]:
    """The newest of these, at most `limit`."""
    found.sort(key=lambda one: one[1].checkpoint_id, reverse=True)
    return found if limit is None else found[:limit]


@reads_stored
async def matching(
    core: Core, session: Session, filter: dict[str, Any] | None, wanted: str | None, upto: str | None
) -> list[tuple[Session, Saved]]:
    """The checkpoints of a session whose metadata has these values; the one of an id, and those before another."""
    found: list[tuple[Session, Saved]] = []
    for saved in folded(await all_entries(core, session)).values():
        said = saved.said
        if said is None or (wanted and saved.checkpoint_id != wanted) or (upto and saved.checkpoint_id >= upto):
            continue
        if all(said["metadata"].get(name) == value for name, value in (filter or {}).items()):
            found.append((session, saved))
    return found


def of_runs(run_ids: Sequence[str]) -> Choose:
    """Chooses the checkpoints that these runs have made."""
    wanted = set(run_ids)

    def choose(saved: dict[str, Saved]) -> set[str]:
        return {
            one.checkpoint_id for one in saved.values() if one.said and one.said["metadata"].get("run_id") in wanted
        }

    return choose


def all_but_newest(saved: dict[str, Saved]) -> set[str]:
    """The checkpoints that are not the newest, nor hold what its delta channels are made of."""
    newest = max((one.checkpoint_id for one in saved.values() if one.said), default=None)
    if newest is None:
        return set()
    said = saved[newest].said or {}
    deltas = list(said["metadata"].get("counters_since_delta_snapshot") or ())
    open_ones = [name for name in deltas if name not in said["channels"]]
    kept = (
        {newest} | {one.checkpoint_id for one in path_of(saved, said["parent"], open_ones)[0]}
        if open_ones
        else {newest}
    )
    return set(saved) - kept


@reads_stored
def path_of(saved: dict[str, Saved], parent: str | None, channels: Sequence[str]) -> tuple[list[Saved], bool]:
    """The checkpoints from a parent back until all channels have a value, and whether that was found, or the root."""
    path: list[Saved] = []
    left = set(channels)
    while parent and left:
        one = saved.get(parent)
        if one is None or one.said is None:
            return path, False
        if len(path) == len(saved):
            raise ValueError("checkpoints follow each other in a circle")
        path.append(one)
        left -= set(one.said["channels"])
        parent = one.said["parent"]
    return path, True


async def free_contents(core: Core, head: Session, named: set[str]) -> None:
    """Remove what only dropped checkpoints had beside the log.

    Who writes meanwhile may count on what is removed. So it is removed in parts, each of which is held until a commit
    has told all writers that come later (`pruned`), and put back where one has come before that.
    """
    now = (await look(core, head.session_id, user_id=head.user_id)).head
    if now is None or not named:
        return
    gone = sorted(named - {digest for entry in await all_entries(core, now) for digest in digests(entry.data)})
    for start in range(0, len(gone), FREED_AT_ONCE):
        part = gone[start : start + FREED_AT_ONCE]
        kept = {one: await content_of(core, now, one) for one in part}
        await drop_contents(core, now, part)
        later = await _told(core, now)
        entries = await all_entries(core, later, now.revision + 1)
        again = {one for entry in entries for one in digests(entry.data)} & kept.keys()
        await Values(0).put(core, later, {one: kept[one] for one in again})
        now = later


async def _told(core: Core, head: Session) -> Session:
    """Tell writers that something was removed; the head after that."""

    async def change(snapshot: Snapshot) -> Draft:
        if snapshot.head is None:
            raise SessionNotFoundError(f"Session {head.session_id!r} was deleted while it was pruned.")
        return Draft(state_changed(snapshot.head, {"pruned": pruned(snapshot.head) + 1}))

    return (await commit(core, head.session_id, change, user_id=head.user_id)).head


# ---------------------------------------------------------------- sessions


def sessions_of(storage: Storage, config: Config | None) -> list[Session]:
    """The sessions of a thread, or of its namespace if one is named; all if `config` is None."""
    found: list[Session] = []
    cursor: str | None = None
    while True:
        page = storage.sessions(kind=KIND, cursor=cursor, limit=100, **asked_for(config))
        found += [one for one in page if is_of(one, config)]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def asessions_of(storage: Storage, config: Config | None) -> list[Session]:
    """As `sessions_of`."""
    found: list[Session] = []
    cursor: str | None = None
    while True:
        page = await storage.asessions(kind=KIND, cursor=cursor, limit=100, **asked_for(config))
        found += [one for one in page if is_of(one, config)]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def made_for(core: Core, thread_id: str, ns: str) -> Snapshot:
    """The session of a namespace, made if it is not there, so that values may be put beside it."""
    session_id = session_id_of(thread_id, ns)

    async def change(snapshot: Snapshot) -> Draft:
        _, first = started_session(core, snapshot, session_id, **beginning(thread_id, ns))
        return Draft([*first, Entry("langgraph.begun")])

    return Snapshot((await commit(core, session_id, change)).head, [], core.clock.now())


# ---------------------------------------------------------------- taking away


def drop_each(storage: Storage, config: Config | None, choose: Choose) -> None:
    """Hide and remove what `choose` names in each session of a thread, or of all."""
    for session in sessions_of(storage, config):
        with passing_over(session.session_id):
            operate(storage, drop, session, choose)


async def adrop_each(storage: Storage, config: Config | None, choose: Choose) -> None:
    """As `drop_each`."""
    for session in await asessions_of(storage, config):
        with passing_over(session.session_id):
            await aoperate(storage, drop, session, choose)


async def drop(core: Core, session: Session, choose: Choose) -> None:
    """Hide the checkpoints that `choose` names by one commit, then remove them."""
    session_id, gone = session.session_id, set[str]()

    async def change(snapshot: Snapshot) -> Draft:
        head = snapshot.head
        saved = {} if head is None else folded(await all_entries(core, head))
        gone.clear()
        with reading():
            gone.update(choose(saved))
        if head is None or not gone:
            raise NothingError
        left = [one.checkpoint_id for one in saved.values() if one.said and one.checkpoint_id not in gone]
        changed = state_changed(head, {"latest": max(left, default=""), "pruned": pruned(head) + 1})
        return Draft([Entry(DROPPED, {"ids": sorted(gone)}), *changed], key=GONE)

    try:
        head = (await commit(core, session_id, change)).head
    except (NothingError, SessionNotFoundError):
        return
    named: set[str] = set()

    def without(entry: Entry) -> Entry | None:
        if entry.kind in (CHECKPOINT, WRITES) and entry.data["id"] in gone:
            named.update(digests(entry.data))
            return None
        return entry

    with suppress(UnsupportedError, SessionNotFoundError):  # then it is hidden, and stays where it is
        await rewrite(core, session_id, without, last=head.revision - 1)
        await free_contents(core, head, named)
