"""The tables of an index: who makes them, who leaves them alone, and what becomes of them in crashes and races."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from copy import copy
from itertools import islice
from pathlib import Path

import pytest

import sessile
from sessile import ANY_USER, JsonStorage, MemoryStorage, SqliteStorage
from sessile.errors import CorruptDataError, InvalidInputError, NewerVersionError, StorageError
from sessile.insight import Index, catching_up
from sessile.insight.catching_up import CatchingUp, Pace
from sessile.insight.index import update_beside
from sessile.insight.place import VERSION
from sessile.insight.writing import News, Writer
from sessile.storage.core import Core
from sessile.storage.driver import Listing, ListQuery
from sessile.storage.extending import operate
from sessile.storage.ids import new_incarnation
from sessile.storage.snapshots import Draft
from sessile.storage.vocabulary import RunEnded, RunStarted, SessionCreated

from .conftest import fresh


def test_an_index_of_a_newer_version_is_left_alone(sqlite: SqliteStorage) -> None:
    sqlite.add_run("s", input="hello")
    index = Index(sqlite)
    index.update()
    later = {"version": VERSION + 1}

    async def make_newer(run):  # type: ignore[no-untyped-def] (as Place calls it)
        await run(index._place.sql("UPDATE {state} SET version = :version, oldest = :version"), later)

    index._place.change(make_newer)
    before = index._place.read("SELECT * FROM {state}")
    fresh = Index(sqlite)
    for ask in (fresh.update, fresh.runs, lambda: fresh.search("hello"), fresh.usage):
        with pytest.raises(NewerVersionError, match=f"version {VERSION + 1}"):
            ask()
    assert index._place.read("SELECT * FROM {state}") == before


def test_an_older_index_is_made_anew(sqlite: SqliteStorage, tmp_path: Path) -> None:
    sqlite.add_run("s", input="hello")
    index = Index(sqlite)
    index.update()

    async def make_older(run):  # type: ignore[no-untyped-def] (as Place calls it)
        await run(index._place.sql("UPDATE {state} SET version = 0, oldest = 0"), None)
        await run(index._place.sql("DELETE FROM {runs}"), None)

    index._place.change(make_older)
    with (
        SqliteStorage(tmp_path / "sessions.db", auto_migrate=False) as reading,
        pytest.raises(StorageError, match="is older than version") as refused,
    ):
        Index(reading).runs()
    assert "sessile index" in str(refused.value)
    assert len(Index(sqlite).runs()) == 1


def test_dropping_leaves_nothing_and_no_harm(index: Index) -> None:
    index._storage.add_run("s", input="hello")
    assert len(index.search("hello")) == 1
    index.drop()
    assert index._place.state_version() is None
    index._storage.delete("s")
    index._storage.add_run("s", input="hello again")
    assert len(index.search("hello")) == 1


async def _talk(core: Core, session_id: str, runs: int) -> None:
    """A session of many runs, written at once."""
    await core.prepare(core.deadline())
    created = SessionCreated(session_id=session_id, kind="agent", user_id="ada", incarnation=new_incarnation())
    drafts = [Draft([created.entry()])]
    for number in range(1, runs + 1):
        which = (f"{session_id}-{number}", number, None, "a")
        begun = RunStarted(input=f"question {number} of {session_id}").entry(*which)
        drafts.append(Draft([begun, RunEnded(status="completed", output="yes").entry(*which)], number))
    await core.append_batch(None, session_id, drafts, core.deadline())


def test_what_is_entered_in_several_lots_is_whole(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lot may fail while the next ones are read: what was entered before stays, and the next look does the rest."""
    monkeypatch.setattr(catching_up, "SERVED", 200)
    monkeypatch.setattr(catching_up, "PAGE", 2)
    for session in range(4):
        operate(index._storage, _talk, f"s{session}", 300)
    write, lots = Writer.write, list[int]()

    async def failing(self: Writer, news: Sequence[News]) -> None:
        lots.append(sum(len(one.runs) for one in news))
        if len(lots) == 2:
            raise StorageError("The disk is full.")
        await write(self, news)

    with monkeypatch.context() as patched:
        patched.setattr(Writer, "write", failing)
        with pytest.raises(StorageError, match="The disk is full"):
            index.update()
    assert index._place.read("SELECT COUNT(*) FROM {runs} WHERE number > 0") == [(lots[0],)]
    assert index._place.read("SELECT since, after_time FROM {state}") == [(0, None)]
    index.update()
    assert index.usage(user_id="ada").total.runs == 1200
    assert len(index.search("s2 300", user_id="ada", limit=100)) == 1
    assert len(index.search("question 7", user_id="ada", limit=100)) == 4


