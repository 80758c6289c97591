"""From a URL to the ways of making connections: one server, a cluster, or the primary that Sentinels name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis.asyncio
from redis import exceptions as theirs
from redis.backoff import NoBackoff

from ...errors import InvalidInputError
from ...storage.urls import split_server_url
from .cluster import LimitedConnection, LimitedSSLConnection

Kind = Literal["server", "cluster", "sentinel"]
Options = Mapping[str, Any]

BLOCKING = cast(Any, redis)
ASYNCHRONOUS = cast(Any, redis.asyncio)
"""redis-py twice, with the same names in both."""

SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
"""Valkey's names of the schemes, and what redis-py calls them."""

SENTINEL_SECONDS = 2.0
"""How long one Sentinel is waited for before the next one is asked."""

OURS: Options = {"protocol": 2, "socket_timeout": None}
"""Settings of every connection of our own: it waits for as long as the deadline says."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a storage's data is.

    Attributes:
        kind: what stands there.
        where: names it in messages, without the password.
        blocking, asynchronous: make a pool of redis-py's, as a recipe for connections, or a cluster client.
    """

    kind: Kind
    where: str
    blocking: Callable[[], Any]
    asynchronous: Callable[[], Any]


def address_of(url: str, *, cluster: bool = False) -> Address:
    """Read a URL of redis-py's, one with Valkey's names of the schemes, or `redis+sentinel://…`.

    Raises `InvalidInputError` if it is none.
    """
    split_server_url(url)
    try:
        scheme, _, rest = url.partition("://")
        scheme, _, sentinel = scheme.partition("+")
        url = f"{SCHEMES.get(scheme, scheme)}://{rest}"
        if sentinel not in ("", "sentinel") or (sentinel and cluster):
            raise ValueError("its scheme is none of redis, rediss, valkey, valkeys, unix and redis+sentinel")
        if sentinel:
            return _sentinel(url)
        return _cluster(url) if cluster else _server(url)
    except (ValueError, TypeError, AttributeError, theirs.RedisError, theirs.RedisClusterException) as error:
        raise InvalidInputError(f"This is not an address of Redis's: {error}.") from error


def _once(library: Any) -> Any:
    """The policy to try nothing twice; redis-py's own is to try ten times again (redis/_defaults.py)."""
    return library.retry.Retry(NoBackoff(), 0)


def _read(url: str) -> tuple[dict[str, Any], bool]:
    """A URL as the arguments of a connection, and whether it has TLS; raises for what redis-py does not know."""
    options: dict[str, Any] = BLOCKING.connection.parse_url(url)
    if OURS.keys() & options:
        raise ValueError(f"{' and '.join(OURS)} are not for you to set: the storage's timeout says how long it waits")
    kind = options.pop("connection_class", BLOCKING.Connection)
    options |= OURS
    kind(**options)
    return options, kind is BLOCKING.SSLConnection


def _server(url: str) -> Address:
    options, _ = _read(url)
    place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

    def recipe(library: Any) -> Any:
        return library.ConnectionPool.from_url(url, **OURS, retry=_once(library))

    return _address("server", f"Redis at {place}/{options.get('db', 0)}", recipe)


def _cluster(url: str) -> Address:
    options, tls = _read(url)
    if "path" in options or options.pop("db", 0):
        raise ValueError("a cluster has no socket file, and no database but 0")
    if options.get("decode_responses"):
        raise ValueError("what a cluster answers must not be decoded: leave decode_responses out")
    place = f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

    def recipe(library: Any) -> Any:
        if library is not BLOCKING:
            return library.RedisCluster.from_url(url, **OURS, retry=_once(library))
        # A URL with TLS would put redis-py's own connections in the place of ours.
        plain, limited = f"redis{url[url.index(':') :]}", LimitedSSLConnection if tls else LimitedConnection
        return library.RedisCluster.from_url(plain, **OURS, connection_class=limited, retry=_once(library))

    recipe(ASYNCHRONOUS)  # connects to nothing, and raises for what connections take, and clusters do not
    return _address("cluster", f"the Redis cluster at {place}", recipe)


def _sentinel(url: str) -> Address:
    """`redis+sentinel://user:password@host:port,host:port/service/db?sentinel_password=…`."""
    parts = urlsplit(url)
    login, _, hosts = parts.netloc.rpartition("@")
    sentinels = [_host_and_port(host) for host in hosts.split(",")]
    service, _, db = unquote(parts.path).strip("/").partition("/")
    if not service:
        raise ValueError("its path names no service")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    asking = {
        name.removeprefix("sentinel_"): query.pop(name)
        for name in ("sentinel_username", "sentinel_password")
        if name in query
    }
    options, tls = _read(f"{parts.scheme}://{login and f'{login}@'}/{db}?{urlencode(query)}")

    def recipe(library: Any) -> Any:
        how = {**OURS, **asking, "socket_timeout": SENTINEL_SECONDS, "ssl": tls, "retry": _once(library)}
        manager = library.Sentinel(sentinels, sentinel_kwargs=how)
        return library.sentinel.SentinelConnectionPool(service, manager, **options, ssl=tls, retry=_once(library))

    return _address("sentinel", f"Redis {service!r} of the Sentinels at {hosts}", recipe)


def _address(kind: Kind, where: str, recipe: Callable[[Any], Any]) -> Address:
    return Address(kind, where, partial(recipe, BLOCKING), partial(recipe, ASYNCHRONOUS))


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("a host is missing")
    return parts.hostname, parts.port or 26379
