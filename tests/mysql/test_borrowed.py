"""`MySQLStorage` over a connection of the application's, when something goes wrong in its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import aiomysql
import pymysql
import pytest
from tests.mysql.helpers import database_of, driver_of, inputs, sql
from tests.servers.fixtures import connect_mysql

from sessile import MySQLStorage
from sessile.errors import (
    InvalidInputError,
    ReadOnlyError,
    StorageError,
    StorageUnavailableError,
    TooLargeError,
    UnsupportedError,
)
from sessile.storage.driver import Deadline
from sessile.storage.faces import step

REFUSE = """\
CREATE TRIGGER refuse BEFORE UPDATE ON sessile_sessions FOR EACH ROW
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused'
"""


@pytest.fixture
def storage(mysql_url: str) -> Iterator[MySQLStorage]:
    with MySQLStorage(mysql_url) as storage:
        storage.add_run("s", input="before")
        yield storage


@pytest.fixture
def connection(mysql_url: str) -> Iterator[pymysql.Connection[Any]]:
    connection = connect_mysql(mysql_url)
    yield connection
    if connection.open:
        connection.close()


@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_commit_is_whole_or_not_at_all(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any], in_transaction: bool
) -> None:
    """Its second statement fails, and the application goes on all the same."""
    ours = MySQLStorage(connection)
    sql(mysql_url, REFUSE)
    if in_transaction:
        connection.begin()
    with pytest.raises(StorageError, match="refused") as caught:
        ours.rename("s", "x")
    assert ("Roll the transaction back" in str(caught.value)) is in_transaction
    assert caught.value.written == "no"
    connection.commit()
    sql(mysql_url, "DROP TRIGGER refuse")
    assert storage.verify("s") == 1
    assert storage.rename("s", "y").name == "y"
    assert ours.rename("s", "z").name == "z"


def test_without_a_transaction_each_commit_is_one(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]
) -> None:
    ours = MySQLStorage(connection)
    ours.add_run("s", input="a")
    assert inputs(storage) == ["before", "a"]
    assert ours.delete("s")
    assert storage.get_session("s") is None
    assert not connection.server_status & 1, "no transaction is left open"


def test_a_connection_without_autocommit_is_always_in_a_transaction(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]
) -> None:
    connection.autocommit(False)
    ours = MySQLStorage(connection)
    ours.add_run("s", input="a")
    assert inputs(storage) == ["before"]
    connection.rollback()
    ours.add_run("s", input="b")
    connection.commit()
    assert inputs(storage) == ["before", "b"]


EVERY_SIGN = "".join(map(chr, range(128))) + "\\'; DROP TABLE sessile_commits -- ' \\\\'' %s %(a)s {} é'\\🦉\u2028"


@pytest.mark.parametrize("mode", ["ANSI", "NO_BACKSLASH_ESCAPES"])
def test_every_sign_comes_back_in_whatever_mode(
    storage: MySQLStorage, connection: pymysql.Connection[Any], mode: str
) -> None:
    """In ids, which no NUL may be in, in names, in what filters compare, and in the text of commits."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = %s", (mode,))
    plain = EVERY_SIGN.replace("\0", "")
    with MySQLStorage(connection) as ours:
        for session_id in (f"a{plain}", plain):
            ours.create_session(session_id, name=plain, metadata={plain: plain})
            ours.add_run(session_id, input=EVERY_SIGN)
            ours.add_run(session_id, input="2")
    for session_id in (f"a{plain}", plain):
        session = storage.get_session(session_id)
        assert session is not None
        assert (session.name, session.metadata) == (plain, {plain: plain})
        assert [run.input for run in storage.runs(session_id)] == [EVERY_SIGN, "2"]
    assert {each.session_id for each in storage.sessions(metadata={plain: plain})} == {plain, f"a{plain}"}


def test_a_transaction_that_does_not_see_what_others_have_committed(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]
) -> None:
    """REPEATABLE READ, which is the default: to try again would not help."""
    ours = MySQLStorage(connection)
    connection.begin()
    assert inputs(ours) == ["before"]
    storage.add_run("s", input="between")
    storage.add_run("new", input="between")
    for session_id in ("s", "new"):
        # Newer MariaDBs say it themselves (innodb_snapshot_isolation), of a record that is there, and roll back.
        said = r"(changed by somebody else|Record has changed|server has rolled).*Roll the transaction back"
        with pytest.raises(StorageError, match=said) as caught:
            ours.add_run(session_id, input="mine")
        assert "Try again" not in str(caught.value)
        assert (caught.value.written, caught.value.retryable) == ("no", False)
    connection.rollback()
    ours.add_run("s", input="mine")
    assert inputs(storage) == ["before", "between", "mine"]


