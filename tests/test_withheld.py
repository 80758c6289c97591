"""Databases that are no SQL ones, whose content somebody has changed by hand: only our errors come out of it.

No text that is stored, or was to be, and no password is in an error, in what is printed of it, or in any cause or
context of it. `sql/test_constraints.py` has the same for SQL databases, and the conformance suite what all promise.
"""

from __future__ import annotations

import os
import random
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import pymongo
import pytest
from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs]
from pymongo.errors import PyMongoError
from tests.campaigns import TORTURE
from tests.objects.helpers import driver_of, objects
from tests.redis_driver.helpers import prefix_of
from tests.servers.dynamodb import dynamodb_client, table_of
from tests.servers.redis import RedisServer, redis_client
from tests.storage.helpers import hurry

import sessile
from sessile import ANY_USER, Storage
from sessile.errors import SessileError
from sessile.storage.driver import Deadline
from sessile.storage.faces import step

T = TypeVar("T")

CHANCE = random.Random(os.environ.get("SESSILE_SEED"))

STORED, GIVEN = "pelican-7b1f", "walrus-4711"
"""What stands in the database, and what is to be written. Errors show neither."""

NAMES = frozenset({"_id", "session_id", "incarnation", "sk", "pk", "seq", "commit_id", "key"})
"""Ids, which errors may name, and by which rows are found."""

ODD: list[Any] = [
    STORED, "{" + STORED, f'["{STORED}"]', f'{{"version":1,"entries":"{STORED}"}}', [STORED], {"a": STORED}, 7, None,
]  # fmt: skip


def chosen(values: Iterable[T], count: int = 1) -> list[T]:
    """Some of the values, by the seed of the run; `SESSILE_TORTURE=1` takes all."""
    found = list(values)
    return found if TORTURE or len(found) <= count else CHANCE.sample(found, count)


def fill(storage: Storage) -> None:
    said = [{"role": "user", "content": STORED}]
    about: dict[str, Any] = {"messages": said, "format": "mine", "state": {"w": STORED}, "user_id": "ada"}
    storage.create_session("s", user_id="ada", name=STORED, metadata={"m": STORED})
    for _ in range(3):
        storage.add_run("s", input=STORED, output=STORED, **about)


def calls(storage: Storage) -> list[Callable[[], Any]]:
    return [
        lambda: storage.get_session("s", user_id=ANY_USER),
        lambda: storage.runs("s", user_id=ANY_USER),
        lambda: storage.messages("s", user_id=ANY_USER),
        lambda: storage.sessions(user_id=ANY_USER),
        lambda: storage.verify("s", user_id=ANY_USER),
        lambda: storage.count_sessions(user_id="ada"),
        lambda: storage.add_run("s", input=GIVEN, state={"w": GIVEN}, user_id="ada"),
        lambda: storage.rename("s", GIVEN, user_id="ada"),
        lambda: storage.create_session("t", name=GIVEN, state={"w": GIVEN}, metadata={"m": GIVEN}),
        lambda: storage.rewind("s", at=1, user_id="ada"),
        lambda: storage.erase_run("s", 1, user_id="ada"),
        lambda: storage.sweep(),
        lambda: storage.delete("s", user_id=ANY_USER),
    ]


def check_told(error: BaseException, *secrets: str) -> None:
    """Also what a traceback leaves out, and what other tools show of it."""
    told = ["".join(traceback.format_exception(error))]
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        if id(one) not in seen:
            seen.add(id(one))
            told += [str(one), repr(one), *map(str, getattr(one, "__notes__", []))]
            todo += [below for below in (one.__cause__, one.__context__) if below is not None]
    for secret in secrets:
        assert not [text for text in told if secret in text]


def try_all(url: str) -> int:
    """Call everything; how much of it was refused."""
    refused = 0
    with sessile.open(url, timeout=1) as storage:
        for call in calls(storage):
            try:
                call()
            except SessileError as error:
                refused += 1
                check_told(error, STORED, GIVEN)
    return refused


