"""The log on one connection of SQLite: what a load reads, and what an append writes into the transaction at hand."""

from __future__ import annotations

import functools
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from ...storage.driver import Deadline
from ...storage.matching import newest_of, page_of
from ...storage.rows import FEW, Append, CommitRow, HeadRow, Loaded, Span, stored_rows, uncounted
from . import damage
from .migrations import SchemaState
from .sqlite_calls import patiently, roll_back
from .statements import load_statements, put_in

HEAD = ", ".join(HeadRow._fields)

SQL = load_statements("sqlite", {"head": HEAD, "commit": ", ".join(CommitRow._fields)}, "named")
"""The statements, by their names."""


ROWS = 16
"""How many sessions one statement writes at most: SQLite takes 999 parameters, or more."""

COLUMNS = {"advance_many": 16, "append_many": 8}
"""How many parameters these have of each row."""

TOGETHER = sqlite3.sqlite_version_info >= (3, 33)
"""Whether SQLite has UPDATE … FROM."""


HEAD_OF, NEWEST, ADVANCE, APPEND = SQL["head"], SQL["newest"], SQL["advance"], SQL["append"]


def load(connection: sqlite3.Connection, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
    """A head and its newest commits, in one consistent look."""
    commits: list[CommitRow] = []
    execute = connection.execute
    if newest:
        execute("BEGIN")
    try:
        found = patiently(lambda: execute(HEAD_OF, (session_id,)).fetchone(), deadline)
        if found is None:
            return None
        head = damage.loaded_head(found)
        if newest:
            rows = execute(NEWEST, (session_id, head.incarnation, newest))
            try:
                if newest <= FEW:
                    commits = stored_rows(rows.fetchall())
                    commits.reverse()
                else:
                    commits = newest_of(map(CommitRow.stored, rows), newest)
            finally:
                rows.close()  # an error that is kept would keep it open, and its connection at what it saw then
    finally:
        if newest:
            roll_back(connection)
    return uncounted(Loaded, (head, commits, time.time_ns() // 1000))


def put(connection: sqlite3.Connection, writes: Sequence[Append]) -> list[str]:
    """Put the heads and commits of several sessions in place, each if it is at its expected revision.

    Returns the ids of those that were; of the others nothing is written.
    """
    won: list[str] = []
    for write in writes:
        if _claim(connection, write):
            for commit in write.commits:
                connection.execute(APPEND, (write.session_id, write.incarnation, *commit))
            won.append(write.session_id)
    return won


def put_all(connection: sqlite3.Connection, writes: Sequence[Append]) -> bool:
    """As `put`, of commits that follow others, in few statements; False: one has lost its race, and all must be undone.

    Python's interpreter is free during each step of each statement, and must be waited for after it: where many threads
    want it, that takes longer than the statement.
    """
    for start in range(0, len(writes), ROWS):
        some = writes[start : start + ROWS]
        changes = [value for write in some for value in _changes(write)]
        if connection.execute(_many("advance_many", len(some)), changes).rowcount < len(some):
            return False
        commits = [(each.session_id, each.incarnation, *commit) for each in some for commit in each.commits]
        connection.execute(_many("append_many", len(commits)), [value for row in commits for value in row])
    return True


@functools.cache
def _many(name: str, rows: int) -> str:
    """A statement about so many rows."""
    row = f"({', '.join('?' * COLUMNS[name])})"
    return put_in(SQL[name], {"rows": ", ".join([row] * rows)})


def _claim(connection: sqlite3.Connection, write: Append) -> bool:
    """Put the new head in place, if the session is still at the expected revision."""
    if write.expected == 0:
        return connection.execute(SQL["create"], write.head._asdict()).rowcount == 1
    return connection.execute(ADVANCE, _changes(write)).rowcount == 1


def _changes(write: Append) -> tuple[Any, ...]:
    """What is to be in a head that there is, and what it is compared with."""
    head = write.head
    changes = head[2:8] + head[9:]  # from `revision` on, without `created_at`
    return (*changes, head.session_id, head.incarnation, write.expected, write.was_body, write.was_updated_at)


def schema_state(connection: sqlite3.Connection) -> SchemaState:
    """What the file has; version 0 if Sessile has no tables in it."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sessile_schema'")
    row = None if found.fetchone() is None else connection.execute(SQL["schema_state"]).fetchone()
    return SchemaState() if row is None else SchemaState.stored(*row)


def page(connection: sqlite3.Connection, sql: str, values: dict[str, Any], span: Span) -> list[CommitRow]:
    """One page of a span, read row by row, so that no more is in memory than the page has."""
    with closing(connection.execute(sql, values)) as rows:
        if span.max_bytes is None:
            return stored_rows(rows.fetchmany(span.limit))
        return page_of(map(CommitRow.stored, rows), span)
