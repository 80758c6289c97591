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
from tests.servers.postgres import PostgresServer

from sessile import PostgresStorage, SqliteStorage

from .content import fill

FOLDER = Path(__file__).parent


def _store(database: str, version: int, lines: list[str]) -> None:
    path = FOLDER / database / f"{version:03}.sql"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path.relative_to(FOLDER.parent.parent))


def _store_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with SqliteStorage(path) as storage:
            fill(storage)
        connection = sqlite3.connect(path)
        version = connection.execute("SELECT version FROM sessile_schema").fetchone()[0]
        _store("sqlite", version, list(connection.iterdump()))
        connection.close()


def _store_postgres() -> None:
    server = PostgresServer()
    server.start()
    try:
        with PostgresStorage(server.url) as storage:
            lines = [f"{statement};" for statement in storage.migrate()]
            fill(storage)
        with psycopg.connect(server.url) as connection:
            version = connection.execute("SELECT version FROM sessile_schema").fetchall()[0][0]
            for table in ("schema", "sessions", "commits", "records"):
                lines.extend(_inserts(connection, f"sessile_{table}"))
        _store("postgres", version, lines)
    finally:
        server.close()


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
    _store_sqlite()
    _store_postgres()
