"""Ways to MySQL: a pool of blocking or of asynchronous connections.

Several statements are sent as one text, and so in one round trip. What the session of a connection must have is set
when it is made, and nothing changes it later.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import aiomysql  # pyright: ignore[reportMissingTypeStubs]
import pymysql
from pymysql.constants import CLIENT, COMMAND, CR

from ...errors import StorageError, StorageUnavailableError, TooLargeError, Written
from ...storage.driver import Deadline
from ...storage.stats import Stats
from ...storage.threads import unless_interrupted
from ...storage.urls import WRONG_CALL, refused_call
from ..sql.base import Execute, Parameters, Result
from ..sql.pool import PoolSettings, TaskPool, ThreadPool
from ..sql.ports import LateError, PooledPort
from ..sql.sockets import PatientReader, PatientSocket
from .answers import AT_ONCE, Packets, lost, results
from .errors import is_lost, translate
from .statements import filled, joined, whole

Failure = pymysql.err.MySQLError

KILL_SECONDS = 1.0
"""How long to try to stop a statement that has passed its deadline."""

SETTINGS = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',"  # never cut text off, never swap InnoDB
    " autocommit = 1, completion_type = 0,"  # a COMMIT begins no further transaction, in which the next write were lost
    " innodb_lock_wait_timeout = {seconds};"
    " SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;"
    " SELECT @@max_allowed_packet, CONNECTION_ID(), @@hostname, @@port"
)


class Backend(NamedTuple):
    """Who serves a connection: its number on one server."""

    number: int
    host: str
    port: int

    def is_beside(self, other: Backend) -> bool:
        """Whether both are on one server: behind one address there may be several, each with its own numbers."""
        return self[1:] == other[1:]


class Target:
    """Where connections lead.

    Args:
        options: the arguments of `pymysql.connect`, which are also aiomysql's.
        where: names it in messages, without the password.
    """

    def __init__(self, options: dict[str, Any], where: str) -> None:
        self._options = options
        self.where = where
        self.max_packet: int | None = None
        """The server's `max_allowed_packet`, known from the first connection on."""

    def options(self, deadline: Deadline) -> dict[str, Any]:
        """The arguments of a connection that is made now."""
        return {
            "charset": "utf8mb4",
            "autocommit": None,  # it is one of the settings
            **self._options,
            "client_flag": CLIENT.MULTI_STATEMENTS | CLIENT.FOUND_ROWS,
            "connect_timeout": _seconds(deadline),
        }

    def settings(self, deadline: Deadline) -> str:
        """What is sent first. The server gives up waiting for a lock before its client does."""
        return SETTINGS.format(seconds=max(1, int(deadline.timeout) - 1))

    def learn(self, results: list[Result]) -> Backend:
        """What came of the settings."""
        self.max_packet, *backend = results[-1].rows[0]
        return Backend(*backend)

    def refused(self, error: Exception) -> StorageUnavailableError:
        """The error of a connection that could not be made."""
        reason = str(error.args[-1]) if error.args else type(error).__name__
        why = "" if error.__cause__ is None else f" ({error.__cause__})"  # which aiomysql leaves out
        return StorageUnavailableError(
            f"Connecting to {self.where} failed: {reason}{why}.",
            hint="Check that the database is up and reachable, and the user and password.",
        )


class MySQLPort(PooledPort[Failure]):
    """What both pools share."""

    def __init__(self, target: Target, stats: Stats) -> None:
        super().__init__(Failure, target.where, stats)
        self.target = target

    @property
    def max_packet(self) -> int | None:
        """The server's `max_allowed_packet`, None before the first connection."""
        return self.target.max_packet

    def is_lost(self, error: Failure) -> bool:
        """Whether the connection is of no use any more, and others may be."""
        return is_lost(error)

    def translate(self, error: Failure, what: str, written: Written) -> StorageError:
        """The client's error as one of ours; `written`: what is known if the connection was lost."""
        return translate(error, what, self.where, written=written)


# ---------------------------------------------------------------- for synchronous callers


