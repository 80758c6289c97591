"""What goes wrong is told truly, and what may be repeated is."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, NullPool, StaticPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError
from tests.servers.fixtures import connect_mysql
from tests.sqlalchemy_driver.databases import url_of
from tests.storage.helpers import hurry

import sessile
from sessile import SqlAlchemyStorage
from sessile.drivers.sqlalchemy.errors import Attempt, is_lost, translate
from sessile.errors import (
    CorruptDataError,
    DeadlineError,
    InvalidInputError,
    MissingDependencyError,
    ReadOnlyError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from sessile.storage import Storage
from sessile.storage.core import Core
from sessile.storage.extending import operate


def engine_of(storage: Storage) -> Engine:
    """The engine that a storage has made."""
    driver: Any = storage._core.driver  # type: ignore[union-attr]
    return driver.port.engine


def test_damage_that_the_server_finds(postgres_url: str) -> None:
    """What is toasted elsewhere may be damaged where the row is not: a list that meets it goes on with the others."""
    with SqlAlchemyStorage(postgres_url.replace("postgresql:", "postgresql+psycopg:")) as storage:
        for session_id in "abc":
            storage.create_session(session_id, name="damaged" if session_id == "b" else "sound")
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                """
                CREATE FUNCTION toasted(text) RETURNS text LANGUAGE plpgsql STABLE AS $$
                BEGIN
                    IF $1 = 'damaged' THEN RAISE SQLSTATE 'XX001'; END IF;
                    RETURN $1;
                END $$
                """
            )
            columns = connection.execute(
                "SELECT string_agg(CASE column_name WHEN 'name' THEN 'toasted(name) AS name' "
                "ELSE column_name::text END, ', ' ORDER BY ordinal_position) FROM information_schema.columns"
                " WHERE table_name = 'sessile_sessions'"
            ).fetchone()
            assert columns is not None
            connection.execute("ALTER TABLE sessile_sessions RENAME TO stored")
            connection.execute(f"CREATE VIEW sessile_sessions AS SELECT {columns[0]} FROM stored")
        page = storage.sessions()
        assert [item.session_id for item in page.items] == ["c", "a"]
        assert isinstance(page.unreadable["b"], CorruptDataError)


# ---------------------------------------------------------------- connections that are lost


def kill_all(engine: Engine) -> None:
    """End every other connection to the database, from the side of the server."""
    other = create_engine(engine.url, poolclass=NullPool)
    with other.connect() as connection:
        if engine.dialect.name == "postgresql":
            own = "pid <> pg_backend_pid() AND datname = current_database()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}"))
        else:
            rows = connection.execute(
                text("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
            )
            for row in rows.all():
                connection.execute(text(f"KILL {row.id}"))


@pytest.fixture(params=["postgresql", "mariadb", "mysql"])
def server_url(request: pytest.FixtureRequest) -> Iterator[str]:
    with url_of(request.param, request) as url:
        yield url


def test_idle_connections_that_were_ended_go_unnoticed(server_url: str) -> None:
    with SqlAlchemyStorage(server_url) as storage:
        storage.add_run("s", input="1")
        kill_all(engine_of(storage))
        assert len(storage.runs("s")) == 1
        kill_all(engine_of(storage))
        storage.add_run("s", input="2")
        kill_all(engine_of(storage))
        storage.delete("s")
        assert storage.get_session("s") is None


def once(action: Callable[[Engine], None]) -> Callable[..., None]:
    """An event handler that acts the first time."""
    done: list[bool] = []

    def handle(connection: Any) -> None:
        if not done:
            done.append(True)
            action(connection.engine)

    return handle


def test_a_commit_whose_answer_was_lost_is_looked_for(server_url: str) -> None:
    with SqlAlchemyStorage(server_url) as storage:
        storage.add_run("s", input="1")
        event.listen(engine_of(storage), "commit", once(kill_all))
        storage.add_run("s", input="2")
        assert [run.input for run in storage.runs("s")] == ["1", "2"]
        assert storage.verify("s") == 2


def test_of_a_lost_commit_nobody_knows_whether_it_happened(server_url: str) -> None:
    with SqlAlchemyStorage(server_url) as storage:
        head = storage.create_session("s")
        event.listen(engine_of(storage), "commit", once(kill_all))

        async def put(core: Core) -> bool:
            return await core.driver.put_record("s", head.incarnation, "key", b"value", core.deadline())

        with pytest.raises(StorageUnavailableError) as caught:
            operate(storage, put)
        assert caught.value.written == "unknown"
        assert operate(storage, put)


def test_a_transaction_that_is_lost_before_its_commit_is_repeated(server_url: str) -> None:
    statements: list[str] = []

    def handle(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT INTO sessile_commits"):
            statements.append(statement)
            if len(statements) == 1:
                kill_all(connection.engine)

    with SqlAlchemyStorage(server_url) as storage:
        storage.setup()
        event.listen(engine_of(storage), "before_cursor_execute", handle)
        storage.add_run("s")
        assert len(statements) == 2
        assert storage.verify("s") == 1


def test_a_server_that_is_not_there() -> None:
    for url in ("postgresql+psycopg://u:secret@127.0.0.1:1/x", "mysql+pymysql://u:secret@127.0.0.1:1/x"):
        with SqlAlchemyStorage(url) as storage:
            with pytest.raises(StorageUnavailableError, match=r"Connecting to \w+ at 127.0.0.1:1/x failed") as caught:
                storage.add_run("s")
            assert (caught.value.retryable, caught.value.written) == (True, "no")
            assert "secret" not in str(caught.value)


async def test_an_asynchronous_server_that_is_not_there() -> None:
    for url in ("postgresql+psycopg_async://u:p@127.0.0.1:1/x", "mysql+aiomysql://u:p@127.0.0.1:1/x"):
        async with SqlAlchemyStorage(url) as storage:
            with pytest.raises(StorageUnavailableError, match="Connecting to"):
                await storage.aadd_run("s")


# ---------------------------------------------------------------- waiting


def test_a_pool_that_is_exhausted(url: str) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1}
    with SqlAlchemyStorage(url, engine_options=options) as storage:
        storage.setup()
        hurry(storage, 1)
        match = "all connections of the pool"
        with engine_of(storage).connect(), pytest.raises(StorageUnavailableError, match=match) as caught:
            storage.get_session("s")
        assert caught.value.retryable
        hurry(storage, 30)
        storage.add_run("s")


def test_another_program_writes_to_the_file_all_the_time(sqlite_url: str) -> None:
    with SqlAlchemyStorage(sqlite_url) as storage:
        storage.add_run("s")
        hurry(storage, 0.5)
        engine = create_engine(sqlite_url, poolclass=NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            assert len(storage.runs("s")) == 1  # readers do not wait
            with pytest.raises(StorageError) as caught:
                storage.delete("s")
            assert isinstance(caught.value, (StorageUnavailableError, DeadlineError))
            assert (caught.value.retryable, caught.value.written) == (True, "no")
        hurry(storage, 30)
        storage.delete("s")


async def test_an_asynchronous_write_that_waits_for_another_ends_by_its_deadline(postgres_url: str) -> None:
    url = postgres_url.replace("postgresql:", "postgresql+psycopg_async:")
    async with SqlAlchemyStorage(url) as storage:
        await storage.aadd_run("s")
        hurry(storage, 1)
        with psycopg.connect(postgres_url) as connection:
            connection.execute("SELECT * FROM sessile_sessions FOR UPDATE")
            with pytest.raises(DeadlineError, match="within 1 s") as caught:
                await storage.aadd_run("s")
            assert caught.value.written == "no"
        await storage.aadd_run("s")
        assert len(await storage.aruns("s")) == 2


def test_a_deadlock_is_repeated(mysql_url: str) -> None:
    """Another program holds the log and wants the head; we hold the head and want the log."""
    with SqlAlchemyStorage(mysql_url.replace("mysql:", "mysql+pymysql:")) as storage:
        storage.add_run("s")
        engine = engine_of(storage)
        codes: list[int] = []
        rivals: list[threading.Thread] = []
        with connect_mysql(mysql_url) as other, other.cursor() as cursor:
            cursor.execute("CREATE TABLE work (x INTEGER)")
            other.begin()
            cursor.executemany("INSERT INTO work VALUES (%s)", [(x,) for x in range(1000)])  # worth more than ours
            cursor.execute("SELECT * FROM sessile_commits FOR UPDATE")

            def rival() -> None:
                cursor.execute("UPDATE sessile_sessions SET hidden = hidden")
                other.rollback()

            def handle(connection: Any, _: Any, statement: str, *rest: Any) -> None:
                if statement.startswith("INSERT INTO sessile_commits") and not rivals:
                    rivals.append(threading.Thread(target=rival))
                    rivals[0].start()

            event.listen(engine, "before_cursor_execute", handle)
            event.listen(engine, "handle_error", lambda context: codes.append(context.original_exception.args[0]))
            storage.add_run("s")
            rivals[0].join()
        assert codes == [1213]
        assert storage.verify("s") == 2


# ---------------------------------------------------------------- what a user gives


def test_a_file_that_may_only_be_read(sqlite_url: str, tmp_path: Path) -> None:
    with SqlAlchemyStorage(sqlite_url) as storage:
        storage.add_run("s")
    options = {"connect_args": {"uri": True}}
    url = f"sqlite:///file:{tmp_path}/sessions.db?mode=ro&uri=true"
    with SqlAlchemyStorage(url, engine_options=options) as storage:
        assert len(storage.runs("s")) == 1
        with pytest.raises(ReadOnlyError):
            storage.add_run("s")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "sessions.db").write_bytes(os.urandom(4096))
    with SqlAlchemyStorage(f"sqlite:///{tmp_path}/sessions.db") as storage, pytest.raises(CorruptDataError):
        storage.add_run("s")


def test_a_log_without_its_newest_commit(url: str) -> None:
    """As with the drivers of single databases: what is damaged is told, and is not taken for absent."""
    with SqlAlchemyStorage(url) as storage:
        storage.add_run("s", input="1")
        storage.add_run("s", input="2")
        with engine_of(storage).begin() as connection:
            connection.execute(text("DELETE FROM sessile_commits WHERE seq = 2"))
        assert storage.get_session("s") is not None
        with pytest.raises(CorruptDataError):
            storage.verify("s")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite://", "nodb://x", "no url", ""])
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        SqlAlchemyStorage(url)


def test_things_that_are_refused(sqlite_url: str) -> None:
    with pytest.raises(InvalidInputError, match="not a int"):
        SqlAlchemyStorage(7)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="each thread a database of its own"):
        SqlAlchemyStorage(create_engine("sqlite://"))
    with pytest.raises(InvalidInputError, match="engine_options"):
        SqlAlchemyStorage(create_engine(sqlite_url), engine_options={"echo": True})
    with pytest.raises(InvalidInputError, match="options of an engine"):
        SqlAlchemyStorage(sqlite_url, engine_options={"no_such": True})
    with pytest.raises(MissingDependencyError, match="pg8000"):
        SqlAlchemyStorage("postgresql+pg8000://u@h/x")


def test_an_engine_in_memory_with_one_connection() -> None:
    """What tests of applications use: it serves one thread at a time."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with SqlAlchemyStorage(engine) as storage:
        storage.add_run("s")
        assert len(storage.runs("s")) == 1
    engine.dispose()


