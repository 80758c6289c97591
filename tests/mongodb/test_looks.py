"""What `MongoDbStorage` reads at once, what it makes of damaged heads, and what it counts."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymongo
import pytest
from tests.mongodb.helpers import Documents, call, driver_of
from tests.mongodb.test_crashes import kill_before
from tests.mongodb.test_mongodb import Sent
from tests.servers.mongodb import FerretServer

from sessile import ANY_USER, MongoDbStorage
from sessile.errors import CorruptDataError, StorageError
from sessile.storage.driver import Deadline, ListQuery, RecordName, Span
from sessile.storage.faces import step
from sessile.testing.samples import append_of


def fill(storage: MongoDbStorage, count: int, **fields: Any) -> None:
    for number in range(count):
        assert call(storage, "append", append_of(f"s{number}", updated_at=number, created_at=number, **fields))


def test_how_many_commands_there_are(mongodb_url: str) -> None:
    """However many sessions are asked for."""
    sent = Sent()
    with (
        pymongo.MongoClient[dict[str, Any]](mongodb_url, event_listeners=[sent]) as client,
        MongoDbStorage(client) as storage,
    ):
        fill(storage, 20)
        for number in range(20):
            call(storage, "put_record", f"s{number}", "i1", "k", b"x")
        sent.names.clear()
        names = [RecordName(f"s{number}", "i1", "k") for number in range(20)]
        assert call(storage, "get_records", names) == [b"x"] * 20
        assert sent.names == ["find"]
        found = call(storage, "newest", [(f"s{number}", "i1") for number in range(20)], 3)
        assert [[row.seq for row in rows] for rows in found] == [[1]] * 20
        assert sent.names == ["find"] * 3
        assert call(storage, "entries", "s1", "i1", Span(key="k")) == []
        assert sent.names == ["find"] * 4


def test_only_commits_with_a_key_have_one(storage: MongoDbStorage, documents: Documents) -> None:
    write = append_of("s")
    assert call(storage, "append", write)
    assert call(storage, "append", (more := append_of("s", 1))._replace(commits=(more.commits[0]._replace(key="k"),)))
    assert ["key" in document for document in documents.find({"seq": {"$in": [1, 2]}}).sort("seq")] == [False, True]


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("order", ["updated", "created"])
def test_a_damaged_head_costs_only_itself(
    storage: MongoDbStorage, documents: Documents, order: Any, ascending: bool
) -> None:
    fill(storage, 8)
    for session_id, change in (
        ("s2", {"$unset": {"incarnation": ""}}),
        ("s3", {"$set": {"body": 7}}),
        ("s5", {"$set": {"updated_at": "late", "created_at": "late"}}),
        ("s6", {"$set": {"status": ["running"]}}),
    ):
        assert documents.update_one({"session_id": session_id, "revision": 1}, change).matched_count == 1
    ids = ["s0", "s1", "s4", "s7"]
    for limit in (1, 2, 3, 50):
        rows: list[str] = []
        unreadable: dict[str, StorageError] = {}
        after = None
        while True:
            page = call(storage, "list", ListQuery(order=order, ascending=ascending, limit=limit, after=after))
            rows += [row.session_id for row in page.rows]
            unreadable |= page.unreadable
            after = page.after
            if after is None:
                break
        assert rows == (ids if ascending else ids[::-1])
        # A time that is none has no place: where it comes last, only a page that is not full shows it.
        assert unreadable.keys() >= {"s2", "s3", "s6"}
        assert {type(error) for error in unreadable.values()} == {CorruptDataError}
        if limit == 50 or not ascending:
            assert "s5" in unreadable
    with pytest.raises(CorruptDataError):
        call(storage, "load", "s2", 1)


@pytest.mark.parametrize("incarnation", ["another", 7])
def test_a_head_of_an_incarnation_that_has_no_log_is_not_waited_for(
    mongodb_url: str, documents: Documents, incarnation: Any
) -> None:
    """Only its end by another would change it; and it can be deleted."""
    with MongoDbStorage(mongodb_url, timeout=600) as storage:
        storage.add_run("s", user_id="ada", input="once")
        assert documents.update_one({"revision": 1}, {"$set": {"incarnation": incarnation}}).matched_count == 1
        with pytest.raises(CorruptDataError):
            storage.verify("s", user_id="ada")
        assert storage.delete("s", user_id="ada" if incarnation == "another" else ANY_USER)
        assert storage.add_run("s", user_id="ada").number == 1
        assert storage.verify("s", user_id="ada") == 1


# ---------------------------------------------------------------- counters


def test_connections_that_are_made_anew_are_counted(
    own_ferretdb: FerretServer, caplog: pytest.LogCaptureFixture
) -> None:
    with MongoDbStorage(own_ferretdb.url) as storage:
        storage.add_run("s", input="a")
        assert "reconnects" not in driver_of(storage).stats.counts()
        own_ferretdb.kill()
        with pytest.raises(StorageError):
            step(driver_of(storage).append(append_of("t"), Deadline(1)))
        own_ferretdb.start()
        with caplog.at_level(logging.INFO, logger="sessile"):
            assert [run.input for run in storage.runs("s")] == ["a"]
        assert driver_of(storage).stats.counts()["reconnects"] >= 1
        assert "was made in place of one" in caplog.text


def test_waits_for_a_connection_are_counted(mongodb_url: str) -> None:
    with MongoDbStorage(f"{mongodb_url}?maxPoolSize=1") as storage:
        storage.add_run("s")
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: storage.get_session("s"), range(40)))
        assert driver_of(storage).stats.counts()["pool_waits"] >= 1


@pytest.mark.usefixtures("impatient")
def test_heads_that_are_brought_up_to_date_are_counted(mongodb_url: str, storage: MongoDbStorage) -> None:
    storage.add_run("s", input="a")
    kill_before(mongodb_url, "between", 1, "storage.rename('s', 'new')")
    head = storage.get_session("s")
    assert head is not None
    assert head.name == "new"
    assert driver_of(storage).stats.counts() == {"catch_ups": 1}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that lags is at once taken for left by a crash."""
    monkeypatch.setattr("sessile.storage.core.LAG", 0)
