"""Redis or Valkey: the floor by hand with redis-py, and what a turn really writes.

The floor has two keys for each session. Loading is one transaction in one round trip, which reads the head and the last
runs; appending is one script that compares and sets the head and pushes the run. There is no index for lists.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Self

import redis
import redis.asyncio

from .floor import Encoder
from .payload import Exchange
from .sizes import Written

APPEND = """
if redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'body', ARGV[3])
redis.call('RPUSH', KEYS[2], ARGV[4])
return 1
"""
FILLED_AT_ONCE = 1000


def options(url: str, connections: int) -> dict[str, Any]:
    """The arguments of `from_url`, but for the URL."""
    return {"url": url.replace("valkey:", "redis:", 1), "max_connections": connections, "protocol": 2}


def keys(session_id: str) -> list[str]:
    """Of a session: head and log."""
    return [f"floor:{{{session_id}}}:head", f"floor:{{{session_id}}}:log"]


class RedisEncoder(Encoder):
    """What the blocking and the asynchronous floor share: commands and JSON."""

    def ask(self, pipeline: Any, session_id: str, last: int) -> Any:
        """Put a load into a transaction."""
        head, log = keys(session_id)
        pipeline.hget(head, "body")
        if last:
            pipeline.lrange(log, -last, -1)
        return pipeline

    def loaded(self, answers: list[Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The head and the runs of a load, oldest first."""
        head, *runs = answers
        return self.value(head), [self.value(body) for body in (runs[0] if runs else ())]

    def append_arguments(self, session_id: str, head: dict[str, Any], turn: Exchange) -> dict[str, Any]:
        """Of `APPEND`, for a run that follows that head."""
        revision = head["revision"] + 1
        body, after = self.encode(session_id, head, revision, turn)
        return {"keys": keys(session_id), "args": [revision - 1, revision, after, body]}


class RedisFloor(RedisEncoder):
    """A blocking client with a pool of connections, where who finds none waits for one."""

    def __init__(self, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> None:
        super().__init__(*padding)
        pool = redis.BlockingConnectionPool.from_url(**options(url, connections), timeout=60)
        self.client = redis.Redis.from_pool(pool)
        self.script = self.client.register_script(APPEND)

    def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """Load head and last 3 runs, append one run; before that look at the head again if `reads` is 2."""
        head, runs = self.read(session_id, 3)
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.read(session_id, 0)
        assert self.script(**self.append_arguments(session_id, head, turn)) == 1

    def read(self, session_id: str, last: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        with self.client.pipeline() as pipeline:
            return self.loaded(self.ask(pipeline, session_id, last).execute())

    def fill(self, session_id: str, runs: int) -> None:
        """Create a session with that many runs."""
        bodies, body = self.session(session_id, runs)
        head, log = keys(session_id)
        self.client.hset(head, mapping={"revision": runs, "body": body})
        for start in range(0, runs, FILLED_AT_ONCE):
            self.client.rpush(log, *bodies[start : start + FILLED_AT_ONCE])

    def close(self) -> None:
        self.client.close()


class AsyncRedisFloor(RedisEncoder):
    """An asynchronous client with a pool of connections, for one event loop."""

    client: redis.asyncio.Redis
    script: Any

    @classmethod
    async def open(cls, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> Self:
        self = cls(*padding)
        pool = redis.asyncio.BlockingConnectionPool.from_url(**options(url, connections), timeout=60)
        self.client = redis.asyncio.Redis.from_pool(pool)
        self.script = self.client.register_script(APPEND)
        return self

    async def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """As `RedisFloor.turn`."""
        head, runs = await self.read(session_id, 3)
        assert len(runs) == 3
        if reads == 2:
            head, _ = await self.read(session_id, 0)
        assert await self.script(**self.append_arguments(session_id, head, turn)) == 1

    async def read(self, session_id: str, last: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with self.client.pipeline() as pipeline:
            return self.loaded(await self.ask(pipeline, session_id, last).execute())

    async def close(self) -> None:
        await self.client.aclose()


class RedisInspector:
    """A server, over a connection of its own. What is looked for by key stands in the place of tables and rows."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(**options(url, 1))

    def session(self, session_id: str) -> dict[str, tuple[int, int]]:
        """Entries and bytes of each key of one session."""
        return {key.decode(): self._size(key) for key in self._keys(f"*{{{session_id}}}*")}

    def written(self, turn: Callable[[], object], turns: int = 9) -> Written:
        """A commit is a script; the log is the append-only file."""
        turn()
        rows = self._total()
        log: list[int] = []
        for _ in range(turns):
            before = self._position()
            turn()
            log.append(self._position() - before)
        return Written((self._total() - rows) / turns, None, statistics.median(log))

    def _total(self) -> int:
        return sum(self._size(key)[1] for key in self._keys("*"))

    def _keys(self, pattern: str) -> list[bytes]:
        return list(self.client.scan_iter(match=pattern, count=1000))

    def _size(self, key: bytes) -> tuple[int, int]:
        """How many entries a key has, and of how many bytes in all."""
        kind, client = self.client.type(key), self.client
        if kind == b"stream":
            entries = client.xrange(key)
            return len(entries), sum(len(word) for _, fields in entries for pair in fields.items() for word in pair)
        if kind == b"zset":
            entries = client.zrange(key, 0, -1, withscores=True)
            return len(entries), sum(len(member) + len(f"{score:.0f}") for member, score in entries)
        if kind == b"hash":
            words = [word for pair in client.hgetall(key).items() for word in pair]
            return 1, sum(map(len, words))
        if kind == b"set":
            words = list(client.smembers(key))
        else:
            words = client.lrange(key, 0, -1) if kind == b"list" else [client.get(key)]
        return len(words), sum(map(len, words))

    def _position(self) -> int:
        return int(self.client.info("persistence")["aof_current_size"])

    def settle(self) -> None:
        """After filling there is nothing left to do: the bench's server does not rewrite its file."""

    def close(self) -> None:
        self.client.close()
