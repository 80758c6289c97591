"""The log on one connection of SQLite: what a load reads, and what an append writes into the transaction at hand."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from ...storage.driver import Deadline
from ...storage.matching import newest_of, page_of
from ...storage.rows import Append, CommitRow, HeadRow, Loaded, Span
from . import damage
from .migrations import SchemaState
from .sqlite_calls import patiently, roll_back
from .statements import load_statements

HEAD = ", ".join(HeadRow._fields)

SQL = load_statements("sqlite", {"head": HEAD, "commit": ", ".join(CommitRow._fields)}, "named")
"""The statements, by their names."""


def _now() -> int:
    return time.time_ns() // 1000


def load(connection: sqlite3.Connection, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
    """A head and its newest commits, in one consistent look."""
    key = (session_id,)
    if newest == 0:
        found = patiently(lambda: connection.execute(SQL["head"], key).fetchone(), deadline)
        return None if found is None else Loaded(damage.loaded_head(found), [], _now())
    connection.execute("BEGIN")
    try:
        found = patiently(lambda: connection.execute(SQL["head"], key).fetchone(), deadline)
        if found is None:
            return None
        head = damage.loaded_head(found)
        rows = connection.execute(SQL["newest"], (session_id, head.incarnation, newest))
        try:
            commits = newest_of(map(CommitRow.stored, rows), newest)
        finally:
            rows.close()
    finally:
        roll_back(connection)
    return Loaded(head, commits, _now())


def put(connection: sqlite3.Connection, writes: Sequence[Append]) -> list[str]:
    """Put the heads and commits of several sessions in place, each if it is at its expected revision.

    Returns the ids of those that were; of the others nothing is written.
    """
    won = [write for write in writes if _claim(connection, write)]
    rows = [(write.session_id, write.incarnation, *commit) for write in won for commit in write.commits]
    connection.executemany(SQL["append"], rows)
    return [write.session_id for write in won]


def _claim(connection: sqlite3.Connection, write: Append) -> bool:
    """Put the new head in place, if the session is still at the expected revision."""
    if write.expected == 0:
        return connection.execute(SQL["create"], write.head._asdict()).rowcount == 1
    head = write.head
    changes = head[2:8] + head[9:]  # from `revision` on, without `created_at`
    was = (write.was_body, write.was_updated_at)
    values = (*changes, head.session_id, head.incarnation, write.expected, *was)
    return connection.execute(SQL["advance"], values).rowcount == 1


def schema_state(connection: sqlite3.Connection) -> SchemaState:
    """What the file has; version 0 if Sessile has no tables in it."""
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'sessile_schema'")
    row = None if found.fetchone() is None else connection.execute(SQL["schema_state"]).fetchone()
    return SchemaState() if row is None else SchemaState.stored(*row)


def page(connection: sqlite3.Connection, sql: str, values: dict[str, Any], span: Span) -> list[CommitRow]:
    """One page of a span, read row by row, so that no more is in memory than the page has."""
    with closing(connection.execute(sql, values)) as rows:
        return page_of(map(CommitRow.stored, rows), span)
