"""Ways to a database: an engine or the application's own transaction, blocking or asynchronous.

What is to be done is a plain function of a connection, the same for all of them: the asynchronous ways hand it to
SQLAlchemy, which lets it wait without blocking. So an operation passes that bridge once, not once for each statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Dialect, Engine, NullPool
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncEngine

from ...errors import InvalidInputError, StorageError, UnsupportedError
from ...storage.driver import Deadline
from ...storage.faces import OneLoop
from ...storage.stats import Stats
from ...storage.withholding import reason_of
from ..sql.borrowed import OneAtATime, not_open
from . import pools
from .errors import Attempt

R = TypeVar("R")

Work = Callable[[Connection], R]


class Port(Protocol):
    """A way to a database, `owned` if it was opened by us.

    `borrowed`: it is a transaction of the application's, which we never end.
    """

    suspends: bool
    borrowed: bool
    owned: bool
    where: str
    dialect: Dialect
    stats: Stats

    async def run(self, work: Work[R], attempt: Attempt, deadline: Deadline) -> R:
        """Do the work, in a transaction of its own if it writes; raises SQLAlchemy's errors and `TimeoutError`."""
        ...

    async def close(self) -> None:
        """Close what the port opened itself. Idempotent."""
        ...

    def before_fork(self) -> None:
        """Before a fork: close what a child must not inherit."""
        ...

    def after_fork(self) -> None:
        """In a forked child: forget the parent's connections without closing them."""
        ...


def perform(connection: Connection, work: Work[R], attempt: Attempt) -> R:
    """Do the work on a connection that is ours for the moment."""
    attempt.phase = "working"
    if not attempt.writes:
        return work(connection)
    with connection.begin():
        begin_writing(connection)
        result = work(connection)
        attempt.phase = "committing"
    return result


