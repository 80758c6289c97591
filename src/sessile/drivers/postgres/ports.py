"""Ways to PostgreSQL: a pool of blocking or of asynchronous connections, or one connection of the application's.

Connections are in autocommit mode, each statement a transaction of its own; nothing relies on the state of a
connection, so that a pooler in transaction mode may stand in between.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, suppress
from functools import cached_property, partial
from typing import Any, TypeVar, cast

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import PipelineStatus, TransactionStatus
from psycopg.rows import tuple_row
from psycopg.waiting import Ready, Wait

from ...errors import InvalidInputError, ReadOnlyError, StorageError, StorageUnavailableError, UnsupportedError, Written
from ...storage.driver import Deadline
from ...storage.stats import Stats
from ..sql.base import Execute, Parameters, Result
from ..sql.borrowed import not_open, refuse_writes, spoil
from ..sql.pool import PoolSettings, TaskPool, ThreadPool
from ..sql.ports import LateError, PooledPort, not_text
from .direct import Sender, Statement
from .errors import READ_ONLY_TRANSACTION, is_lost, translate

R = TypeVar("R")

PIECES = 64
"""How many pieces of an answer that are there are taken before others have their turn on the event loop."""

HURRIED = 0.1
"""How often is looked whether who waits for an answer is in a hurry by now."""

CANCEL_SECONDS = 1.0
"""How long to try to cancel a statement that has passed its deadline."""


def where_of(conninfo: str) -> str:
    """The database in words, without user and password."""
    fields = conninfo_to_dict(conninfo)
    port = f":{fields['port']}" if "port" in fields else ""
    return f"PostgreSQL at {fields.get('host', 'localhost')}{port}/{fields.get('dbname', '')}"


class Target:
    """Where connections lead, and what was learned about it from the first one.

    Args:
        conninfo: a URL or connection string of libpq's.
        prepare: whether statements that are run often are prepared; None: unless a pooler stands in between.
    """

    def __init__(self, conninfo: str, *, prepare: bool | None = None) -> None:
        self.conninfo = conninfo
        self.where = where_of(conninfo)
        self.prepare = prepare
        self.hosts = str(conninfo_to_dict(conninfo).get("host", "")).count(",") + 1
        """How many hosts there are: if one takes no writes, another one may."""
        self.pooled: bool | None = None
        """Whether a pooler stands in between, None before the first connection."""

    def options(self, deadline: Deadline) -> dict[str, Any]:
        """The arguments of `connect`."""
        options: dict[str, Any] = {
            "autocommit": True,
            "client_encoding": "UTF8",
            # For each host, so that one that says nothing leaves time for the others. libpq knows none under 2.
            "connect_timeout": max(2, int(deadline.remaining() / self.hosts)),
        }
        if self.prepare is False or (self.prepare is None and self.pooled):
            options["prepare_threshold"] = None
        return options

    def learn(self, connection: psycopg.Connection[Any] | AsyncConnection[Any], backend: int) -> None:
        """Compare the process that greeted with the one that answers: a pooler gives a number of its own.

        Raises `StorageError` if the database cannot hold all text.
        """
        _check_encoding(connection, self.where)
        self.pooled = connection.info.backend_pid != backend

    def settle(self, connection: psycopg.Connection[Any] | AsyncConnection[Any]) -> None:
        """Let a new connection prepare nothing behind a pooler: that may have been learned while it was made."""
        if self.prepare is None and self.pooled:
            connection.prepare_threshold = None

    def refused(self, error: psycopg.Error | LateError) -> StorageUnavailableError:
        """The error of a connection that could not be made."""
        reason = " ".join(str(error).split()) or type(error).__name__
        return StorageUnavailableError(
            f"Connecting to {self.where} failed: {reason}.",
            hint="Check that the database is up and reachable, and the user and password.",
        )


WHO_ANSWERS = "SELECT pg_backend_pid()"

BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
"""Whatever the database's default: whoever has waited for a lock must see what was done under it."""


def _check_encoding(connection: psycopg.Connection[Any] | AsyncConnection[Any], where: str) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise StorageError(
            f"{where} has the encoding {encoding}, which cannot hold all text.",
            hint="Make the database with ENCODING 'UTF8'.",
        )


