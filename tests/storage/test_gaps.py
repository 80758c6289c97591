"""What a head counts and its log has not is named: a session without its log is not one without runs.

Files have tests of their own (a log that lacks a line is damaged whole), and object stores have the newest runs twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pytest
from tests.redis_driver.helpers import prefix_of
from tests.servers.dynamodb import dynamodb_client, table_of
from tests.servers.fixtures import connect_mysql
from tests.servers.redis import redis_client

import sessile
from sessile import Storage
from sessile.drivers.dynamodb import items
from sessile.drivers.memory import MemoryDriver
from sessile.drivers.mongodb import documents
from sessile.errors import CorruptDataError

Cut = Callable[[str, Storage, str, Sequence[int]], object]
"""Removes commits of session `s` by hand: of this incarnation, by their numbers."""

STATEMENT = "DELETE FROM sessile_commits WHERE session_id = 's' AND seq IN ({})"


def statement(seqs: Sequence[int]) -> str:
    return STATEMENT.format(", ".join(map(str, seqs)))


def memory(url: str, storage: Storage, incarnation: str, seqs: Sequence[int]) -> None:
    assert storage._core is not None
    assert isinstance(storage._core.driver, MemoryDriver)
    found = storage._core.driver._sessions["s"]
    found.log = [row for row in found.log if row.seq not in seqs]


def sqlite(url: str, storage: Storage, incarnation: str, seqs: Sequence[int]) -> None:
    with sqlite3.connect(url.partition("///")[2]) as connection:
        connection.execute(statement(seqs))


def postgres(url: str, storage: Storage, incarnation: str, seqs: Sequence[int]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement(seqs))  # type: ignore[arg-type]


def mysql(url: str, storage: Storage, incarnation: str, seqs: Sequence[int]) -> None:
    with connect_mysql(url) as connection, connection.cursor() as cursor:
        cursor.execute(statement(seqs))


def mongodb(url: str, storage: Storage, incarnation: str, seqs: Sequence[int]) -> None:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        keys = [documents.commit_key("s", incarnation, seq) for seq in seqs]
        found = client.get_default_database()["sessile_sessions"].delete_many({"_id": {"$in": keys}})
        assert found.deleted_count == len(seqs)


def dynamodb(url: str, storage: Storage, incarnation: str, seqs: Sequence[int]) -> None:
    for seq in seqs:
        key = items.key("s", items.log_key(incarnation, seq))
        dynamodb_client(url).delete_item(TableName=table_of(url), Key=key)


def redis(url: str, storage: Storage, incarnation: str, seqs: Sequence[int]) -> None:
    with redis_client(url) as client:
        for entry, _ in client.xrange(f"{prefix_of(url)}{{s}}:log"):
            if int(entry.partition(b"-")[0]) in seqs or int(entry.partition(b"-")[2]) in seqs:
                client.xdel(f"{prefix_of(url)}{{s}}:log", entry)


KINDS: dict[str, tuple[str, Cut]] = {
    "memory": ("memory://", memory),
    "sqlite": ("sqlite", sqlite),
    "sqlalchemy": ("sqlalchemy+sqlite", sqlite),
    "postgres": ("postgres_url", postgres),
    "mysql": ("mysql_url", mysql),
    "mongodb": ("mongodb_url", mongodb),
    "dynamodb": ("dynamodb_url", dynamodb),
    "redis": ("redis_url", redis),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, Callable[[Sequence[int]], object]]:
    where, cut = KINDS[request.param]
    url = request.getfixturevalue(where) if where.endswith("_url") else where
    url = url if ":" in url else f"{where}:///{tmp_path}/s"
    storage = sessile.open(url)
    for name in ("s", "other"):
        for number in range(1, 6):
            storage.add_run(name, input=number, messages=[{"n": number}], format="test/1")
    head = storage.get_session("s")
    assert head is not None
    assert head.revision == 5
    return storage, lambda seqs: cut(url, storage, head.incarnation, seqs)


def test_a_session_without_its_log(kind: tuple[Storage, Callable[[Sequence[int]], object]]) -> None:
    storage, cut = kind
    with storage:
        cut([1, 2, 3, 4, 5])
        with pytest.raises(CorruptDataError, match=r"log"):
            storage.runs("s")
        with pytest.raises(CorruptDataError):
            storage.messages("s", last_runs=1)
        with pytest.raises(CorruptDataError):
            storage.get_run("s", 3)
        with pytest.raises(CorruptDataError):
            storage.verify("s")
        assert [run.input for run in storage.runs("other")] == [1, 2, 3, 4, 5]
        assert {head.session_id for head in storage.sessions()} == {"s", "other"}
        assert storage.delete("s")
        assert storage.add_run("s", input="anew").number == storage.verify("s") == 1


def test_a_commit_that_is_gone_costs_its_run(kind: tuple[Storage, Callable[[Sequence[int]], object]]) -> None:
    storage, cut = kind
    with storage:
        cut([2, 3])
        for found in (storage.runs("s"), storage.messages("s", last_runs=5), storage.runs("s", from_run=1, to_run=4)):
            assert list(found.unreadable) == [3]
            assert "runs 2 to 3 are missing" in str(found.unreadable[3])
        assert [run.number for run in storage.runs("s")] == [1, 4, 5]
        assert storage.runs("s", last=2).unreadable == {}
        with pytest.raises(CorruptDataError, match="run 2 is missing"):
            storage.get_run("s", 2)
        entries = storage.entries("s")
        assert ({entry.seq for entry in entries}, list(entries.unreadable)) == ({1, 4, 5}, [3])
        with pytest.raises(CorruptDataError):
            storage.verify("s")
        storage.add_run("s", input=6)
        assert [run.number for run in storage.runs("s", last=2)] == [5, 6]
        assert storage.delete("s")


def test_a_head_that_names_another_session_is_damaged_and_that_one_is_not_touched() -> None:
    driver = MemoryDriver()
    with Storage(driver) as storage:
        storage.add_run("s", input="a")
        storage.add_run("other", input="b")
        found = driver._sessions["s"]
        found.head = found.head._replace(session_id="other")
        with Storage(driver) as storage:  # one that does not know the head as it was
            for operation in (
                lambda: storage.get_session("s"),
                lambda: storage.runs("s"),
                lambda: storage.add_run("s", input="c"),
                lambda: storage.rename("s", "new"),
            ):
                with pytest.raises(CorruptDataError, match="says that it is another one"):
                    operation()
            assert storage.delete("s")
            assert storage.get_session("s") is None
            assert [run.input for run in storage.runs("other")] == ["b"]
            assert storage.verify("other") == 1
