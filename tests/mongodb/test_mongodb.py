"""`MongoDbStorage`: what is particular to MongoDB, against a real server."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest
from bson.errors import InvalidDocument
from pymongo import errors as pm
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from tests.forking import forked
from tests.mongodb.helpers import Documents, call, driver_of, inputs, wait_until_answered
from tests.servers.mongodb import FerretServer
from tests.storage.helpers import hurry

import sessile
from sessile import ANY_USER, MongoDbStorage
from sessile.drivers.mongodb.errors import translate
from sessile.errors import (
    ClosedError,
    DeadlineError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    UnsupportedError,
)
from sessile.records import Entry
from sessile.storage.driver import Deadline
from sessile.storage.extending import operate
from sessile.testing.samples import append_of

# ---------------------------------------------------------------- addresses


def test_addresses(mongodb_url: str) -> None:
    with MongoDbStorage(mongodb_url, prefix="x-") as storage:
        storage.add_run("s", input="a")
    url = f"{mongodb_url}?appname=mine&prefix=x-&large_commits=refuse&maxPoolSize=2"
    with sessile.open(url) as storage:
        assert inputs(storage) == ["a"]
    with sessile.open(mongodb_url) as storage:
        assert storage.get_session("s") is None


def test_the_database_is_called_sessile_if_the_url_names_none(mongodb_url: str) -> None:
    parts = urlsplit(mongodb_url)
    prefix = f"{parts.path[1:]}_"
    bare = f"mongodb://{parts.netloc}"
    with sessile.open(f"{bare}?prefix={prefix}") as storage, pymongo.MongoClient[dict[str, Any]](bare) as client:
        storage.add_run("s", input="a")
        names = [f"{prefix}schema", f"{prefix}sessions"]
        assert sorted(name for name in client["sessile"].list_collection_names() if name.startswith(prefix)) == names
        for name in names:
            client["sessile"].drop_collection(name)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MongoDbStorage("http://host/db"),
        lambda: MongoDbStorage("mongodb://"),
        lambda: MongoDbStorage("mongodb://host/db?w=0"),
        lambda: MongoDbStorage(7),  # pyright: ignore[reportArgumentType]
        lambda: MongoDbStorage(prefix="a.b$"),
        lambda: MongoDbStorage(large_commits="drop"),  # pyright: ignore[reportArgumentType]
        lambda: sessile.open("mongodb://host/db?large_commits=drop"),
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_done(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInputError):
        make()


def test_errors_never_show_the_password() -> None:
    with (
        MongoDbStorage("mongodb://ada:geheim@127.0.0.1:1/db", timeout=0.5) as storage,
        pytest.raises(StorageUnavailableError) as caught,
    ):
        storage.get_session("s")
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert (caught.value.written, caught.value.retryable) == ("no", True)


def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mongodb://127.0.0.1:{silent.getsockname()[1]}/db"
        with MongoDbStorage(url, timeout=0.5) as storage, pytest.raises(StorageError) as caught:
            storage.get_session("s")
    assert (caught.value.written, caught.value.retryable) == ("no", True)


def test_a_closed_storage_says_so(storage: MongoDbStorage) -> None:
    driver = driver_of(storage)
    storage.close()
    with pytest.raises(ClosedError):
        storage.get_session("s")
    with pytest.raises(ClosedError):
        driver.port.client()


# ---------------------------------------------------------------- clients of the application's


def test_a_client_of_the_applications_is_left_open(mongodb_url: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        with MongoDbStorage(client) as storage:
            storage.add_run("s", input="a")

            async def read() -> list[Any]:
                return [run.input for run in await storage.aruns("s")]

            assert asyncio.run(read()) == ["a"]
        assert client.get_default_database()["sessile_sessions"].count_documents({}) == 2
        with MongoDbStorage(client) as storage:
            assert inputs(storage) == ["a"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"w": "majority", "j": True}),
        ({"journal": True}, {"w": "majority", "j": True}),
        ({"wtimeoutMS": 20_000}, {"w": "majority", "j": True}),
        ({"w": 1}, {"w": 1}),
    ],
)
def test_commits_wait_for_the_majority_unless_w_is_given(
    mongodb_url: str, options: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Other options of the write concern leave that as it is: a server's own default may be w=1."""
    sent = Sent()
    with pymongo.MongoClient[dict[str, Any]](mongodb_url, event_listeners=[sent], **options) as client:
        MongoDbStorage(client).add_run("s")
    assert sent.concerns[-1] == expected