def _limited(
    generator: Generator[Any, Any, R], deadline: Deadline | None, wanted: Wait | None = None
) -> Generator[Any, Any, R]:
    """A generator of psycopg's that raises `LateError` when its deadline has passed.

    psycopg wakes it with a false value ten times a second while the server says nothing. `wanted`: what a generator
    that was begun elsewhere waits for.
    """
    try:
        wanted = wanted or next(generator)
        while True:
            ready = yield wanted
            if not ready and deadline is not None and deadline.for_answer() <= 0:
                raise LateError("no answer in time")
            wanted = generator.send(ready)
    except StopIteration as stop:
        return stop.value


class DeadlineConnection(Connection[tuple[Any, ...]]):
    """A connection whose statements end by a deadline, or raise `LateError`."""

    deadline: Deadline | None = None

    @cached_property
    def statements(self) -> psycopg.Cursor[tuple[Any, ...]]:
        """One cursor for all statements that are run one after the other: to make one takes a fourth of the time."""
        return self.cursor()

    @cached_property
    def sender(self) -> Sender:
        """Who runs the statements that need no cursor."""
        return Sender(self)

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run an operation of psycopg's."""
        return super().wait(_limited(gen, self.deadline), *args, **kwargs)


class AsyncDeadlineConnection(AsyncConnection[tuple[Any, ...]]):
    """The asynchronous version of `DeadlineConnection`."""

    deadline: Deadline | None = None

    @cached_property
    def statements(self) -> psycopg.AsyncCursor[tuple[Any, ...]]:
        """See `DeadlineConnection.statements`."""
        return self.cursor()

    @cached_property
    def sender(self) -> Sender:
        """See `DeadlineConnection.sender`."""
        return Sender(self)

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run an operation of psycopg's."""
        return await super().wait(_limited(gen, self.deadline), *args, **kwargs)

    @cached_property
    def _more(self) -> Callable[[], object]:
        """Tells whether there is something to be received at this moment."""
        if not hasattr(select, "poll"):  # Windows
            return lambda: False
        poll = select.poll()
        poll.register(self.pgconn.socket, select.POLLIN)
        return partial(poll.poll, 0)

    async def answer(self, gen: PQGen[R], deadline: Deadline) -> R:
        """Run an operation that mostly waits for one answer: as `wait`, with less work around it.

        If the task is cancelled, the server is told to stop, so that the connection can be used again.
        """
        loop, socket = asyncio.get_running_loop(), self.pgconn.socket
        wanted = None
        try:
            wanted = next(gen)
            while wanted == Wait.R:
                arrived: asyncio.Future[bool] = loop.create_future()
                left = deadline.for_answer()
                timer = loop.call_later(min(left, HURRIED) if deadline.may_be_hurried else left, _tell, arrived, False)
                loop.add_reader(socket, _tell, arrived, True)
                try:
                    readable = await arrived
                finally:
                    timer.cancel()
                    loop.remove_reader(socket)
                if readable:
                    wanted = gen.send(Ready.R)
                    for _ in range(PIECES):
                        if wanted != Wait.R or not self._more():
                            break
                        wanted = gen.send(Ready.R)
                elif deadline.for_answer() <= 0:
                    raise LateError("no answer in time")
        except StopIteration as stop:
            return stop.value
        except asyncio.CancelledError:
            await _acancel(self)
            with suppress(psycopg.Error, LateError):
                await super().wait(_limited(gen, Deadline(CANCEL_SECONDS), wanted))
            raise
        return await super().wait(_limited(gen, deadline, wanted))  # what is sent is more than the socket takes at once


def _tell(arrived: asyncio.Future[bool], readable: bool) -> None:
    if not arrived.done():
        arrived.set_result(readable)


def _is_sound(connection: psycopg.Connection[Any] | AsyncConnection[Any]) -> bool:
    return not connection.closed and connection.pgconn.transaction_status == TransactionStatus.IDLE


