"""Clients of the application's, Sentinels, and a cluster that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import redis
import redis.asyncio
from tests.servers.fixtures import running
from tests.servers.redis import RedisCluster, RedisServer, Sentinel

import sessile
from sessile import RedisStorage
from sessile.errors import DeadlineError, InvalidInputError, StorageError, StorageUnavailableError, UnsupportedError

from .helpers import inputs, listed, prefix_of, wait_until

# ---------------------------------------------------------------- clients of the application's


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 2}])
def test_a_client_is_used_and_left_open(own_redis: RedisServer, options: dict[str, Any]) -> None:
    with redis.Redis(port=own_redis.port, **options) as client:
        with RedisStorage(client, prefix="a:") as storage:
            storage.add_run("s", input=1, user_id="ada")
            own_redis.restart()
            assert inputs(storage) == [1]
            assert listed(storage, user_id="ada") == ["s"]
            assert storage.capabilities.durable
        assert client.ping()


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 2}])
async def test_an_asynchronous_client_is_used_and_left_open(own_redis: RedisServer, options: dict[str, Any]) -> None:
    async with redis.asyncio.Redis(port=own_redis.port, **options) as client:
        async with RedisStorage(client, prefix="a:") as storage:
            await storage.aadd_run("s", input=1, user_id="ada")
            assert [run.input for run in await storage.aruns("s", user_id="ada")] == [1]
            assert await storage.acount_sessions(user_id="ada") == 1
        assert await client.ping()


WRONG: list[dict[str, Any]] = [{"retry": 5}, {"port": "secret"}, {"nonsense": 1}]


@pytest.mark.parametrize("arguments", [*WRONG, {"host": 5}], ids=str)
def test_a_client_that_was_made_with_wrong_arguments(arguments: dict[str, Any]) -> None:
    storage = RedisStorage(redis.Redis(connection_pool=redis.ConnectionPool(**arguments)))
    with pytest.raises(InvalidInputError, match="Correct the arguments that the client was made with") as caught:
        storage.add_run("s", input=1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("arguments", WRONG, ids=str)
async def test_an_asynchronous_client_that_was_made_with_wrong_arguments(arguments: dict[str, Any]) -> None:
    pool = redis.asyncio.ConnectionPool(**arguments)
    storage = RedisStorage(redis.asyncio.Redis(connection_pool=pool))
    with pytest.raises(InvalidInputError, match="Correct the arguments that the client was made with") as caught:
        await storage.aadd_run("s", input=1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("of", ["server", "cluster"])
def test_an_asynchronous_client_serves_one_event_loop(
    redis_url: str, redis_cluster: RedisCluster, redis_cluster_url: str, of: str
) -> None:
    """Also when that is closed: a commit over a connection it has left open would be sent, and its answer lost."""
    client: Any = redis.asyncio.Redis.from_url(redis_url.partition("?")[0])
    if of == "cluster":
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=redis_cluster.nodes[0].port)
    storage = RedisStorage(client, prefix=prefix_of(redis_url if of == "server" else redis_cluster_url))
    with asyncio.Runner() as runner:
        runner.run(storage.aadd_run("s", input=1))
        for another in (storage.add_run, lambda *args: asyncio.run(storage.aadd_run(*args))):
            with pytest.raises(UnsupportedError, match="belong to another event loop"):
                another("s")
        assert [run.input for run in runner.run(storage.aruns("s"))] == [1]
        runner.run(client.aclose())
    with pytest.raises(UnsupportedError, match="belong to another event loop"):
        asyncio.run(storage.aadd_run("s"))


def test_a_client_of_a_cluster(redis_cluster: RedisCluster, redis_cluster_url: str) -> None:
    prefix = prefix_of(redis_cluster_url)
    with redis_cluster.connect() as client:
        with RedisStorage(client, prefix=prefix) as storage:
            storage.add_run("s", input=1)
            assert inputs(storage) == [1]
            assert not storage.capabilities.exact_order
        assert client.ping()

    async def turn() -> None:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=redis_cluster.nodes[0].port) as client:
            async with RedisStorage(client, prefix=prefix) as storage:
                await storage.aadd_run("s", input=2)
                assert [run.input for run in await storage.aruns("s")] == [1, 2]
                assert [head.session_id for head in (await storage.asessions()).items] == ["s"]
            await client.set(f"{prefix}still-open", 1)

    asyncio.run(turn())


def test_a_client_of_a_cluster_that_decodes_is_refused(redis_cluster: RedisCluster) -> None:
    port = redis_cluster.nodes[0].port
    with (
        redis.RedisCluster(host="127.0.0.1", port=port, decode_responses=True) as client,
        pytest.raises(InvalidInputError, match="decode_responses"),
    ):
        RedisStorage(client)


def test_a_client_that_cannot_connect() -> None:
    with RedisStorage(redis.Redis(port=1, retry=None)) as storage, pytest.raises(StorageUnavailableError) as caught:
        storage.add_run("s")
    assert caught.value.written == "no"


def test_an_error_names_the_service_that_sentinels_know() -> None:
    client = redis.Sentinel([("127.0.0.1", 1)]).master_for("main")
    with RedisStorage(client) as storage, pytest.raises(StorageUnavailableError, match="Redis 'main' of the Sentinels"):
        storage.get_session("s")


# ---------------------------------------------------------------- clusters


def test_a_node_of_a_cluster_is_no_server(redis_cluster: RedisCluster) -> None:
    with RedisStorage(redis_cluster.nodes[0].url) as storage, pytest.raises(StorageError, match="cluster=true"):
        storage.get_session("s")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_slots_that_move_to_another_node(
    redis_cluster: RedisCluster, redis_cluster_url: str, asynchronous: bool
) -> None:
    with sessile.open(redis_cluster_url) as storage, redis_cluster.connect() as client:
        storage.add_run("s", input=1)
        slot = client.keyslot(f"{prefix_of(redis_cluster_url)}{{s}}:head")
        owner = next(node for node in redis_cluster.nodes if owns(node, slot))
        other = next(node for node in redis_cluster.nodes if node is not owner)

        async def turn() -> None:
            await storage.aadd_run("s", input=2)
            move(redis_cluster, slot, owner, other)
            await storage.aadd_run("s", input=3)
            assert [run.input for run in await storage.aruns("s")] == [1, 2, 3]
            await storage.aclose()

        if asynchronous:
            asyncio.run(turn())
        else:
            storage.add_run("s", input=2)
            move(redis_cluster, slot, owner, other)
            storage.add_run("s", input=3)
            assert inputs(storage) == [1, 2, 3]
        move(redis_cluster, slot, other, owner)


def owns(node: RedisServer, slot: int) -> bool:
    with node.connect() as client:
        ranges = client.execute_command("CLUSTER", "SLOTS")
    return any(first <= slot <= last and primary[1] == node.port for first, last, primary, *_ in ranges)


@contextmanager
def moving(cluster: RedisCluster, slot: int, source: RedisServer, target: RedisServer) -> Iterator[None]:
    """A slot that is on its way to another node, with its keys, which go in the end."""
    with source.connect() as old, target.connect() as new:
        old_id, new_id = (client.execute_command("CLUSTER", "MYID").decode() for client in (old, new))
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
        yield
        while keys := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source, *cluster.nodes):
        with node.connect() as client:
            client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new_id)


def move(cluster: RedisCluster, slot: int, source: RedisServer, target: RedisServer) -> None:
    """Move a slot with its keys."""
    with moving(cluster, slot, source, target):
        pass


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_commit_waits_while_its_slot_is_moving(
    redis_cluster: RedisCluster, redis_cluster_url: str, asynchronous: bool
) -> None:
    """A session has no records mostly, and whether those are on the other node already the old one cannot know."""
    with sessile.open(redis_cluster_url, timeout=60) as storage, redis_cluster.connect() as client:
        storage.add_run("s", input=1)
        slot = client.keyslot(f"{prefix_of(redis_cluster_url)}{{s}}:head")
        owner = next(node for node in redis_cluster.nodes if owns(node, slot))
        other = next(node for node in redis_cluster.nodes if node is not owner)

        async def add() -> None:
            async with sessile.open(redis_cluster_url, timeout=60) as another:
                await another.aadd_run("s", input=2)

        with owner.connect() as counting, ThreadPoolExecutor(1) as pool:

            def refused() -> int:
                return counting.info("errorstats").get("errorstat_TRYAGAIN", {"count": 0})["count"]

            with moving(redis_cluster, slot, owner, other):
                before = refused()
                writer = pool.submit(lambda: asyncio.run(add()) if asynchronous else storage.add_run("s", input=2))
                wait_until(lambda: refused() > before + 20 or writer.done())  # redis-py itself gives up after 16
            writer.result()
        assert inputs(storage) == [1, 2]
        assert storage.verify("s") == 2
        move(redis_cluster, slot, other, owner)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_cluster_that_does_not_answer(
    redis_cluster: RedisCluster, redis_cluster_url: str, asynchronous: bool
) -> None:
    with sessile.open(redis_cluster_url, timeout=6) as storage:
        storage.create_session("s")

        async def rename() -> None:
            try:
                await storage.arename("s", "x")
            finally:
                await storage.aclose()

        clients = [node.connect() for node in redis_cluster.nodes]
        for client in clients:
            client.client_pause(60_000, all=False)
        try:
            with pytest.raises(DeadlineError) as caught:
                asyncio.run(rename()) if asynchronous else storage.rename("s", "x")
            assert caught.value.retryable == (caught.value.written == "no")
        finally:
            for client in clients:
                client.client_unpause()
                client.close()


# ---------------------------------------------------------------- Sentinels


@pytest.fixture
def sentinel(own_redis: RedisServer) -> Iterator[Sentinel]:
    """A Sentinel before `own_redis` and a replica."""
    with running(lambda: RedisServer(replica_of=own_redis)), running(lambda: Sentinel(own_redis)) as sentinel:
        sentinel.wait_for_replica()
        yield sentinel


def test_a_failover_is_survived(sentinel: Sentinel, own_redis: RedisServer) -> None:
    with sessile.open(sentinel.url, timeout=60) as storage:
        storage.add_run("s", input=1)

        async def turn() -> None:
            await storage.aadd_run("s", input=2)
            with own_redis.connect() as client:
                client.set("last", 1)
                client.execute_command("WAIT", 1, 0)  # until what this connection has written is there
            own_redis.kill()
            while True:
                try:
                    await storage.aadd_run("s", input=3, run_id="r3")
                    break
                except StorageUnavailableError:
                    await asyncio.sleep(0.1)
            await storage.aclose()

        asyncio.run(turn())
    with sessile.open(sentinel.url) as storage:
        assert inputs(storage) == [1, 2, 3]
        storage.add_run("s", input=4)
        assert listed(storage) == ["s"]
        assert storage.verify("s") == 4


def test_a_client_of_a_sentinel(sentinel: Sentinel) -> None:
    manager = redis.Sentinel([("127.0.0.1", sentinel.port)])
    with manager.master_for(sentinel.service) as client, RedisStorage(client) as storage:
        storage.add_run("s", input=1)
        assert inputs(storage) == [1]
    manager.close()


def test_a_service_that_no_sentinel_knows(sentinel: Sentinel) -> None:
    url = sentinel.url.replace(sentinel.service, "nobody")
    with RedisStorage(url, timeout=5) as storage, pytest.raises(StorageUnavailableError, match="nobody") as caught:
        storage.get_session("s")
    assert "redis.connection" not in str(caught.value)  # redis-py adds the settings of all clients that have asked
