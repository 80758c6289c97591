"""Statements for databases that no test runs against: what matters in them, as SQLAlchemy compiles them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Dialect, make_url
from sqlalchemy.dialects import oracle

from sessile.drivers.sql.statements import split
from sessile.drivers.sqlalchemy.migrating import scripts
from sessile.drivers.sqlalchemy.statements import statements_for
from sessile.storage import ListQuery
from sessile.storage.driver import RecordName

URLS = {
    "cockroachdb": "cockroachdb+psycopg://",
    "mssql": "mssql+pyodbc://",
    "mysql": "mysql+pymysql://",
    "oracle": "oracle+oracledb://",
    "singlestoredb": "singlestoredb://",
}


def dialect_of(name: str) -> Dialect:
    dialect: Any = make_url(URLS[name]).get_dialect()()
    if name == "mssql":
        dialect._supports_offset_fetch = True  # what it learns from a server of 2012 or later
    return dialect


def plain(compiled: object) -> str:
    """A statement in one line, its names without the quotes of the dialect."""
    return re.sub(r'[`"\[\]](?!\S*POSTCOMPILE)', "", " ".join(str(compiled).split()))


def ddl(name: str, schema: str | None = None) -> list[str]:
    script = scripts(statements_for(schema, "sessile_", name), dialect_of(name))[2, "new"]
    return [plain(statement) for statement in split(script)]


def table(name: str, of: str) -> str:
    [found] = [statement for statement in ddl(name) if statement.startswith(f"CREATE TABLE sessile_{of} ")]
    return found


def statements(name: str) -> dict[str, str]:
    """Every statement that the driver runs, by name."""
    sql, dialect = statements_for(None, "sessile_", name), dialect_of(name)
    page = sql.page(ListQuery(agent="o", name_prefix="n", now=1, hidden=False), (1, "s"), 50)
    named = {name: value for name, value in vars(sql).items() if hasattr(value, "compile")}
    named |= {f"entries {key}": value for key, value in sql.entries.items()}
    named |= {f"delete {number}": value for number, value in enumerate(sql.delete)}
    named |= {"page": page, "count": sql.count(ListQuery())}
    named |= {"newest": sql.newest([("a", "i"), ("b", "i")], 2)}
    named |= {"get_records": sql.get_records([RecordName("a", "i", "k"), RecordName("b", "i", "k")])}
    named |= {"record_keys": sql.record_keys("a", "i", "p/", "p/1", 5)}
    return {key: plain(value.compile(dialect=dialect)) for key, value in named.items()}


@pytest.mark.parametrize("name", URLS)
def test_session_id_leads_every_key(name: str) -> None:
    for of, key in (
        ("sessions", "session_id"),
        ("commits", "session_id, incarnation, seq"),
        ("records", "session_id, incarnation, key"),
    ):
        assert f"PRIMARY KEY ({key})" in table(name, of)
    assert not [text for text in ddl(name) if "FOREIGN KEY" in text or "UNIQUE" in text]


@pytest.mark.parametrize("name", URLS)
def test_every_statement_compiles(name: str) -> None:
    found = statements(name)
    assert {"create", "advance", "log", "load", "load_head", "page", "count", "hold_head", "add_record"} <= found.keys()
    assert "revision = " in found["advance"].partition(" WHERE ")[2]


def upgrade(name: str, schema: str | None = None) -> list[str]:
    """What makes a database of version 1 one of version 2."""
    script = scripts(statements_for(schema, "sessile_", name), dialect_of(name))[2, "pre"]
    return [plain(statement) for statement in split(script)]


def test_version_2() -> None:
    """A column and its index get another name, and a column is added: nothing that copies a table."""
    renamed = "ALTER TABLE sessile_sessions RENAME COLUMN owner TO agent"
    keys = "CREATE INDEX sessile_commits_key ON sessile_commits (session_id, incarnation, key, seq)"
    index = "ALTER INDEX sessile_sessions_owner RENAME TO sessile_sessions_agent"
    assert upgrade("cockroachdb") == [
        renamed,
        "ALTER TABLE sessile_commits ADD COLUMN key VARCHAR",
        index,
        f"{keys} WHERE key IS NOT NULL",
    ]
    assert upgrade("oracle") == [renamed, "ALTER TABLE sessile_commits ADD key RAW(255)", index, keys]
    assert upgrade("mssql") == [
        "EXEC sp_rename 'sessile_sessions.owner', 'agent', 'COLUMN'",
        "ALTER TABLE sessile_commits ADD key VARBINARY(255) NULL",
        "EXEC sp_rename 'sessile_sessions.sessile_sessions_owner', 'sessile_sessions_agent', 'INDEX'",
        f"{keys} WHERE key IS NOT NULL",
    ]
    assert upgrade("singlestoredb") == [
        "ALTER TABLE sessile_sessions CHANGE owner agent",
        "ALTER TABLE sessile_commits ADD COLUMN key VARBINARY(255)",
    ]
    assert upgrade("cockroachdb", "agents")[2] == (
        "ALTER INDEX agents.sessile_sessions_owner RENAME TO sessile_sessions_agent"
    )


def test_singlestore() -> None:
    for of, order in (
        ("sessions", "updated_at, session_id"),
        ("commits", "session_id, incarnation, seq"),
        ("records", "session_id, incarnation, key"),
    ):
        text = table("singlestoredb", of)
        assert "SHARD KEY (session_id)" in text
        assert f"SORT KEY ({order})" in text
        assert "session_id VARBINARY(255) NOT NULL" in text
    assert "body LONGTEXT NOT NULL" in table("singlestoredb", "commits")
    assert "value LONGBLOB" in table("singlestoredb", "records")
    assert not [text for text in ddl("singlestoredb") if "INDEX" in text]


def test_sql_server() -> None:
    sessions = table("mssql", "sessions")
    assert "session_id VARBINARY(255) NOT NULL" in sessions  # under any collation "a" and "a " would be the same
    assert "name VARBINARY(255) NULL" in sessions
    assert "body NVARCHAR(max) NOT NULL" in sessions
    assert "value VARBINARY(max)" in table("mssql", "records")
    found = statements("mssql")
    assert not [text for text in found.values() if " LIMIT " in text or "FOR UPDATE" in text]
    assert "SELECT TOP " in found["page"]
    assert all("FETCH FIRST" in text for name, text in found.items() if name.startswith("entries"))
    assert "WITH (UPDLOCK)" in found["hold_head"]
    assert "DATEDIFF_BIG(microsecond" in found["load"]
    assert "hidden = " in found["page"]  # it has no boolean to stand alone


def test_oracle() -> None:
    sessions = table("oracle", "sessions")
    assert "session_id RAW(255) NOT NULL" in sessions
    assert "revision NUMBER(19) NOT NULL" in sessions
    assert "body CLOB NOT NULL" in sessions
    assert "value BLOB" in table("oracle", "records")
    assert "BLOB NOT NULL" not in table("oracle", "records")  # an empty value is NULL there
    found = statements("oracle")
    assert not [text for text in found.values() if " LIMIT " in text]
    assert "FETCH FIRST" in found["page"]
    assert found["hold_head"].endswith("FOR UPDATE")
    assert isinstance(dialect_of("oracle"), oracle.dialect)


def test_cockroachdb() -> None:
    assert "session_id VARCHAR NOT NULL" in table("cockroachdb", "sessions")
    found = statements("cockroachdb")
    assert found["create"].endswith("ON CONFLICT DO NOTHING")
    assert "clock_timestamp()" in found["load"]


@pytest.mark.parametrize(("mariadb", "collation"), [(True, "utf8mb4_nopad_bin"), (False, "utf8mb4_0900_bin")])
def test_ids_on_mysql_and_mariadb(mariadb: bool, collation: str) -> None:
    dialect = make_url(URLS["mysql"]).get_dialect()(is_mariadb=mariadb)  # what it learns from the server
    script = plain(scripts(statements_for(None, "x_", "mysql"), dialect)[2, "new"])
    assert f"session_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL" in script
    assert "body LONGTEXT CHARACTER SET utf8mb4 NOT NULL" in script
    assert "ENGINE=InnoDB" in script


@pytest.mark.parametrize("name", URLS)
def test_a_schema_of_the_users_choice(name: str) -> None:
    created = [statement for statement in ddl(name, "agents") if statement.startswith("CREATE TABLE")]
    assert len(created) == 4
    assert all(statement.startswith("CREATE TABLE agents.sessile_") for statement in created)