# ---------------------------------------------------------------- what stands there is something else


def of_redis(url: str) -> Iterator[None]:
    """Each key: another value in each of its fields, and a value of another type."""
    with redis_client(url) as client:
        names = sorted(client.scan_iter(match=f"{prefix_of(url)}*", count=1000))
        kept = {name: client.dump(name) for name in names}

        def restore() -> None:
            for name in client.scan_iter(match=f"{prefix_of(url)}*", count=1000):
                client.delete(name)
            for name, value in kept.items():
                client.restore(name, 0, cast(bytes, value), replace=True)

        for name in chosen(names, 4):
            if client.type(name) == b"hash":
                for field in sorted(set(client.hkeys(name)) - {one.encode() for one in NAMES}):
                    for value in chosen([STORED, f"{{{STORED}", "9" * 5000]):
                        restore()
                        client.hset(name, field, value)
                        yield
            restore()
            client.delete(name)
            client.set(name, STORED)
            yield
            restore()
            client.delete(name)
            yield


def of_mongodb(url: str) -> Iterator[None]:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        for name in database.list_collection_names():
            collection = database[name]
            kept = list(collection.find())
            for field in chosen(sorted({field for document in kept for field in document} - NAMES), 2):
                for value in chosen(ODD):
                    with suppress(PyMongoError):  # an index may refuse it
                        collection.update_many({}, {"$set": {field: value}})
                        yield
                    collection.delete_many({})
                    collection.insert_many(kept)
                    collection.update_many({}, {"$unset": {field: 1}})
                yield
                collection.delete_many({})
                collection.insert_many(kept)


def typed(value: Any) -> Any:
    """A value as DynamoDB's protocol has it."""
    if isinstance(value, list):
        return {"L": [typed(one) for one in cast("list[Any]", value)]}
    if isinstance(value, dict):
        return {"M": {name: typed(one) for name, one in cast("dict[str, Any]", value).items()}}
    return {"NULL": True} if value is None else {"N": str(value)} if isinstance(value, int) else {"S": value}


def of_dynamodb(url: str) -> Iterator[None]:
    client, table = dynamodb_client(url), table_of(url)
    kept = client.scan(TableName=table)["Items"]
    for item in chosen(kept, 3):
        for field in chosen(sorted(item.keys() - NAMES), 4):
            for value in chosen((*ODD, NAMES)):
                for one in kept:
                    client.put_item(TableName=table, Item=one)
                spoilt = {name: stored for name, stored in item.items() if name != field or value is not NAMES}
                if value is not NAMES:
                    spoilt[field] = typed(value)
                with suppress(ClientError):  # a key of an index has a type
                    client.put_item(TableName=table, Item=spoilt)
                yield


def of_objects(url: str) -> Iterator[None]:
    with sessile.open(url) as storage:
        port = driver_of(storage).port

        def put(name: str, data: bytes) -> None:
            step(port.put("Spoiling", name, data, Deadline(30.0)))

        kept = {name: step(port.get("Looking", name, Deadline(30.0))) for name in objects(storage)}
        for spoilt in chosen(kept, 6):
            for text in chosen((STORED, f'"{STORED}"', f'{{"format":1,"rows":[["{STORED}"]],"head":["{STORED}"]}}')):
                for name, found in kept.items():
                    assert found is not None
                    put(name, found.data)
                put(spoilt, text.encode())
                yield


SPOILERS: dict[str, Callable[[str], Iterator[None]]] = {
    "redis": of_redis, "mongodb": of_mongodb, "dynamodb": of_dynamodb, "s3": of_objects, "gcs": of_objects,
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILERS)
def test_what_stands_there_is_something_else(name: str, request: pytest.FixtureRequest) -> None:
    url = str(request.getfixturevalue(f"{name}_url"))
    with sessile.open(url) as storage:
        fill(storage)
    refused = sum(try_all(url) for _ in SPOILERS[name](url))
    assert refused > 0, "else nothing was read"