class PostgresPort(PooledPort[psycopg.Error]):
    """What both pools share."""

    def __init__(self, target: Target, stats: Stats) -> None:
        super().__init__(psycopg.Error, target.where, stats)
        self.target = target
        self.direct: dict[str, Statement] = {}
        """Statements that need no cursor, because they are run all the time and bring rows, by their text."""

    def is_lost(self, error: psycopg.Error) -> bool:
        """Whether the connection is of no use any more, and others may be."""
        return is_lost(error)

    def translate(self, error: psycopg.Error, what: str, written: Written) -> StorageError:
        """The error of a statement. One that was refused for being sent to a follower may be sent to another host."""
        failed = translate(error, what, self.where, written=written)
        if isinstance(failed, ReadOnlyError):
            failed.retryable = self.target.hosts > 1
        return failed


class ThreadPort(PostgresPort):
    """A pool of blocking connections."""

    suspends = False
    ends_promptly = True

    def __init__(self, target: Target, settings: PoolSettings, stats: Stats) -> None:
        super().__init__(target, stats)
        self._settings = settings
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPool[DeadlineConnection]:
        return ThreadPool(self._connect, _close, stats=self.stats, **self._settings)

    def _connect(self, deadline: Deadline) -> DeadlineConnection:
        connection = None
        try:
            connection = DeadlineConnection.connect(self.target.conninfo, **self.target.options(deadline))
            if self.target.pooled is None:
                connection.deadline = deadline
                self.target.learn(connection, connection.execute(WHO_ANSWERS).fetchall()[0][0])
            self.target.settle(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, (psycopg.Error, LateError)):
                raise self.target.refused(error) from error
            raise
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = self._pool.acquire(deadline)
        try:
            connection.deadline = deadline
            statement = self.direct.get(sql)
            if statement is None:
                result = _result(connection.statements.execute(cast("Any", sql), parameters))
            else:
                result = connection.wait(connection.sender.run(statement, parameters))
        except LateError:
            self._pool.abandon(connection, _cancel)
            raise
        except BaseException:
            self._give_back(connection)
            raise
        self._give_back(connection)
        return result

    def _give_back(self, connection: DeadlineConnection) -> None:
        if _is_sound(connection):
            self._pool.release(connection)
        else:
            self._pool.discard(connection)

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """A transaction of several statements, rolled back if its body raises."""
        connection = self._pool.acquire(deadline)

        async def execute(sql: str, parameters: Parameters | bytes | None) -> Result:
            try:
                if isinstance(parameters, bytes):
                    with connection.cursor().copy(cast("Any", sql)) as copy:
                        copy.write(parameters)
                    return Result([], 0)
                return _result(connection.execute(cast("Any", sql), parameters or {}))
            except psycopg.Error as error:
                raise self.translate(error, what, "unknown") from error

        try:
            connection.deadline = deadline
            await execute(BEGIN, None)
            yield execute
            await execute("COMMIT", None)
        except LateError as error:
            raise self.late(what, deadline, "unknown") from error
        finally:
            self._give_back(connection)  # closed, and so rolled back, if the transaction is still open

    async def _forget_idle(self) -> None:
        self._pool.clear()

    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""
        self._pool.close()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections; psycopg never closes those of another process.

        The old pool is not touched: another thread may have held its lock when the process forked.
        """
        self._pool = self._new_pool()


class TaskPort(PostgresPort):
    """A pool of asynchronous connections, for one event loop."""

    suspends = True

    def __init__(self, target: Target, settings: PoolSettings, stats: Stats) -> None:
        super().__init__(target, stats)
        self._pool = TaskPool(self._connect, _aclose, stats=stats, **settings)

    async def _connect(self, deadline: Deadline) -> AsyncDeadlineConnection:
        connection = None
        try:
            options = self.target.options(deadline)
            connection = await AsyncDeadlineConnection.connect(self.target.conninfo, **options)
            if self.target.pooled is None:
                connection.deadline = deadline
                cursor = await connection.execute(WHO_ANSWERS)
                self.target.learn(connection, (await cursor.fetchall())[0][0])
            self.target.settle(connection)
        except BaseException as error:
            if connection is not None:
                await connection.close()
            if isinstance(error, (psycopg.Error, LateError)):
                raise self.target.refused(error) from error
            raise
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = await self._pool.acquire(deadline)
        try:
            connection.deadline = deadline
            statement = self.direct.get(sql)
            if statement is None:
                return await _aresult(await connection.statements.execute(cast("Any", sql), parameters))
            return await connection.answer(connection.sender.run(statement, parameters), deadline)
        except LateError:
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

        async def execute(sql: str, parameters: Parameters | bytes | None) -> Result:
            try:
                if isinstance(parameters, bytes):
                    async with connection.cursor().copy(cast("Any", sql)) as copy:
                        await copy.write(parameters)
                    return Result([], 0)
                return await _aresult(await connection.execute(cast("Any", sql), parameters or {}))
            except psycopg.Error as error:
                raise self.translate(error, what, "unknown") from error

        try:
            connection.deadline = deadline
            await execute(BEGIN, None)
            yield execute
            await execute("COMMIT", None)
        except LateError as error:
            raise self.late(what, deadline, "unknown") from error
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

    A statement that fails has spoiled the transaction, so no error of it is worth a retry. Raises `InvalidInputError`
    for a connection that is closed or cannot carry all text.
    """

    borrowed = True
    ends_promptly = False

    def __init__(self, connection: Connection[Any] | AsyncConnection[Any]) -> None:
        if connection.closed:
            raise InvalidInputError("The connection is closed.")
        if connection.info.encoding != "utf-8":
            raise InvalidInputError(
                f"The connection has the encoding {connection.info.encoding}, which cannot carry all text.",
                hint='Connect with client_encoding="UTF8".',
            )
        self.connection = connection
        self.where = where_of(connection.info.dsn)
        self.stats = Stats()
        _check_encoding(connection, self.where)
        self.suspends = isinstance(connection, AsyncConnection)

    async def read(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement inside the application's transaction."""
        deadline.check(what)
        return await self._run(what, sql, parameters, "no")

    async def write(self, what: str, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        """Run a statement inside the application's transaction; outside of one it is a transaction of its own."""
        deadline.check(what)
        idle = self.connection.info.transaction_status == TransactionStatus.IDLE
        return await self._run(what, sql, parameters, "unknown" if self.connection.autocommit and idle else "no")

    async def _run(self, what: str, sql: str, parameters: Parameters, written: Written) -> Result:
        """Run a statement; `written`: what is known if the connection is lost."""
        self._check_ready(what)
        try:
            # Not the connection's own cursors: the application may have chosen other rows or parameters.
            if isinstance(self.connection, AsyncConnection):
                async_cursor = psycopg.AsyncCursor(self.connection, row_factory=tuple_row)
                return await _aresult(await async_cursor.execute(cast("Any", sql), parameters))
            cursor = psycopg.Cursor(self.connection, row_factory=tuple_row)
            return _result(cursor.execute(cast("Any", sql), parameters))
        except psycopg.Error as error:
            failed = translate(error, what, self.where, written=written)
            if isinstance(failed, ReadOnlyError) and error.sqlstate == READ_ONLY_TRANSACTION:
                refuse_writes(failed)
            else:
                spoil(failed)
            if failed.written == "unknown":
                self.stats.unknown(failed)
            raise failed from error
        except UnicodeDecodeError as error:
            raise not_text(error, what, self.where) from error

    def _check_ready(self, what: str) -> None:
        """Raise if a statement that is sent now would not be answered now."""
        if self.connection.closed:
            raise not_open(self.where)
        if self.connection.pgconn.pipeline_status != PipelineStatus.OFF:
            raise UnsupportedError(
                f"{what} needs an answer at once, and the connection to {self.where} is in pipeline mode.",
                hint="Call the storage outside of `with connection.pipeline()`; nothing was sent.",
            )

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """The application's transaction."""

        async def execute(sql: str, parameters: Parameters | bytes | None) -> Result:
            assert not isinstance(parameters, bytes), "no index lies beside a connection of the application's"
            return await self.write(what, sql, parameters or {}, deadline)

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
