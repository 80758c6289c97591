"""Ways to PostgreSQL: a pool of blocking or of asynchronous connections, or one connection of the application's.

Connections are in autocommit mode, each statement a transaction of its own; nothing relies on the state of a
connection, so that a pooler in transaction mode may stand in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.pq import TransactionStatus

from ...errors import DeadlineError, StorageUnavailableError, Written
from ...storage.driver import Deadline
from ..sql.base import Execute, Parameters, Result
from ..sql.pool import TaskPool, ThreadPool
from .errors import is_lost, translate

READ_ATTEMPTS = 3
"""How often a read is tried on connections that turn out to be lost. Idle ones all are, after a restart."""

CANCEL_SECONDS = 1.0
"""How long to try to cancel a statement that has passed its deadline."""


class Target:
    """Where connections lead, and what was learned about it from the first one.

    Args:
        conninfo: a URL or connection string of libpq's.
        where: names it in messages, without the password.
        prepare: whether statements that are run often are prepared; None: unless a pooler stands in between.
    """

    def __init__(self, conninfo: str, where: str, *, prepare: bool | None = None) -> None:
        self.conninfo = conninfo
        self.where = where
        self.prepare = prepare
        self.pooled: bool | None = None
        """Whether a pooler stands in between, None before the first connection."""

    def options(self, deadline: Deadline) -> dict[str, Any]:
        """The arguments of `connect`."""
        options: dict[str, Any] = {"autocommit": True, "connect_timeout": max(2, int(deadline.remaining()))}
        if self.prepare is False or (self.prepare is None and self.pooled):
            options["prepare_threshold"] = None
        return options

    def learn(self, connection: psycopg.Connection[Any] | AsyncConnection[Any], backend: int) -> None:
        """Compare the process that greeted with the one that answers: a pooler gives a number of its own."""
        self.pooled = connection.info.backend_pid != backend
        if self.prepare is None and self.pooled:
            connection.prepare_threshold = None

    def refused(self, error: psycopg.Error) -> StorageUnavailableError:
        """The error of a connection that could not be made."""
        reason = " ".join(str(error).split()) or type(error).__name__
        return StorageUnavailableError(
            f"Connecting to {self.where} failed: {reason}.",
            hint="Check that the database is up and reachable, and the user and password.",
        )


WHO_ANSWERS = "SELECT pg_backend_pid()"


def _limited(generator: Generator[Any, Any, Any], deadline: Deadline | None) -> Generator[Any, Any, Any]:
    """A generator of psycopg's that raises `TimeoutError` when its deadline has passed.

    psycopg wakes it with a false value ten times a second while the server says nothing.
    """
    try:
        wanted = next(generator)
        while True:
            ready = yield wanted
            if not ready and deadline is not None and deadline.remaining() <= 0:
                raise TimeoutError
            wanted = generator.send(ready)
    except StopIteration as stop:
        return stop.value


class DeadlineConnection(Connection[tuple[Any, ...]]):
    """A connection whose statements end by a deadline, or raise `TimeoutError`."""

    deadline: Deadline | None = None

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run an operation of psycopg's."""
        return super().wait(_limited(gen, self.deadline), *args, **kwargs)


class AsyncDeadlineConnection(AsyncConnection[tuple[Any, ...]]):
    """The asynchronous twin of `DeadlineConnection`."""

    deadline: Deadline | None = None

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run an operation of psycopg's."""
        return await super().wait(_limited(gen, self.deadline), *args, **kwargs)


def _is_sound(connection: psycopg.Connection[Any] | AsyncConnection[Any]) -> bool:
    return not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE


