"""`RedisStorage`: where the data is, and who opens the connections."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Self, cast

import redis.asyncio

from ...errors import InvalidInputError
from ...storage.storage import Storage
from ...storage.urls import take_settings
from ..sql.pool import MAX_AGE, PoolSettings, pool_settings
from .addresses import Address, address_of
from .cluster import TaskClusterPort, ThreadClusterPort
from .driver import RedisDriver
from .keys import Keys
from .listener import Listener
from .ports import BorrowedTaskPort, BorrowedThreadPort, Port, TaskPort, ThreadPort

Client = redis.Redis | redis.RedisCluster | redis.asyncio.Redis | redis.asyncio.RedisCluster

_PREFIX = re.compile(r"[^\0-\x20{}\x7f]{0,64}")
_TRUE = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class RedisStorage(Storage):
    """Sessions in Redis, 6.2 or later, or Valkey: on one server, behind Sentinels, or on a cluster.

    Args:
        server: a URL (`redis://`, `rediss://`, `valkey://`, `valkeys://`, `unix://`, `redis+sentinel://`); or a client
            of redis-py's (`Redis` or `RedisCluster`, of which a Sentinel's `master_for` is one; for synchronous or for
            asynchronous callers), which stays open when the storage is closed.
        prefix: what the keys' names begin with.
        pool_size: the most connections of our own, for synchronous callers and for each event loop; on a cluster, how
            many callers work at once.
        max_connection_age: seconds after which a connection is replaced when nobody uses it, a tenth more or less. Not
            on a cluster, where redis-py keeps the connections.
        cluster: whether the URL leads to a node of a cluster.
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        server: str | Client,
        *,
        prefix: str = "sessile:",
        pool_size: int = 10,
        max_connection_age: float = MAX_AGE,
        cluster: bool = False,
        **options: Any,
    ) -> None:
        settings = pool_settings(pool_size, max_connection_age)
        if not isinstance(cast(Any, prefix), str) or not _PREFIX.fullmatch(prefix):
            raise InvalidInputError(f"prefix must be up to 64 characters, without blanks and braces; it is {prefix!r}.")
        keys = Keys(prefix)
        if not isinstance(server, str):
            driver = RedisDriver(_borrowed(server, pool_size), keys)
            if driver.suspends:
                super().__init__(None, async_driver=lambda: driver, **options)
            else:
                super().__init__(driver, **options)
            return
        address = address_of(server, cluster=cluster)
        ports = _ports(address, settings)
        listen = None if address.kind == "cluster" else partial(Listener, address.asynchronous, address.where)
        super().__init__(
            RedisDriver(ports[0](), keys, listen=listen),
            async_driver=lambda: RedisDriver(ports[1](), keys, listen=listen),
            **options,
        )

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`redis://user:password@host:port/db`, with redis-py's parameters and our arguments.

        Ours are `prefix`, `pool_size`, `max_connection_age` and `cluster`. Sentinels:
        `redis+sentinel://user:password@host:port,host:port/service/db`, with `sentinel_username` and
        `sentinel_password`.
        """
        ours, address = take_settings(url, ("prefix", "pool_size", "max_connection_age", "cluster"))
        if "cluster" in ours:
            ours["cluster"] = _truth(ours["cluster"])
        return cls(address, **{**ours, **options})


def _ports(address: Address, settings: PoolSettings) -> tuple[Callable[[], Port], Callable[[], Port]]:
    """What makes the port of synchronous and of asynchronous callers."""
    if address.kind == "cluster":
        return (
            partial(ThreadClusterPort, address.blocking, address.where, settings["size"]),
            partial(TaskClusterPort, address.asynchronous, address.where, settings["size"]),
        )
    return (
        partial(ThreadPort, address.blocking, address.where, settings),
        partial(TaskPort, address.asynchronous, address.where, settings),
    )


def _borrowed(client: Any, pool_size: int) -> Port:
    """The port to a client of the application's."""
    if isinstance(client, (redis.RedisCluster, redis.asyncio.RedisCluster)):
        if client.get_encoder().decode_responses:
            raise InvalidInputError("A RedisCluster for a storage must be made with decode_responses=False.")
        kind = ThreadClusterPort if isinstance(client, redis.RedisCluster) else TaskClusterPort
        return kind(lambda: client, "the Redis cluster", pool_size, borrowed=True)
    if isinstance(client, (redis.Redis, redis.asyncio.Redis)):
        kind = BorrowedThreadPort if isinstance(client, redis.Redis) else BorrowedTaskPort
        return kind(client, _place_of(client.connection_pool))
    raise InvalidInputError(f"A URL or a client of redis-py's is needed, not {type(client).__name__}.")


def _truth(text: str) -> bool:
    try:
        return _TRUE[text.lower()]
    except KeyError:
        raise InvalidInputError(f"cluster must be true or false; it is {text!r}.") from None


def _place_of(pool: Any) -> str:
    """Names the server that a pool of redis-py's leads to."""
    if service := getattr(pool, "service_name", None):
        return f"Redis {service!r} of the Sentinels"
    options = pool.connection_kwargs
    return f"Redis at {options.get('path') or options.get('host', 'localhost')}"
