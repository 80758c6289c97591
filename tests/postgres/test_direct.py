"""Statements that go to libpq without a cursor: they bring what they bring through one, and end as they do there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from sessile import PostgresStorage
from sessile.drivers.postgres.direct import RUNS_UNPREPARED, Statement
from sessile.drivers.postgres.ports import AsyncDeadlineConnection, DeadlineConnection, Target
from sessile.drivers.sql.base import Result
from sessile.drivers.sql.ports import LateError
from sessile.storage import Deadline

VALUES: dict[str, Any] = {
    "text": "a 'quoted' \\ \"text\" with 100 % and äöü 🙂",
    "empty": "",
    "nothing": None,
    "number": 2**62,
    "negative": -1,
    "yes": True,
    "no": False,
}

ECHO = """
SELECT %(text)s::text, %(empty)s::text, %(nothing)s::text, %(number)s::bigint, %(negative)s::bigint, %(yes)s::boolean,
    %(no)s::boolean, %(text)s::text LIKE '%%100 %%%%', NULL::bigint
UNION ALL SELECT '', NULL, 'x', 0, 1, false, true, NULL, 5
"""

Ask = Callable[[str, dict[str, Any], float], Result]
"""Runs a statement on one connection, within so many seconds."""


@contextmanager
def asking(url: str, face: str, **options: Any) -> Generator[tuple[Ask, Any]]:
    """How statements are run, by threads or tasks, and the connection."""
    if face == "sync":
        with closing(DeadlineConnection.connect(url, autocommit=True, **options)) as connection:

            def ask(sql: str, values: dict[str, Any], seconds: float) -> Result:
                connection.deadline = Deadline(seconds)
                return connection.wait(connection.sender.run(Statement(sql), values))

            yield ask, connection
        return
    with asyncio.Runner() as runner:
        there = runner.run(AsyncDeadlineConnection.connect(url, autocommit=True, **options))

        def ask_for(sql: str, values: dict[str, Any], seconds: float) -> Result:
            async def answer() -> Result:
                return await there.answer(there.sender.run(Statement(sql), values), Deadline(seconds))

            return runner.run(answer())

        yield ask_for, there
        runner.run(there.close())


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> str:
    return request.param


def test_values_come_and_go_as_through_a_cursor(postgres_url: str, face: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        wanted = connection.execute(ECHO, VALUES).fetchall()
    with asking(postgres_url, face) as (ask, _):
        for _ in range(RUNS_UNPREPARED + 2):  # prepared in the end
            found = ask(ECHO, {**VALUES, "not asked for": 1}, 30)
            assert found == Result(wanted, 2)
            assert [[*map(type, row)] for row in found.rows] == [[*map(type, row)] for row in wanted]


def test_what_is_run_often_is_prepared_unless_that_is_switched_off(postgres_url: str, face: str) -> None:
    count = "SELECT count(*) FROM pg_prepared_statements"
    with asking(postgres_url, face) as (ask, connection):
        prepared = [ask(count, {}, 30).rows[0][0] for _ in range(RUNS_UNPREPARED + 2)]
        assert prepared == [0] * RUNS_UNPREPARED + [1, 1]
        connection.prepare_threshold = None  # a pooler was found in between
        for _ in range(RUNS_UNPREPARED + 2):
            assert ask(f"{count} WHERE true", {}, 30).rows == [(1,)]


def test_a_column_gets_another_type_while_statements_are_prepared(postgres_url: str, face: str) -> None:
    with asking(postgres_url, face) as (ask, _), psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute("CREATE TABLE things AS SELECT 'a'::text AS name")
        for kind in ("varchar(300)", "text"):
            for _ in range(RUNS_UNPREPARED + 2):
                assert ask("SELECT name FROM things", {}, 30).rows == [("a",)]
            other.execute(f"ALTER TABLE things ALTER COLUMN name TYPE {kind}".encode())
        assert ask("SELECT name FROM things", {}, 30).rows == [("a",)]
        for _ in range(RUNS_UNPREPARED + 2):  # what PostgreSQL cannot do at all is an error all the same
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                ask("VALUES (1) FOR UPDATE", {}, 30)


def test_connections_that_are_made_while_the_pooler_is_found_out(
    pgbouncer_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one finds it out. Whatever is on its way by then prepares nothing, either."""
    with PostgresStorage(pgbouncer_url) as storage:
        storage.add_run("s", input="the tables are there")
    connect, learn = AsyncDeadlineConnection.connect, Target.learn
    learned, connections = asyncio.Event(), list[Any]()

    async def late(*args: Any, **options: Any) -> Any:
        connection = await connect(*args, **options)
        connections.append(connection)
        if len(connections) > 1:
            await learned.wait()
        return connection

    def learns(target: Target, *args: Any) -> None:
        learn(target, *args)
        learned.set()

    monkeypatch.setattr(AsyncDeadlineConnection, "connect", late)
    monkeypatch.setattr(Target, "learn", learns)

    async def turns() -> None:
        async with PostgresStorage(pgbouncer_url, pool_size=4) as others:
            for number in range(12):
                await asyncio.gather(*[others.aadd_run(f"s{one}", input=number) for one in range(8)])
            assert others.stats().get("retries", 0) == 0

    asyncio.run(turns())
    assert [connection.prepare_threshold for connection in connections] == [None] * len(connections)
    assert len(connections) > 1


