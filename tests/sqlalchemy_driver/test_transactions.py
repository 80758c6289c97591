"""A run is stored with the application's own rows, or not at all, in a transaction of the application's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sessile import SqlAlchemyStorage
from sessile.errors import InvalidInputError, StorageError, StorageUnavailableError, UnsupportedError


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


@pytest.fixture
def outside(engine: Engine) -> Iterator[SqlAlchemyStorage]:
    """A storage on the application's engine, in transactions of its own."""
    Base.metadata.create_all(engine)
    with SqlAlchemyStorage(engine) as storage:
        storage.setup()
        yield storage


def orders(engine: Engine) -> list[int]:
    with Session(engine) as session:
        return [order.id for order in session.query(Order)]


def test_a_run_is_committed_with_rows_of_the_orm(engine: Engine, outside: SqlAlchemyStorage) -> None:
    with Session(engine) as session:
        storage = SqlAlchemyStorage(session)
        session.add(Order(id=1))
        storage.add_run("s", input="Buy it", output="Bought", state={"order": 1})
        assert outside.get_session("s") is None
        session.commit()
    assert orders(engine) == [1]
    assert outside.get_run("s", 1).output == "Bought"
    assert outside.verify("s") == 1


def test_and_rolled_back_with_them(engine: Engine, outside: SqlAlchemyStorage) -> None:
    outside.add_run("old", input="before")
    with Session(engine) as session:
        storage = SqlAlchemyStorage(session)
        storage.add_run("s", input="Buy it")
        session.add(Order(id=1))
        session.flush()
        storage.add_run("old", input="within")
        storage.rename("old", "Within")
        assert [run.input for run in storage.runs("old")] == ["before", "within"]
        storage.delete("old")
        session.rollback()
    assert orders(engine) == []
    assert outside.get_session("s") is None
    assert [run.input for run in outside.runs("old")] == ["before"]


def test_a_storage_within_leaves_the_connection_open(engine: Engine, outside: SqlAlchemyStorage) -> None:
    with engine.connect() as connection:
        with connection.begin(), SqlAlchemyStorage(connection) as storage:
            storage.add_run("s")
        with connection.begin():
            SqlAlchemyStorage(connection).add_run("s")
            SqlAlchemyStorage(connection).close()
    assert len(outside.runs("s")) == 2


def test_a_lost_race_does_not_spoil_the_transaction(engine: Engine, outside: SqlAlchemyStorage) -> None:
    """Two sessions of one id made at once: the second is told, and the application's own rows still go in."""
    outside.create_session("s")
    with Session(engine) as session:
        session.add(Order(id=1))
        session.flush()
        storage = SqlAlchemyStorage(session)
        with pytest.raises(Exception, match="There is a session"):
            storage.create_session("s")
        storage.add_run("s")
        session.commit()
    assert orders(engine) == [1]
    assert len(outside.runs("s")) == 1


def test_a_transaction_that_sees_the_past_is_told_so(mysql_url: str) -> None:
    """MariaDB's transactions see the database as it was at their first read."""
    engine = create_engine(mysql_url.replace("mysql:", "mysql+pymysql:"))
    outside = SqlAlchemyStorage(engine)
    outside.add_run("s")
    with Session(engine) as session:
        within = SqlAlchemyStorage(session)
        assert len(within.runs("s")) == 1
        outside.add_run("s")
        with pytest.raises(StorageUnavailableError, match="Roll the transaction back") as caught:
            within.add_run("s")
        assert (caught.value.retryable, caught.value.written) == (False, "no")
        session.rollback()
        within.add_run("s")
        session.commit()
    assert len(outside.runs("s")) == 3
    engine.dispose()


def test_tables_are_not_made_in_a_borrowed_transaction(engine: Engine) -> None:
    with Session(engine) as session, pytest.raises(StorageError, match=r"lacks schema version 2.*CREATE TABLE"):
        SqlAlchemyStorage(session).add_run("s")