def test_a_transaction_that_sees_what_others_have_committed(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    ours = MySQLStorage(connection)
    connection.begin()
    assert inputs(ours) == ["before"]
    storage.add_run("s", input="between")
    ours.add_run("s", input="mine")
    connection.commit()
    assert inputs(storage) == ["before", "between", "mine"]


def test_a_record_that_has_changed(mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]) -> None:
    """MariaDB's innodb_snapshot_isolation, which is on by default in newer versions."""
    if sql(mysql_url, "SHOW VARIABLES LIKE 'innodb_snapshot_isolation'") == []:
        pytest.skip("This server has no innodb_snapshot_isolation.")
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION innodb_snapshot_isolation = ON")
    ours = MySQLStorage(connection)
    connection.begin()
    assert inputs(ours) == ["before"]
    storage.add_run("s", input="between")
    with pytest.raises(StorageError, match=r"1020.*Roll the transaction back") as caught:
        ours.add_run("s", input="mine")
    assert (caught.value.written, caught.value.retryable) == ("no", False)
    connection.rollback()
    assert storage.verify("s") == 2


def test_nothing_is_committed_after_the_server_has_rolled_back(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]
) -> None:
    """By a deadlock, for example: the client is not told that there is no transaction any more."""
    sql(mysql_url, "CREATE TABLE things (id INT PRIMARY KEY, n INT) ENGINE = InnoDB")
    sql(mysql_url, "INSERT INTO things VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)")
    ours = MySQLStorage(connection)
    connection.begin()
    other = connect_mysql(mysql_url)
    other.begin()
    with connection.cursor() as mine, other.cursor() as theirs, ThreadPoolExecutor() as threads:
        mine.execute("UPDATE things SET n = 1 WHERE id = 1")
        theirs.execute("UPDATE things SET n = 2 WHERE id > 1")  # has done more: it is not the one to be rolled back
        waiting = threads.submit(theirs.execute, "UPDATE things SET n = 2 WHERE id = 1")
        with pytest.raises(pymysql.err.OperationalError, match="Deadlock"):
            mine.execute("UPDATE things SET n = 1 WHERE id = 2")
        waiting.result()
    other.close()
    with pytest.raises(StorageError, match=r"has rolled the transaction back.*Roll the transaction back") as caught:
        ours.add_run("new", input="mine")
    assert (caught.value.written, caught.value.retryable) == ("no", False)
    assert storage.get_session("new") is None


def test_a_connection_that_cannot_carry_all_text_is_refused(mysql_url: str) -> None:
    parts = urlsplit(mysql_url)
    with (
        pymysql.connect(host=parts.hostname, port=parts.port or 0, user=parts.username, charset="latin1") as connection,
        pytest.raises(InvalidInputError, match="character set 'latin1'"),
    ):
        MySQLStorage(connection)


def test_too_large_a_statement_leaves_the_connection_alone(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]
) -> None:
    limit = sql(mysql_url, "SELECT @@max_allowed_packet")[0][0]
    ours = MySQLStorage(connection, max_commit_bytes=2**30)
    connection.begin()
    ours.add_run("s", input="a")
    with pytest.raises(TooLargeError, match=f"max_allowed_packet of {limit:,} bytes"):
        ours.add_run("s", input="x" * limit)
    connection.commit()
    assert inputs(storage) == ["before", "a"]


def test_a_fork_in_the_applications_transaction(storage: MySQLStorage, connection: pymysql.Connection[Any]) -> None:
    """Many commits at once, of which none shows before the application commits."""
    for number in range(30):
        storage.add_run("s", input=number)
    connection.begin()
    MySQLStorage(connection).fork("s", session_id="copy")
    assert storage.get_session("copy") is None
    connection.commit()
    assert inputs(storage, "copy") == ["before", *range(30)]
    assert storage.verify("copy") > 30


def test_a_migration_that_would_commit_the_applications_transaction(
    mysql_url: str, connection: pymysql.Connection[Any]
) -> None:
    ours = MySQLStorage(connection)
    with pytest.raises(UnsupportedError, match="would commit the application's transaction"):
        ours.migrate()
    assert len(ours.migrate(dry_run=True)) == 11
    assert sql(mysql_url, "SHOW TABLES") == []