def test_open_takes_urls_of_sqlalchemys(sqlite_url: str) -> None:
    with sessile.open(f"sqlalchemy+{sqlite_url}?prefix=x_", lease=5) as storage:
        assert isinstance(storage, SqlAlchemyStorage)
        assert storage.settings.lease == 5
        storage.add_run("s")
    engine = create_engine(sqlite_url)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM x_sessions")) == 1
    engine.dispose()


@pytest.mark.parametrize("package", ["sqlalchemy", "greenlet"])
def test_without_what_it_needs(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None\nimport sessile\nsessile.SqlAlchemyStorage"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "MissingDependencyError: SqlAlchemyStorage needs the package 'sqlalchemy[asyncio]'" in done.stderr
    assert 'pip install "sessile[sqlalchemy]"' in done.stderr


# ---------------------------------------------------------------- errors of databases that no test runs against


class OracleError:
    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"ORA-{self.code:05}: something"


def odbc(state: str, number: int) -> tuple[str, str]:
    return state, f"[{state}] [Driver][SQL Server]Something (7) happened. ({number}) (SQLExecDirectW)"


@pytest.mark.parametrize(
    ("dialect", "arguments", "kind", "retry"),
    [
        ("mssql", odbc("40001", 1205), StorageUnavailableError, True),
        ("mssql", odbc("42000", 229), ReadOnlyError, False),
        ("mssql", odbc("42S02", 208), StorageError, False),
        ("mssql", odbc("42000", 9002), StorageFullError, True),
        ("oracle", (OracleError(60),), StorageUnavailableError, True),
        ("oracle", (OracleError(942),), StorageError, False),
        ("oracle", (OracleError(1653),), StorageFullError, True),
        ("singlestoredb", (1213, "Deadlock"), StorageUnavailableError, True),
        ("singlestoredb", (1142, "denied"), ReadOnlyError, False),
        ("mysql", (3024, "maximum statement execution time exceeded"), DeadlineError, True),
        ("mysql", (1712, "Index sessile_sessions is corrupted"), CorruptDataError, False),
        ("mysql", (1153, "Got a packet bigger than 'max_allowed_packet' bytes"), StorageError, False),
    ],
)
def test_by_the_numbers_of_the_database(dialect: str, arguments: Any, kind: type[StorageError], retry: bool) -> None:
    error = DBAPIError("SELECT 1", {}, Exception(*arguments))
    failed = translate(error, "Reading", "the database", dialect, Attempt(writes=True, phase="working"))
    assert type(failed) is kind
    assert (failed.retryable, failed.written) == (retry, "no")
    refused = translate(error, "Committing", "the database", dialect, Attempt(writes=True, phase="committing"))
    assert refused.written == "no"


@pytest.mark.parametrize("phase", ["working", "committing"])
def test_a_client_that_is_of_no_use_any_more_is_a_lost_connection(phase: Any) -> None:
    """What psycopg says when half of an answer came: it has no code of the server's."""
    said = psycopg.OperationalError("sending query failed: another command is already in progress")
    error = OperationalError("SELECT 1", {}, said)
    assert is_lost(error)
    failed = translate(error, "Appending", "db", "postgresql", Attempt(True, phase))
    assert type(failed) is StorageUnavailableError
    assert (failed.retryable, failed.written) == (True, "unknown" if phase == "committing" else "no")
    assert not is_lost(DBAPIError("SELECT 1", {}, psycopg.errors.SyntaxError("syntax error")))
