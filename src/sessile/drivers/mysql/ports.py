"""Ways to MySQL: a pool of blocking or of asynchronous connections, or one connection of the application's.

Several statements are sent as one text, and so in one round trip. What the session of a connection must have is set
when it is made, and nothing changes it later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiomysql  # pyright: ignore[reportMissingTypeStubs]
import pymysql
from pymysql.constants import CLIENT

from ...errors import StorageError, StorageUnavailableError, TooLargeError, Written
from ...storage.driver import Deadline
from ..sql.base import Execute, Parameters, Result
from ..sql.pool import TaskPool, ThreadPool
from ..sql.ports import LateError, PooledPort
from .errors import is_lost, translate

T = TypeVar("T")
Failure = pymysql.err.MySQLError

SETTINGS = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"  # never cut text off, never swap InnoDB
    " autocommit = 1, innodb_lock_wait_timeout = {seconds};"
    " SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;"
    " SELECT @@max_allowed_packet"
)


class Target:
    """Where connections lead.

    Args:
        options: the arguments of `pymysql.connect`, which are also aiomysql's.
        where: names it in messages, without the password.
    """

    def __init__(self, options: dict[str, Any], where: str) -> None:
        self._options = options
        self.where = where
        self.max_packet = 16 * 1024 * 1024
        """The server's `max_allowed_packet`, known from the first connection on."""

    def options(self, deadline: Deadline) -> dict[str, Any]:
        """The arguments of a connection that is made now."""
        return {
            "charset": "utf8mb4",
            **self._options,
            "client_flag": CLIENT.MULTI_STATEMENTS | CLIENT.FOUND_ROWS,
            "connect_timeout": max(1, int(deadline.remaining())),
        }

    def settings(self, deadline: Deadline) -> str:
        """What is sent first. The server gives up waiting for a lock before its client does."""
        return SETTINGS.format(seconds=max(1, int(deadline.timeout) - 1))

    def refused(self, error: Exception) -> StorageUnavailableError:
        """The error of a connection that could not be made."""
        reason = str(error.args[-1]) if error.args else type(error).__name__
        return StorageUnavailableError(
            f"Connecting to {self.where} failed: {reason}.",
            hint="Check that the database is up and reachable, and the user and password.",
        )

    def check_size(self, sql: str) -> None:
        """Refuse what the server would refuse, before it is sent: the server closes the connection instead."""
        if len(sql) * 4 >= self.max_packet and (size := len(sql.encode())) + 1 > self.max_packet:
            raise TooLargeError(
                f"A statement of {size:,} bytes is more than the max_allowed_packet of {self.where}, "
                f"{self.max_packet:,} bytes.",
                hint="Store less, or raise max_allowed_packet on the server; nothing was written.",
            )


class MySQLPort(PooledPort[Failure]):
    """What both pools share."""

    def __init__(self, target: Target) -> None:
        super().__init__(Failure, target.where)
        self.target = target

    def is_lost(self, error: Failure) -> bool:
        """Whether the connection is of no use any more, and others may be."""
        return is_lost(error)

    def translate(self, error: Failure, what: str, written: Written) -> StorageError:
        """The client's error as one of ours; `written`: what is known if the connection was lost."""
        return translate(error, what, self.where, written=written)


