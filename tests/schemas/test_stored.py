"""Databases of every released schema version are brought up to date, and are then what a new one is."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.servers.fixtures import connect_mysql

import sessile

from .content import check

FOLDER = Path(__file__).parent


def stored(*databases: str) -> Any:
    """One test for each stored database: the driver's URL up to the address, and the script."""
    cases: list[Any] = []
    for database in databases:
        folder, _, scheme = database.partition(" ")
        paths = sorted((FOLDER / folder).glob("*.sql"))
        assert paths, f"there is no stored database of {folder}"
        cases += [pytest.param(scheme, path, id=f"{folder}-{path.stem}") for path in paths]
    return pytest.mark.parametrize(("scheme", "script"), cases)


@stored("sqlite sqlite", "sqlalchemy_sqlite sqlalchemy+sqlite")
def test_sqlite(scheme: str, script: Path, tmp_path: Path) -> None:
    paths = tmp_path / "old.db", tmp_path / "new.db"
    connection = sqlite3.connect(paths[0])
    connection.executescript(script.read_text(encoding="utf-8"))
    connection.close()
    with sessile.open(f"{scheme}:///{paths[0]}") as storage:
        storage.migrate(finish=True)
        check(storage)
    with sessile.open(f"{scheme}:///{paths[1]}") as storage:
        storage.setup()
    old, new = (sqlite_schema(path) for path in paths)
    assert old == new
    assert len(new) > 8


def sqlite_schema(path: Path) -> Any:
    """Columns, indexes and versions."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {table: connection.execute(f"PRAGMA table_xinfo({table})").fetchall() for table in tables}
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
    (version,) = (table for table in tables if table.endswith("schema"))
    versions = connection.execute(f"SELECT * FROM {version}").fetchall()
    connection.close()
    return {**columns, **dict(indexes), "versions": versions}


@stored("postgres postgresql", "sqlalchemy_postgres sqlalchemy+postgresql+psycopg")
def test_postgres(scheme: str, script: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE SCHEMA old; CREATE SCHEMA new; SET search_path TO old")
        connection.execute(script.read_text(encoding="utf-8").encode())
    url = postgres_url.replace("postgresql", scheme, 1)
    with sessile.open(url, schema="old") as storage:
        storage.migrate(finish=True)
        check(storage)
    with sessile.open(url, schema="new") as storage:
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


@stored("mysql mysql", "sqlalchemy_mysql sqlalchemy+mysql+pymysql")
def test_mysql(scheme: str, script: Path, mysql_url: str) -> None:
    url = mysql_url.replace("mysql", scheme, 1)
    with connect_mysql(mysql_url) as connection, connection.cursor() as cursor:
        for statement in script.read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        with sessile.open(url) as storage:
            storage.migrate(finish=True)
            check(storage)
        with sessile.open(url, prefix="fresh_") as storage:
            storage.setup()
        old, new = (mysql_schema(cursor, prefix) for prefix in ("sessile_", "fresh_"))
    assert old == new
    assert len(new) == 4


def mysql_schema(cursor: Any, prefix: str) -> list[str]:
    """The statements that would make the tables, without their prefix."""
    cursor.execute("SHOW TABLES")
    tables = sorted(name for (name,) in cursor.fetchall() if name.startswith(prefix))
    texts: list[str] = []
    for table in tables:
        cursor.execute(f"SHOW CREATE TABLE {table}")
        texts.append(cursor.fetchall()[0][1].replace(prefix, ""))
    return texts
