"""What the tests of `MySQLStorage` share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from tests.servers.fixtures import connect_mysql

from sessile import ANY_USER, MySQLStorage
from sessile.storage import Storage

LOCK_WAITS = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"


def inputs(storage: MySQLStorage, session_id: str = "s") -> list[Any]:
    return [run.input for run in storage.runs(session_id, user_id=ANY_USER)]


def sql(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements by hand; the rows of the last one."""
    with connect_mysql(url) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def driver_of(storage: Storage) -> Any:
    """The driver of synchronous callers."""
    assert storage._core is not None
    return storage._core.driver


def database_of(url: str) -> str:
    return urlsplit(url).path[1:]


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask until it is so; seldom enough for InnoDB, which tells what it told before to who asks within 0.1 s."""
    while not condition():
        threading.Event().wait(0.15)
