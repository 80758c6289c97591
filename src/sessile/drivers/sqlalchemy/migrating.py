"""Schema versions over SQLAlchemy: the scripts of `sql.migrations`, made out of our tables for a database."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

from sqlalchemy import Connection, Dialect, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateSchema, CreateTable, ExecutableDDLElement

from ...errors import StorageUnavailableError
from ...storage.driver import Deadline
from ..sql.migrations import Migrations, Part, SchemaState, Texts, statements_of
from .errors import is_already_there
from .statements import Statements
from .tables import Tables

NEWEST = 2

_OLDEST = "-- oldest: 2 (a program of version 1 asks for a column by its old name)\n"


def scripts(sql: Statements, dialect: Dialect) -> Texts:
    """The scripts for a new database, which makes the tables as they are now, and for those of the versions before.

    The table of the version is made first: if that could be made, the others are not somebody else's.
    """
    tables = sql.tables
    others = (tables.sessions, tables.commits, tables.records)
    elements: list[ExecutableDDLElement] = [CreateTable(table) for table in (tables.version, *others)]
    elements += [CreateIndex(index) for index in tables.indexes]
    new = [str(element.compile(dialect=dialect)).strip() for element in elements]
    return {
        (NEWEST, "new"): _OLDEST + ";\n".join(new),
        (2, "pre"): _OLDEST + ";\n".join(_to_version_2(tables, dialect)),
    }


def _to_version_2(tables: Tables, dialect: Dialect) -> list[str]:
    """The name of the agent, team or workflow is called agent; a commit may carry a key, by which it is found."""
    names = dialect.identifier_preparer
    sessions, commits = names.format_table(tables.sessions), names.format_table(tables.commits)
    old, new = (f"{tables.prefix}sessions_{column}" for column in ("owner", "agent"))
    renamed = _RENAMED.get(dialect.name, "ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    column = CreateColumn(tables.commits.c.key).compile(dialect=dialect)
    add = "ADD" if dialect.name in ("mssql", "oracle") else "ADD COLUMN"
    statements = [renamed.format(table=sessions, old="owner", new="agent"), f"ALTER TABLE {commits} {add} {column}"]
    if not tables.indexes:
        return statements
    by_name = {str(index.name): index for index in tables.indexes}
    keys = str(CreateIndex(by_name[f"{tables.prefix}commits_key"]).compile(dialect=dialect)).strip()
    schema = "" if tables.metadata.schema is None else f"{names.quote(tables.metadata.schema)}."
    words = {"table": sessions, "schema": schema, "old": names.quote(old), "new": names.quote(new)}
    if dialect.name in _RENAMED_INDEX:
        return [*statements, _RENAMED_INDEX[dialect.name].format_map(words), keys]
    agents = str(CreateIndex(by_name[new]).compile(dialect=dialect)).strip()
    return [*statements, f"DROP INDEX {words['schema']}{words['old']}", agents, keys]


_RENAMED = {
    "mssql": "EXEC sp_rename '{table}.{old}', '{new}', 'COLUMN'",
    "singlestoredb": "ALTER TABLE {table} CHANGE {old} {new}",
}
_RENAMED_INDEX = {
    "cockroachdb": "ALTER INDEX {schema}{old} RENAME TO {new}",
    "mariadb": "ALTER TABLE {table} RENAME INDEX {old} TO {new}",
    "mssql": "EXEC sp_rename '{table}.{old}', '{new}', 'INDEX'",
    "mysql": "ALTER TABLE {table} RENAME INDEX {old} TO {new}",
    "oracle": "ALTER INDEX {schema}{old} RENAME TO {new}",
    "postgresql": "ALTER INDEX {schema}{old} RENAME TO {new}",
}
"""How databases rename a column or an index, which takes no time; SQLite makes the index anew."""


class Migrator:
    """Brings the schema of one database up to date, by plain functions of a connection."""

    def __init__(self, sql: Statements, where: str) -> None:
        self._sql = sql
        self._where = where
        self._version = sql.tables.version
        self._schema = sql.tables.metadata.schema

    def migrations(self, connection: Connection) -> Migrations:
        """All migrations, in the words of this database, which only a connection knows for certain."""
        dialect = connection.dialect
        table = dialect.identifier_preparer.format_table(self._version)
        return Migrations(scripts(self._sql, dialect), {}, table=table)

    def state(self, connection: Connection) -> SchemaState:
        """What the database has; version 0 if there are no tables of ours."""
        if not inspect(connection).has_table(self._version.name, schema=self._schema):
            return SchemaState()
        row = connection.execute(self._sql.schema_state).first()
        return SchemaState() if row is None else SchemaState.stored(*row)

    def missing(self, connection: Connection) -> Part | None:
        """The first part that this program needs and the database lacks; `NewerVersionError` if it is too new."""
        migrations, state = self.migrations(connection), self.state(connection)
        return None if migrations.up_to_date(state, self._where) else migrations.to_do(state)[0]

    def to_do(self, connection: Connection, *, finish: bool) -> list[str]:
        """The statements that `migrate` would run."""
        migrations, state = self.migrations(connection), self.state(connection)
        migrations.up_to_date(state, self._where)
        return [*self._namespace(connection), *statements_of(migrations.to_do(state, finish=finish))]

    def migrate(self, connection: Connection, deadline: Deadline, *, finish: bool) -> list[str]:
        """Run what is to be done, and return it; of processes that start at once, one does it."""
        with self._locked(connection, deadline):
            statements = self._namespace(connection)
            for statement in statements:
                connection.exec_driver_sql(statement)
            migrations, state = self.migrations(connection), self.state(connection)
            migrations.up_to_date(state, self._where)
            parts = migrations.to_do(state, finish=finish)
            for part in parts:
                self._run_part(connection, part)
        return [*statements, *statements_of(parts)]

    def _run_part(self, connection: Connection, part: Part) -> None:
        begun = inspect(connection).has_table(self._version.name, schema=self._schema)
        for number, statement in enumerate(part.statements):
            try:
                connection.exec_driver_sql(statement)
            except DBAPIError as error:
                # Another process is at it, or was when it ended: continue with what it has left.
                begun = begun or number == 0
                if not (begun and is_already_there(error, connection.dialect.name)):
                    raise

    def _namespace(self, connection: Connection) -> list[str]:
        """The statement that makes the user's schema, if there is none of that name."""
        if self._schema is None or inspect(connection).has_schema(self._schema):
            return []
        return [str(CreateSchema(self._schema).compile(dialect=connection.dialect)).strip()]

    @contextmanager
    def _locked(self, connection: Connection, deadline: Deadline) -> Generator[None]:
        """Keep other processes from migrating the same tables.

        SQLite is locked by the transaction; where there is no such lock, whoever comes second finds tables made.
        """
        name, dialect = self._version.fullname, connection.dialect.name
        if dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": crc32(name.encode())})
            yield
        elif dialect in ("mysql", "mariadb"):
            # MySQL takes names of up to 64 characters, as long as that of a database; without one, that is NULL.
            key = "CONCAT('sessile.', LEFT(SHA2(CONCAT_WS('.', DATABASE(), :name), 256), 40))"
            lock: dict[str, Any] = {"name": name, "seconds": int(deadline.remaining()) + 1}
            if connection.scalar(text(f"SELECT GET_LOCK({key}, :seconds)"), lock) != 1:
                raise StorageUnavailableError(f"Another process is migrating {self._where} all the time.")
            try:
                yield
            finally:
                connection.execute(text(f"SELECT RELEASE_LOCK({key})"), {"name": name})
        else:
            yield