def test_a_migration_never_commits_the_applications_transaction(engine: Engine) -> None:
    """It is refused where each change of the schema is committed at once, and rolled back elsewhere."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Order(id=1))
        session.flush()
        storage = SqlAlchemyStorage(session)
        with pytest.raises(UnsupportedError) if engine.dialect.name == "mysql" else nullcontext():
            storage.migrate()
        session.rollback()
    assert orders(engine) == []
    assert not inspect(engine).has_table("sessile_sessions")


def test_only_the_first_transaction_looks_at_the_schema(engine: Engine, outside: SqlAlchemyStorage) -> None:
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *event: statements.append(event[2]))
    for number in range(3):
        with Session(engine) as session:
            SqlAlchemyStorage(session).get_session(f"s{number}")
    assert len([text for text in statements if "sessile_sessions" in text]) == 3
    assert len([text for text in statements if "SELECT sessile_sqlalchemy_schema" in text]) == 0


@pytest.mark.parametrize("server", ["postgres", "mysql"])
def test_an_engine_without_transactions_is_refused(server: str, request: pytest.FixtureRequest) -> None:
    address: str = request.getfixturevalue(f"{server}_url")
    url = address.replace("postgresql:", "postgresql+psycopg:").replace("mysql:", "mysql+pymysql:")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with SqlAlchemyStorage(engine) as storage, pytest.raises(InvalidInputError, match="every statement by itself"):
        storage.add_run("s")
    engine.dispose()


def test_every_connection_is_looked_at(postgres_url: str) -> None:
    """Also where an earlier storage has seen that the tables are there."""
    engine = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    SqlAlchemyStorage(engine).setup()
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        pytest.raises(InvalidInputError, match="every statement by itself"),
    ):
        SqlAlchemyStorage(connection).add_run("s")
    engine.dispose()


def test_a_session_without_an_engine_is_refused() -> None:
    with Session() as session, pytest.raises(InvalidInputError, match="not bound to one engine"):
        SqlAlchemyStorage(session)


def test_a_file_without_transactions_has_ours(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url, isolation_level="AUTOCOMMIT")
    with SqlAlchemyStorage(engine) as storage:
        storage.add_run("s")

        def fail(*event: Any) -> None:
            if event[2].startswith("INSERT INTO sessile_commits"):
                raise RuntimeError("here the process ends")

        event.listen(engine, "before_cursor_execute", fail)
        with pytest.raises(RuntimeError):
            storage.add_run("s")
        event.remove(engine, "before_cursor_execute", fail)
        assert storage.verify("s") == 1
    engine.dispose()


def test_an_engine_of_the_applications_is_not_disposed(engine: Engine) -> None:
    closed: list[object] = []
    event.listen(engine, "close", lambda connection, record: closed.append(connection))
    storage = SqlAlchemyStorage(engine)
    storage.add_run("s")
    pool = engine.pool
    storage.close()
    assert engine.pool is pool
    assert closed == []
    with SqlAlchemyStorage(engine) as again:
        assert again.get_run("s", 1) is not None


def test_an_engine_of_ours_is_disposed(url: str) -> None:
    closed: list[object] = []
    storage = SqlAlchemyStorage(url)
    storage.add_run("s")
    engine = storage._core.driver.port.engine  # type: ignore[union-attr]
    event.listen(engine, "close", lambda connection, record: closed.append(connection))
    storage.close()
    assert len(closed) == 1


# ---------------------------------------------------------------- asynchronous


async def test_asynchronous_sessions(async_url: str) -> None:
    engine = create_async_engine(async_url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    outside = SqlAlchemyStorage(engine)
    await outside.asetup()
    async with AsyncSession(engine) as session:
        await SqlAlchemyStorage(session).aadd_run("kept", input="a")
        session.add(Order(id=1))
        await session.commit()
        await SqlAlchemyStorage(session).aadd_run("lost", input="b")
        session.add(Order(id=2))
        await session.rollback()
        assert await session.get(Order, 2) is None
    assert [run.input for run in await outside.aruns("kept")] == ["a"]
    assert await outside.aget_session("lost") is None
    async with engine.connect() as connection:
        await SqlAlchemyStorage(connection).aadd_run("kept", input="c")
        await connection.commit()
    assert len(await outside.aruns("kept")) == 2
    await outside.aclose()
    assert await outside_count(engine) == 1
    await engine.dispose()


async def outside_count(engine: object) -> int:
    """A new storage on the engine that another storage has let go."""
    return await SqlAlchemyStorage(engine).acount_sessions()  # type: ignore[arg-type]


async def test_an_asynchronous_engine_serves_one_loop(async_url: str) -> None:
    engine = create_async_engine(async_url)
    storage = SqlAlchemyStorage(engine)
    await storage.aadd_run("s")
    with pytest.raises(UnsupportedError, match="belong to another event loop"):
        storage.add_run("s")  # served by the background loop
    assert len(await storage.aruns("s")) == 1
    await engine.dispose()


async def test_an_asynchronous_url_serves_everybody(async_url: str) -> None:
    storage = SqlAlchemyStorage(async_url)
    await storage.aadd_run("s", input="a")
    storage.add_run("s", input="b")
    assert [run.input for run in await storage.aruns("s")] == ["a", "b"]
    await storage.aclose()


async def test_operations_at_the_same_time_take_turns(engine: Engine, outside: SqlAlchemyStorage) -> None:
    """In the threads that serve tasks, where a session or connection is used by one at a time."""
    with Session(engine) as session:
        ours = SqlAlchemyStorage(session)
        await asyncio.gather(*(ours.aadd_run("s", input=number) for number in range(8)))
        session.commit()
    assert outside.verify("s") == 8


def test_savepoints_of_the_application(engine: Engine, outside: SqlAlchemyStorage) -> None:
    def within(connection: Connection) -> None:
        SqlAlchemyStorage(connection).add_run("s")

    with engine.begin() as connection:
        within(connection)
        nested = connection.begin_nested()
        within(connection)
        nested.rollback()
    assert len(outside.runs("s")) == 1


def test_connections_and_sessions_that_are_closed(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/s.db")
    SqlAlchemyStorage(engine).add_run("s", input=1)
    connection = engine.connect()
    session = Session(engine, close_resets_only=False)
    for lent in (connection, session):
        storage = SqlAlchemyStorage(lent)
        assert len(storage.runs("s")) == 1
        lent.close()
        with pytest.raises(StorageError, match=r"Make (a|the) storage with") as caught:
            storage.add_run("s", input=2)
        assert (caught.value.written, caught.value.retryable) == ("no", False)
        assert "Roll the transaction back" not in str(caught.value)
    with Session(engine, autobegin=False) as session:
        storage = SqlAlchemyStorage(session)
        with pytest.raises(StorageError, match="has begun, its transaction"):
            storage.runs("s")
        with session.begin():
            assert len(storage.runs("s")) == 1
    engine.dispose()


async def test_an_asynchronous_connection_that_is_closed_or_was_never_begun(tmp_path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/s.db")
    await SqlAlchemyStorage(engine).aadd_run("s", input=1)
    async with engine.connect() as connection:
        storage = SqlAlchemyStorage(connection)
        assert len(await storage.aruns("s")) == 1
    with pytest.raises(StorageError, match=r"Make (a|the) storage with"):
        await storage.aruns("s")
    await engine.dispose()


def test_a_session_in_two_phases_where_there_are_none(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/s.db")
    SqlAlchemyStorage(engine).setup()
    with Session(engine, twophase=True) as session, pytest.raises(UnsupportedError, match="without twophase=True"):
        SqlAlchemyStorage(session).add_run("s", input=1)
    engine.dispose()
