"""How the tables are made: once, whoever comes; by whom who may; and never over somebody else's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pymysql
import pytest
from sqlalchemy import create_engine, inspect, text

import sessile
from sessile import ANY_USER, SqlAlchemyStorage, SqliteStorage
from sessile.errors import InvalidInputError, NewerVersionError, ReadOnlyError, StorageError

HOSTILE = [
    "a",
    "A",
    "a ",
    " a",
    "a\t",
    "ä",
    "a\u0308",
    "'; DROP TABLE x; --",
    "%s",
    ":id",
    "{x}",
    "🦪",
    "ＡＢ",
    "\\",
    "x" * 255,
]


def tables(url: str) -> set[str]:
    engine = create_engine(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def execute(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


OURS = {f"sessile_{name}" for name in ("sqlalchemy_schema", "sessions", "commits", "records")}


def test_a_dry_run_shows_what_migrate_runs(url: str) -> None:
    with SqlAlchemyStorage(url, auto_migrate=False) as storage:
        shown = storage.migrate(dry_run=True)
        assert tables(url) == set()
        assert [statement.split()[:2] for statement in shown[:4]] == [["CREATE", "TABLE"]] * 4
        assert storage.migrate() == shown
        assert tables(url) == OURS
        assert storage.migrate() == storage.migrate(dry_run=True) == []
        storage.add_run("s")


def test_statements_that_somebody_else_runs(url: str) -> None:
    with SqlAlchemyStorage(url, auto_migrate=False) as storage:
        execute(url, *storage.migrate(dry_run=True))
        assert storage.migrate(dry_run=True) == []
        storage.add_run("s")


def test_tables_are_not_made_unasked(url: str) -> None:
    with SqlAlchemyStorage(url, auto_migrate=False) as storage:
        with pytest.raises(StorageError, match=r"lacks schema version 2.*CREATE TABLE sessile_"):
            storage.add_run("s")
        assert tables(url) == set()


def test_a_newer_database_is_refused(url: str) -> None:
    with SqlAlchemyStorage(url) as storage:
        storage.setup()
        execute(url, "UPDATE sessile_sqlalchemy_schema SET version = 9, oldest = 1")
        storage.add_run("s")
    execute(url, "UPDATE sessile_sqlalchemy_schema SET version = 9, oldest = 9")
    with SqlAlchemyStorage(url) as storage, pytest.raises(NewerVersionError, match="knows 2"):
        storage.runs("s")


EIGHT = """
import sys
from sessile import SqlAlchemyStorage
storage = SqlAlchemyStorage(sys.argv[1])
print("ready", flush=True)
sys.stdin.read(1)
storage.add_run(sys.argv[2])
print(storage.count_sessions() > 0)
"""


def test_eight_processes_start_at_once(url: str) -> None:
    command = [sys.executable, "-c", EIGHT, url]
    children = [
        subprocess.Popen([*command, f"s{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(8)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("x")
        child.stdin.flush()
    assert [child.communicate()[0] for child in children] == ["True\n"] * 8
    with SqlAlchemyStorage(url) as storage:
        assert storage.count_sessions() == 8
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM sessile_sqlalchemy_schema")) == 1
    engine.dispose()


def test_what_an_interrupted_migration_has_left_is_completed(mysql_url: str) -> None:
    """MariaDB makes each table for itself: a process may end between two of them."""
    url = mysql_url.replace("mysql:", "mysql+pymysql:")
    with SqlAlchemyStorage(url) as storage:
        statements = storage.migrate(dry_run=True)
        execute(url, *statements[:2], statements[4])
        storage.add_run("s")
        assert tables(url) == OURS
        assert storage.migrate() == []


def test_a_connection_without_a_database(mysql_url: str) -> None:
    """MySQL and MariaDB have such: then the schema says where the tables are."""
    address, _, schema = mysql_url.replace("mysql:", "mysql+pymysql:").rpartition("/")
    with SqlAlchemyStorage(f"{address}/", schema=schema) as storage:
        storage.add_run("s")
        assert storage.verify("s") == 1


def test_tables_of_somebody_else_are_left_alone(url: str) -> None:
    execute(url, "CREATE TABLE sessile_sessions (x INTEGER)", "INSERT INTO sessile_sessions VALUES (1)")
    with SqlAlchemyStorage(url) as storage, pytest.raises(StorageError, match=r"exists.*CREATE TABLE"):
        storage.add_run("s")
    with SqlAlchemyStorage(url, prefix="ours_") as storage:
        storage.add_run("s")


def test_another_driver_has_made_the_tables(sqlite_url: str, tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "sessions.db") as storage:
        storage.add_run("s")
    with SqlAlchemyStorage(sqlite_url) as storage, pytest.raises(StorageError, match="already exists"):
        storage.runs("s")


def test_a_schema_of_the_users_choice(postgres_url: str) -> None:
    url = postgres_url.replace("postgresql:", "sqlalchemy+postgresql+psycopg:")
    with sessile.open(f"{url}?schema=agents&prefix=my_") as storage:
        assert storage.migrate(dry_run=True)[0] == "CREATE SCHEMA agents"
        storage.add_run("s")
    with psycopg.connect(postgres_url) as connection:
        found = connection.execute("SELECT count(*) FROM agents.my_commits").fetchone()
        assert found is not None
        assert found[0] == 1


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a" * 33, 'a"', "ä", 7])
def test_names_that_are_refused(name: object, sqlite_url: str) -> None:
    for option in ("prefix", "schema"):
        with pytest.raises(InvalidInputError, match=option):
            SqlAlchemyStorage(sqlite_url, **{option: name})  # type: ignore[arg-type]


def test_hostile_ids_are_sessions_of_their_own(url: str) -> None:
    with SqlAlchemyStorage(url) as storage:
        for name in HOSTILE:
            storage.add_run(name, user_id=name, agent=name, input=name)
            storage.rename(name, name, user_id=name)
        for name in HOSTILE:
            assert [run.input for run in storage.runs(name, user_id=name)] == [name]
            assert [head.session_id for head in storage.sessions(user_id=name).items] == [name]
            assert [head.session_id for head in storage.sessions(user_id=ANY_USER, agent=name).items] == [name]
            named = [head.session_id for head in storage.sessions(user_id=ANY_USER, name_prefix=name).items]
            assert sorted(named) == sorted(other for other in HOSTILE if other.startswith(name))
        storage.delete("a", user_id="a")
        assert storage.get_session("a ", user_id="a ") is not None
        assert storage.count_sessions(user_id=ANY_USER) == len(HOSTILE) - 1


# ---------------------------------------------------------------- privileges


@contextmanager
def reader_on_postgres(address: str) -> Iterator[str]:
    """A user who may read and write tables that are there, and nothing else."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM public")
        connection.execute("CREATE ROLE app_user LOGIN PASSWORD 'secret'")
        connection.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO app_user")
        yield f"postgresql+psycopg://app_user:secret@{address.partition('@')[2]}"
        connection.execute("DROP OWNED BY app_user")
        connection.execute("DROP ROLE app_user")