# ---------------------------------------------------------------- what the database refuses


def test_a_key_of_another_type_and_a_full_server(own_redis: RedisServer) -> None:
    url = f"redis://127.0.0.1:{own_redis.port}"
    with sessile.open(url) as storage, redis_client(url) as client:
        fill(storage)
        client.config_set("maxmemory", "1")
        for call in calls(storage)[6:9]:
            with pytest.raises(SessileError, match="maxmemory") as caught:
                call()
            check_told(caught.value, STORED, GIVEN)


def test_an_index_that_somebody_has_added(mongodb_url: str) -> None:
    with sessile.open(mongodb_url) as storage, pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        fill(storage)
        for name in client.get_default_database().list_collection_names():
            client.get_default_database()[name].create_index("name", unique=True, sparse=True)
        hurry(storage, 2)
        with pytest.raises(SessileError) as caught:
            storage.create_session("t", name=STORED)
        check_told(caught.value, STORED, GIVEN)


PASSWORD = "Hunter2Tomato"

NOBODY = "127.0.0.1:1"

UNREACHABLE = [
    f"postgresql://ada:{PASSWORD}@{NOBODY}/db", f"mysql://ada:{PASSWORD}@{NOBODY}/db",
    f"redis://ada:{PASSWORD}@{NOBODY}", f"rediss://ada:{PASSWORD}@{NOBODY}", f"valkey://:{PASSWORD}@{NOBODY}/1",
    f"redis://ada:{PASSWORD}@{NOBODY}?cluster=true", f"redis+sentinel://ada:{PASSWORD}@{NOBODY}/main",
    f"mongodb://ada:{PASSWORD}@{NOBODY}/db?authSource=admin", f"mongodb://ada:{PASSWORD}@{NOBODY}/db?tls=true",
    f"s3://b?endpoint=http://{NOBODY}&region=x&access_key_id=ada&secret_access_key={PASSWORD}",
    f"gs://b?endpoint=http://{NOBODY}&bearer_token={PASSWORD}",
    f"sqlalchemy+postgresql+psycopg://ada:{PASSWORD}@{NOBODY}/db",
]  # fmt: skip


@pytest.mark.parametrize("url", UNREACHABLE, ids=lambda url: url.replace(PASSWORD, "…"))
async def test_no_error_has_a_password(url: str) -> None:
    with sessile.open(url, timeout=0.3) as storage:
        for call in (calls(storage)[0], calls(storage)[6]):
            with pytest.raises(SessileError) as caught:
                call()
            check_told(caught.value, PASSWORD, GIVEN)
        with pytest.raises(SessileError) as caught:
            await storage.acreate_session("s", name=GIVEN)
        check_told(caught.value, PASSWORD, GIVEN)


@pytest.mark.parametrize("name", ["redis", "mongodb", "postgres", "mysql", "s3"])
def test_a_wrong_password(name: str, request: pytest.FixtureRequest) -> None:
    fixture = {"redis": "own_redis", "s3": "seaweedfs"}.get(name)
    given = str(request.getfixturevalue(f"{name}_url")) if fixture is None else ""
    if fixture is None:
        parts = urlsplit(given)
        url = parts._replace(netloc=f"ada:{PASSWORD}@{parts.netloc.rpartition('@')[2]}").geturl()
    elif name == "redis":
        url = f"redis://ada:{PASSWORD}@127.0.0.1:{request.getfixturevalue(fixture).port}"
    else:
        given = str(request.getfixturevalue("seaweedfs_url"))
        url = re.sub(r"secret_access_key=[^&]*", f"secret_access_key={PASSWORD}", given)
        assert PASSWORD in url
    with sessile.open(url, timeout=5) as storage:
        try:
            storage.add_run("s", input=GIVEN)
        except SessileError as error:
            check_told(error, PASSWORD, GIVEN)
        else:
            assert name in ("s3", "mysql"), "the server has asked nobody"
