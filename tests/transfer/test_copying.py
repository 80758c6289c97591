"""Copying sessions between databases: what stands there afterwards, and what comes in between."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile import ANY_USER, JsonStorage, MemoryStorage, SqliteStorage, Storage
from sessile.drivers.files.heads import Heads, Place
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError, StorageUnavailableError
from sessile.storage.extending import WrappedDriver
from sessile.transfer import copy, export_archive, import_archive, reading

from .helpers import everything


def test_all_is_there_as_it_was(filled: SqliteStorage, other: Storage) -> None:
    """Into each database, and back into SQLite: the same commits, heads, media and records."""
    there = everything(filled)
    copied = copy(filled, other)
    assert (copied.skipped, copied.sessions, copied.unchanged, copied.removed) == ({}, len(there), 0, 0)
    assert copied.commits == sum(len(rows) for _, rows, _ in there.values())
    assert everything(other) == there
    with MemoryStorage() as back:
        assert copy(other, back).skipped == {}
        assert everything(back) == there
    for session_id in ("long", "seen", "empty", "fork"):
        other.verify(session_id, user_id=ANY_USER)
    assert [run.output for run in other.for_user("ada").runs("long")] == ["yes"]
    assert other.add_run("long", input="on it goes", output="!", user_id="ada").number == 42


def test_logs_of_several_pages(source: SqliteStorage, target: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are read, copied and compared page by page, which end elsewhere on both sides."""
    monkeypatch.setattr(reading, "COMMITS", 7)
    for number in range(20):
        source.add_run("s", input=number, output="1")
    assert copy(source, target).skipped == {}
    for number in range(20):
        source.add_run("s", input=number, output="1")
    assert copy(source, target).skipped == {}
    assert everything(target) == everything(source)


def test_again_only_what_has_come_since(filled: SqliteStorage, other: Storage) -> None:
    first = copy(filled, other)
    assert copy(filled, other).unchanged == first.sessions
    filled.add_run("seen", input="more", output="…")
    filled.add_run("new", input="Hello", output="Hi")
    again = copy(filled, other)
    assert (again.sessions, again.unchanged, again.skipped) == (2, first.sessions - 1, {})
    assert everything(other) == everything(filled)
    since = copy(filled, other, since=again.complete_until)
    assert (since.sessions, since.skipped) == (0, {})


def test_what_was_continued_apart_is_left_alone(source: SqliteStorage, target: MemoryStorage) -> None:
    for name in ("same", "apart", "other"):
        source.add_run(name, input="1", output="1")
    target.add_run("other", input="was here before", output="yes")
    assert list(copy(source, target).skipped) == ["other"]
    for storage in (source, target):
        storage.add_run("apart", input=f"in {type(storage).__name__}", output="2")
    target.add_run("same", input="only here", output="2")
    skipped = copy(source, target).skipped
    assert {name: type(error).__name__ for name, error in skipped.items()} == dict.fromkeys(
        ("same", "apart", "other"), "AlreadyExistsError"
    )
    assert [run.input for run in target.runs("apart")] == ["1", "in MemoryStorage"]


def test_what_is_erased_and_deleted_goes(filled: SqliteStorage, other: Storage) -> None:
    """Texts that were erased where they came from, media, and whole sessions, are gone from the copy as well."""
    copy(filled, other)
    filled.erase_run("seen", 1)
    filled.delete("fork", user_id="ada")
    mirrored = copy(filled, other, mirror=True)
    assert (mirrored.removed, mirrored.skipped) == (1, {})
    assert other.get_session("fork", user_id="ada") is None
    assert everything(other) == everything(filled)
    assert other.runs("seen")[0].input == {"$erased": True}


def test_filters(filled: SqliteStorage, target: MemoryStorage) -> None:
    assert copy(filled, target, user_id="ada", name_prefix=None).sessions == 3
    assert {session.user_id for session in target.sessions(user_id=ANY_USER)} == {"ada"}
    assert copy(filled, target, kind="team", metadata={"tier": "gold"}).sessions == 1
    assert copy(filled, target, mirror=True, kind="team").removed == 0
    with pytest.raises(InvalidInputError, match="status"):
        copy(filled, target, status="nearly")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="workers"):
        copy(filled, target, workers=0)