@contextmanager
def reader_on_mariadb(address: str) -> Iterator[str]:
    parts = address.rpartition("/")
    host = parts[0].partition("@")[2]
    connection = pymysql.connect(host=host.partition(":")[0], port=int(host.partition(":")[2]), user="root")
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE USER app_user@'%' IDENTIFIED BY 'secret'")
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {parts[2]}.* TO app_user@'%'")
        yield f"mysql+pymysql://app_user:secret@{host}/{parts[2]}"
        cursor.execute("DROP USER app_user@'%'")


@pytest.mark.parametrize("server", ["postgres", "mysql"])
def test_a_user_who_may_not_create_tables(server: str, request: pytest.FixtureRequest) -> None:
    address: str = request.getfixturevalue(f"{server}_url")
    with (reader_on_postgres if server == "postgres" else reader_on_mariadb)(address) as url:
        with SqlAlchemyStorage(url) as storage:
            with pytest.raises(ReadOnlyError, match="GRANT what is missing") as caught:
                storage.add_run("s")
            assert "CREATE TABLE sessile_sqlalchemy_schema" in str(caught.value)
            assert "secret" not in str(caught.value)
        agent = address.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:")
        with SqlAlchemyStorage(agent) as storage:
            storage.setup()
        with SqlAlchemyStorage(url) as storage:
            storage.add_run("s")
            assert len(storage.runs("s")) == 1
