"""Moving sessions amid damage, restored backups and interruptions: what could be lost, mixed, or left over."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import AlreadyExistsError, CorruptDataError, InvalidInputError
from sessile.storage.absence import is_expired, is_recent
from sessile.storage.extending import (
    Append,
    Capabilities,
    Deadline,
    WrappedDriver,
    operate,
    write_record,
)
from sessile.transfer import back_up, copy, export_archive, export_runs, import_archive, placing, reading

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def restore(backup: Path, into: Path) -> None:
    one, two = sqlite3.connect(backup), sqlite3.connect(into)
    one.backup(two)
    one.close()
    two.close()


def archive_of(storage: Storage) -> io.BytesIO:
    stream = io.BytesIO()
    export_archive(storage, stream)
    stream.seek(0)
    return stream


def test_an_archive_is_not_grown_onto_another_history(tmp_path: Path) -> None:
    one = SqliteStorage(tmp_path / "one.db")
    one.add_run("s", input="both", output="1")
    restore(tmp_path / "one.db", tmp_path / "two.db")
    for _ in range(3):
        one.add_run("s", input="ours", output="1")
    two = SqliteStorage(tmp_path / "two.db")
    two.add_run("s", input="theirs", output="1")
    done = import_archive(archive_of(one), two)
    assert isinstance(done.skipped["s"], AlreadyExistsError)
    assert [run.input for run in two.runs("s")] == ["both", "theirs"]


def test_a_damaged_session_costs_the_archive_only_itself(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "s.db")
    for name in "ab":
        storage.add_run(name, input="1", output="1")
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("UPDATE sessile_commits SET body = 'garbage' WHERE session_id = 'a'")
    stream = io.BytesIO()
    assert list(export_archive(storage, stream).skipped) == ["a"]
    stream.seek(0)
    assert import_archive(stream, MemoryStorage()).sessions == 1


def test_a_head_of_before_a_restore_is_not_written_back(tmp_path: Path) -> None:
    storage = SqliteStorage(tmp_path / "s.db")
    storage.add_run("s", input="1", output="1")
    restore(tmp_path / "s.db", tmp_path / "backup.db")
    storage.rename("s", "before")
    restore(tmp_path / "backup.db", tmp_path / "s.db")
    SqliteStorage(tmp_path / "s.db").rename("s", "after")
    storage.add_run("s", input="2", output="2")
    assert storage.get_session("s").name == "after"  # type: ignore[union-attr]
    assert storage.verify("s") == 3


def test_runs_over_the_limit_of_a_read_are_all_told() -> None:
    storage = MemoryStorage(max_read_bytes=200_000)
    for number in range(10):
        storage.add_run("s", input=str(number), output="x" * 50_000)
    assert export_runs(storage, io.BytesIO(), form="jsonl").rows == 10


@pytest.mark.parametrize("how", ["copy", "import"])
def test_records_of_a_session_of_one_commit_are_made_up_for(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = MemoryStorage(), MemoryStorage()
    session = source.create_session("s")
    operate(source, write_record, session, "mylib/cursor", b"abc")

    def move() -> None:
        copy(source, target) if how == "copy" else import_archive(archive_of(source), target)

    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(placing, "put_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            move()
    move()
    there = target.get_session("s")
    assert there is not None
    assert operate(target, reading.record_names, there) == ["x/mylib/cursor"]


def test_a_mirror_replaces_what_was_made_apart() -> None:
    source, target = MemoryStorage(), MemoryStorage()
    source.add_run("s", input="new", output="1")
    target.add_run("s", input="old", output="1")
    copied = copy(source, target, mirror=True)
    assert (copied.skipped, [run.input for run in target.runs("s")]) == ({}, ["new"])


def test_what_did_not_stand_the_comparison_stays_named(tmp_path: Path) -> None:
    source = SqliteStorage(tmp_path / "s.db")
    for name in "st":
        source.add_run(name, input="1", output="1")
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute("UPDATE sessile_sessions SET name = 'else' WHERE session_id = 's'")
    target = MemoryStorage()
    for _ in range(2):  # nor is what was found wrong there for the next call to take for good
        assert isinstance(copy(source, target).skipped["s"], CorruptDataError)
        assert target.get_session("s") is None
    assert target.get_session("t") is not None


def test_what_is_being_copied_is_not_swept() -> None:
    """However long ago it was last changed: it is as young as its last append."""
    source, few = MemoryStorage(), MemoryDriver()
    few.capabilities = Capabilities(commits_per_append=1)
    for number in range(3):
        source.add_run("s", input=str(number), output="1", started_at=LONG_AGO, ended_at=LONG_AGO)

    class Swept(WrappedDriver):
        async def append(self, write: Append, deadline: Deadline) -> bool:
            done = await self.inner.append(write, deadline)
            row = await self.inner.load(write.session_id, 0, deadline)
            assert row is not None
            assert not row.head.hidden or (is_recent(row.head, row.now) and not is_expired(row.head, row.now))
            return done

    with Storage(Swept(few)) as target:
        assert copy(source, target).skipped == {}
        assert [run.input for run in target.runs("s")] == ["0", "1", "2"]


def test_a_packed_archive_that_is_cut_off(tmp_path: Path) -> None:
    storage = MemoryStorage()
    storage.add_run("s", input="1", output="1" * 3000)
    path = tmp_path / "a.gz"
    export_archive(storage, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptDataError):
        import_archive(path, MemoryStorage())


def test_what_is_no_archive_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A line of a gigabyte, of somebody else's file, is not in memory before that is said."""
    path = tmp_path / "one-line.json"
    with path.open("wb") as file:
        file.write(b'{"mapping": "')
        file.truncate(10**9)  # without taking so much of the disk
    tracemalloc.start()
    try:
        with pytest.raises(CorruptDataError, match=r"^Line 1 of the archive is damaged: it is longer"):
            import_archive(path, MemoryStorage())
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """A pipe; and a link stays one, to the file that has the archive."""
    storage, pipe = MemoryStorage(), tmp_path / "pipe"
    storage.add_run("s", input="1", output="1")
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as threads:
        reading_it = threads.submit(pipe.read_bytes)
        export_archive(storage, pipe)
        assert reading_it.result() == archive_of(storage).getvalue()
    assert pipe.is_fifo()
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "file.jsonl")
    export_archive(storage, tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "file.jsonl").read_bytes() == archive_of(storage).getvalue()
    with SqliteStorage(tmp_path / "s.db") as other:
        other.add_run("s", input="1", output="1")
        with pytest.raises(InvalidInputError, match="no file"):
            back_up(other, pipe)


