"""Commits by key in long logs, rewriting beside readers and crashes, and things in the folder that cannot be read."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.files.test_files import Folder

from sessile import Storage
from sessile.drivers.files import disk, sessions
from sessile.drivers.files.names import safe_name
from sessile.errors import CorruptDataError, StorageError
from sessile.records import ANY_USER
from sessile.storage.core import Core
from sessile.storage.driver import CommitRow, Listing, ListQuery, Span
from sessile.storage.encoding import encode_commit
from sessile.storage.extending import operate
from sessile.testing.samples import append_of, commit_row

T = TypeVar("T")

COUNT = 200


@pytest.fixture(params=["json", "yaml"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return Folder(request.param, tmp_path / "folder")


def do(storage: Storage, method: str, *arguments: Any) -> Any:
    async def call(core: Core) -> Any:
        await core.prepare(core.deadline())
        return await getattr(core.driver, method)(*arguments, core.deadline())

    return operate(storage, call)


def by_key(storage: Storage, key: str, **span: Any) -> list[int]:
    rows: list[CommitRow] = do(storage, "entries", "long", "i1", Span(key=key, **span))
    assert {row.key for row in rows} <= {key}
    return [row.seq for row in rows]


def append(storage: Storage, seq: int, key: str | None) -> None:
    write = append_of("long", seq - 1, text="x" * 1000, runs=(seq,))
    write = write._replace(commits=(write.commits[0]._replace(key=key),))
    assert do(storage, "append", write)


@pytest.fixture
def long(folder: Folder) -> Storage:
    """A log of more than 64 KiB, every tenth commit of which has the key `ten`, and one the key `one`."""
    with folder.open() as storage:
        for seq in range(1, COUNT + 1):
            append(storage, seq, "one" if seq == 33 else "ten" if seq % 10 == 0 else None)
    storage = folder.open()
    return storage


def reads(storage: Storage, monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> int:
    """How many bytes of logs some work reads."""
    sizes: list[int] = []
    read_at = disk.read_at

    def counted(file: int, size: int, offset: int) -> bytes:
        data = read_at(file, size, offset)
        sizes.append(len(data))
        return data

    with monkeypatch.context() as patch:
        patch.setattr(disk, "read_at", counted)
        work()
    return sum(sizes)


def test_a_key_in_a_long_log_is_found_without_reading_it_twice(
    long: Storage, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with long as storage:
        tens = list(range(10, COUNT + 1, 10))
        size = (folder.path / "sessions" / safe_name("long")).joinpath(folder.log.name).stat().st_size
        assert reads(storage, monkeypatch, lambda: by_key(storage, "absent")) >= size
        assert reads(storage, monkeypatch, lambda: by_key(storage, "one")) < size / 2
        assert by_key(storage, "ten") == tens
        assert by_key(storage, "ten", first=15, last=45) == [20, 30, 40]
        assert by_key(storage, "ten", newest_first=True, limit=2) == tens[:-3:-1]
        assert by_key(storage, "ten", runs=(50, 69)) == [50, 60]
        append(storage, COUNT + 1, "one")
        append(storage, COUNT + 2, None)
        assert by_key(storage, "one") == [33, COUNT + 1]
    with folder.open() as storage:
        assert by_key(storage, "one") == [33, COUNT + 1]
        assert by_key(storage, "one", last=COUNT) == [33]


def test_the_index_is_not_needed_to_find_a_key(long: Storage, folder: Folder) -> None:
    with long as storage:
        assert by_key(storage, "one") == [33]
    shutil.rmtree(folder.path / ".sessile")
    with folder.open() as storage:
        assert by_key(storage, "one") == [33]
        storage.close()
    for file in (folder.path / ".sessile").glob("index.db*"):
        file.write_bytes(b"garbage " * 1000)
    with folder.open() as storage:
        assert by_key(storage, "one") == [33]


def test_keys_follow_a_log_that_was_changed_by_hand(long: Storage, folder: Folder) -> None:
    log = folder.path / "sessions" / safe_name("long") / folder.log.name
    with long as storage:
        assert by_key(storage, "one") == [33]
        text = log.read_text("utf-8")
        log.write_text(text.replace("x" * 1000, "y" * 990, 1), "utf-8")  # what stands behind it has moved
        assert by_key(storage, "one") == [33]
        (log.parent / "other").write_text(log.read_text("utf-8"), "utf-8")
        (log.parent / "other").replace(log)
        assert by_key(storage, "ten", limit=3) == [10, 20, 30]


def test_a_damaged_commit_of_a_key_is_named_and_costs_no_other(tmp_path: Path) -> None:
    folder = Folder("json", tmp_path)
    with folder.open() as storage:
        for seq in range(1, COUNT + 1):
            append(storage, seq, f"key {seq}")
        assert by_key(storage, "key 50") == [50]
        log = folder.path / "sessions" / safe_name("long") / folder.log.name
        lines = log.read_text("utf-8").splitlines(keepends=True)
        lines[50] = lines[50].replace('"body":{', '"body":[')
        log.write_text("".join(lines), "utf-8")
        with pytest.raises(CorruptDataError, match="Line 51"):
            by_key(storage, "key 50")
        assert by_key(storage, "key 49") == [49]
        assert by_key(storage, "key 150") == [150]
        append(storage, COUNT + 1, "new")
        assert by_key(storage, "new") == [COUNT + 1]


# ---------------------------------------------------------------- rewriting


def test_readers_beside_rewriting_see_the_one_or_the_other(long: Storage) -> None:
    with long as storage:
        rows: list[CommitRow] = do(storage, "entries", "long", "i1", Span())
        bodies = [
            [commit_row(row.seq, 0, letter * size).body for row in rows] for letter, size in (("a", 10), ("b", 2000))
        ]
        seen: set[int] = set()
        done = threading.Event()
        failures: list[Any] = []

        def read() -> None:
            while not done.is_set():
                found = [row.body for row in do(storage, "entries", "long", "i1", Span())]
                if found not in (*bodies, [row.body for row in rows]):
                    failures.append(found)

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for number in range(10):
                changed = [row._replace(body=body) for row, body in zip(rows, bodies[number % 2], strict=True)]
                assert do(storage, "rewrite", "long", "i1", changed)
                seen.add(number)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        assert not failures
        append(storage, COUNT + 1, "after")
        assert by_key(storage, "after") == [COUNT + 1]
        assert [item.session_id for item in storage.sessions(limit=1).items] == ["s"]


def test_a_crash_while_rewriting_leaves_the_old_log(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(BaseException):
        """The process is gone."""

    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    with folder.open() as storage:
        session = storage.get_session("s")
        assert session is not None
        rows: list[CommitRow] = do(storage, "entries", "s", session.incarnation, Span())
        erased = [row._replace(body=encode_commit([])) for row in rows[1:]]
        with monkeypatch.context() as patch:
            patch.setattr(sessions.os, "replace", crash)
            with pytest.raises(Crash):
                do(storage, "rewrite", "s", session.incarnation, erased)
        assert do(storage, "entries", "s", session.incarnation, Span()) == rows
        assert do(storage, "rewrite", "s", session.incarnation, erased)
    with folder.open() as storage:
        assert do(storage, "entries", "s", session.incarnation, Span()) == [rows[0], *erased]
    assert "question 2" not in "".join(file.read_text("utf-8") for file in folder.session.rglob("*") if file.is_file())


# ---------------------------------------------------------------- what cannot be read


def listing(storage: Storage, **query: Any) -> Listing:
    return do(storage, "list", ListQuery(**query))


def strange(folder: Folder, kind: str) -> str:
    """Make the session `s` one that cannot be read; the name by which it is to be known then."""
    if kind == "head":
        folder.edit(folder.head, "kind", "kint")
        return "s"
    if kind == "links":  # as a folder without rights: every call that opens something fails
        for file in (folder.head, folder.log):
            file.unlink()
            file.symlink_to(file)
        return folder.session.name
    if kind == "newer":
        first = "sessile_log: " if folder.kind == "yaml" else '"sessile_log":'
        folder.edit(folder.log, f"{first}1", f"{first}9")
        folder.head.write_bytes(folder.head.read_bytes())
        return folder.session.name
    if kind == "loop":
        shutil.rmtree(folder.session)
        folder.session.symlink_to(folder.session)
        return folder.session.name
    folder.log.unlink()
    return folder.session.name


@pytest.mark.parametrize("kind", ["head", "links", "newer", "loop", "no log"])
@pytest.mark.parametrize("indexed", [True, False])
def test_what_cannot_be_read_costs_only_itself(folder: Folder, kind: str, indexed: bool) -> None:
    with folder.open() as storage:
        storage.add_run("t", user_id="ada")
        storage.add_run("u")
    name = strange(folder, kind)
    if not indexed:
        shutil.rmtree(folder.path / ".sessile")
    with folder.open() as storage:
        page = listing(storage)
        assert [row.session_id for row in page.rows] == ["u", "t"]
        assert page.unreadable.keys() == {"s" if indexed else name}
        assert all(isinstance(error, StorageError) for error in page.unreadable.values())
        assert storage.count_sessions(user_id=ANY_USER) == 2 + indexed
        assert listing(storage, user_id="ada").unreadable == {}  # it may be another's
        assert [row.session_id for row in listing(storage, limit=1, after=page.after).rows] == ["u"]
        if indexed:
            assert storage.delete_user("ada") == 1
            assert [row.session_id for row in listing(storage).rows] == ["u"]
        storage.add_run("v")
        assert [row.session_id for row in listing(storage, user_id=ANY_USER, limit=1).rows] == ["v"]


def test_what_was_repaired_is_listed_again(folder: Folder) -> None:
    with folder.open() as storage:
        storage.add_run("t")
    shutil.rmtree(folder.path / ".sessile")
    folder.edit(folder.head, "kind", "kint")
    with folder.open() as storage:
        assert listing(storage).unreadable.keys() == {"s"}
        folder.edit(folder.head, "kint", "kind")
        page = listing(storage)
        assert ({row.session_id for row in page.rows}, page.unreadable) == ({"s", "t"}, {})


def test_other_things_in_the_folder_are_no_sessions(folder: Folder) -> None:
    (folder.path / "sessions" / ".DS_Store").touch()
    (folder.path / "sessions" / "empty").mkdir()
    with folder.open() as storage:
        page = listing(storage)
        assert ([row.session_id for row in page.rows], page.unreadable) == (["s"], {})


@pytest.mark.parametrize("kind", ["head", "newer", "no log"])
def test_what_cannot_be_read_can_be_deleted(folder: Folder, kind: str) -> None:
    with folder.open() as storage:
        session = storage.get_session("s")
        assert session is not None
    strange(folder, kind)
    with folder.open() as storage:
        do(storage, "delete", "s", "another")
        assert folder.session.exists()
        do(storage, "delete", "s", session.incarnation)
        page = listing(storage)
        assert (page.rows, page.unreadable) == ([], {})
    assert not folder.session.exists()


def test_a_head_that_is_rolled_forward_is_counted(folder: Folder) -> None:
    head = folder.head.read_bytes()
    with folder.open() as storage:
        storage.add_run("s", input="question 4")
    folder.head.write_bytes(head)
    with folder.open() as storage:
        assert len(storage.runs("s")) == 4
        counts = do_stats(storage)
    assert counts == {"catch_ups": 1}


def do_stats(storage: Storage) -> dict[str, int]:
    async def counts(core: Core) -> dict[str, int]:
        return core.driver.stats.counts()

    return operate(storage, counts)