def test_another_one_may_make_it_anew_while_it_is_built(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is in the middle of it then begins again: how far it was is nothing that the new tables have."""
    monkeypatch.setattr(catching_up, "SERVED", 3)
    monkeypatch.setattr(catching_up, "PAGE", 4)
    storage, seen = index._storage, list[int]()
    for number in range(20):
        storage.add_run(f"s{number}", input="hello")

    def progress(sessions: int) -> None:
        seen.append(sessions)
        if len(seen) == 4:
            other = copy(index._place)
            other.drop()
            other.prepare()

    index.update(progress)
    assert sorted(seen) == seen
    assert seen[-1] > 20
    assert index.usage().total.runs == 20
    assert len(index.search("hello", limit=100)) == 20
    assert index.count_sessions(status="completed") == 20


def test_what_has_been_entered_is_not_listed_again(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much has changed just before, which a look must not miss: it would take each look as long."""
    storage, listed, read = index._storage, list[int](), catching_up.changed_rows

    async def changed_rows(
        core: Core, query: ListQuery, first: int | None = None, seen: int | None = None
    ) -> tuple[Listing, int, int]:
        found = await read(core, query, first, seen)
        listed.append(len(found[0].rows))
        return found

    for number in range(30):
        storage.add_run(f"s{number}", input="hello")
    index.update()
    monkeypatch.setattr(catching_up, "changed_rows", changed_rows)
    assert len(index.search("hello", limit=100)) == 30
    storage.add_run("s3", input="later")
    assert [hit.session_id for hit in index.search("later")] == ["s3"]
    storage.delete("s4")
    assert len(index.search("hello", limit=100)) == 29
    if index._place.shared:
        assert sum(listed) < 10


def test_another_one_may_drop_it(sqlite: SqliteStorage) -> None:
    sqlite.add_run("s", input="hello")
    one, other = Index(sqlite), Index(sqlite)
    assert len(one.runs()) == 1
    other.drop()
    assert len(one.search("hello")) == 1


def test_what_is_no_run_is_named_and_skipped(sqlite: SqliteStorage) -> None:
    for message in (
        {"kind": "response", "usage": 3},
        {"kind": "response", "model_name": 7, "parts": "x"},
        {"parts": [4]},
    ):
        sqlite.add_run("s", input="hello", messages=[message], format="pydantic-ai/2")
    sqlite.add_run("s", input="hello", error={"type": ["odd"]}, status="failed")
    page = Index(sqlite).runs()
    assert [run.number for run in page] == [4, 3, 2]
    assert set(page.unreadable) == {"s#1"}


def test_a_damaged_run_is_named_and_skipped(sqlite: SqliteStorage, tmp_path: Path) -> None:
    for number in range(60):
        sqlite.add_run("s", input=f"hello {number}", user_id="ada")
    sqlite.add_run("t", input="hello", user_id="bob")
    with sqlite3.connect(tmp_path / "sessions.db") as by_hand:
        by_hand.execute("UPDATE sessile_commits SET body = 'nonsense' WHERE session_id = 's' AND run IN (7, 30)")
    index = Index(sqlite)
    page = index.runs(user_id="ada", limit=100)
    assert {run.number for run in page} == set(range(1, 61)) - {7, 30}
    assert set(page.unreadable) == {"s#7", "s#30"}
    assert all(isinstance(error, CorruptDataError) for error in page.unreadable.values())
    assert index.runs(user_id="bob").unreadable == {}
    assert set(index.search("hello", user_id=ANY_USER).unreadable) == {"s#7", "s#30"}
    assert index.usage(user_id="ada").total.runs == 58


def test_a_damaged_session_is_named_and_skipped(sqlite: SqliteStorage, tmp_path: Path) -> None:
    sqlite.add_run("bad", input="hello")
    sqlite.add_run("good", input="hello")
    with sqlite3.connect(tmp_path / "sessions.db") as by_hand:
        by_hand.execute("UPDATE sessile_sessions SET body = '{' WHERE session_id = 'bad'")
    page = Index(sqlite).runs(user_id=ANY_USER)
    assert [run.session_id for run in page] == ["good"]
    assert set(page.unreadable) == {"bad"}


def test_no_place_for_an_index(tmp_path: Path) -> None:
    with (
        SqliteStorage(tmp_path / "sessions.db") as storage,
        pytest.raises(InvalidInputError, match="none that an index"),
    ):
        Index(storage, "memory://")


def test_tables_are_made_by_those_who_may(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        storage.add_run("s", input="hello")
    with SqliteStorage(tmp_path / "sessions.db", auto_migrate=False) as storage:
        with pytest.raises(StorageError, match="has no index") as caught:
            Index(storage).runs()
        assert "sessile index" in caught.value.hint
        index = Index(storage)
        assert any("CREATE TABLE" in statement for statement in index.migrate(dry_run=True))
        assert index.migrate()
        assert index.migrate() == []
        assert len(Index(storage).runs()) == 1


def test_what_other_processes_delete_is_found_by_a_check(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "sessions.db") as storage, Index(storage, f"sqlite:///{tmp_path}/i.db") as index:
        for session in ("a", "b"):
            storage.add_run(session, input="hello")
        assert index.usage().total.runs == 2
        with SqliteStorage(tmp_path / "sessions.db") as other:
            other.delete("a")
        assert [run.session_id for run in index.runs()] == ["b"]  # rows are held against the heads
        assert index.check() == 1
        assert index.usage().total.runs == 1
        with SqliteStorage(tmp_path / "sessions.db") as other:
            other.delete("b")
            other.add_run("b", input="another one")
        assert [run.number for run in index.runs()] == [1]
        assert len(index.search("hello")) == 0
        assert len(index.search("another")) == index.usage().total.runs == 1


@pytest.mark.parametrize("since_then", [0, 1, 2, 3])
def test_a_backup_that_is_put_back(tmp_path: Path, since_then: int) -> None:
    """An index elsewhere knows runs that were made after the backup: it forgets them, and learns what comes instead."""
    sessions, backup, into = tmp_path / "sessions", tmp_path / "backup", f"sqlite:///{tmp_path}/i.db"
    with JsonStorage(sessions) as storage:
        storage.add_run("s", input="before", output="apple")
    shutil.copytree(sessions, backup)
    with JsonStorage(sessions) as storage, Index(storage, into) as index:
        for _ in range(2):
            storage.add_run("s", input="lost", output="banana")
        assert len(index.search("banana")) == index.usage().total.runs - 1 == 2
    shutil.rmtree(sessions)
    backup.rename(sessions)
    with JsonStorage(sessions) as storage, Index(storage, into) as index:
        for _ in range(since_then):
            storage.add_run("s", input="after", output="cherry")
        assert [run.number for run in index.runs()] == [*range(since_then + 1, 0, -1)]
        assert len(index.search("banana")) == 0
        assert len(index.search("cherry")) == since_then
        assert index.usage().total.runs == since_then + 1
        assert len(index.search("apple")) == 1


def test_several_threads_and_indexes_at_once(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "sessions.db", synchronous="NORMAL") as storage:
        indexes = [Index(storage) for _ in range(3)]
        failed: list[Exception] = []

        def work(number: int) -> None:
            try:
                for step in range(15):
                    storage.add_run(f"s{(number + step) % 4}", input=f"hello {number} {step}")
                    indexes[number].update()
            except Exception as error:  # noqa: BLE001 (told by the test)
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(Index(storage).runs(limit=1000)) == 45
        assert len(Index(storage).search("hello", limit=100)) == 45


BUILDER = """
import sys
import sessile
from sessile.insight import Index, catching_up
from sessile.insight.catching_up import Pace
from sessile.insight.index import update_beside
catching_up.SERVED, catching_up.PAGE = 3, 7
with sessile.open(sys.argv[1]) as storage:
    print("ready", flush=True)
    sys.stdin.readline()
    update_beside(Index(storage), Pace(3, lambda: print("step", flush=True), ahead=True))
    print("end", flush=True)
"""


@pytest.mark.parametrize("place", ["sqlite", "postgres", "mariadb"])
def test_several_processes_build_it_and_are_killed(request: pytest.FixtureRequest, tmp_path: Path, place: str) -> None:
    """Three build one index at the same moment; two of them die of SIGKILL in the middle of it."""
    url = f"sqlite:///{tmp_path}/sessions.db" if place == "sqlite" else fresh(request.getfixturevalue(place).url)
    with sessile.open(url) as storage:
        for session in range(30):
            for number in range(4):
                storage.add_run(f"s{session}", input=f"hello {number}")
        builders = [
            subprocess.Popen(
                [sys.executable, "-c", BUILDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        for one in builders:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n"
        for one in builders:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        for one, lines in zip(builders, (1, 4, 1000), strict=True):
            assert one.stdout is not None
            said = list(islice(one.stdout, lines))
            if lines < 1000:
                one.send_signal(signal.SIGKILL)
            else:
                assert said[-1] == "end\n"
            one.communicate()
        with Index(storage) as index:
            assert index.usage().total.runs == 120
            assert sum(1 for _ in pages(index)) == 120
            read = index._place.read
            assert read("SELECT count(*) FROM {words} WHERE run NOT IN (SELECT id FROM {runs})") == [(0,)]
            assert read("SELECT count(*) FROM {facets} WHERE session NOT IN (SELECT id FROM {sessions})") == [(0,)]
            assert index.count_sessions(status="completed") == 30


def pages(index: Index):  # type: ignore[no-untyped-def] (hits, page by page)
    cursor = None
    while True:
        page = index.search("hello", limit=50, cursor=cursor)
        yield from page
        cursor = page.next_cursor
        if cursor is None:
            return


def test_a_storage_in_memory_has_its_index_there() -> None:
    with MemoryStorage() as storage, Index(storage) as index:
        storage.add_run("s", input="hello")
        assert len(index.runs()) == 1
        storage.delete("s")
        assert index.usage().total.runs == 0


def test_a_commit_that_others_see_late_is_entered_by_the_next_look(
    sqlite: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may stand still between its two questions: what the first could not see is not known."""
    for number in range(25):
        sqlite.add_run(f"s{number}", input="hello")
    sqlite.add_run("late", input="hello")
    index = Index(sqlite)
    index.update()
    now = operate(sqlite, catching_up._now)
    began = now - 600_000_000

    async def put_back(run):  # type: ignore[no-untyped-def] (as Place calls it)
        await run(index._place.sql("UPDATE {state} SET since = :since"), {"since": began - 600_000_000})

    index._place.change(put_back)
    window = CatchingUp._window

    def interrupted(self: CatchingUp, since: int) -> catching_up.Window:
        found = window(self, since)
        if not sqlite.runs("late")[1:]:
            sqlite.add_run("late", input="hello again")
            with sqlite3.connect(tmp_path / "sessions.db") as raw:
                raw.execute(
                    "UPDATE sessile_sessions SET updated_at = ? WHERE session_id = 'late'", (began - 1_000_000,)
                )
        return found

    async def ten_minutes_ago(core: Core) -> int:
        return began

    with monkeypatch.context() as patched:
        patched.setattr(CatchingUp, "_window", interrupted)
        patched.setattr(catching_up, "_now", ten_minutes_ago)
        index.update()
    index.update()
    assert len(index.runs(limit=100)) == 27


@pytest.mark.parametrize("column", ["started_at", "ended_at", "first_token", "input_tokens", "total_cost"])
def test_a_number_of_a_run_that_is_none_is_damage(sqlite: SqliteStorage, tmp_path: Path, column: str) -> None:
    sqlite.add_run("s", input="hello")
    index = Index(sqlite)
    index.update()
    with sqlite3.connect(tmp_path / "sessions.db") as raw:
        raw.execute(f"UPDATE sessile_index_runs SET {column} = x'fffe'")
    for ask in (index.runs, lambda: index.search("hello")):
        with pytest.raises(CorruptDataError, match="The index is damaged"):
            ask()
    index.rebuild()
    assert len(index.runs()) == 1


def test_what_failed_beside_its_reader_is_entered_by_the_next_look(
    sqlite: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the thread has ended before the reader has more for it: what comes next must not pass for all."""
    for number in range(20):
        sqlite.add_run(f"s{number}", input="hello")
    monkeypatch.setattr(catching_up, "PAGE", 10)
    failing = True
    really = Writer.write

    async def write(self: Writer, news: Sequence[News]) -> None:
        nonlocal failing
        if failing:
            raise StorageError("The connection was lost.")
        await really(self, news)

    def until_it_has_failed() -> None:
        nonlocal failing
        for thread in threading.enumerate():
            if thread.name == "sessile-index":
                thread.join()
        failing = False

    monkeypatch.setattr(Writer, "write", write)
    index = Index(sqlite)
    with pytest.raises(StorageError, match="connection was lost"):
        update_beside(index, Pace(17, until_it_has_failed, ahead=True))
    assert index.usage().total.runs == 20


def test_what_is_left_of_an_index_is_built_anew(sqlite: SqliteStorage) -> None:
    """As a process leaves it that is killed while it drops it, where a database makes no transaction of that."""
    sqlite.add_run("s", input="hello")
    index = Index(sqlite)
    index.update()

    async def drop_some(run):  # type: ignore[no-untyped-def] (as Place calls it)
        await run(index._place.sql("DROP TABLE {state}"), None)
        await run(index._place.sql("DELETE FROM {runs}"), None)

    index._place.change(drop_some)
    again = Index(sqlite)
    again.rebuild()
    assert again.usage().total.runs == len(again.search("hello")) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a stack is bounded elsewhere")
def test_an_index_where_no_thread_can_be_started(sqlite: SqliteStorage) -> None:
    for number in range(3):
        sqlite.add_run(f"s{number}", input="hello")
    index = Index(sqlite)
    before = threading.stack_size(2**46)  # of which no system has so much
    try:
        with pytest.raises(RuntimeError, match="start new thread"):
            update_beside(index, Pace(1, lambda: None, ahead=True))
    finally:
        threading.stack_size(before)
    assert index.usage().total.runs == 3