class ThreadPort(MySQLPort):
    """A pool of blocking connections."""

    suspends = False

    def __init__(self, target: Target, pool_size: int) -> None:
        super().__init__(target)
        self._pool_size = pool_size
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPool[pymysql.Connection[Any]]:
        return ThreadPool(self._connect, _close, self._pool_size)

    def _connect(self, deadline: Deadline) -> pymysql.Connection[Any]:
        options = self.target.options(deadline)
        options |= {"read_timeout": deadline.timeout, "write_timeout": deadline.timeout}
        try:
            connection: pymysql.Connection[Any] = pymysql.connect(**options)
            self.target.max_packet = _execute(connection, self.target.settings(deadline), None)[-1].rows[0][0]
        except Failure as error:
            raise self.target.refused(error) from error
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = self._pool.acquire(deadline)
        sound = False
        try:
            results = _execute(connection, _whole(sql), parameters, self.target)
            sound = True
        except Failure as error:
            sound = not is_lost(error) and _roll_back(connection)
            raise
        finally:
            self._pool.release(connection) if sound else self._pool.discard(connection)
        return _joined(results)

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """A transaction of several statements, rolled back if its body raises; changes of the schema commit it."""
        connection = self._pool.acquire(deadline)

        async def execute(sql: str, parameters: Parameters | None) -> Result:
            try:
                return _joined(_execute(connection, sql, parameters, self.target))
            except Failure as error:
                raise self.translate(error, what, "unknown") from error

        try:
            await execute("START TRANSACTION", None)
            yield execute
            await execute("COMMIT", None)
        except BaseException:
            self._pool.discard(connection)
            raise
        self._pool.release(connection)

    async def _forget_idle(self) -> None:
        self._pool.clear()

    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""
        self._pool.close()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections; PyMySQL collects them without a word to the server.

        The old pool is not touched: another thread may have held its lock when the process forked.
        """
        self._pool = self._new_pool()


class _Connection(aiomysql.Connection):
    """Says nothing when it is collected after its event loop has ended, as when `asyncio.run` returns."""

    _loop: asyncio.AbstractEventLoop

    def __del__(self) -> None:
        if not self._loop.is_closed():
            super().__del__()


class TaskPort(MySQLPort):
    """A pool of asynchronous connections, for one event loop."""

    suspends = True

    def __init__(self, target: Target, pool_size: int) -> None:
        super().__init__(target)
        self._pool: TaskPool[Any] = TaskPool(self._connect, _aclose, pool_size)

    async def _connect(self, deadline: Deadline) -> Any:
        options = self.target.options(deadline)
        options["db"] = options.pop("database", None)
        try:
            connection: Any = _Connection(**options)
            await connection._connect()  # what aiomysql.connect does, with a class of its own
            results = await _aexecute(connection, self.target.settings(deadline), None)
            self.target.max_packet = results[-1].rows[0][0]
        except (Failure, OSError) as error:
            raise self.target.refused(error) from error
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = await self._pool.acquire(deadline)
        sound = False
        try:
            async with asyncio.timeout(deadline.remaining()):
                results = await _aexecute(connection, _whole(sql), parameters, self.target)
            sound = True
        except Failure as error:
            sound = not is_lost(error) and await _aroll_back(connection)
            raise
        except TimeoutError as error:
            raise LateError from error
        finally:
            await (self._pool.release(connection) if sound else self._pool.discard(connection))
        return _joined(results)

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """A transaction of several statements, rolled back if its body raises; changes of the schema commit it."""
        connection = await self._pool.acquire(deadline)

        async def execute(sql: str, parameters: Parameters | None) -> Result:
            try:
                async with asyncio.timeout(deadline.remaining()):
                    return _joined(await _aexecute(connection, sql, parameters, self.target))
            except Failure as error:
                raise self.translate(error, what, "unknown") from error
            except TimeoutError as error:
                raise self.late(what, deadline, "unknown") from error

        try:
            await execute("START TRANSACTION", None)
            yield execute
            await execute("COMMIT", None)
        except BaseException:
            await self._pool.discard(connection)
            raise
        await self._pool.release(connection)

    async def _forget_idle(self) -> None:
        await self._pool.clear()

    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""
        await self._pool.close()

    def after_fork(self) -> None:
        """Nothing to do: the storage makes new asynchronous drivers after a fork."""


class BorrowedPort:
    """One connection of the application's, and the transaction that it is in, if any. Never commits, never closes.

    A statement that fails may have rolled the transaction back (a deadlock does), so no error of it is worth a retry.
    """

    def __init__(self, connection: Any, where: str) -> None:
        self.connection = connection
        self.where = where
        self.suspends = isinstance(connection, aiomysql.Connection)

    async def read(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run statements inside the application's transaction."""
        results: list[Result] = []
        try:
            for statement in sql.split(SEPARATOR):
                if self.suspends:
                    results += await _aexecute(self.connection, statement, parameters)
                else:
                    results += _execute(self.connection, statement, parameters)
        except Failure as error:
            failed = translate(error, what, self.where, written="unknown")
            failed.retry = False
            failed.hint = f"Roll the transaction back, and repeat it whole. {failed.hint}"
            raise failed from error
        return _joined(results)

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


SEPARATOR = ";\n"
"""Between the statements of one write, which are one transaction."""


def _whole(sql: str) -> str:
    """Several statements as a transaction."""
    return SEPARATOR.join(("START TRANSACTION", sql, "COMMIT")) if SEPARATOR in sql else sql


def _execute(connection: Any, sql: str, parameters: Parameters | None, target: Target | None = None) -> list[Result]:
    """Run statements; the result of each."""
    results: list[Result] = []
    with connection.cursor(pymysql.cursors.Cursor) as cursor:
        text = cursor.mogrify(sql, parameters or {})
        if target is not None:
            target.check_size(text)
        cursor.execute(text)
        results.append(Result(list(cursor.fetchall()), cursor.rowcount))
        while cursor.nextset():
            results.append(Result(list(cursor.fetchall()), cursor.rowcount))
    return results


async def _aexecute(
    connection: Any, sql: str, parameters: Parameters | None, target: Target | None = None
) -> list[Result]:
    results: list[Result] = []
    async with connection.cursor(aiomysql.Cursor) as cursor:
        text = cursor.mogrify(sql, parameters or {})
        if target is not None:
            target.check_size(text)
        await cursor.execute(text)
        results.append(Result(list(await cursor.fetchall()), cursor.rowcount))
        while await cursor.nextset():
            results.append(Result(list(await cursor.fetchall()), cursor.rowcount))
    return results


def _joined(results: Sequence[Result]) -> Result:
    """What several statements found and changed together."""
    rows = [row for result in results for row in result.rows]
    return Result(rows, sum(max(0, result.affected) for result in results))


def _roll_back(connection: pymysql.Connection[Any]) -> bool:
    """Whether the connection could be brought to rest."""
    try:
        connection.rollback()
    except Failure:
        return False
    return True


async def _aroll_back(connection: Any) -> bool:
    try:
        await connection.rollback()
    except Failure:
        return False
    return True


def _close(connection: pymysql.Connection[Any]) -> None:
    if connection.open:
        connection.close()


async def _aclose(connection: Any) -> None:
    connection.close()
