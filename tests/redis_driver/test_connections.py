"""`RedisStorage` when connections break and servers go away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from tests.servers import RedisCluster, RedisServer, Sentinel
from tests.servers.fixtures import running
from tests.servers.networks import READ_SAMPLES, RESTARTS, SAMPLES, check, redis_network

import sessile
from sessile.storage import Storage
from sessile.testing import (
    Figures,
    Network,
    Scale,
    run_absent,
    run_cuts,
    run_exhausted,
    run_failover,
    run_read_cuts,
    run_restarts,
)


def test_cuts_anywhere_in_a_commit(redis_url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    check(run_cuts(redis_network(redis_url), scale, samples=SAMPLES), capsys)


def test_cuts_anywhere_in_a_read(redis_url: str, scale: Scale) -> None:
    run_read_cuts(redis_network(redis_url), scale, samples=READ_SAMPLES).check()


def test_a_server_that_is_not_there_at_first_use(redis_url: str) -> None:
    run_absent(redis_network(redis_url))


def test_an_exhausted_pool(redis_url: str) -> None:
    run_exhausted(redis_network(redis_url, pool_size=2), pool_size=2)


def test_restarts_while_many_write(own_redis: RedisServer, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    """With `appendfsync always`."""
    figures = run_restarts(redis_network(own_redis.url), own_redis, scale, restarts=RESTARTS)
    check(figures, capsys)
    assert figures.rounds == RESTARTS


def test_restarts_of_valkey(scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    with running(partial(RedisServer, "valkey", settings={"appendfsync": "always"})) as server:
        check(run_restarts(redis_network(server.url), server, scale, restarts=5), capsys)


def test_failover_to_a_replica(own_redis: RedisServer, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    """The primary dies when its replica has everything; what was acknowledged is there."""
    with running(partial(RedisServer, replica_of=own_redis)) as replica:

        def fail_over() -> tuple[str, int]:
            replica.catch_up()
            own_redis.kill()
            replica.promote()
            return "127.0.0.1", replica.port

        check(run_failover(redis_network(own_redis.url), fail_over, scale), capsys)


def test_a_primary_that_steps_down(own_redis: RedisServer, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    """It changes places with its replica and goes on refusing what is sent to it, until clients are led elsewhere."""
    with running(partial(RedisServer, replica_of=own_redis)) as replica:
        pair = [own_redis, replica]

        def fail_over() -> tuple[str, int]:
            pair.reverse()
            pair[0].change_places()
            return "127.0.0.1", pair[0].port

        check(run_failover(redis_network(own_redis.url), fail_over, scale, failovers=5), capsys)


# ---------------------------------------------------------------- clients that find the new primary by themselves


class Disturbance:
    """Something that happens to servers, in the way that `run_restarts` asks for it."""

    def __init__(self, *events: Callable[[], object]) -> None:
        self._events = list(events)

    def kill(self) -> None:
        self._events.pop(0)()

    def start(self) -> None:
        """Whatever happened has come to its end already."""


def disturbed(url: str, scale: Scale, *events: Callable[[], object]) -> Figures:
    """What becomes of commits while all of that happens, one after the other."""

    def connect(host: str, port: int, **options: Any) -> Storage:
        return sessile.open(url, **options)

    return run_restarts(Network(connect, "", 0), Disturbance(*events), scale, restarts=len(events))


def test_sentinels_name_another_primary(
    own_redis: RedisServer, scale: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        running(partial(RedisServer, replica_of=own_redis)) as replica,
        running(partial(Sentinel, own_redis)) as sentinel,
    ):
        sentinel.wait_for_replica()

        def lose_the_primary() -> None:
            replica.catch_up()
            own_redis.kill()
            sentinel.wait_for_primary(replica.port)

        check(disturbed(sentinel.url, scale, lose_the_primary), capsys)


def test_primaries_of_a_cluster_change_places_with_their_replicas_and_die(
    scale: Scale, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(partial(RedisCluster, replicas=True, settings={"appendfsync": "always"})) as cluster:
        events = [partial(cluster.change_places, number) for number in range(3)]
        check(disturbed(cluster.url, scale, *events, partial(cluster.lose, 0)), capsys)