def begin_writing(connection: Connection) -> None:
    """On SQLite, become the one writer at once: the `sqlite3` module would begin only before the first change."""
    if connection.dialect.name == "sqlite" and not _in_transaction(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def check_transactions(connection: Connection) -> None:
    """Raise `InvalidInputError` if each statement would be committed by itself, as far as the dialect can tell."""
    dialect, driver_connection = connection.dialect, connection.connection.dbapi_connection
    if dialect.name == "sqlite" or driver_connection is None:
        return  # there we begin transactions ourselves
    try:
        autocommit = dialect.detect_autocommit_setting(driver_connection)
    except (NotImplementedError, AttributeError):  # a dialect, or a client below it, that cannot tell
        return
    if autocommit:
        raise InvalidInputError(
            "This engine or connection commits every statement by itself.",
            hint='Give one without isolation_level="AUTOCOMMIT": an append is more than one statement.',
        )


def _in_transaction(connection: Connection) -> bool:
    driver_connection: Any = connection.connection.driver_connection
    return driver_connection.in_transaction


class EnginePort:
    """A blocking engine. `owned`: it was made by us."""

    suspends = False
    borrowed = False

    def __init__(self, engine: Engine, where: str, *, owned: bool, stats: Stats | None = None) -> None:
        self.engine, self.where, self.owned = engine, where, owned
        self.dialect = engine.dialect
        self.stats = stats or Stats()

    async def run(self, work: Work[R], attempt: Attempt, deadline: Deadline) -> R:
        """Do the work on a connection of the pool's."""
        pools.count_wait(self.engine.pool, self.stats)
        with self.engine.connect() as connection:
            return perform(connection, work, attempt)

    async def close(self) -> None:
        """Close the connections, if the engine is ours."""
        if self.owned:
            self.engine.dispose()

    def before_fork(self) -> None:
        """Close idle connections to a file of SQLite's, whose locks a child would otherwise break."""
        if self.owned and self.dialect.name == "sqlite":
            self.engine.dispose()

    def after_fork(self) -> None:
        """Begin with an empty pool, if the engine is ours."""
        if self.owned:
            self.engine.dispose(close=False)


class AsyncEnginePort:
    """An asynchronous engine, for one event loop."""

    suspends = True
    borrowed = False

    def __init__(self, engine: AsyncEngine, where: str, *, owned: bool, stats: Stats | None = None) -> None:
        self.engine, self.where, self.owned = engine, where, owned
        self.dialect = engine.dialect
        self.stats = stats or Stats()
        self._loop = OneLoop(where, reusable=True)

    async def run(self, work: Work[R], attempt: Attempt, deadline: Deadline) -> R:
        """Do the work on a connection of the pool's."""
        if not isinstance(self.engine.pool, NullPool):
            self._loop.check()
        pools.count_wait(self.engine.pool, self.stats)
        async with asyncio.timeout(deadline.remaining()), self.engine.connect() as connection:
            return await connection.run_sync(perform, work, attempt)

    async def close(self) -> None:
        """Close the connections, if the engine is ours."""
        if self.owned:
            await self.engine.dispose()

    def before_fork(self) -> None:
        """Nothing to do: a blocking driver is what a fork waits for."""

    def after_fork(self) -> None:
        """Nothing to do: the storage makes new asynchronous drivers after a fork."""


class _Borrowed:
    """The transaction that a connection or session of the application's is in. Never committed, never closed by us."""

    borrowed = True
    owned = False

    def __init__(self, dialect: Dialect, where: str) -> None:
        self.dialect, self.where = dialect, where
        self.stats = Stats()

    async def close(self) -> None:
        """Nothing: the connection is the application's."""

    def before_fork(self) -> None:
        """Nothing: the connection is the application's."""

    def after_fork(self) -> None:
        """Nothing: the connection is the application's."""


class BorrowedPort(_Borrowed):
    """A transaction of the application's on a blocking connection, which `connection` brings."""

    suspends = False

    def __init__(self, connection: Callable[[], Connection], dialect: Dialect, where: str) -> None:
        super().__init__(dialect, where)
        self._connection = connection
        self._turns = OneAtATime(None)

    async def run(self, work: Work[R], attempt: Attempt, deadline: Deadline) -> R:
        """Do the work inside the application's transaction."""
        attempt.phase = "working"
        async with self._turns.turn(deadline):
            return work(_lent(self._connection, self.where))


class AsyncBorrowedPort(_Borrowed):
    """A transaction of the application's on an asynchronous connection.

    Args:
        run_sync: that of SQLAlchemy's asynchronous connection or session, which hands over the blocking one inside.
        connection: brings the connection out of that.
    """

    suspends = True

    def __init__(
        self,
        run_sync: Callable[[Callable[[Any], Any]], Awaitable[Any]],
        connection: Callable[[Any], Connection],
        dialect: Dialect,
        where: str,
    ) -> None:
        super().__init__(dialect, where)
        self._run_sync, self._connection = run_sync, connection
        self._turns = OneAtATime(OneLoop(where, reusable=True))

    async def run(self, work: Work[R], attempt: Attempt, deadline: Deadline) -> R:
        """Do the work inside the application's transaction."""
        attempt.phase = "working"
        async with self._turns.turn(deadline), asyncio.timeout(deadline.remaining()):
            return await self._run_sync(lambda inside: work(_lent(lambda: self._connection(inside), self.where)))


def _lent(connection_of: Callable[[], Connection], where: str) -> Connection:
    """The connection of the application's that is to be used now. Nothing was sent if there is none."""
    try:
        connection = connection_of()
    except NotImplementedError as error:
        raise UnsupportedError(
            f"The session wants a transaction in two phases, which SQLAlchemy cannot begin on {where}.",
            hint="Make the storage with a session without twophase=True.",
        ) from error
    except InvalidRequestError as error:
        if type(error) is not InvalidRequestError:  # of one that is to be rolled back, or in use elsewhere
            raise
        raise StorageError(
            f"The session that the storage was made with gives no connection to {where}: {reason_of(error)}.",
            hint="Make the storage with a session that is open and may begin, or has begun, its transaction.",
        ) from error
    if connection.closed:
        raise not_open(where)
    return connection