class _Connection(pymysql.Connection):  # pyright: ignore[reportMissingTypeArgument] (generic in its stubs only)
    """A connection whose statements, and whose making, end by a deadline: PyMySQL limits the time of each packet."""

    backend: Backend
    _sock: Any  # as what follows, in no stubs
    _rfile: io.BufferedReader
    _next_seq_id: int

    def __init__(self, deadline: Deadline, **options: Any) -> None:
        self._made_until: Deadline | None = deadline
        seconds = _seconds(deadline)
        super().__init__(**options, read_timeout=seconds, write_timeout=seconds)
        self._made_until = None
        self._sock = PatientSocket(self._sock, deadline)
        self._rfile.close()  # at rest: the server only answers
        self._rfile = io.BufferedReader(PatientReader(self._sock))

    def limit(self, deadline: Deadline) -> None:
        """Give what is sent from now on, and its answer, the time that is left."""
        if self._sock is not None:
            self._sock.deadline = deadline

    def ask(self, statements: str) -> list[Result]:
        """The results of statements that are sent as one text."""
        this = cast(Any, self)
        this._execute_command(COMMAND.COM_QUERY, statements.encode(errors="surrogateescape"))
        packets, reading = Packets(self._next_seq_id), results(self._note)
        next(reading)
        try:
            while True:
                while (packet := packets.next()) is None:
                    packets.add(self._sock.recv_exactly(packets.wanted) if packets.wanted else self._sock.recv(AT_ONCE))
                reading.send(packet)
        except StopIteration as stop:
            return stop.value
        except OSError as error:
            this._force_close()
            raise lost(error) from error

    def _note(self, status: int) -> None:
        self.server_status = status

    def _read_bytes(self, num_bytes: int) -> bytes:
        if self._made_until is not None:  # not to be wrapped before TLS has begun
            self._sock.settimeout(_seconds(self._made_until))
        return _read_bytes(self, num_bytes)


_read_bytes: Callable[[Any, int], bytes] = cast(Any, pymysql.Connection)._read_bytes


class ThreadPort(MySQLPort):
    """A pool of blocking connections."""

    suspends = False
    ends_promptly = True

    def __init__(self, target: Target, settings: PoolSettings, stats: Stats) -> None:
        super().__init__(target, stats)
        self._settings = settings
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPool[_Connection]:
        return ThreadPool(self._connect, _close, stats=self.stats, **self._settings)

    def _connect(self, deadline: Deadline) -> _Connection:
        try:
            connection = _Connection(deadline, **self.target.options(deadline))
            connection.backend = self.target.learn(connection.ask(self.target.settings(deadline)))
        except Failure as error:
            raise self.target.refused(error) from error
        except WRONG_CALL as error:
            raise refused_call(error, self.where) from error
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = self._pool.acquire(deadline)
        sound = False
        try:
            found = self._execute(connection, whole(sql), parameters, deadline)
            sound = True
        except TooLargeError:
            sound = True  # nothing was sent
            raise
        except Failure as error:
            sound = not is_lost(error) and _roll_back(connection)
            raise
        finally:
            self._pool.release(connection) if sound else self._pool.discard(connection)
        return joined(found)

    def _execute(
        self, connection: _Connection, sql: str, parameters: Parameters | None, deadline: Deadline
    ) -> list[Result]:
        """Run statements; the client's error of a socket that was given too little time is a `LateError`."""
        connection.limit(deadline)
        try:
            return connection.ask(filled(sql, parameters, connection, pymysql.cursors.Cursor, self.max_packet))
        except Failure as error:
            if not is_lost(error) or deadline.remaining() > 0:
                raise
            unless_interrupted(partial(self._kill, connection.backend))
            raise LateError from error

    def _kill(self, abandoned: Backend) -> None:
        """Let the server stop what nobody waits for any more, and release its locks."""
        try:
            other = self._connect(Deadline(KILL_SECONDS))
        except StorageUnavailableError:
            return  # the server notices in its own time that the connection is closed
        try:
            if abandoned.is_beside(other.backend):
                other.ask(f"KILL QUERY {abandoned.number}")
        except Failure:
            return
        finally:
            _close(other)

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """A transaction of several statements, rolled back if its body raises; changes of the schema commit it."""
        connection = self._pool.acquire(deadline)

        async def run(sql: str, parameters: Parameters | bytes | None) -> Result:
            assert not isinstance(parameters, bytes), "COPY is PostgreSQL's"
            try:
                return joined(self._execute(connection, sql, parameters, deadline))
            except Failure as error:
                raise self.translate(error, what, "unknown") from error
            except LateError as error:
                raise self.late(what, deadline, "unknown") from error

        try:
            await run("START TRANSACTION", None)
            yield run
            await run("COMMIT", None)
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


def _roll_back(connection: _Connection) -> bool:
    """Whether the connection could be brought to rest."""
    try:
        connection.rollback()
    except Failure:
        return False
    return True


def _close(connection: _Connection) -> None:
    if connection.open:
        connection.close()


# ---------------------------------------------------------------- for asynchronous callers


