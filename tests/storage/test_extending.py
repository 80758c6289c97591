"""Integrations, wrappers and indexes are written with `sessile.storage.extending` alone."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from sessile import MemoryStorage, SqliteStorage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError, SessionNotFoundError, StorageUnavailableError, UnsupportedError
from sessile.storage import extending
from sessile.storage.extending import (
    ANY_USER,
    Attempt,
    Capabilities,
    Core,
    Deadline,
    Draft,
    Driver,
    Entry,
    Snapshot,
    Storage,
    UserId,
    WrappedDriver,
    aoperate,
    changed,
    commit,
    entries_between,
    find,
    look,
    operate,
    reached,
    read_record,
    record_names,
    rewrite,
    started_session,
    tail,
    write_record,
)

T = TypeVar("T")

# ---------------------------------------------------------------- a small integration: checkpoints of another framework

CHECKPOINT = "graph.checkpoint"


async def put(
    core: Core, session_id: str, name: str, values: Any, *, user_id: UserId = None, attempt: Attempt | None = None
) -> int:
    """Keep a checkpoint of this name, in a session that is made if it is not there."""

    async def change(snapshot: Snapshot) -> Draft:
        head, first = started_session(core, snapshot, session_id, user_id=user_id, kind="graph", agent="g")
        later = {"values": values, "after": head.revision}
        return Draft([*first, Entry(CHECKPOINT, later)], key=f"graph:{name}")

    return (await commit(core, session_id, change, attempt=attempt, user_id=user_id)).head.revision


async def get(core: Core, session_id: str, name: str, *, user_id: UserId = None) -> Any:
    """The newest checkpoint of this name."""
    found = await find(core, session_id, f"graph:{name}", limit=1, newest_first=True, user_id=user_id)
    return next((entry.data["values"] for entry in found if entry.kind == CHECKPOINT), None)


async def newest(core: Core, session_id: str, *, user_id: UserId = None) -> Any:
    """The newest checkpoint of all."""
    found = await tail(core, session_id, 1, kinds=[CHECKPOINT], user_id=user_id)
    return found.entries[0].data["values"] if found is not None and found.entries else None


def test_checkpoints_are_kept_and_found(storage: Storage) -> None:
    assert operate(storage, newest, "s") is None
    assert operate(storage, get, "s", "a") is None
    for number in range(60):
        operate(storage, put, "s", f"c{number % 50}", {"n": number}, user_id="ada")
    assert operate(storage, newest, "s", user_id="ada") == {"n": 59}
    assert operate(storage, get, "s", "c20", user_id="ada") == {"n": 20}
    assert operate(storage, get, "s", "c5", user_id="ada") == {"n": 55}
    assert operate(storage, get, "s", "c5") is None, "it is another user's"
    assert len(operate(storage, find, "s", "graph:c5", user_id=ANY_USER)) == 2
    with pytest.raises(SessionNotFoundError):
        operate(storage, put, "s", "c", {}, user_id="bob")
    head = storage.get_session("s", user_id="ada")
    assert head is not None
    assert (head.kind, head.agent, head.revision, head.run_count) == ("graph", "g", 60, 0)
    storage.verify("s", user_id="ada")


def test_checkpoints_for_asynchronous_callers(storage: Storage) -> None:
    async def main() -> None:
        await asyncio.gather(*(aoperate(storage, put, "s", f"c{n}", n) for n in range(10)))
        assert [await aoperate(storage, get, "s", f"c{n}") for n in range(10)] == list(range(10))

    asyncio.run(main())


def test_a_commit_is_repeated_with_what_was_attempted() -> None:
    class Deaf(WrappedDriver):
        """The answers to what is written are lost, and there is nothing that could be tried again."""

        async def append(self, *args: Any) -> bool:
            await super().append(*args)
            raise StorageUnavailableError("The connection is gone.", written="unknown", retryable=False)

    data = MemoryDriver()
    attempt = Attempt()
    with Storage(Deaf(data)) as deaf, pytest.raises(StorageUnavailableError):
        operate(deaf, put, "s", "a", 1, attempt=attempt)
    with Storage(data) as storage:
        operate(storage, put, "s", "b", 2)
        operate(storage, put, "s", "a", 1, attempt=attempt)
        assert len(operate(storage, find, "s", "graph:a")) == 2, "the session's first entry, and the checkpoint"
        assert len(storage.entries("s")) == 3


# ---------------------------------------------------------------- reading


def test_a_look(storage: Storage) -> None:
    storage.create_session("s", user_id="ada")
    storage.rename("s", "n", user_id="ada")
    snapshot = operate(storage, look, "s", newest=5, user_id="ada")
    assert reached(snapshot, "s", "ada").name == "n"
    assert [row.seq for row in snapshot.rows] == [1, 2]
    hidden = operate(storage, look, "s", newest=5)
    assert (hidden.head, hidden.rows) == (None, [])
    with pytest.raises(SessionNotFoundError):
        reached(hidden, "s")


def test_an_index_reads_what_has_changed(storage: Storage) -> None:
    """Up to which revision each session was read is all that it has to keep."""
    read: dict[str, int] = {}
    words: list[str] = []

    async def round_trip(core: Core, since: int) -> int:
        after, until = None, None
        while True:
            page = await changed(core, since, after=after, limit=2)
            until = page.complete_until if until is None else until
            for session in page.sessions:
                seen = read.get(session.session_id, 0)
                if session.revision > seen:
                    words.extend(entry.kind for entry in await entries_between(core, session, seen + 1))
                    read[session.session_id] = session.revision
            after = page.after
            if after is None:
                return until

    for name in "abc":
        storage.create_session(name)
    since = operate(storage, round_trip, 0)
    assert words == ["session.created"] * 3
    storage.rename("b", "n")
    since = operate(storage, round_trip, since)
    assert words[3:] == ["session.renamed"]
    operate(storage, round_trip, since)
    assert len(words) == 4


# ---------------------------------------------------------------- records


def test_records_lie_beside_the_log_and_go_with_the_session(storage: Storage) -> None:
    session = storage.create_session("s")
    assert operate(storage, read_record, session, "graph/cursor") is None
    for name in ("graph/cursor", "graph/blob/2", "graph/blob/10", "other"):
        operate(storage, write_record, session, name, name.encode())
    assert operate(storage, read_record, session, "graph/cursor") == b"graph/cursor"
    names = operate(storage, record_names, session, "graph/")
    assert names == ["graph/blob/10", "graph/blob/2", "graph/cursor"]
    assert operate(storage, record_names, session, "graph/", after=names[0], limit=1) == names[1:2]
    operate(storage, write_record, session, "other", None)
    assert operate(storage, read_record, session, "other") is None
    assert storage.get_session("s") == session, "they change no revision"
    with pytest.raises(InvalidInputError):
        operate(storage, write_record, session, "big", b"x" * (17 * 1024 * 1024))
    with pytest.raises(InvalidInputError):
        operate(storage, write_record, session, "x" * 254, b"")
    storage.delete("s")
    with pytest.raises(SessionNotFoundError):
        operate(storage, write_record, session, "other", b"late")
    again = storage.create_session("s")
    assert operate(storage, record_names, again) == []


# ---------------------------------------------------------------- rewriting


def without_secrets(entry: Entry) -> Entry | None:
    if entry.kind == "message" and "secret" in str(entry.data):
        entry.data = {"text": "[removed]"}
    return None if entry.kind == "mylib.note" else entry


async def note(core: Core, session_id: str) -> None:
    async def change(snapshot: Snapshot) -> Draft:
        return Draft([Entry("mylib.note", "secret")])

    await commit(core, session_id, change)


def test_what_is_in_the_log_is_replaced(storage: Storage) -> None:
    for number in range(250):
        said = "secret" if number in (0, 120, 249) else "fine"
        storage.add_run("s", input=number, format="test/1", messages=[{"text": said}], state={"n": number})
    assert operate(storage, rewrite, "s", without_secrets, last=200) == 2
    assert operate(storage, rewrite, "s", without_secrets) == 1
    assert operate(storage, rewrite, "s", without_secrets) == 0
    found = [message.data["text"] for message in storage.messages("s", from_run=1)]
    assert [number for number, text in enumerate(found) if text == "[removed]"] == [0, 120, 249]
    assert "secret" not in str(storage.entries("s"))
    operate(storage, note, "s")
    assert operate(storage, rewrite, "s", without_secrets) == 1
    assert "mylib.note" not in str(storage.entries("s"))
    assert storage.verify("s") == 254, "the log stays dense, and three commits say what was rewritten"
    with pytest.raises(SessionNotFoundError):
        operate(storage, rewrite, "s", without_secrets, user_id="eve")


def test_rewriting_where_the_database_cannot() -> None:
    class Lasting(WrappedDriver):
        @property
        def capabilities(self) -> Capabilities:  # pyright: ignore[reportIncompatibleVariableOverride]
            return Capabilities()

    with Storage(Lasting(MemoryDriver())) as storage:
        storage.create_session("s")
        with pytest.raises(UnsupportedError, match="cannot rewrite"):
            operate(storage, rewrite, "s", without_secrets)


# ---------------------------------------------------------------- wrappers, and the promise


class Slowest(WrappedDriver):
    """A wrapper that counts what each operation does."""

    def __init__(self, inner: Driver) -> None:
        super().__init__(inner)
        self.seen: dict[str, int] = {}

    async def around(self, operation: str, deadline: Deadline, call: Callable[[], Awaitable[T]]) -> T:
        self.seen[operation] = self.seen.get(operation, 0) + 1
        return await call()


def test_a_wrapper_sees_every_operation() -> None:
    driver = Slowest(MemoryDriver())
    with Storage(driver) as storage:
        operate(storage, put, "s", "a", 1)
        operate(storage, get, "s", "a")
    assert driver.seen == {"setup": 1, "now": 1, "load": 2, "append": 1, "entries": 1}


def test_all_that_is_promised_is_there_and_says_what_it_is() -> None:
    assert (
        sorted(extending.__all__, key=lambda name: (name != name.upper(), name[0].islower(), name)) == extending.__all__
    )
    for name in extending.__all__:
        promised = getattr(extending, name)
        if inspect.isclass(promised) or inspect.isfunction(promised):
            assert promised.__doc__, name


@pytest.mark.parametrize("make", [MemoryStorage, lambda: SqliteStorage(":memory:")], ids=["memory", "sqlite"])
def test_operations_check_what_they_are_given(make: Any) -> None:
    with make() as storage:
        session = storage.create_session("s")
        for wrong in (
            lambda: operate(storage, look, "", newest=1),
            lambda: operate(storage, look, "s", newest=-1),
            lambda: operate(storage, find, "s", ""),
            lambda: operate(storage, find, "s", "k", limit=0),
            lambda: operate(storage, put, "", "a", 1),
            lambda: operate(storage, entries_between, session, 0),
            lambda: operate(storage, write_record, session, "", b""),
            lambda: operate(storage, record_names, session, limit=0),
            lambda: operate(storage, rewrite, "s", without_secrets, first=0),
        ):
            with pytest.raises(InvalidInputError):
                wrong()
