"""Ways to a cluster: redis-py's cluster clients, which know where a slot is and follow redirections.

They are told to try nothing twice; what a redirection repeats has not been done. How many of a port's callers work at
once is bounded here, because these clients refuse a connection where all are in use.
"""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from redis import Connection, SSLConnection
from redis import exceptions as theirs

from ...errors import ClosedError, CorruptDataError, StorageError, StorageUnavailableError, Written
from ...storage.driver import Deadline
from ...storage.faces import OneLoop
from .errors import code_of, late, translate
from .ports import LEAST_SECONDS, Call, Command, Port, logger
from .scripts import Script


class _Limit(threading.local):
    """The deadline of what this thread does now."""

    deadline: Deadline | None = None

    def remaining(self, otherwise: float | None) -> float | None:
        return otherwise if self.deadline is None else max(self.deadline.remaining(), LEAST_SECONDS)


_limit = _Limit()


class _Limited:
    """A connection whose waiting ends by the deadline of its thread."""

    @property
    def socket_timeout(self) -> float | None:
        return _limit.remaining(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, value: float | None) -> None:
        self._socket_timeout = value

    @property
    def socket_connect_timeout(self) -> float | None:
        return _limit.remaining(self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._socket_connect_timeout = value

    def read_response(self, *args: Any, **options: Any) -> Any:
        if _limit.deadline is not None:
            options["timeout"] = max(_limit.deadline.remaining(), LEAST_SECONDS)
        return cast(Any, super()).read_response(*args, **options)


class LimitedConnection(_Limited, Connection):  # pyright: ignore[reportIncompatibleMethodOverride]
    """A connection of a blocking cluster client of our own."""


class LimitedSSLConnection(_Limited, SSLConnection):  # pyright: ignore[reportIncompatibleMethodOverride]
    """The same with TLS."""


class ClusterPort(Port):
    """What the ports to a cluster share.

    Args:
        make: makes the client.
        where: names the cluster in messages.
        pool_size: how many callers work at once.
        borrowed: whether the client is the application's, which closes it itself.
    """

    one_server = False

    def __init__(self, make: Callable[[], Any], where: str, pool_size: int, *, borrowed: bool = False) -> None:
        super().__init__(where)
        self._make = make
        self._pool_size = pool_size
        self._borrowed = borrowed
        self._client: Any = None
        self._closed = False

    @abstractmethod
    async def _call(self, *command: Any, deadline: Deadline, **options: Any) -> Any:
        """One command; raises redis-py's errors and `TimeoutError`."""

    @abstractmethod
    async def _pipeline(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        """Several commands, each on its own node; an answer may be an error; raises as `_call`."""

    async def run(
        self, what: str, script: Script, calls: Sequence[Call], deadline: Deadline, *, writes: bool = False
    ) -> list[Any]:
        written: Written = "unknown" if writes else "no"
        return [await self._run(what, script, call, deadline, written) for call in calls]

    async def _run(self, what: str, script: Script, call: Call, deadline: Deadline, written: Written) -> Any:
        keys, args = call
        deadline.check(what)
        try:
            try:
                return await self._call("EVALSHA", script.sha, len(keys), *keys, *args, deadline=deadline)
            except theirs.NoScriptError:
                return await self._call("EVAL", script.text, len(keys), *keys, *args, deadline=deadline)
        except (theirs.RedisError, theirs.RedisClusterException, TimeoutError) as error:
            raise self._error(error, what, deadline, written) from error

    async def send(
        self,
        what: str,
        commands: Sequence[Command],
        deadline: Deadline,
        *,
        writes: bool = False,
        tolerant: bool = False,
    ) -> list[Any]:
        deadline.check(what)
        try:
            answers = await self._pipeline(commands, deadline) if commands else []
            answers = self.tolerated(what, answers) if tolerant else answers
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, CorruptDataError):
                    raise answer
            return answers
        except (theirs.RedisError, theirs.RedisClusterException, TimeoutError) as error:
            raise self._error(error, what, deadline, "unknown" if writes else "no") from error

    def waits(self, size: int) -> None:
        """Note that as many callers work as may, and one more wants to be."""
        self.stats.count("pool_waits")
        logger.info("%d callers work on %s; one more waits.", size, self.where)

    def _error(self, error: Exception, what: str, deadline: Deadline, written: Written) -> Exception:
        if not code_of(error) and deadline.remaining() <= 0:  # whatever redis-py makes of it
            failed: StorageError = late(what, self.where, deadline, written)
        else:
            failed = translate(error, what, self.where, written=written)
            failed.retryable = failed.retryable or code_of(error) == "READONLY"  # the primary has changed
        return failed

    async def info(self, deadline: Deadline) -> list[Mapping[str, str]]:
        nodes = await self._ask("Asking the servers about themselves", "INFO", deadline=deadline, known="redis_version")
        return [{name: str(value) for name, value in node.items()} for node in nodes]

    async def settings(self, name: str, deadline: Deadline) -> Sequence[str]:
        nodes = await self._ask("Asking for a setting", "CONFIG GET", name, deadline=deadline, known=name)
        return [str(node[name]) for node in nodes if name in node]

    async def _ask(self, what: str, *command: str, deadline: Deadline, known: str) -> list[Mapping[str, Any]]:
        """What each primary answers, which has the name `known`."""
        try:
            found = await self._call(*command, deadline=deadline, target_nodes="primaries")
        except (theirs.RedisError, theirs.RedisClusterException, TimeoutError) as error:
            raise self._error(error, what, deadline, "no") from error
        # One answer where there is one primary, else one by the name of each.
        return [found] if known in found else list(found.values())


class ThreadClusterPort(ClusterPort):
    """A blocking cluster client."""

    suspends = False

    def __init__(self, make: Callable[[], Any], where: str, pool_size: int, *, borrowed: bool = False) -> None:
        super().__init__(make, where, pool_size, borrowed=borrowed)
        self._open()

    def _open(self) -> None:
        self._client = None
        self._lock = threading.Lock()
        self._free = threading.Semaphore(self._pool_size)

    @contextmanager
    def _turn(self, deadline: Deadline) -> Generator[Any]:
        if not self._free.acquire(blocking=False):
            self.waits(self._pool_size)
            if not self._free.acquire(timeout=deadline.remaining()):
                raise _exhausted(self._pool_size, deadline)
        before, _limit.deadline = _limit.deadline, deadline
        try:
            with self._lock:
                if self._closed:
                    raise ClosedError("This storage was closed.")
                if self._client is None:
                    self._client = self._make()
            yield self._client
        finally:
            _limit.deadline = before
            self._free.release()

    async def _call(self, *command: Any, deadline: Deadline, **options: Any) -> Any:
        with self._turn(deadline) as client:
            return client.execute_command(*command, **options)

    async def _pipeline(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        with self._turn(deadline) as client:
            pipeline = client.pipeline()
            for name, *args in commands:
                pipeline.execute_command(name.decode(), *args)  # redis-py looks the name up
            return pipeline.execute(raise_on_error=False)

    async def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None and not self._borrowed:
            client.close()

    def after_fork(self) -> None:
        self._open()


class TaskClusterPort(ClusterPort):
    """An asynchronous cluster client, for one event loop."""

    suspends = True

    def __init__(self, make: Callable[[], Any], where: str, pool_size: int, *, borrowed: bool = False) -> None:
        super().__init__(make, where, pool_size, borrowed=borrowed)
        self._free = asyncio.Semaphore(pool_size)
        self._loop = OneLoop(where)

    @asynccontextmanager
    async def _turn(self, deadline: Deadline) -> AsyncGenerator[Any]:
        self._loop.check()
        if self._free.locked():
            self.waits(self._pool_size)
        try:
            async with asyncio.timeout(deadline.remaining()):
                await self._free.acquire()
        except TimeoutError:
            raise _exhausted(self._pool_size, deadline) from None
        try:
            if self._closed:
                raise ClosedError("This storage was closed.")
            if self._client is None:
                self._client = self._make()
            async with asyncio.timeout(deadline.remaining()):
                yield self._client
        finally:
            self._free.release()

    async def _call(self, *command: Any, deadline: Deadline, **options: Any) -> Any:
        async with self._turn(deadline) as client:
            return await client.execute_command(*command, **options)

    async def _pipeline(self, commands: Sequence[Command], deadline: Deadline) -> list[Any]:
        async with self._turn(deadline) as client:
            pipeline = client.pipeline()
            for name, *args in commands:
                pipeline.execute_command(name.decode(), *args)  # redis-py looks the name up
            return await pipeline.execute(raise_on_error=False)

    async def close(self) -> None:
        if self._borrowed:  # another event loop that ends has nothing to close; its own may go on
            return
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def after_fork(self) -> None:
        """Nothing to do: the storage makes new asynchronous drivers after a fork."""


def _exhausted(size: int, deadline: Deadline) -> StorageUnavailableError:
    return StorageUnavailableError(
        f"All {size} connections were in use for {deadline.timeout:g} s.",
        hint="Try again, or make the storage with a larger pool_size.",
    )
