"""Stores a database of the current schema version, when it is released: `python -m tests.schemas`.

The files are kept for ever: tests start from each of them. Needs the servers of the tests.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal
from tests.servers.fixtures import connect_mysql
from tests.servers.mariadb import MariaDbServer
from tests.servers.postgres import PostgresServer

from sessile import MySQLStorage, PostgresStorage, SqlAlchemyStorage, SqliteStorage
from sessile.storage import Storage

from .content import fill

FOLDER = Path(__file__).parent
TABLES = ("sessions", "commits", "records")


def _store(database: str, version: int, lines: list[str]) -> None:
    path = FOLDER / database / f"{version:03}.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path.relative_to(FOLDER.parent.parent))


def _store_sqlite(database: str, make: type[Storage], url: str, version_table: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with make.from_url(f"{url}/{path}") as storage:
            fill(storage)
        connection = sqlite3.connect(path)
        version = connection.execute(f"SELECT version FROM {version_table}").fetchone()[0]
        _store(database, version, list(connection.iterdump()))
        connection.close()


def _store_postgres(database: str, make: type[Storage], scheme: str, version_table: str) -> None:
    with PostgresServer() as server:
        with make.from_url(server.url.replace("postgresql", scheme, 1)) as storage:
            lines = [f"{statement};" for statement in storage.migrate()]
            fill(storage)
        with psycopg.connect(server.url) as connection:
            version = connection.execute(f"SELECT version FROM {version_table}".encode()).fetchall()[0][0]
            for table in (version_table, *(f"sessile_{name}" for name in TABLES)):
                lines.extend(_inserts(connection, table))
        _store(database, version, lines)


def _store_mysql(database: str, make: type[Storage], scheme: str, version_table: str) -> None:
    with MariaDbServer() as server:
        with make.from_url(server.url.replace("mysql", scheme, 1)) as storage:
            lines = [f"{statement};" for statement in storage.migrate()]
            fill(storage)
        with connect_mysql(server.url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT version FROM {version_table}")
            version = cursor.fetchall()[0][0]
            for table in (version_table, *(f"sessile_{name}" for name in TABLES)):
                cursor.execute(f"SELECT * FROM {table}")
                for row in cursor.fetchall():
                    values = cursor.mogrify(", ".join(["%s"] * len(row)), row)
                    lines.append(f"INSERT INTO {table} VALUES ({values});")
        _store(database, version, lines)


def _inserts(connection: psycopg.Connection[Any], table: str) -> list[str]:
    cursor = connection.execute(SQL("SELECT * FROM {}").format(Identifier(table)))
    names = [Identifier(column.name) for column in cursor.description or []]
    insert = SQL("INSERT INTO {} ({}) VALUES ({});")
    lines: list[str] = []
    for row in cursor.fetchall():
        values = [Literal(psycopg.types.json.Jsonb(value) if isinstance(value, dict) else value) for value in row]
        lines.append(
            insert.format(Identifier(table), SQL(", ").join(names), SQL(", ").join(values)).as_string(connection)
        )
    return lines


if __name__ == "__main__":
    _store_sqlite("sqlite", SqliteStorage, "sqlite://", "sessile_schema")
    _store_postgres("postgres", PostgresStorage, "postgresql", "sessile_schema")
    _store_mysql("mysql", MySQLStorage, "mysql", "sessile_schema")
    version = "sessile_sqlalchemy_schema"
    _store_sqlite("sqlalchemy_sqlite", SqlAlchemyStorage, "sqlalchemy+sqlite://", version)
    _store_postgres("sqlalchemy_postgres", SqlAlchemyStorage, "sqlalchemy+postgresql+psycopg", version)
    _store_mysql("sqlalchemy_mysql", SqlAlchemyStorage, "sqlalchemy+mysql+pymysql", version)