def test_text_that_no_database_takes_is_not_cut_off(postgres_url: str, face: str) -> None:
    with asking(postgres_url, face) as (ask, _):
        with pytest.raises(psycopg.DataError, match="NUL"):
            ask("SELECT %(text)s::text", {"text": "a\0b"}, 30)
        with pytest.raises(UnicodeEncodeError):
            ask("SELECT %(text)s::text", {"text": "\ud800"}, 30)
        assert ask("SELECT 1", {}, 30).rows == [(1,)]


def test_errors_are_those_of_a_cursor(postgres_url: str, face: str) -> None:
    with asking(postgres_url, face) as (ask, _):
        for _ in range(RUNS_UNPREPARED + 2):
            with pytest.raises(psycopg.errors.DivisionByZero) as caught:
                ask("SELECT 1 / %(number)s::bigint", {"number": 0}, 30)
            assert caught.value.sqlstate == "22012"
            assert caught.value.diag.message_primary == "division by zero"
        with pytest.raises(psycopg.errors.UndefinedTable):
            ask("SELECT * FROM nowhere", {}, 30)
        assert ask("SELECT 1", {}, 30).rows == [(1,)]


def test_a_server_that_ends_the_connection(postgres_url: str, face: str) -> None:
    with asking(postgres_url, face) as (ask, connection):
        number = ask("SELECT pg_backend_pid()", {}, 30).rows[0][0]
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (number,))
            while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (number,)).fetchall():
                time.sleep(0.01)
        with pytest.raises(psycopg.OperationalError):
            ask("SELECT 1", {}, 30)
        assert connection.closed


def test_more_than_a_socket_takes_at_once(postgres_url: str, face: str) -> None:
    """Also where the answer begins before all is sent."""
    text = "äx" * 10_000_000
    with asking(postgres_url, face) as (ask, _):
        assert ask("SELECT %(text)s::text, 1", {"text": text}, 60).rows == [(text, 1)]


def test_a_deadline(postgres_url: str, face: str) -> None:
    with asking(postgres_url, face) as (ask, _), pytest.raises(LateError):
        ask("SELECT pg_sleep(60)::text", {}, 0.3)


def test_a_task_that_is_cancelled_leaves_nothing_behind(postgres_url: str) -> None:
    """Neither a statement that goes on in the server, nor a connection in the middle of one."""

    async def cancelled(ask: Callable[[str], Awaitable[Result]]) -> None:
        task = asyncio.ensure_future(ask("SELECT pg_sleep(60)::text"))
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as other:
            there = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(60)%'"

            async def until(count: int) -> None:
                while (await (await other.execute(there)).fetchall())[0][0] != count:
                    pass

            await until(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(0)
        assert (await ask("SELECT 2")).rows == [(2,)]

    async def main() -> None:
        async with await AsyncDeadlineConnection.connect(postgres_url, autocommit=True) as connection:
            await cancelled(lambda sql: connection.answer(connection.sender.run(Statement(sql), {}), Deadline(120)))

    asyncio.run(main())
