"""What `RedisStorage` counts and logs beside its work."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.servers.redis import RedisServer
from tests.storage.helpers import hurry

import sessile
from sessile import RedisStorage
from sessile.errors import DeadlineError

from .helpers import driver_of, inputs


def test_connections_that_are_made_anew_and_reads_that_are_repeated(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisStorage(own_redis.url) as storage:
        storage.add_run("s", input=1)
        stats = driver_of(storage).stats
        assert stats.counts() == {}
        own_redis.restart()
        with caplog.at_level(logging.INFO, logger="sessile"):
            assert inputs(storage) == [1]
        assert stats.counts() == {"retries": 1, "reconnects": 1}
        assert len(caplog.records) == 2


def test_connections_grow_old(redis_url: str) -> None:
    with sessile.open(f"{redis_url}&max_connection_age=0.000001") as storage:
        storage.add_run("s")
        storage.add_run("s")
        assert driver_of(storage).stats.counts().keys() == {"reconnects"}


def test_answers_that_are_lost(own_redis: RedisServer) -> None:
    with RedisStorage(own_redis.url) as storage, own_redis.connect() as client:
        storage.create_session("s")
        hurry(storage, 0.5)
        client.client_pause(60_000, all=False)  # holds back writes, and scripts that may write
        with pytest.raises(DeadlineError) as caught:
            storage.rename("s", "x")
        client.client_unpause()
        assert caught.value.written == "unknown"
        assert driver_of(storage).stats.counts() == {"unknown_answers": 1}


@pytest.mark.parametrize("cluster", [False, True])
def test_waits_for_a_connection(redis_url: str, redis_cluster_url: str, cluster: bool) -> None:
    with sessile.open(f"{redis_cluster_url if cluster else redis_url}&pool_size=1") as storage:
        storage.add_run("s")
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda _: storage.get_session("s"), range(100)))
        assert driver_of(storage).stats.counts()["pool_waits"] >= 1


async def test_waits_of_tasks(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with sessile.open(f"{redis_url}&pool_size=1") as storage:
        await storage.aadd_run("s")
        with caplog.at_level(logging.INFO, logger="sessile"):
            await asyncio.gather(*(storage.aget_session("s") for _ in range(10)))
    assert len(caplog.messages) == 9
    assert all("waiting for one" in message for message in caplog.messages)
