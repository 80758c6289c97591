"""Followers in Redis: woken by pub/sub, over one connection for all of an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis
from tests.servers.networks import redis_network
from tests.servers.redis import RedisCluster, RedisServer, redis_client

import sessile
from sessile import RedisStorage
from sessile.drivers.redis.addresses import address_of
from sessile.drivers.redis.listener import Listener
from sessile.errors import ClosedError
from sessile.records import Entry
from sessile.storage import Deadline, Storage

from .helpers import in_thread, prefix_of, wait_until


def followers(client: Any, prefix: str, session_id: str = "s") -> int:
    """How many connections are subscribed to a session."""
    ((_, count),) = client.pubsub_numsub(f"{prefix}{{{session_id}}}:commits")
    return count


def follow_one(storage: Storage, write: Callable[[], object], ready: Callable[[], object]) -> str:
    """The kind of the first entry that a follower sees after something was written."""
    revision = storage.create_session("s").revision
    seen: list[Entry] = []
    thread = in_thread(lambda: seen.append(next(storage.follow("s", after=revision))))
    wait_until(ready)
    write()
    thread.join()
    return seen[0].kind


def test_a_follower_is_woken(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, sessile.open(redis_url) as writer, redis_client(redis_url) as client:
        assert storage.capabilities.push
        ready = lambda: followers(client, prefix_of(redis_url)) == 1  # noqa: E731
        assert follow_one(storage, lambda: writer.rename("s", "x"), ready) == "session.renamed"
        wait_until(lambda: followers(client, prefix_of(redis_url)) == 0)


async def test_followers_share_a_connection(redis_url: str) -> None:
    async with sessile.open(redis_url) as storage:
        with redis_client(redis_url) as client:
            for number in range(20):
                await storage.acreate_session(f"s{number}")

            async def first(session_id: str) -> Entry:
                async for entry in storage.afollow(session_id, after=1):
                    return entry
                raise AssertionError("it ended")

            tasks = [asyncio.create_task(first(f"s{number}")) for number in range(20)]
            tasks += [asyncio.create_task(first("s0")) for _ in range(3)]
            prefix = prefix_of(redis_url)
            ready = lambda: all(followers(client, prefix, f"s{number}") for number in range(20))  # noqa: E731
            await asyncio.to_thread(wait_until, ready)
            subscribed = [row for row in client.client_list() if int(row["sub"]) == 20]
            assert len(subscribed) == 1
            for number in range(20):
                await storage.arename(f"s{number}", "x")
            assert {entry.kind for entry in await asyncio.gather(*tasks)} == {"session.renamed"}


def test_a_follower_survives_the_loss_of_its_connection(own_redis: RedisServer) -> None:
    with RedisStorage(own_redis.url) as storage, own_redis.connect() as client:

        def cut_and_write() -> None:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            storage.add_run("s")

        assert follow_one(storage, cut_and_write, lambda: followers(client, "sessile:") == 1) == "run.started"


def test_a_user_who_may_not_listen_looks_now_and_then(own_redis: RedisServer) -> None:
    with own_redis.connect() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", "nopass", "~*", "resetchannels", "+@all")
    with RedisStorage(f"redis://app:x@127.0.0.1:{own_redis.port}") as storage, own_redis.connect() as client:

        def write() -> None:
            before = client.info("stats")["total_connections_received"]
            time.sleep(1.5)
            assert client.info("stats")["total_connections_received"] - before < 20, "it does not try all the time"
            storage.rename("s", "x")

        assert follow_one(storage, write, lambda: True) == "session.renamed"


async def test_a_connection_that_is_silent_is_replaced(redis_url: str) -> None:
    """As when a server has vanished without a word."""
    network = redis_network(redis_url)
    with network.proxy() as proxy, redis_client(redis_url) as client:

        def subscriber() -> str:
            (row,) = (row for row in client.client_list(_type="pubsub") if int(row["sub"]))
            return row["id"]

        address = address_of(f"redis://{proxy.address}/0")
        listener = Listener(address.asynchronous, address.where)
        event = await listener.register(b"channel", Deadline(60))
        before = await asyncio.to_thread(subscriber)
        await listener.wait(b"channel", event, 0)
        proxy.stall()
        with pytest.raises(TimeoutError):
            await listener.register(b"channel", Deadline(0.2))
        proxy.heal()
        event = await listener.register(b"channel", Deadline(60))
        assert await asyncio.to_thread(subscriber) != before
        client.publish("channel", 1)
        async with asyncio.timeout(60):
            await event.wait()
        await listener.close()


async def test_one_that_is_closed_while_it_connects_leaves_nothing_open(redis_url: str) -> None:
    before = asyncio.all_tasks()
    with redis_network(redis_url).proxy() as proxy:
        address = address_of(f"redis://{proxy.address}/0")
        listener = Listener(address.asynchronous, address.where)
        proxy.stall()
        registering = asyncio.create_task(listener.register(b"channel", Deadline(60)))
        await asyncio.to_thread(wait_until, lambda: proxy.connections)
        await listener.close()
        proxy.heal()
        with pytest.raises(ClosedError):
            await registering
        await asyncio.to_thread(wait_until, lambda: not proxy.connections)
        assert asyncio.all_tasks() == before


def test_where_nobody_pushes_a_follower_looks(
    redis_url: str, redis_cluster: RedisCluster, redis_cluster_url: str
) -> None:
    with redis_client(redis_url) as client:
        for storage in (RedisStorage(client, prefix=prefix_of(redis_url)), sessile.open(redis_cluster_url)):
            assert not storage.capabilities.push
            assert follow_one(storage, lambda s=storage: s.rename("s", "x"), lambda: True) == "session.renamed"
            storage.close()
        assert isinstance(client, redis.Redis)