@pytest.mark.parametrize("gone", ["seq > 2", "seq = 2", "seq > 0"])
def test_a_log_that_has_lost_commits_is_named(gone: str, tmp_path: Path) -> None:
    """In the source, where nothing of it is passed over in silence; and in the target of an earlier copy."""
    source, target = SqliteStorage(tmp_path / "s.db"), SqliteStorage(tmp_path / "t.db")
    for name in "ab":
        for number in range(3):
            source.add_run(name, input=str(number), output="1")
    copy(source, target)
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute(f"DELETE FROM sessile_commits WHERE session_id = 'a' AND {gone}")
    source.add_run("a", input="more", output="1")
    skipped = copy(source, target).skipped
    assert isinstance(skipped["a"], CorruptDataError)
    assert list(skipped) == ["a"]
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute(f"DELETE FROM sessile_commits WHERE session_id = 'a' AND {gone}")
    for done in (copy(source, MemoryStorage()), export_archive(source, io.BytesIO())):
        assert isinstance(done.skipped["a"], CorruptDataError)
        assert (list(done.skipped), done.sessions) == (["a"], 1)


def test_a_mirror_leaves_what_a_newer_version_wrote(tmp_path: Path) -> None:
    source, target = SqliteStorage(tmp_path / "s.db"), MemoryStorage()
    for name in "abc":
        source.add_run(name, input="1", output="1")
    copy(source, target)
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute(
            "UPDATE sessile_sessions SET body = replace(body, '{\"version\":1', '{\"version\":99')"
            " WHERE session_id = 'a'"
        )
        database.execute("UPDATE sessile_sessions SET updated_at = updated_at + 1 WHERE session_id = 'a'")
    SqliteStorage(tmp_path / "s.db").delete("c")
    copied = copy(SqliteStorage(tmp_path / "s.db"), target, mirror=True)
    assert (list(copied.skipped), copied.removed) == (["a"], 1)
    assert {one.session_id for one in target.sessions()} == {"a", "b"}