def test_a_new_session_is_hidden_until_it_is_complete(filled: SqliteStorage) -> None:
    seen: list[int] = []

    class Looking(WrappedDriver):
        async def append(self, write: Any, deadline: Any) -> bool:
            done = await self.inner.append(write, deadline)
            row = await self.inner.load(write.session_id, 0, deadline)
            assert row is not None
            last = len(everything(filled)[write.session_id][1])
            assert row.head.hidden == (row.head.revision < last)
            seen.append(row.head.revision)
            return done

    few = MemoryDriver()
    few.capabilities = few.capabilities.__class__(commits_per_append=7, rewrites=True)
    with Storage(Looking(few)) as storage:
        assert copy(filled, storage, workers=1).skipped == {}
        assert len(seen) > len(everything(filled))
        assert everything(storage) == everything(filled)


def test_goes_on_after_a_failure(filled: SqliteStorage) -> None:
    """However often the target fails, in the end all is there, once."""
    calls = 0

    class Failing(WrappedDriver):
        async def append(self, write: Any, deadline: Any) -> bool:
            nonlocal calls
            calls += 1
            if calls % 3 == 0:
                raise StorageUnavailableError("gone", written="no", retryable=False)
            return await self.inner.append(write, deadline)

    few = MemoryDriver()
    few.capabilities = few.capabilities.__class__(commits_per_append=5)
    with Storage(Failing(few)) as storage:
        for _ in range(30):
            if not copy(filled, storage).skipped:
                break
        assert everything(storage) == everything(filled)


def test_while_writers_go_on(source: SqliteStorage, target: MemoryStorage) -> None:
    """What is written and deleted meanwhile is in the copy, or not in it, as in the source."""
    for number in range(60):
        source.add_run(f"s{number}", input="1", output="1")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            source.add_run(f"s{number % 70}", input="more", output="…")
            source.delete(f"s{number % 7}")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copied = copy(source, target)
    finally:
        stop.set()
        writer.join()
    assert not copied.skipped
    assert not copy(source, target, mirror=True).skipped
    assert everything(target) == everything(source)


COPY = """
import sys, sessile
from sessile.transfer import copy
with sessile.open(sys.argv[1]) as source, sessile.open(sys.argv[2]) as target:
    copy(source, target, progress=lambda copied: print(copied.sessions, flush=True))
"""


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.mark.parametrize("way", ["copy", "archive"])
def test_killed_between_the_last_commit_and_the_head(
    way: str, filled: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log is whole, and its session would be hidden for ever."""
    export_archive(filled, tmp_path / "archive.jsonl", user_id=ANY_USER)

    def bring(target: Storage) -> Any:
        return copy(filled, target) if way == "copy" else import_archive(tmp_path / "archive.jsonl", target)

    moves, put_in_place = 0, Heads.put_in_place

    def last_move(heads: Heads, place: Place, exchanged: int | None) -> int:
        nonlocal moves
        moves += place.folder.name.startswith("seen")
        if moves == 2:  # it has media: all commits but the last come first, and then that
            raise Killed
        return put_in_place(heads, place, exchanged)

    with JsonStorage(tmp_path / "other") as target:
        with monkeypatch.context() as patched:
            patched.setattr(Heads, "put_in_place", last_move)
            with pytest.raises(Killed):
                bring(target)
        assert target.get_session("seen") is None
        assert not bring(target).skipped
        assert everything(target) == everything(filled)


@pytest.mark.parametrize("other_url", ["sqlite", "json", "postgres_url"])
def test_goes_on_where_a_killed_process_has_left_it(
    other_url: str, filled: SqliteStorage, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for number in range(30):
        filled.add_run(f"s{number}", input="1" * 3000, output="1")
    named = other_url.endswith("_url")
    url = request.getfixturevalue(other_url) if named else f"{other_url}:///{tmp_path}/other"
    for wanted in (1, 12):
        command = [sys.executable, "-c", COPY, f"sqlite:///{tmp_path}/source.db", url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= wanted:
                    process.send_signal(signal.SIGKILL)
                    break
    with sessile.open(url) as target:
        assert not copy(filled, target).skipped
        assert everything(target) == everything(filled)
