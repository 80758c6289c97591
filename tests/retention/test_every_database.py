"""What was erased is nowhere in a database, whichever it is: all that it holds is read, by its own client."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pymongo
import pytest
from tests.objects.helpers import driver_of, objects
from tests.retention.helpers import SECRET, talk
from tests.servers.dynamodb import dynamodb_client, table_of
from tests.servers.fixtures import connect_mysql
from tests.servers.redis import redis_client

import sessile
from sessile import ANY_USER
from sessile.retention import Policy, erase_user, retain
from sessile.storage import Storage
from sessile.storage.driver import Deadline
from sessile.storage.faces import step

# ---------------------------------------------------------------- all that a database holds


def of_mysql(url: str, storage: Storage) -> bytes:
    """Every row of every table, those of the index as well."""
    rows: list[Any] = []
    with closing(connect_mysql(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        for (name,) in list(cursor.fetchall()):
            cursor.execute(f"SELECT * FROM `{name}`")
            rows += cursor.fetchall()
    return repr(rows).encode()


def of_redis(url: str, storage: Storage) -> bytes:
    """Every key as the server would write it to its file, and the names of all keys."""
    prefix = url.partition("prefix=")[2]
    with redis_client(url.partition("?")[0]) as client:
        keys = sorted(client.scan_iter(match=f"{prefix}*", count=1000))
        return b"".join(key if isinstance(key, bytes) else key.encode() for key in keys) + b"".join(
            _redis_value(client, key) for key in keys
        )


def _redis_value(client: Any, key: Any) -> bytes:
    kind = client.type(key)
    read = {
        "string": lambda: client.get(key),
        "hash": lambda: client.hgetall(key),
        "list": lambda: client.lrange(key, 0, -1),
        "set": lambda: client.smembers(key),
        "zset": lambda: client.zrange(key, 0, -1, withscores=True),
        "stream": lambda: client.xrange(key),
    }
    return repr(read[kind if isinstance(kind, str) else kind.decode()]()).encode()


def of_mongodb(url: str, storage: Storage) -> bytes:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        return repr([list(database[name].find()) for name in database.list_collection_names()]).encode()


def of_dynamodb(url: str, storage: Storage) -> bytes:
    scan = dynamodb_client(url).get_paginator("scan")
    return repr([page["Items"] for page in scan.paginate(TableName=table_of(url))]).encode()


def of_objects(url: str, storage: Storage) -> bytes:
    names = objects(storage)
    return repr([(name, step(driver_of(storage).port.get("Looking", name, Deadline(30.0)))) for name in names]).encode()


READ = {
    "mysql": of_mysql,
    "redis": of_redis,
    "mongodb": of_mongodb,
    "dynamodb": of_dynamodb,
    "s3": of_objects,
    "gcs": of_objects,
}


@pytest.mark.parametrize("name", READ)
def test_nothing_of_a_user_is_left(name: str, request: pytest.FixtureRequest) -> None:
    """Of ada all is erased, of bob the oldest runs; what is bob's otherwise is there still."""
    url = str(request.getfixturevalue("mysql_itself_url" if name == "mysql" else f"{name}_url"))
    read = READ[name]
    with sessile.open(url) as storage:
        talk(storage, "ada", SECRET)
        talk(storage, "bob", "penguin")
        if name == "mysql":
            assert storage.index().search(SECRET, user_id=ANY_USER)
        before = read(url, storage)
        assert before.count(SECRET.encode()) > 5, "what is looked for can be found"
        assert b"penguin said 1" in before
        report = erase_user(storage, "ada")
        assert (report.complete, len(report.sessions)) == (True, 3)
        if storage.capabilities.rewrites:
            retain(storage, [Policy(runs=1, user_id="bob")])
        if name == "mysql":
            assert not storage.index().search(SECRET, user_id=ANY_USER)
        after = read(url, storage)
        storage.verify("bob", user_id="bob")
    assert SECRET.encode() not in after
    assert b"penguin said 4" in after
    assert (b"penguin said 1" in after) is not storage.capabilities.rewrites
