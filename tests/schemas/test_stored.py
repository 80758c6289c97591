"""Databases of every released schema version are brought up to date, and are then what a new one is."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest

from sessile import PostgresStorage, SqliteStorage

from .content import check

FOLDER = Path(__file__).parent


def stored(database: str) -> Any:
    """One test for each stored database."""
    paths = sorted((FOLDER / database).glob("*.sql"))
    assert paths, f"there is no stored database of {database}"
    return pytest.mark.parametrize("script", paths, ids=[path.stem for path in paths])


@stored("sqlite")
def test_sqlite(script: Path, tmp_path: Path) -> None:
    paths = tmp_path / "old.db", tmp_path / "new.db"
    connection = sqlite3.connect(paths[0])
    connection.executescript(script.read_text(encoding="utf-8"))
    connection.close()
    with SqliteStorage(paths[0]) as storage:
        storage.migrate(finish=True)
        check(storage)
    with SqliteStorage(paths[1]) as storage:
        storage.setup()
    old, new = (sqlite_schema(path) for path in paths)
    assert old == new
    assert len(new) > 8


def sqlite_schema(path: Path) -> Any:
    connection = sqlite3.connect(path)
    columns = {
        table: connection.execute(f"PRAGMA table_xinfo({table})").fetchall()
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
    versions = connection.execute("SELECT * FROM sessile_schema").fetchall()
    connection.close()
    return {**columns, **dict(indexes), "versions": versions}


@stored("postgres")
def test_postgres(script: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE SCHEMA old; CREATE SCHEMA new; SET search_path TO old")
        connection.execute(script.read_text(encoding="utf-8").encode())
    with PostgresStorage(postgres_url, schema="old") as storage:
        storage.migrate(finish=True)
        check(storage)
    with PostgresStorage(postgres_url, schema="new") as storage:
        storage.setup()
    with psycopg.connect(postgres_url) as connection:
        old, new = (postgres_schema(connection, schema) for schema in ("old", "new"))
    assert old == new
    assert len(new) > 30


def postgres_schema(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Columns, indexes and constraints as text, without the name of the schema."""
    rows = connection.execute(
        """
        SELECT format('%%s.%%s %%s %%s %%s %%s', table_name, column_name, data_type, is_nullable, column_default,
            collation_name) FROM information_schema.columns WHERE table_schema = %(schema)s
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = %(schema)s
        UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = %(schema)s::regnamespace
        """,
        {"schema": schema},
    )
    return sorted(row[0].replace(f"{schema}.", "") for row in rows)