class _AsyncConnection(aiomysql.Connection):
    """A connection that never falls back to sending in the clear, and is silent when its loop has ended."""

    backend: Backend
    _loop: asyncio.AbstractEventLoop
    _ssl_context: Any
    _next_seq_id: int

    async def open(self) -> None:
        """Connect, which aiomysql's own `connect` does with its own class only."""
        await self._connect()

    async def _request_authentication(self) -> None:
        """Log in. aiomysql leaves encryption out if the server, or who stands in between, does not offer it."""
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.err.OperationalError(
                CR.CR_SSL_CONNECTION_ERROR, "SSL is required but the server doesn't support it"
            )
        await super()._request_authentication()

    async def ask(self, statements: str) -> list[Result]:
        """The results of statements that are sent as one text."""
        this = cast(Any, self)
        await this._execute_command(COMMAND.COM_QUERY, statements.encode(errors="surrogateescape"))
        packets, reading = Packets(self._next_seq_id), results(self._note)
        next(reading)
        receive: asyncio.StreamReader = this._reader
        try:
            while True:
                while (packet := packets.next()) is None:
                    wanted = packets.wanted
                    packets.add(await (receive.readexactly(wanted) if wanted else receive.read(AT_ONCE)))
                reading.send(packet)
        except StopIteration as stop:
            return stop.value
        except (OSError, EOFError) as error:  # of which asyncio's IncompleteReadError is one
            self.close()
            raise lost(error) from error

    def _note(self, status: int) -> None:
        self.server_status = status

    def __del__(self) -> None:
        """Close what was forgotten, unless its event loop has ended, as when `asyncio.run` returns."""
        if not self._loop.is_closed():
            super().__del__()


class TaskPort(MySQLPort):
    """A pool of asynchronous connections, for one event loop."""

    suspends = True

    def __init__(self, target: Target, settings: PoolSettings, stats: Stats) -> None:
        super().__init__(target, stats)
        self._pool: TaskPool[_AsyncConnection] = TaskPool(self._connect, _aclose, stats=stats, **settings)

    async def _connect(self, deadline: Deadline) -> _AsyncConnection:
        options = self.target.options(deadline)
        options["db"] = options.pop("database", None)
        try:
            connection = _AsyncConnection(**options)
        except WRONG_CALL as error:
            raise refused_call(error, self.where) from error
        try:
            async with asyncio.timeout(deadline.remaining()):  # aiomysql limits the time of the socket only
                await connection.open()
                learned = await connection.ask(self.target.settings(deadline))
        except BaseException as error:
            connection.close()
            if isinstance(error, (Failure, OSError)):  # a TimeoutError among them
                raise self.target.refused(error) from error
            if isinstance(error, WRONG_CALL):
                raise refused_call(error, self.where) from error
            raise
        connection.backend = self.target.learn(learned)
        return connection

    async def _run(self, sql: str, parameters: Parameters, deadline: Deadline) -> Result:
        connection = await self._pool.acquire(deadline)
        sound = False
        try:
            found = await self._execute(connection, whole(sql), parameters, deadline)
            sound = True
        except TooLargeError:
            sound = True  # nothing was sent
            raise
        except Failure as error:
            sound = not is_lost(error) and await _aroll_back(connection, deadline)
            raise
        finally:
            await (self._pool.release(connection) if sound else self._pool.discard(connection))
        return joined(found)

    async def _execute(
        self, connection: _AsyncConnection, sql: str, parameters: Parameters | None, deadline: Deadline
    ) -> list[Result]:
        """Run statements; raises `LateError` when the deadline has passed. aiomysql then closes the connection."""
        try:
            async with asyncio.timeout(deadline.remaining()):
                return await connection.ask(filled(sql, parameters, connection, aiomysql.Cursor, self.max_packet))
        except TimeoutError as error:
            connection.close()
            await self._kill(connection.backend)
            raise LateError from error

    async def _kill(self, abandoned: Backend) -> None:
        """Let the server stop what nobody waits for any more, and release its locks."""
        try:
            other = await self._connect(Deadline(KILL_SECONDS))
        except StorageUnavailableError:
            return  # the server notices in its own time that the connection is closed
        try:
            async with asyncio.timeout(KILL_SECONDS):
                if abandoned.is_beside(other.backend):
                    await other.ask(f"KILL QUERY {abandoned.number}")
        except (Failure, TimeoutError):
            return
        finally:
            other.close()

    @asynccontextmanager
    async def transaction(self, what: str, deadline: Deadline) -> AsyncGenerator[Execute]:
        """A transaction of several statements, rolled back if its body raises; changes of the schema commit it."""
        connection = await self._pool.acquire(deadline)

        async def run(sql: str, parameters: Parameters | bytes | None) -> Result:
            assert not isinstance(parameters, bytes), "COPY is PostgreSQL's"
            try:
                return joined(await self._execute(connection, sql, parameters, deadline))
            except Failure as error:
                raise self.translate(error, what, "unknown") from error
            except LateError as error:
                raise self.late(what, deadline, "unknown") from error

        try:
            await run("START TRANSACTION", None)
            yield run
            await run("COMMIT", None)
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


async def _aroll_back(connection: _AsyncConnection, deadline: Deadline) -> bool:
    """Whether the connection could be brought to rest."""
    try:
        async with asyncio.timeout(deadline.remaining()):
            await connection.rollback()
    except (Failure, TimeoutError):
        return False
    return True


async def _aclose(connection: _AsyncConnection) -> None:
    connection.close()


def _seconds(deadline: Deadline) -> float:
    """What is left, as a time limit of a socket, for which 0 has a meaning of its own."""
    return max(deadline.remaining(), 0.001)