def test_two_copies_at_once(tmp_path: Path) -> None:
    """While the source grows: neither takes for somebody else's what the other one has brought."""
    source, few = SqliteStorage(tmp_path / "s.db", synchronous="NORMAL"), MemoryDriver()
    few.capabilities = Capabilities(commits_per_append=1)
    for name in "abc":
        for number in range(6):
            source.add_run(name, input=str(number), output="1")

    class Slow(WrappedDriver):
        async def append(self, write: Append, deadline: Deadline) -> bool:
            source.add_run(write.session_id, input="meanwhile", output="1") if write.expected in (2, 4) else None
            return await self.inner.append(write, deadline)

    with Storage(Slow(few)) as target, ThreadPoolExecutor(2) as threads:
        done = list(threads.map(lambda _: copy(source, target), range(2)))
        assert [one.skipped for one in done] == [{}, {}]
        assert not copy(source, target).skipped
        for name in "abc":
            assert target.runs(name, last=99) == source.runs(name, last=99)


def forged(change: Callable[[list[dict[str, Any]]], object]) -> io.BytesIO:
    """An archive of one session whose lines somebody has changed, and its hash with them."""
    storage, digest, made = MemoryStorage(), hashlib.sha256(), io.BytesIO()
    storage.add_run("s", input="1", output="2")
    lines = [json.loads(line) for line in archive_of(storage)]
    change(lines)
    for line in lines:
        if line["line"] == "end":
            line["sha256"] = digest.hexdigest()
        raw = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if line["line"] not in ("archive", "end", "complete"):
            digest.update(raw)
        made.write(raw)
    made.seek(0)
    return made


PIECE = {"line": "media", "sha256": hashlib.sha256(b"\0").hexdigest(), "size": 1, "piece": 0, "data": "AA=="}


@pytest.mark.parametrize(
    "change",
    [
        *(lambda lines, value=value: lines[1].update(session_id=value) for value in ("", "a\0b", "x" * 9999, "\ud800")),
        lambda lines: lines[1].update(metadata="{"),
        lambda lines: [line.update(time=2**70) for line in lines if line["line"] == "commit"],
        lambda lines: [line.update(key="\ud800") for line in lines if line["line"] == "commit"],
        lambda lines: [line.update(run=2**63) for line in lines if line["line"] == "commit"],
        *(
            lambda lines, key=key: lines.insert(-2, {"line": "record", "key": key, "value": "AA=="})
            for key in ("", "media/abc", "lease/r", "cancel/r", "a\0", "\ud800", 7, "x" * 9999)
        ),
        *(lambda lines, size=size: lines.insert(-2, {**PIECE, "size": size}) for size in (0, -1, True, "1")),
    ],
)
def test_what_no_database_takes_is_refused_before_anything_is_written(change: Any) -> None:
    with MemoryStorage() as target:
        with pytest.raises(CorruptDataError, match=r"^Line \d+ of the archive"):
            import_archive(forged(change), target)
        assert target.get_session("s") is None
        assert import_archive(forged(lambda lines: lines.insert(-2, PIECE)), target).records == 1
