"""What keys and constraints of a database refuse is one clear error of ours, in which nothing of the row stands."""

from __future__ import annotations

import traceback

import pytest

from sessile import ANY_USER
from sessile.errors import ConstraintError, CorruptDataError, StorageError

from .helpers import Database

SECRET = "my card is 4711"

FORGED = """INSERT INTO sessile_commits (session_id, incarnation, seq, commit_id, run, time, body)
SELECT session_id, incarnation, seq + 1, 'forged', run, time, body FROM sessile_commits WHERE session_id = 's'
ORDER BY seq DESC LIMIT 1"""


def check_told(error: StorageError) -> None:
    assert (error.written, error.retryable) == ("no", False)
    assert SECRET not in "".join(traceback.format_exception(error))


def test_a_row_where_the_next_commit_belongs(database: Database) -> None:
    """It is not waited for, nor taken for a lost race."""
    with database.open(timeout=60) as storage:
        storage.create_session("s")
        database.sql(FORGED)
        with pytest.raises(CorruptDataError, match="no head knows of") as caught:
            storage.add_run("s", input=SECRET)
        check_told(caught.value)
        session = storage.get_session("s")
        assert session is not None
        assert session.revision == 1
        assert storage.runs("s") == []
        assert storage.delete("s")
        storage.create_session("s")
        storage.set_ttl("s", 0)
        database.sql(FORGED)
        assert storage.sweep() == 1
        storage.add_run("s", input="x")
        assert len(storage.runs("s")) == 1


def test_a_check_that_somebody_has_added(database: Database) -> None:
    check = "body NOT LIKE '%card%'"
    with database.open() as storage:
        storage.add_run("s", input="x")
        database.sql(f"ALTER TABLE sessile_commits ADD CONSTRAINT no_cards CHECK ({check})")
        with pytest.raises(ConstraintError, match="no_cards") as caught:
            storage.add_run("s", input=SECRET)
        check_told(caught.value)
        storage.add_run("s", input="y")
        assert [run.input for run in storage.runs("s")] == ["x", "y"]


def test_a_constraint_keeps_nothing_from_being_deleted(database: Database) -> None:
    with database.open() as storage:
        storage.add_run("s", input="x")
        storage.add_run("t", input="x", user_id="ada")
        database.sql("ALTER TABLE sessile_commits ADD CONSTRAINT short CHECK (seq < 2)")
        with pytest.raises(ConstraintError):
            storage.rename("s", "n")
        assert storage.delete("s")
        assert storage.delete_user("ada") == 1
        assert storage.count_sessions(user_id=ANY_USER) == 0


def test_a_column_that_somebody_has_added(database: Database) -> None:
    kind = "text" if database.is_postgres else "varchar(9)"
    with database.open() as storage:
        storage.create_session("s")
        database.sql(f"ALTER TABLE sessile_sessions ADD COLUMN tenant {kind} NOT NULL DEFAULT 'a'")
        database.sql("ALTER TABLE sessile_sessions ALTER COLUMN tenant DROP DEFAULT")
        with pytest.raises(ConstraintError, match="tenant") as caught:
            storage.create_session("t", state={"x": SECRET})
        check_told(caught.value)
        assert storage.get_session("t") is None
        storage.add_run("s", input="x")
