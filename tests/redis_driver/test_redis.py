"""`RedisStorage`: what is particular to Redis, against a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis._parsers.base import BaseParser
from tests.forking import in_child
from tests.servers.fixtures import running
from tests.servers.redis import RedisServer, redis_client
from tests.storage.helpers import hurry, start

import sessile
from sessile import RedisStorage
from sessile.drivers.redis import durability
from sessile.drivers.redis.errors import translate
from sessile.errors import (
    ClosedError,
    CorruptDataError,
    DeadlineError,
    InvalidInputError,
    NewerVersionError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from sessile.storage import Storage
from sessile.storage.driver import Deadline

from .helpers import driver_of, inputs, keys_of, listed, prefix_of, wait_until

# ---------------------------------------------------------------- addresses


def test_addresses(own_redis: RedisServer) -> None:
    host = f"127.0.0.1:{own_redis.port}"
    urls = [
        f"redis://{host}/1?prefix=app:&client_name=mine&pool_size=2",
        f"valkey://{host}?db=1&prefix=app:",
        f"unix://{own_redis.folder}/socket?db=1&prefix=app:",
    ]
    for number, url in enumerate(urls):
        with sessile.open(url) as storage:
            storage.add_run("s", input=number)
            assert inputs(storage) == list(range(number + 1))
            if number == 0:
                with own_redis.connect() as client:
                    assert any(connection["name"] == "mine" for connection in client.client_list())
    with own_redis.connect() as client:
        assert client.dbsize() == 0
    assert "{s}:head" in keys_of(f"redis://{host}/1?prefix=app:")


@pytest.mark.parametrize(
    "make",
    [
        lambda: RedisStorage("redis://host?no_such_parameter=1"),
        lambda: RedisStorage("redis://host?protocol=3"),
        lambda: RedisStorage("redis+sentinel://host/service?socket_timeout=1"),
        lambda: RedisStorage("redis://host:port"),
        lambda: RedisStorage("http://host"),
        lambda: RedisStorage("redis+elsewhere://host"),
        lambda: RedisStorage("redis+sentinel://host"),
        lambda: RedisStorage("redis+sentinel://:1/service"),
        lambda: RedisStorage("redis://host/1", cluster=True),
        lambda: RedisStorage("unix:///socket", cluster=True),
        lambda: RedisStorage("redis://host?decode_responses=true", cluster=True),
        lambda: RedisStorage("redis://host?retry_on_timeout=true", cluster=True),
        lambda: RedisStorage(7),  # pyright: ignore[reportArgumentType]
        lambda: RedisStorage("redis://host", prefix="a{b}"),
        lambda: RedisStorage("redis://host", prefix="a b"),
        lambda: RedisStorage("redis://host", pool_size=0),
        lambda: sessile.open("redis://host?pool_size=many"),
        lambda: sessile.open("redis://host?cluster=perhaps"),
        lambda: RedisStorage(redis.Redis),  # pyright: ignore[reportArgumentType]
    ],
)
def test_what_is_no_address_is_refused_before_anything_is_done(make: Callable[[], Any]) -> None:
    with pytest.raises(InvalidInputError):
        make()


@pytest.mark.parametrize("url", ["redis://ada:geheim@127.0.0.1:1/0", "redis://ada:geheim@127.0.0.1:1?cluster=true"])
def test_errors_never_show_the_password(url: str) -> None:
    with sessile.open(url) as storage, pytest.raises(StorageUnavailableError) as caught:
        storage.get_session("s")
    assert "geheim" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)
    assert ".." not in str(caught.value)
    assert (caught.value.written, caught.value.retryable) == ("no", True)


def test_a_wrong_password_is_no_matter_of_patience(own_redis: RedisServer) -> None:
    with RedisStorage(f"redis://ada:wrong@127.0.0.1:{own_redis.port}") as storage:
        with pytest.raises(StorageError, match="invalid username-password") as caught:
            storage.add_run("s")
        assert (caught.value.written, caught.value.retryable) == ("no", False)


def test_without_the_library_there_is_one_clear_error() -> None:
    code = "import sys; sys.modules['redis'] = None\nimport sessile\ntry: sessile.RedisStorage\n"
    code += "except ImportError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "RedisStorage needs the package 'redis', which is not installed. Install it with: "
        'pip install "sessile[redis]".'
    ]


def test_without_hiredis_it_works_as_well(redis_url: str) -> None:
    code = f"""if True:
        import asyncio, sys
        sys.modules["hiredis"] = None
        import sessile
        from sessile.errors import CorruptDataError
        async def turn():
            async with sessile.open({redis_url!r}) as storage:
                await storage.aadd_run("s", input=2, format="test/1", messages=[{{"é": "x" * 100_000}}])
                print([run.input for run in await storage.aruns("s")])
        with sessile.open({redis_url!r}) as storage:
            storage.add_run("s", input=1)
            asyncio.run(turn())
            print([run.input for run in storage.runs("s")], [head.session_id for head in storage.sessions().items])
            try:
                storage.get_session("other")
            except CorruptDataError as error:
                print("WRONGTYPE" in str(error))
    """
    with redis_client(redis_url) as client:
        client.set(f"{prefix_of(redis_url)}{{other}}:head", "text")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[1, 2]", "[1, 2] ['s']", "True"]


# ---------------------------------------------------------------- commits


def test_a_turn_is_a_transaction_that_reads_and_a_script_that_commits(own_redis: RedisServer) -> None:
    with RedisStorage(own_redis.url) as storage, own_redis.connect() as client:
        storage.add_run("s", user_id="ada", agent="support")
        client.config_resetstat()
        storage.add_run("s", user_id="ada", agent="support")
        calls = {name: stat["calls"] for name, stat in client.info("commandstats").items()}
        assert calls["cmdstat_evalsha"] == 1  # a commit with all of its lists
        assert calls["cmdstat_exec"] == 1  # a read
        assert "cmdstat_eval" not in calls


def test_what_is_stored_is_text_as_it_came(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        storage.add_run("{a} b", state={"big": 2**63 + 1, "small": 1e-7}, user_id="ada", agent="o{}")
        head = storage.get_session("{a} b", user_id="ada")
        assert head is not None
        key = f"{prefix_of(redis_url)}{{%7Ba%7D%20b}}"
        fields = client.hgetall(f"{key}:head")
        assert fields[b"updated_at"] == str(head.updated_us).encode()
        assert b"9223372036854775809" in fields[b"body"]
        ((seq, commit),) = client.xrange(f"{key}:log")
        assert (seq, commit[b"time"]) == (b"1-0", str(head.updated_us).encode())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_scripts_that_the_server_has_forgotten(redis_url: str, asynchronous: bool) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:

        async def turn(number: int) -> list[Any]:
            await storage.aadd_run("s", input=number)
            return [run.input for run in await storage.aruns("s")]

        def step(runner: asyncio.Runner, number: int) -> list[Any]:
            if asynchronous:
                return runner.run(turn(number))
            storage.add_run("s", input=number)
            return inputs(storage)

        with asyncio.Runner() as runner:
            assert step(runner, 0) == [0]
            client.script_flush()
            assert step(runner, 1) == [0, 1]
            runner.run(storage.aclose())


def test_a_server_that_is_killed_and_restarted_between_commits_and_in_them(own_redis: RedisServer) -> None:
    """Every acknowledged run is there once, whatever moment the server was killed at."""
    acknowledged: list[list[int]] = [[], []]
    with (
        RedisStorage(own_redis.url, timeout=60) as one,
        RedisStorage(own_redis.url, timeout=60) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        one.create_session("s")
        over = threading.Event()

        def write(storage: Storage, which: int) -> None:
            while not over.is_set():
                number = len(acknowledged[which])
                try:
                    storage.add_run("s", input=[which, number], run_id=f"{which}-{number}")
                except StorageUnavailableError:
                    continue  # the same call again, which does nothing if the run is there
                acknowledged[which].append(number)

        writers = [pool.submit(write, one, 0), pool.submit(write, other, 1)]
        try:
            for kills in range(1, 4):
                wait_until(lambda: min(map(len, acknowledged)) >= 20 * kills or any(w.done() for w in writers))  # noqa: B023
                own_redis.kill()
                own_redis.start()
        finally:
            over.set()
        for writer in writers:
            writer.result()
        runs = one.runs("s", last=100_000)
        for which in (0, 1):
            numbers = [run.input[1] for run in runs if run.input[0] == which]
            assert numbers[: len(acknowledged[which])] == acknowledged[which]
            assert len(set(numbers)) == len(numbers)
        one.verify("s")
        assert listed(one) == ["s"]


def test_idle_connections_that_the_server_has_closed(own_redis: RedisServer) -> None:
    with RedisStorage(own_redis.url) as storage:
        storage.add_run("s", input=1)
        own_redis.restart()
        assert inputs(storage) == [1]
        own_redis.restart()
        storage.add_run("s", input=2)

        async def turn() -> None:
            await storage.aadd_run("s", input=3)
            own_redis.restart()
            assert len(await storage.aruns("s")) == 3
            own_redis.restart()
            await storage.aadd_run("s", input=4)
            await storage.aclose()

        asyncio.run(turn())
    with RedisStorage(own_redis.url) as storage:
        assert inputs(storage) == [1, 2, 3, 4]


def test_a_forked_child_has_connections_of_its_own(redis_url: str) -> None:
    with sessile.open(redis_url) as storage:
        storage.add_run("s", input="parent")
        assert in_child(lambda: storage.add_run("s", input="child")) == 0
        storage.add_run("s", input="parent again")
        assert inputs(storage) == ["parent", "child", "parent again"]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_server_that_does_not_answer(own_redis: RedisServer, asynchronous: bool) -> None:
    with RedisStorage(own_redis.url) as storage, own_redis.connect() as client:
        storage.create_session("s")
        hurry(storage, 1)

        async def rename() -> None:
            try:
                await storage.arename("s", "x")
            finally:
                await storage.aclose()

        client.client_pause(60_000, all=False)  # holds back writes, and scripts that may write
        with pytest.raises(DeadlineError):
            asyncio.run(rename()) if asynchronous else storage.rename("s", "x")
        client.client_unpause()
    with RedisStorage(own_redis.url) as storage:
        assert storage.rename("s", "y").name == "y"


def test_an_exhausted_pool(redis_url: str) -> None:
    with sessile.open(f"{redis_url}&pool_size=1") as storage:
        storage.add_run("s")
        hurry(storage, 0.5)
        pool = driver_of(storage).port._pool
        connection = pool.acquire(Deadline(5))
        with pytest.raises(StorageUnavailableError, match=r"All 1 connections of the pool were in use for 0\.5 s"):
            storage.get_session("s")
        pool.release(connection)
        hurry(storage, 30)
        assert storage.get_session("s") is not None


def test_a_closed_storage(redis_url: str) -> None:
    storage = sessile.open(redis_url)
    storage.add_run("s")
    storage.close()
    with pytest.raises(ClosedError):
        storage.get_session("s")
    storage.close()


async def test_a_cancelled_task_leaves_a_sound_pool(own_redis: RedisServer) -> None:
    async with RedisStorage(own_redis.url, pool_size=1) as storage:
        await storage.acreate_session("s")
        with own_redis.connect() as client:
            client.client_pause(60_000, all=False)
            task = asyncio.create_task(storage.arename("s", "x"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            client.client_unpause()
        assert (await storage.arename("s", "y")).name == "y"


def test_a_replica_can_be_read_and_says_that_it_cannot_be_written(own_redis: RedisServer) -> None:
    with running(lambda: RedisServer(replica_of=own_redis)) as replica:
        with RedisStorage(replica.url) as empty:
            assert empty.get_session("s") is None
        with RedisStorage(own_redis.url) as storage, own_redis.connect() as client:
            storage.add_run("s", input=1, user_id="ada")
            client.zadd("sessile:index:updated", {"gone": 1})
            client.execute_command("WAIT", 1, 0)
        with RedisStorage(replica.url) as storage:
            assert inputs(storage) == [1]
            assert listed(storage) == ["s"]  # though the wrong entry cannot be taken out here
            with pytest.raises(ReadOnlyError, match="only follows another one") as caught:
                storage.add_run("s", user_id="ada")
            assert caught.value.written == "no"


def test_a_full_memory_refuses_whole_commits(own_redis: RedisServer) -> None:
    with RedisStorage(own_redis.url) as storage, own_redis.connect() as client:
        storage.add_run("s", input=1)
        client.config_set("maxmemory", "1")
        for action in (lambda: storage.add_run("s", input=2), lambda: storage.create_session("new")):
            with pytest.raises(StorageFullError) as caught:
                action()
            assert caught.value.written == "no"
        assert inputs(storage) == [1]
        assert listed(storage) == ["s"]
        assert storage.delete("s")  # without the commit that says so first
        assert storage.get_session("s") is None
        client.config_set("maxmemory", "0")
        assert storage.get_session("new") is None
        assert listed(storage) == []


def test_a_log_that_was_evicted_is_no_empty_log(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        storage.add_run("s")
        client.delete(f"{prefix_of(redis_url)}{{s}}:log")
        with pytest.raises(CorruptDataError, match="evicted"):
            storage.runs("s")
        with pytest.raises(CorruptDataError, match="evicted"):
            storage.rename("s", "x")
        assert "{s}:log" not in keys_of(redis_url)


def test_keys_of_somebody_else(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        storage.setup()
        for value in ({"session_id": "s"}, {"a": "b"}):
            client.delete(f"{prefix_of(redis_url)}{{s}}:head")
            client.hset(f"{prefix_of(redis_url)}{{s}}:head", mapping=value)
            if "a" not in value:
                with pytest.raises(CorruptDataError):
                    storage.get_session("s")
        client.delete(f"{prefix_of(redis_url)}{{s}}:head")
        client.set(f"{prefix_of(redis_url)}{{s}}:head", "text")
        with pytest.raises(CorruptDataError, match="choose another prefix"):
            storage.get_session("s")


def test_keys_of_a_newer_version_are_refused(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        storage.setup()
        client.set(f"{prefix_of(redis_url)}schema", 9)
        with sessile.open(redis_url) as newer, pytest.raises(NewerVersionError):
            newer.get_session("s")
        client.set(f"{prefix_of(redis_url)}schema", "blue")
        with sessile.open(redis_url) as other, pytest.raises(CorruptDataError):
            other.get_session("s")


OF_ANSWERS: list[tuple[str, type[StorageError], str, bool]] = [
    ("LOADING Redis is loading the dataset in memory", StorageUnavailableError, "no", True),
    ("BUSY Redis is busy running a script", StorageUnavailableError, "no", True),
    ("CLUSTERDOWN Hash slot not served", StorageUnavailableError, "no", True),
    ("NOREPLICAS Not enough good replicas to write.", StorageUnavailableError, "no", True),
    ("TRYAGAIN Multiple keys request during rehashing of slot", StorageUnavailableError, "no", True),
    ("MASTERDOWN Link with MASTER is down", StorageUnavailableError, "no", True),
    ("ERR max number of clients reached", StorageUnavailableError, "unknown", True),
    ("MISCONF Redis is configured to save RDB snapshots, but", StorageError, "no", False),
    ("NOAUTH Authentication required.", StorageError, "no", False),
    ("NOPERM this user has no permissions to run the 'hset' command", StorageError, "unknown", False),
    ("MOVED 7 127.0.0.1:7000", StorageError, "no", False),
    ("CROSSSLOT Keys in request don't hash to the same slot", StorageError, "no", False),
    ("OOM command not allowed when used memory > 'maxmemory'.", StorageFullError, "no", True),
    ("ERR Error running script (call to f_1): @user_script:9: -OOM command not allowed", StorageFullError, "no", True),
    ("READONLY You can't write against a read only replica.", ReadOnlyError, "no", False),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", CorruptDataError, "unknown", False),
    ("ERR something new", StorageError, "unknown", False),
]


@pytest.mark.parametrize(("answer", "kind", "written", "retry"), OF_ANSWERS, ids=[row[0][:12] for row in OF_ANSWERS])
def test_what_an_answer_says_of_a_write(answer: str, kind: type[StorageError], written: str, retry: bool) -> None:
    failed = translate(BaseParser.parse_error(answer), "Appending", "Redis", written="unknown")
    assert type(failed) is kind
    assert (failed.written, failed.retryable) == (written, retry)
    assert failed.hint


# ---------------------------------------------------------------- what the server keeps


@pytest.mark.parametrize(("appendonly", "durable"), [("yes", True), ("no", False)])
def test_durable_is_what_the_server_says(appendonly: str, durable: bool) -> None:
    settings = {"appendonly": appendonly, "appendfsync": "always"}
    with running(lambda: RedisServer(settings=settings)) as server, RedisStorage(server.url) as storage:
        storage.setup()
        assert storage.capabilities.durable is durable
        assert (storage.warnings() == []) is durable


async def test_durable_is_known_to_who_uses_the_asynchronous_face_only(own_redis: RedisServer) -> None:
    async with RedisStorage(own_redis.url) as storage:
        await storage.aget_session("s")
        assert storage.capabilities.durable


def test_warnings() -> None:
    kept = {"aof_enabled": "1", "maxmemory": "0", "maxmemory_policy": "noeviction"}
    assert durability([kept], ["always"]).warnings == ()
    assert "last second" in " ".join(durability([kept, kept], ["always", "everysec"]).warnings)
    assert "half minute" in " ".join(durability([kept], ["no"]).warnings)
    assert durability([kept, {**kept, "aof_enabled": "0"}], ["always"]).log is False
    assert "noeviction" in " ".join(
        durability([{**kept, "maxmemory": "9", "maxmemory_policy": "allkeys-lru"}]).warnings
    )
    assert durability([]).log is False
    assert "ask who runs it" in " ".join(durability([]).warnings)


def test_warnings_of_a_cluster(redis_cluster_url: str) -> None:
    with sessile.open(redis_cluster_url) as storage:
        (warning,) = storage.warnings()
        assert "appendfsync is everysec" in warning


def test_a_user_who_may_not_ask_the_server(own_redis: RedisServer) -> None:
    with own_redis.connect() as client:
        client.acl_setuser("app", enabled=True, nopass=True, keys=["*"], channels=["*"], categories=["+@all"],
                           commands=["-info", "-config"])  # fmt: skip
    with RedisStorage(f"redis://app:x@127.0.0.1:{own_redis.port}") as storage:
        storage.add_run("s")
        assert storage.capabilities.durable is False


def test_a_list_asks_for_all_leases_at_once(own_redis: RedisServer) -> None:
    """As often as the server has read something from the client: for two sessions as for fifty."""

    def reads_of(count: int) -> int:
        with RedisStorage(own_redis.url, lease=0.001) as storage, own_redis.connect() as client:
            before: dict[str, int] = {}
            for number in range(len(listed(storage)), count):
                start(storage, f"s{number:02}")
            for _ in range(2):  # the first time connections are made
                before = client.info("stats")
                page = storage.sessions(limit=count)
            assert [session.status for session in page] == ["interrupted"] * count
            after = client.info("stats")
            return after["total_reads_processed"] - before["total_reads_processed"]

    assert reads_of(2) == reads_of(50)


def test_an_entry_where_the_next_commit_belongs(redis_url: str) -> None:
    """It is an error at once: neither a lost race, nor one of redis-py's."""
    with sessile.open(redis_url) as storage, redis.Redis.from_url(redis_url.partition("?")[0]) as client:
        storage.create_session("s")
        (log,) = (key for key in client.keys("*") if client.type(key) == b"stream")
        client.xadd(log, {"commit_id": "forged", "run": "0", "time": "1", "body": "{}"}, id="2-0")
        with pytest.raises(CorruptDataError, match="no head knows of") as caught:
            storage.add_run("s", input="x")
        assert caught.value.written == "no"
        assert storage.delete("s")
        storage.add_run("s", input="x")
        assert len(storage.runs("s")) == 1
