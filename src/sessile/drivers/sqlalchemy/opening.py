"""From what a user gives (a URL, an engine, a connection, an ORM session) to a way to the database."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, SingletonThreadPool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, UnboundExecutionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from ...errors import InvalidInputError, MissingDependencyError
from ...storage.stats import Stats
from ...storage.urls import ENCODE_HINT, WRONG_CALL
from ..sql import private
from . import pools
from .ports import AsyncBorrowedPort, AsyncEnginePort, BorrowedPort, EnginePort, Port

PYTHONS_OWN = ("pysqlite", "aiosqlite")
"""SQLAlchemy's names of the drivers that are, or stand on, Python's own `sqlite3`."""

_MEMORY_HINT = 'Name a file; SqliteStorage(":memory:") keeps sessions in memory.'

SQLITE_BUSY = 5
"""The result code of a database that another connection has locked (sqlite.org/rescode.html)."""

BUSY_SECONDS = 0.05
"""How long SQLite itself waits for another writer; after that the driver tries again until the deadline."""


@dataclass(frozen=True, slots=True)
class Opened:
    """How to make a port: once if it blocks, and else for each event loop."""

    suspends: bool
    make: Callable[[], Port]


def open_database(database: Any, engine_options: dict[str, Any] | None, timeout: float, max_age: float) -> Opened:
    """Look at what a user gave; nothing is connected yet. Raises `InvalidInputError`, `MissingDependencyError`."""
    if isinstance(database, (str, URL)):
        return _from_url(parse(database), engine_options or {}, timeout, max_age)
    if engine_options is not None:
        raise InvalidInputError("engine_options are for engines that are made from a URL.")
    if isinstance(database, Engine):
        if isinstance(database.pool, SingletonThreadPool):
            raise InvalidInputError("This engine gives each thread a database of its own.", hint=_MEMORY_HINT)
        return _always(EnginePort(database, _where(database.url, database.dialect), owned=False))
    if isinstance(database, AsyncEngine):
        return _always(AsyncEnginePort(database, _where(database.url, database.dialect), owned=False))
    if isinstance(database, (Connection, Session)):
        engine = _engine_of(database)
        get = database.connection if isinstance(database, Session) else lambda: database
        return _always(BorrowedPort(get, engine.dialect, _where(engine.url, engine.dialect)))
    if isinstance(database, (AsyncConnection, AsyncSession)):
        engine = _engine_of(database.sync_session if isinstance(database, AsyncSession) else database)
        inside = _connection_of_session if isinstance(database, AsyncSession) else _itself
        where = _where(engine.url, engine.dialect)
        return _always(AsyncBorrowedPort(database.run_sync, inside, engine.dialect, where))
    raise InvalidInputError(
        f"A database must be a URL, or an engine, connection or session of SQLAlchemy's; not a "
        f"{type(database).__name__}."
    )


def parse(url: str | URL) -> URL:
    """A URL of SQLAlchemy's. What of a password may have been taken for something else is refused, and not repeated."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InvalidInputError("This is not a URL of SQLAlchemy's.", hint=ENCODE_HINT) from None
    after_login = str(url).partition("://")[2].partition("@")[2]
    if parsed.username is not None and "@" in after_login.partition("=")[0]:
        raise InvalidInputError("The URL names no host and port that can be read.", hint=ENCODE_HINT)
    return parsed


def _from_url(url: URL, options: dict[str, Any], timeout: float, max_age: float) -> Opened:
    try:
        dialect = url.get_dialect()
    except NoSuchModuleError as error:
        raise InvalidInputError(
            f"SQLAlchemy has no dialect for {url.drivername!r}.",
            hint="Correct the URL, or install the package that brings the dialect.",
        ) from error
    if dialect.name == "sqlite" and url.database in (None, "", ":memory:"):
        raise InvalidInputError(
            "A database in memory belongs to one connection, and engines have many.", hint=_MEMORY_HINT
        )
    options = _with_defaults(dialect, options, timeout)

    def make() -> Port:
        stats = Stats()
        try:
            if dialect.is_async:
                engine = create_async_engine(url, **options)
                _prepare(engine.sync_engine, max_age, stats)
                return AsyncEnginePort(engine, _where(url, engine.dialect), owned=True, stats=stats)
            blocking = create_engine(url, **options)
        except ImportError as error:
            raise MissingDependencyError(
                f"The database's client library is not installed: {error}.",
                hint=f"Install what SQLAlchemy needs for {url.drivername}, or name another driver in the URL.",
            ) from error
        except (ArgumentError, *WRONG_CALL) as error:
            raise InvalidInputError(f"SQLAlchemy refuses these options of an engine: {error}.") from error
        _prepare(blocking, max_age, stats)
        return EnginePort(blocking, _where(url, blocking.dialect), owned=True, stats=stats)

    return Opened(dialect.is_async, make)


def _with_defaults(dialect: type[Dialect], options: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The options of an engine, so that what SQLAlchemy and SQLite wait for ends by our deadlines."""
    if dialect.name == "sqlite" and dialect.driver not in PYTHONS_OWN:
        return options  # of SQLite's kin each takes others
    if not options.keys() & {"pool", "poolclass"}:
        options = {"pool_timeout": timeout, **options}
    if dialect.name == "sqlite":
        options = options | {"connect_args": {"timeout": BUSY_SECONDS, **options.get("connect_args", {})}}
    return options


def _prepare(engine: Engine, max_age: float, stats: Stats) -> None:
    """Watch connections to a server.

    Use SQLite as `SqliteStorage` does: readers do not wait for the writer, and commits survive a power cut.
    """
    if engine.dialect.name != "sqlite":
        pools.watch(engine, max_age, stats)
        return

    @event.listens_for(engine, "do_connect")
    def make_file(  # pyright: ignore[reportUnusedFunction] (the engine calls it)
        dialect: Dialect, record: Any, arguments: list[Any], options: dict[str, Any]
    ) -> None:
        path = arguments[0] if arguments else ""
        if path and not options.get("uri"):
            with contextlib.suppress(OSError):  # which SQLite says better
                private.make_file(path)

    @event.listens_for(engine, "connect")
    def use_wal(connection: Any, _: Any) -> None:  # pyright: ignore[reportUnusedFunction] (the engine calls it)
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.fetchall()  # on PyPy, what is not read keeps a transaction
        except engine.dialect.loaded_dbapi.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != SQLITE_BUSY:
                raise  # busy: another process is about it, or the next connection will be
        finally:
            cursor.close()


def _always(port: Port) -> Opened:
    return Opened(port.suspends, lambda: port)


def _engine_of(database: Any) -> Engine:
    try:
        found = database.get_bind() if isinstance(database, Session) else database.engine
    except UnboundExecutionError as error:
        raise InvalidInputError(
            "This session is not bound to one engine.",
            hint="Give the connection that it has for its tables: session.connection(bind_arguments=…).",
        ) from error
    found = found.engine if isinstance(found, Connection) else found
    return found.sync_engine if isinstance(found, AsyncEngine) else found


def _connection_of_session(session: Session) -> Connection:
    return session.connection()


def _itself(connection: Connection) -> Connection:
    return connection


def _where(url: URL, dialect: Dialect) -> str:
    """The database in words, without user and password."""
    port = f":{url.port}" if url.port else ""
    place = f"{url.host}{port}/{url.database or ''}" if url.host else url.database or ""
    return f"{dialect.name} at {place}" if place else dialect.name
