"""What one damaged row costs: itself."""

from __future__ import annotations

import pytest

from sessile import ANY_USER
from sessile.errors import CorruptDataError

from .helpers import Database


def damage(database: Database, session_id: str) -> None:
    """Let the name of a session be a byte that is no text, past all checks of the server."""
    if database.is_postgres:
        database.sql(
            "CREATE CAST (bytea AS text) WITHOUT FUNCTION",
            f"UPDATE sessile_sessions SET name = '\\xff'::bytea::text WHERE session_id = '{session_id}'",
        )
    else:
        database.sql(
            "ALTER TABLE sessile_sessions MODIFY name VARBINARY(255)",
            f"UPDATE sessile_sessions SET name = 0xFF WHERE session_id = '{session_id}'",
        )


def test_a_list_names_what_it_cannot_read_and_goes_on(database: Database) -> None:
    with database.open() as storage:
        for session_id in "abcd":
            storage.create_session(session_id, metadata={"n": 1})
        damage(database, "b")
        for query in ({}, {"metadata": {"n": 1}}):
            page = storage.sessions(**query)
            assert [item.session_id for item in page.items] == ["d", "c", "a"]
            assert isinstance(page.unreadable["b"], CorruptDataError)
        assert storage.count_sessions() == 4
        storage.add_run("a", input="works on")
        if database.is_postgres or database.by_engine:  # MariaDB makes a question mark of it inside JSON
            with pytest.raises(CorruptDataError):
                storage.get_session("b")
            with database.open() as another, pytest.raises(CorruptDataError):
                another.delete("b")  # nobody can say whose it is
        with database.open() as another:
            assert another.delete("b", user_id=ANY_USER)
            assert another.count_sessions() == 3
            assert another.create_session("b").revision == 1


def test_pages_go_past_what_cannot_be_read(database: Database) -> None:
    with database.open() as storage:
        for session_id in "abcd":
            storage.create_session(session_id)
        damage(database, "b")
        found: list[str] = []
        unreadable: set[str] = set()
        cursor = None
        for _ in range(9):
            page = storage.sessions(limit=1, cursor=cursor)
            found += [item.session_id for item in page.items]
            unreadable |= page.unreadable.keys()
            cursor = page.next_cursor
            if cursor is None:
                break
        assert (found, unreadable) == (["d", "c", "a"], {"b"})
