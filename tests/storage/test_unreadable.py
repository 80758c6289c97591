"""A session that not even its driver can read costs only itself, and whoever may delete anybody's can delete it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymongo
import pytest
from tests.redis_driver.helpers import prefix_of
from tests.servers.dynamodb import dynamodb_client, table_of
from tests.servers.redis import redis_client

import sessile
from sessile import ANY_USER, Storage
from sessile.drivers.objects import layout
from sessile.errors import CorruptDataError, NewerVersionError, StorageError
from sessile.storage.driver import Deadline
from sessile.storage.faces import step

Damage = Callable[[str, Storage], None]


def sqlite(url: str, storage: Storage) -> None:
    with sqlite3.connect(url.partition("///")[2]) as connection:
        connection.execute("UPDATE sessile_sessions SET updated_at = 'late' WHERE session_id = 's1'")


def json(url: str, storage: Storage) -> None:
    (folder,) = Path(url.partition("///")[2], "sessions").glob("s1-*")
    log = folder / "log.jsonl"
    log.write_text(log.read_text().replace('"sessile_log":1', '"sessile_log":99'))


def mongodb(change: dict[str, Any]) -> Damage:
    def damage(url: str, storage: Storage) -> None:
        with pymongo.MongoClient[dict[str, Any]](url) as client:
            heads = client.get_default_database()["sessile_sessions"]
            assert heads.update_one({"_id": '["s1"]'}, change).matched_count == 1

    return damage


def dynamodb(change: str, **values: Any) -> Damage:
    def damage(url: str, storage: Storage) -> None:
        key = {"session_id": {"S": "s1"}, "sk": {"S": "~head"}}
        with_values = {"ExpressionAttributeValues": values} if values else {}
        dynamodb_client(url).update_item(TableName=table_of(url), Key=key, UpdateExpression=change, **with_values)

    return damage


def redis(*commands: tuple[Any, ...]) -> Damage:
    def damage(url: str, storage: Storage) -> None:
        with redis_client(url) as client:
            for name, *more in commands:
                client.execute_command(name, f"{prefix_of(url)}{{s1}}:head", *more)

    return damage


def objects(content: bytes) -> Damage:
    def damage(url: str, storage: Storage) -> None:
        name = layout.head_name(layout.digest("s1"))
        driver: Any = storage._core.driver  # type: ignore[union-attr]
        step(driver.port.put("By the test", name, content, Deadline(30.0)))

    return damage


DAMAGE: dict[str, tuple[str, Damage]] = {
    "a time of SQLite's": ("sqlite", sqlite),
    "a newer version's file": ("json", json),
    "a body of MongoDB's": ("mongodb_url", mongodb({"$set": {"body": 7}})),
    "no incarnation in MongoDB": ("mongodb_url", mongodb({"$unset": {"incarnation": ""}})),
    "an incarnation of MongoDB's": ("mongodb_url", mongodb({"$set": {"incarnation": 7}})),
    "a newer layout in DynamoDB": ("dynamodb_url", dynamodb("SET layout = :it", **{":it": {"N": "99"}})),
    "no incarnation in DynamoDB": ("dynamodb_url", dynamodb("REMOVE incarnation")),
    "an incarnation of DynamoDB's": ("dynamodb_url", dynamodb("SET incarnation = :it", **{":it": {"N": "7"}})),
    "a revision of Redis's": ("redis_url", redis(("HSET", "revision", "many"))),
    "no incarnation in Redis": ("redis_url", redis(("HDEL", "incarnation"))),
    "another kind of Redis's": ("redis_url", redis(("DEL",), ("SET", "x"))),
    "a head of S3's": ("seaweedfs_url", objects(b"{")),
    "a newer head in S3": ("seaweedfs_url", objects(b'{"format":99}')),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_it_is_deleted_by_whoever_may_delete_anybodys(
    what: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where, damage = DAMAGE[what]
    url = request.getfixturevalue(where) if where.endswith("_url") else f"{where}:///{tmp_path}/s"
    with sessile.open(url) as storage:
        for name in ("s0", "s1", "s2"):
            for number in range(3):
                storage.add_run(name, user_id="ada", input=number, messages=[{"n": number}], format="test/1")
        damage(url, storage)
        page = storage.sessions(user_id=ANY_USER)
        assert {head.session_id for head in page} == {"s0", "s2"}
        assert len(page.unreadable) == 1
        with pytest.raises((CorruptDataError, NewerVersionError)):
            storage.runs("s1", user_id="ada")
        with pytest.raises(StorageError):
            storage.delete("s1", user_id="eve")
        assert storage.delete("s1", user_id=ANY_USER)
        assert not storage.delete("s1", user_id=ANY_USER)
        assert storage.get_session("s1", user_id=ANY_USER) is None
        page = storage.sessions(user_id=ANY_USER)
        assert ({head.session_id for head in page}, page.unreadable) == ({"s0", "s2"}, {})
        assert storage.add_run("s1", user_id="bob", input="anew").number == 1
        assert [run.input for run in storage.runs("s1", user_id="bob")] == ["anew"]
        assert storage.verify("s1", user_id="bob") == 1
        assert [storage.verify(name, user_id="ada") for name in ("s0", "s2")] == [3, 3]
        assert storage.delete_user("ada") == 2
        assert [head.session_id for head in storage.sessions(user_id=ANY_USER)] == ["s1"]
