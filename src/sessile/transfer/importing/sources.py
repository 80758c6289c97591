"""Tables of other libraries: of a SQLite file, or of any database that SQLAlchemy knows. Nothing is ever written."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ...errors import CorruptDataError, InvalidInputError, missing_dependency
from .databases import Row, Tables

AT_ONCE = 500
"""How many rows are in memory at a time."""

POSTGRES = "postgresql"

_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+psycopg",
    "postgresql+psycopg2": "postgresql+psycopg",
    "postgresql+psycopg_async": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mysql+aiomysql": "mysql+pymysql",
    "mysql+asyncmy": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
}
"""What reads the databases of applications whose own URLs name drivers for asynchronous programs, or none."""

_SYSTEM = ("information_schema", "pg_")


def tables_of(source: str) -> Tables:
    """The tables of a SQLite file, or of a URL of SQLAlchemy's.

    Raises `InvalidInputError` if there is no such file, and `CorruptDataError` if it cannot be read.
    """
    scheme, found, rest = source.partition("://")
    if not found:
        return _SqliteTables(source)
    if scheme.partition("+")[0] == "sqlite":
        return _SqliteTables(rest.removeprefix("/").partition("?")[0])
    return _SqlTables(f"{_DRIVERS.get(scheme, scheme)}://{rest}")


def shown(source: str) -> str:
    """What a message says of a source: of a URL only what it is one of, because passwords stand in it."""
    scheme, found, _ = source.partition("://")
    return f"The {scheme} database" if found else repr(source)


class _SqliteTables:
    def __init__(self, source: str) -> None:
        path = Path(source)
        if not path.is_file():
            raise InvalidInputError(f"There is no file {str(path)!r}.")
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._path = path

    def columns(self) -> dict[str, dict[str, str]]:
        try:
            names = [
                str(row[0]) for row in self._connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            return {name: self._of(name) for name in names}
        except sqlite3.DatabaseError as error:
            raise CorruptDataError(f"{str(self._path)!r} is no database of SQLite's, or is damaged: {error}.") from None

    def _of(self, table: str) -> dict[str, str]:
        rows = self._connection.execute(f"PRAGMA table_info({_quoted(table)})")
        return {str(row["name"]): str(row["type"]).upper() for row in rows}

    def rows(self, table: str, order: Sequence[str], where: Mapping[str, Any] | None = None) -> Iterator[Row]:
        wanted = where or {}
        filters = " AND ".join(f"{_quoted(name)} = ?" for name in wanted)
        query = f"SELECT * FROM {_quoted(table)}{f' WHERE {filters}' if filters else ''}"  # noqa: S608 (names are quoted)
        query += f" ORDER BY {', '.join(map(_quoted, order))}" if order else ""
        try:
            with closing(self._connection.execute(query, tuple(wanted.values()))) as found:
                while page := found.fetchmany(AT_ONCE):
                    yield from (dict(zip(row.keys(), row, strict=True)) for row in page)
        except sqlite3.DatabaseError as error:
            raise CorruptDataError(f"Table {table!r} of {str(self._path)!r} cannot be read: {error}.") from None

    def zone(self) -> str:
        return "UTC"  # of CURRENT_TIMESTAMP

    def close(self) -> None:
        self._connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _SqlTables:
    """Of PostgreSQL all is read in one transaction, so that it is of one moment; and of all schemas.

    Tables of the schema that is the first of the search path have their plain names, others the schema's before them.
    """

    def __init__(self, url: str) -> None:
        try:
            import sqlalchemy
            import sqlalchemy.exc
        except ImportError as error:
            raise missing_dependency("sqlalchemy", "sqlalchemy", "Reading other databases than SQLite") from error
        self._sql = sqlalchemy
        try:
            self._engine = sqlalchemy.create_engine(url)
        except sqlalchemy.exc.SQLAlchemyError:
            raise InvalidInputError("This is no URL that SQLAlchemy knows.") from None
        except ImportError as error:
            raise InvalidInputError(f"The library that reads this database is not installed: {error.name}.") from error
        self._known = sqlalchemy.MetaData()
        self._tables: dict[str, Any] = {}
        self._lasting: Any = None

    def columns(self) -> dict[str, dict[str, str]]:
        with self._reading() as connection:
            own = self._sql.inspect(connection).default_schema_name
            for schema in self._schemas(connection):
                self._known.reflect(connection, schema=schema, resolve_fks=False)
        plain = [table for table in self._known.tables.values() if table.schema in (None, own)]
        others = [table for table in self._known.tables.values() if table.schema not in (None, own)]
        self._tables = {f"{table.schema}.{table.name}": table for table in others}
        self._tables.update((table.name, table) for table in plain)
        return {
            name: {column.name: str(column.type).upper() for column in table.columns}
            for name, table in self._tables.items()
        }

    def _schemas(self, connection: Any) -> list[str | None]:
        if self._engine.dialect.name != POSTGRES:
            return [None]
        names: list[str] = self._sql.inspect(connection).get_schema_names()
        return [name for name in names if not name.startswith(_SYSTEM)]

    def rows(self, table: str, order: Sequence[str], where: Mapping[str, Any] | None = None) -> Iterator[Row]:
        known = self._tables[table]
        wanted = [known.c[name] == value for name, value in (where or {}).items()]
        query = self._sql.select(known).where(*wanted).order_by(*(known.c[name] for name in order))
        with self._reading() as connection:
            found = connection.execute(query, execution_options={"stream_results": True, "yield_per": AT_ONCE})
            for row in found.mappings():
                yield {str(name): value for name, value in row.items()}

    def zone(self) -> str:
        if self._engine.dialect.name != POSTGRES:
            return "UTC"
        with self._reading() as connection:
            return str(connection.exec_driver_sql("SHOW timezone").scalar())

    @contextmanager
    def _reading(self) -> Generator[Any]:
        """A connection: of PostgreSQL always the same one. Raises `CorruptDataError` where the database fails."""
        try:
            if self._engine.dialect.name != POSTGRES:
                with self._engine.connect() as connection:
                    yield connection
                return
            if self._lasting is None:
                options: dict[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                self._lasting = self._engine.connect().execution_options(**options)
            yield self._lasting
        except self._sql.exc.SQLAlchemyError as error:
            raise CorruptDataError(f"The database cannot be read: {getattr(error, 'orig', None) or error}.") from None

    def close(self) -> None:
        if self._lasting is not None:
            self._lasting.close()
        self._engine.dispose()