def test_a_record_in_the_applications_transaction(
    mysql_url: str, storage: MySQLStorage, connection: pymysql.Connection[Any]
) -> None:
    ours = MySQLStorage(connection)
    incarnation = sql(mysql_url, "SELECT incarnation FROM sessile_sessions")[0][0]
    connection.begin()
    for value in (b"a", b"a", b"\0\xff"):
        assert step(driver_of(ours).put_record("s", incarnation, "k", value, Deadline(5)))
    assert step(driver_of(storage).get_record("s", incarnation, "k", Deadline(5))) is None
    connection.commit()
    assert step(driver_of(storage).get_record("s", incarnation, "k", Deadline(5))) == b"\0\xff"


def test_a_connection_that_was_closed_says_so(storage: MySQLStorage, connection: pymysql.Connection[Any]) -> None:
    ours = MySQLStorage(connection)
    ours.add_run("s")
    connection.close()
    with pytest.raises(StorageUnavailableError, match="connection is closed") as caught:
        ours.add_run("s")
    assert (caught.value.written, caught.value.retryable) == ("no", False)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_operations_at_the_same_time_take_turns(
    mysql_url: str, storage: MySQLStorage, asynchronous: bool
) -> None:
    """As when an agent renews its lease while a tool's result is stored: a connection serves one at a time."""
    parts = urlsplit(mysql_url)
    where = {"host": parts.hostname or "", "port": parts.port or 0, "user": parts.username}
    name = database_of(mysql_url)
    connection: Any = (
        await aiomysql.connect(**where, db=name)
        if asynchronous
        else pymysql.connect(**where, database=name, charset="utf8mb4")
    )
    ours = MySQLStorage(connection)
    await asyncio.gather(*(ours.aadd_run("s", input=number) for number in range(8)))
    outcome = connection.commit()
    if asynchronous:
        await outcome
    connection.close()
    assert storage.verify("s") == 9


async def test_the_asynchronous_connection_of_the_application(mysql_url: str, storage: MySQLStorage) -> None:
    """A commit whose second statement fails is undone here, too."""
    parts = urlsplit(mysql_url)
    connection = await aiomysql.connect(
        host=parts.hostname or "", port=parts.port or 0, user=parts.username, db=database_of(mysql_url)
    )
    ours = MySQLStorage(connection)
    sql(mysql_url, REFUSE)
    with pytest.raises(StorageError, match="refused"):
        await ours.arename("s", "x")
    await connection.commit()
    sql(mysql_url, "DROP TRIGGER refuse")
    await ours.arename("s", "y")
    assert storage.verify("s") == 1
    await connection.commit()
    assert storage.verify("s") == 2
    connection.close()


def test_a_connection_that_is_not_open(mysql_url: str, storage: MySQLStorage) -> None:
    """Never connected, or closed later. Both can be opened."""
    parts = urlsplit(mysql_url)
    where: Any = {"host": parts.hostname, "port": parts.port, "user": parts.username, "charset": "utf8mb4"}
    connection = pymysql.connect(**where, database=database_of(mysql_url), defer_connect=True)
    ours = MySQLStorage(connection)
    for number in (1, 2):
        with pytest.raises(StorageUnavailableError, match=r"never opened\. Make a storage with an open") as caught:
            ours.add_run("s", input=number)
        assert (caught.value.written, caught.value.retryable) == ("no", False)
        connection.connect()
        ours.add_run("s", input=number)
        connection.commit()
        connection.close()
    assert inputs(storage) == ["before", 1, 2]


async def test_an_asynchronous_connection_that_is_closed_later(mysql_url: str, storage: MySQLStorage) -> None:
    parts = urlsplit(mysql_url)
    connection = await aiomysql.connect(
        host=parts.hostname or "", port=parts.port or 0, user=parts.username, db=database_of(mysql_url)
    )
    ours = MySQLStorage(connection)
    assert len(await ours.aruns("s")) == 1
    connection.close()
    with pytest.raises(StorageUnavailableError, match=r"never opened\. Make a storage with an open"):
        await ours.aruns("s")


def test_a_transaction_that_may_only_read(storage: MySQLStorage, connection: pymysql.Connection[Any]) -> None:
    ours = MySQLStorage(connection)
    connection.cursor().execute("START TRANSACTION READ ONLY")
    with pytest.raises(ReadOnlyError, match="begin one that may write") as caught:
        ours.add_run("s", input="a")
    assert (caught.value.written, caught.value.retryable) == ("no", False)
    connection.rollback()
    ours.add_run("s", input="b")
    assert inputs(storage) == ["before", "b"]
