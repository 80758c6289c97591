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
    find_in,
    look,
    operate,
    rewrite,
    started_session,
    state_changed,
)
from .ids import digest, is_usable, short, stored_id
from .langgraph_saved import (
    CHECKPOINT,
    DROPPED,
    WRITES,
    Moment,
    Saved,
    drop_contents,
    folded,
    names,
    pruned,
    values_in,
)
from .stored import passing_over, reading, reads_stored

KIND = "langgraph"
PAGE = 200
"""How many entries are read back at a time."""

MOST_FOUND = 500
"""How many commits of one key are read at a time: a task's writes are one, and a step may have any number of tasks."""

GONE = "langgraph:gone"
"""The key of the commits that say which checkpoints were dropped."""

Config = Any
"""LangChain's `RunnableConfig`."""

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
    fits = len(checkpoint_id) <= 120 and is_usable(checkpoint_id, 240)
    key = f"langgraph:{checkpoint_id}"
    return key if fits and key != GONE else f"langgraph:~{digest(checkpoint_id)}"


async def entries_at(core: Core, head: Session, key: str) -> list[Entry]:
    """The entries of all commits of a session that have this key."""
    found: list[Entry] = []
    while True:
        after = found[-1].seq if found else 0
        page = await find_in(core, head, key, after=after, limit=MOST_FOUND)
        found += page
        if len({entry.seq for entry in page}) < MOST_FOUND:
            return found


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
    except NothingError:  # but a crash may have left what was hidden before
        head = (await look(core, session_id)).head
    except SessionNotFoundError:
        return
    if head is not None:
        with suppress(UnsupportedError, SessionNotFoundError):  # then it is hidden, and stays where it is
            await _remove_hidden(core, head)


@reads_stored
async def _remove_hidden(core: Core, head: Session) -> None:
    """Remove what was dropped, and what only that had beside the log.

    Nobody can name it any more: whoever commits now has seen that it was dropped, and names what is written since
    (`langgraph_saved`). The contents go first, so that whoever comes after a crash still finds which they are.
    """
    entries = await all_entries(core, head)
    dropped = {one: entry.seq for entry in entries if entry.kind == DROPPED for one in entry.data["ids"]}

    def is_hidden(entry: Entry) -> bool:
        return entry.kind in (CHECKPOINT, WRITES) and entry.seq < dropped.get(entry.data["id"], 0)

    entries = [entry for entry in entries if entry.kind in (CHECKPOINT, WRITES)]
    hidden = [entry for entry in entries if is_hidden(entry)]
    if not hidden:
        return
    await rewrite(core, head.session_id, lambda entry: entry, last=1)  # changes nothing: raises where nothing may go
    needed = {name for entry in entries if not is_hidden(entry) for name in names(values_in(entry.data))}
    gone = {name for entry in hidden for name in names(values_in(entry.data))} - needed
    await drop_contents(core, head, sorted(gone))

    def without(entry: Entry) -> Entry | None:
        return None if is_hidden(entry) else entry

    await rewrite(core, head.session_id, without, last=hidden[-1].seq)