class PooledPort(ABC):
    """What the ports over pools share: errors, and reading again after a connection was lost."""

    suspends: bool

    def __init__(self, target: Target) -> None:
        self.target = target
        self.where = target.where

    @abstractmethod
    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run one statement on a connection of the pool; raises psycopg's errors and `TimeoutError`."""

    @abstractmethod
    async def _forget_idle(self) -> None:
        """Close idle connections."""

    async def read(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement that changes nothing; run again if the connection turns out to be lost."""
        attempt = 1
        while True:
            try:
                return await self._run(sql, parameters, deadline)
            except psycopg.Error as error:
                if is_lost(error):
                    await self._forget_idle()
                if not is_lost(error) or attempt == READ_ATTEMPTS or deadline.remaining() <= 0:
                    raise translate(error, what, self.where) from error
                attempt += 1
            except TimeoutError as error:
                raise _late(what, self.where, deadline, "no") from error

    async def write(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement as a transaction of its own; a lost answer is an error with `written="unknown"`."""
        try:
            return await self._run(sql, parameters, deadline)
        except psycopg.Error as error:
            if is_lost(error):
                await self._forget_idle()
            raise translate(error, what, self.where, written="unknown") from error
        except TimeoutError as error:
            raise _late(what, self.where, deadline, "unknown") from error


def _late(what: str, where: str, deadline: Deadline, written: Written) -> DeadlineError:
    return DeadlineError(
        f"{what} on {where} did not end within {deadline.timeout:g} s.", written=written, retry=written == "no"
    )


class ThreadPort(PooledPort):
    """A pool of blocking connections."""

    suspends = False

    def __init__(self, target: Target, pool_size: int) -> None:
        super().__init__(target)
        self._pool_size = pool_size
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPool[DeadlineConnection]:
        return ThreadPool(self._connect, _close, self._pool_size)

    def _connect(self, deadline: Deadline) -> DeadlineConnection:
        try:
            connection = DeadlineConnection.connect(self.target.conninfo, **self.target.options(deadline))
            if self.target.pooled is None:
                self.target.learn(connection, connection.execute(WHO_ANSWERS).fetchall()[0][0])
        except psycopg.Error as error:
            raise self.target.refused(error) from error
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = self._pool.acquire(deadline)
        try:
            connection.deadline = deadline
            return _result(connection.execute(cast("Any", sql), parameters))
        except TimeoutError:
            _cancel(connection)
            raise
        finally:
            self._give_back(connection)

    def _give_back(self, connection: DeadlineConnection) -> None:
        if _is_sound(connection):
            self._pool.release(connection)
        else:
            self._pool.discard(connection)

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """A transaction of several statements, rolled back if its body raises."""
        connection = self._pool.acquire(deadline)

        async def execute(sql: str, parameters: Parameters | None) -> Result:
            try:
                return _result(connection.execute(cast("Any", sql), parameters or {}))
            except psycopg.Error as error:
                raise translate(error, what, self.where, written="unknown") from error

        try:
            connection.deadline = deadline
            await execute("BEGIN", None)
            yield execute
            await execute("COMMIT", None)
        except TimeoutError as error:
            raise _late(what, self.where, deadline, "unknown") from error
        finally:
            self._give_back(connection)  # closed, and so rolled back, if the transaction is still open

    async def _forget_idle(self) -> None:
        self._pool.clear()

    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""
        self._pool.close()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections; psycopg never closes those of another process."""
        self._pool.inherited()
        self._pool = self._new_pool()


class TaskPort(PooledPort):
    """A pool of asynchronous connections, for one event loop."""

    suspends = True

    def __init__(self, target: Target, pool_size: int) -> None:
        super().__init__(target)
        self._pool = TaskPool(self._connect, _aclose, pool_size)

    async def _connect(self, deadline: Deadline) -> AsyncDeadlineConnection:
        try:
            options = self.target.options(deadline)
            connection = await AsyncDeadlineConnection.connect(self.target.conninfo, **options)
            if self.target.pooled is None:
                cursor = await connection.execute(WHO_ANSWERS)
                self.target.learn(connection, (await cursor.fetchall())[0][0])
        except psycopg.Error as error:
            raise self.target.refused(error) from error
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = await self._pool.acquire(deadline)
        try:
            connection.deadline = deadline
            return await _aresult(await connection.execute(cast("Any", sql), parameters))
        except TimeoutError:
            await _acancel(connection)
            raise
        finally:
            await self._give_back(connection)

    async def _give_back(self, connection: AsyncDeadlineConnection) -> None:
        if _is_sound(connection):
            await self._pool.release(connection)
        else:
            await self._pool.discard(connection)

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """A transaction of several statements, rolled back if its body raises."""
        connection = await self._pool.acquire(deadline)

        async def execute(sql: str, parameters: Parameters | None) -> Result:
            try:
                return await _aresult(await connection.execute(cast("Any", sql), parameters or {}))
            except psycopg.Error as error:
                raise translate(error, what, self.where, written="unknown") from error

        try:
            connection.deadline = deadline
            await execute("BEGIN", None)
            yield execute
            await execute("COMMIT", None)
        except TimeoutError as error:
            raise _late(what, self.where, deadline, "unknown") from error
        finally:
            await self._give_back(connection)

    async def _forget_idle(self) -> None:
        await self._pool.clear()

    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""
        await self._pool.close()

    def after_fork(self) -> None:
        """Nothing to do: the storage makes new asynchronous drivers after a fork."""


class BorrowedPort:
    """One connection of the application's, and the transaction that it is in, if any. Never commits, never closes.

    A statement that fails has spoiled the transaction, so no error of it is worth a retry.
    """

    def __init__(self, connection: Connection[Any] | AsyncConnection[Any], where: str) -> None:
        self.connection = connection
        self.where = where
        self.suspends = isinstance(connection, AsyncConnection)

    async def read(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement inside the application's transaction."""
        try:
            if isinstance(self.connection, AsyncConnection):
                return await _aresult(await self.connection.cursor().execute(cast("Any", sql), parameters))
            return _result(self.connection.cursor().execute(cast("Any", sql), parameters))
        except psycopg.Error as error:
            failed = translate(error, what, self.where, written="unknown" if is_lost(error) else "no")
            failed.retry = False
            failed.hint = f"Roll the transaction back, and repeat it whole. {failed.hint}"
            raise failed from error

    write = read

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """The application's transaction."""

        async def execute(sql: str, parameters: Parameters | None) -> Result:
            return await self.read(what, sql, parameters or {}, deadline)

        yield execute

    async def close(self) -> None:
        """Nothing: the connection is the application's."""

    def after_fork(self) -> None:
        """Nothing: the connection is the application's."""


def _result(cursor: psycopg.Cursor[tuple[Any, ...]]) -> Result:
    return Result(cursor.fetchall() if _has_rows(cursor) else [], cursor.rowcount)


async def _aresult(cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> Result:
    return Result(await cursor.fetchall() if _has_rows(cursor) else [], cursor.rowcount)


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    return cursor.rownumber is not None  # `description` would describe every column, at 5 µs each


def _close(connection: DeadlineConnection) -> None:
    connection.close()


async def _aclose(connection: AsyncDeadlineConnection) -> None:
    await connection.close()


def _cancel(connection: DeadlineConnection) -> None:
    connection.deadline = None
    try:
        connection.cancel_safe(timeout=CANCEL_SECONDS)
    except psycopg.Error:
        return  # the connection is closed anyway; the server notices that in its own time


async def _acancel(connection: AsyncDeadlineConnection) -> None:
    connection.deadline = None
    try:
        await connection.cancel_safe(timeout=CANCEL_SECONDS)
    except psycopg.Error:
        return