async def test_an_asynchronous_client_of_the_applications(mongodb_url: str) -> None:
    async with pymongo.AsyncMongoClient[dict[str, Any]](mongodb_url) as client:
        async with MongoDbStorage(client) as storage:
            await storage.aadd_run("s", input="a")
            assert [run.input for run in await storage.aruns("s")] == ["a"]
            with pytest.raises(UnsupportedError, match="another event loop") as caught:
                await asyncio.to_thread(storage.runs, "s")
            assert caught.value.written == "no"
        assert await client.get_default_database()["sessile_sessions"].count_documents({}) == 2


def test_a_client_that_was_closed_says_so(mongodb_url: str) -> None:
    client = pymongo.MongoClient[dict[str, Any]](mongodb_url)
    with MongoDbStorage(client) as storage:
        storage.setup()
        client.close()
        with pytest.raises(ClosedError):
            storage.get_session("s")


class Sent(CommandListener):
    """The names of the commands that a client sends, and their write concerns."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.concerns: list[Any] = []

    def started(self, event: CommandStartedEvent) -> None:
        self.names.append(event.command_name)
        if event.command_name in ("insert", "update"):
            self.concerns.append(event.command.get("writeConcern"))

    def succeeded(self, event: CommandSucceededEvent) -> None:
        pass

    def failed(self, event: CommandFailedEvent) -> None:
        pass


def test_a_turn_is_one_find_and_one_update(mongodb_url: str) -> None:
    """However long the session is."""
    sent = Sent()
    with (
        pymongo.MongoClient[dict[str, Any]](mongodb_url, event_listeners=[sent]) as client,
        MongoDbStorage(client) as storage,
    ):
        for number in range(40):
            storage.add_run("s", input=number)
            if number in (4, 39):
                sent.names.clear()
                view = storage.get_session("s", last_runs=3)
                assert view is not None
                assert [run.input for run in view.runs] == [number - 2, number - 1, number]
                assert sent.names == ["find"]
                storage.add_run("s", input="more")
                assert sent.names == ["find", "find", "update"]


# ---------------------------------------------------------------- schema


def test_eight_processes_that_start_at_once(mongodb_url: str) -> None:
    code = "import sys, sessile; s = sessile.open(sys.argv[1]); s.add_run('s', input=1); s.close()"
    children = [subprocess.Popen([sys.executable, "-c", code, mongodb_url]) for _ in range(8)]
    assert [child.wait() for child in children] == [0] * 8
    with MongoDbStorage(mongodb_url) as storage:
        assert storage.verify("s") == 8
        assert storage.migrate() == []


def test_one_that_began_to_create_indexes_and_is_gone(
    mongodb_url: str, documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents.database["sessile_schema"].insert_one({"_id": "migrating"})
    monkeypatch.setattr("sessile.drivers.mongodb.schema.PATIENCE_SECONDS", 0.2)
    with MongoDbStorage(mongodb_url) as storage:
        storage.add_run("s", input="a")
    assert {"log", "runs", "updated", "filters"} <= set(documents.index_information())
    assert [document["_id"] for document in documents.database["sessile_schema"].find()] == ["schema"]


def test_a_database_of_a_newer_version_is_refused(mongodb_url: str, documents: Documents) -> None:
    with MongoDbStorage(mongodb_url) as storage:
        storage.setup()
    documents.database["sessile_schema"].update_one({"_id": "schema"}, {"$set": {"version": 9, "oldest": 9}})
    with MongoDbStorage(mongodb_url) as storage, pytest.raises(NewerVersionError):
        storage.get_session("s")


def test_indexes_are_left_alone_when_the_storage_is_told_so(mongodb_url: str, documents: Documents) -> None:
    with MongoDbStorage(mongodb_url, auto_migrate=False) as storage:
        with pytest.raises(StorageError, match=r"(?s)lacks schema version 1.*createIndexes.*sessile migrate"):
            storage.add_run("s")
        assert documents.database.list_collection_names() == []
        missing = storage.migrate(dry_run=True)
        assert json.loads(missing[0])["createIndexes"] == "sessile_sessions"
        assert documents.database.list_collection_names() == []
        assert storage.migrate() == missing
        storage.add_run("s", input="a")
        assert inputs(storage) == ["a"]


# ---------------------------------------------------------------- what users send

HOSTILE: dict[str, Any] = {
    "$where": "sleep(1000)",
    "a.b": {"$gt": ""},
    "$set": {"x": 1},
    "": None,
    "\0": "a\0b",
    "\ud800": "\udfff",
    "line\r\nbreak": 2**63 - 1,
    "deep": [[[[{"$ne": 2**70}]]]],
    "deeper": functools.reduce(lambda inner, _: {"$and": [inner]}, range(48), {"$ne": 1}),
    "large": 2**64 + 1,
    "small": -(2**63) - 1,
    "empty": "",
    "empties": ["", {}, [], None],
    "float": 1e300,
    "zero": -0.0,
}


def test_keys_and_values_that_are_mongodbs_own_words(storage: MongoDbStorage) -> None:
    storage.create_session("s", state=HOSTILE, metadata=HOSTILE)
    storage.create_session("$where", user_id="$ne", agent="{$gt: ''}", name="a\\.*")
    storage.add_run("s", input=HOSTILE, format="test/1", messages=[HOSTILE])
    head = storage.get_session("s")
    assert head is not None
    assert head.state == head.metadata == HOSTILE
    assert storage.messages("s")[0].data == HOSTILE
    for key, value in HOSTILE.items():
        if key in ("", "\0", "\ud800"):
            continue  # which no filter may name
        assert [found.session_id for found in storage.sessions(metadata_keys=[key]).items] == ["s"]
        if not isinstance(value, (dict, list)) and key not in ("large", "small"):  # no filter has more than 64 bits
            assert [found.session_id for found in storage.sessions(metadata={key: value}).items] == ["s"]
    for metadata in ({"line\r\nbreak": 2**63 - 2}, {"line\r\nbreak": str(2**63 - 1)}, {"float": "1e300"}):
        assert storage.sessions(metadata=metadata).items == []
    for query in ({"user_id": "$ne"}, {"agent": "{$gt: ''}"}, {"name_prefix": "a\\."}):
        assert [found.session_id for found in storage.sessions(**{"user_id": ANY_USER, **query}).items] == ["$where"]


@pytest.mark.parametrize(
    "text", ['{"$gt": ""}', "$where", "a.b", "line\r\nbreak", " ", "0", "null", "ä\ue000🦪", "x" * 255]
)
def test_ids_that_are_mongodbs_own_words(storage: MongoDbStorage, text: str) -> None:
    storage.add_run("other", input="x", user_id="u", agent="o", state={"kept": 1})
    storage.add_run(text, run_id=text, input="a", user_id=text, agent=text, state={text: 1})
    assert inputs(storage, text) == ["a"]
    assert storage.runs(text, user_id=text)[0].run_id == text
    for query in ({"user_id": text}, {"agent": text}):
        assert [found.session_id for found in storage.sessions(**{"user_id": ANY_USER, **query}).items] == [text]
    assert storage.get_session("other", user_id=text) is None
    assert storage.delete(text, user_id=text)
    assert inputs(storage, "other") == ["x"]
    assert storage.verify("other", user_id="u") == 1


def test_operators_are_no_ids(storage: MongoDbStorage) -> None:
    storage.add_run("s", input="x", user_id="u")
    operator: Any = {"$gt": ""}
    for method in (storage.get_session, storage.runs, storage.delete, storage.add_run):
        with pytest.raises(InvalidInputError):
            method(operator)
        with pytest.raises(InvalidInputError):
            method("s", user_id=operator)
    with pytest.raises(InvalidInputError):
        storage.sessions(user_id=operator)
    assert inputs(storage) == ["x"]


def test_names_at_the_end_of_a_range(storage: MongoDbStorage) -> None:
    names = ["a\ud7ff", "a\ud7ffx", "a\ue000", "\U0010ffff", "\U0010ffffx", "a\U0010ffff", "b"]
    for number, name in enumerate(names):
        storage.create_session(f"s{number}", name=name)
    for prefix in ("a", "a\ud7ff", "\U0010ffff", "a\U0010ffff"):
        found = {head.name for head in storage.sessions(name_prefix=prefix).items}
        assert found == {name for name in names if name.startswith(prefix)}


# ---------------------------------------------------------------- following


def is_replicated(storage: MongoDbStorage) -> bool:
    return driver_of(storage).port.replicated


def test_followers_see_what_is_written(storage: MongoDbStorage) -> None:
    """By change streams where the server has them, else by polling."""
    head = storage.create_session("s")
    seen: list[Entry] = []
    thread = threading.Thread(target=lambda: seen.append(next(storage.follow("s", after=head.revision))))
    thread.start()
    storage.add_run("s")
    thread.join()
    assert seen[0].kind == "run.started"


async def test_many_followers_share_one_change_stream(mongodb_url: str) -> None:
    async with MongoDbStorage(mongodb_url) as storage:
        await storage.asetup()
        if not is_replicated_async(storage):
            pytest.skip("FerretDB 1 has no change streams: name a replica set in TEST_MONGODB_URL.")
        for number in range(20):
            await storage.acreate_session(f"s{number}")

        async def follow(session_id: str) -> Entry:
            return await anext(storage.afollow(session_id, after=1))

        tasks = [asyncio.create_task(follow(f"s{number}")) for number in range(20)]
        await asyncio.sleep(1)
        for number in range(20):
            await storage.arename(f"s{number}", "x")
        assert {entry.kind for entry in await asyncio.gather(*tasks)} == {"session.renamed"}


def is_replicated_async(storage: MongoDbStorage) -> bool:
    return storage._loop_core(asyncio.get_running_loop()).driver.port.replicated  # pyright: ignore[reportAttributeAccessIssue]


# ---------------------------------------------------------------- a server that comes and goes


def test_a_server_that_is_killed_while_a_session_is_written(own_ferretdb: FerretServer) -> None:
    """Every acknowledged run is there once, whatever the server was doing when it was killed."""
    acknowledged: list[int] = []
    over = threading.Event()

    def write() -> None:
        number = 0
        while not over.is_set():
            number += 1
            storage.add_run("s", input=number, state={"last": number})
            acknowledged.append(number)

    with MongoDbStorage(own_ferretdb.url) as storage:
        thread = threading.Thread(target=write)
        thread.start()
        for round_number in range(1, 4):
            while len(acknowledged) < 20 * round_number:
                over.wait(0.001)
            own_ferretdb.kill()
            own_ferretdb.start()
        over.set()
        thread.join()
        assert inputs(storage)[-20:] == acknowledged[-20:]
        assert [run.input for run in storage.runs("s", from_run=1)] == acknowledged
        assert storage.verify("s") == len(acknowledged)


def only_the_claim(port: Any, then: Callable[[], None] = lambda: None) -> Any:
    """A `write_in_order` that does the first write only."""

    async def write_in_order(what: str, first: Any, second: Any, deadline: Deadline) -> tuple[bool, bool]:
        del second
        await port.run(what, lambda: port.collection("sessile_sessions").bulk_write([first]), deadline, write=True)
        then()
        return True, False

    return write_in_order


def test_a_server_that_is_lost_after_the_claim(own_ferretdb: FerretServer) -> None:
    """The commit may count, so that the error does not say that nothing was written; and it does count."""
    with MongoDbStorage(own_ferretdb.url) as storage:
        storage.add_run("s", input="a")
        hurry(storage, 1)
        port = driver_of(storage).port
        plain = port.write_in_order
        port.write_in_order = only_the_claim(port, then=own_ferretdb.kill)
        with pytest.raises(StorageError) as caught:
            storage.add_run("s", input="b")
        assert caught.value.written == "unknown"
        own_ferretdb.start()
        port.write_in_order = plain
        hurry(storage, 30)
        wait_until_answered(storage)
        assert inputs(storage) == ["a", "b"]
        assert storage.verify("s") == 2


def test_idle_connections_are_lost_in_silence(own_ferretdb: FerretServer) -> None:
    with MongoDbStorage(own_ferretdb.url) as storage:
        storage.add_run("s", input="a")
        own_ferretdb.kill()
        own_ferretdb.start()
        assert inputs(storage) == ["a"]
        own_ferretdb.kill()
        own_ferretdb.start()
        storage.add_run("s", input="b")
        assert inputs(storage) == ["a", "b"]


def test_a_forked_child_has_a_client_of_its_own(mongodb_url: str) -> None:
    with MongoDbStorage(mongodb_url) as storage:
        storage.add_run("s", input="parent")
        pid = forked(lambda: storage.add_run("s", input="child"))
        storage.add_run("other", input="parent")
        assert os.waitpid(pid, 0)[1] == 0
        storage.add_run("s", input="parent again")
        assert inputs(storage) == ["parent", "child", "parent again"]


# ---------------------------------------------------------------- errors


def bulk_error(statement: int, code: int) -> pm.BulkWriteError:
    """One statement of a command was refused."""
    return pm.BulkWriteError({"writeErrors": [{"index": statement, "code": code, "errmsg": "refused"}]})


@pytest.mark.parametrize(
    ("error", "kind", "written", "retry"),
    [
        (pm.ServerSelectionTimeoutError("no server"), StorageUnavailableError, "no", True),
        (pm.WaitQueueTimeoutError("pool"), StorageUnavailableError, "no", True),
        (pm.AutoReconnect("cut"), StorageUnavailableError, "unknown", True),
        (pm.NetworkTimeout("late"), DeadlineError, "unknown", True),
        (pm.ExecutionTimeout("late", 50), DeadlineError, "unknown", True),
        (pm.NotPrimaryError("secondary", {"code": 10107}), StorageUnavailableError, "no", True),
        (pm.OperationFailure("secondary", 10107), StorageUnavailableError, "no", True),
        (pm.OperationFailure("stepping down", 11602), StorageUnavailableError, "unknown", True),
        (pm.WriteConcernError("majority", 100, {"writeConcernError": {}}), StorageUnavailableError, "unknown", True),
        (pm.WTimeoutError("majority", 64), DeadlineError, "unknown", True),
        (pm.OperationFailure("conflict", 112), StorageUnavailableError, "no", True),
        (pm.OperationFailure("full", 14031), StorageFullError, "no", True),
        (pm.OperationFailure("not allowed", 13), ReadOnlyError, "no", False),
        (pm.OperationFailure("who?", 18), StorageError, "no", False),
        (pm.OperationFailure("cannot", 238), StorageError, "no", False),
        (pm.OperationFailure("internal", 1), StorageUnavailableError, "unknown", True),
        (bulk_error(0, 112), StorageUnavailableError, "no", True),
        (bulk_error(0, 14031), StorageFullError, "no", True),
        (
            pm.BulkWriteError({"writeConcernErrors": [{"code": 64, "errInfo": {"wtimeout": True}}]}),
            DeadlineError,
            "unknown",
            True,
        ),
        (pm.BulkWriteError({"writeConcernErrors": [{"code": 100}]}), StorageUnavailableError, "unknown", True),
        (pm.OperationFailure("other", 9), StorageError, "no", False),
        (pm.InvalidOperation("Cannot use MongoClient after close"), ClosedError, "no", False),
        (pm.ProtocolError("?"), StorageError, "unknown", False),
        (InvalidDocument("not BSON"), StorageError, "no", False),
    ],
)
def test_errors_say_whether_the_write_happened(error: Any, kind: type[StorageError], written: str, retry: bool) -> None:
    told = translate(error, "Appending", "MongoDB", write=True)
    assert type(told) is kind
    assert (told.written, told.retryable) == (written, retry)
    assert translate(error, "Reading", "MongoDB", write=False).written == "no"


def test_the_deadline_is_kept_where_another_one_is_in_the_way(storage: MongoDbStorage, documents: Documents) -> None:
    """A race for a head that cannot be won ends at the deadline."""
    assert call(storage, "append", append_of())
    driver = driver_of(storage)

    async def never(*_: Any) -> bool:
        return False

    driver.port.write_in_order = only_the_claim(driver.port)
    driver._write_head = never

    async def operation(core: Any) -> None:
        await core.driver.append(append_of(expected=1), Deadline(0.3))

    with pytest.raises(DeadlineError) as caught:
        operate(storage, operation)
    assert caught.value.written == "unknown"
