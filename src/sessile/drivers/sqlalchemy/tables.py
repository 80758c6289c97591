"""The four tables, under the names that a user chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, SmallInteger, Table

from .types import ExactText, binary, json_text


class Tables:
    """The tables of schema version 2.

    `session_id` leads every primary key and is SingleStore's shard key. There are no foreign keys, which SingleStore
    does not have: what removes a head removes log and records in the same transaction, and what writes a record holds
    the head.

    Args:
        schema: where they are; None: the database's default.
        prefix: what their names begin with.
        dialect: the name of SQLAlchemy's dialect.
    """

    def __init__(self, schema: str | None, prefix: str, dialect: str) -> None:
        self.metadata = MetaData(schema=schema)
        self.prefix = prefix
        self._dialect = dialect
        # Not the name that other drivers of ours give it: they lay their tables out in other ways.
        self.version = self._table(
            "sqlalchemy_schema",
            Column("version", Integer, nullable=False, autoincrement=False),
            Column("oldest", Integer, nullable=False),
        )
        # One row per session: what lists filter by as columns, the rest as JSON text in body. Times are microseconds
        # UTC. The columns of the head stand first, in the order of HeadRow.
        self.sessions = self._table(
            "sessions",
            Column("session_id", ExactText, primary_key=True),
            Column("incarnation", ExactText, nullable=False),
            Column("revision", BigInteger, nullable=False),
            Column("kind", ExactText, nullable=False),
            Column("agent", ExactText),
            Column("user_id", ExactText),
            Column("name", ExactText),
            Column("status", ExactText),
            Column("created_at", BigInteger, nullable=False),
            Column("updated_at", BigInteger, nullable=False),
            Column("expires_at", BigInteger),
            Column("hidden", SmallInteger, nullable=False),  # 0 or 1: not every database has a boolean
            Column("metadata", json_text(), nullable=False),
            Column("body", json_text(), nullable=False),
            **self._sharded("updated_at", "session_id"),
        )
        # The log: written once, never changed.
        self.commits = self._table(
            "commits",
            Column("session_id", ExactText, primary_key=True),
            Column("incarnation", ExactText, primary_key=True),
            Column("seq", BigInteger, primary_key=True, autoincrement=False),
            Column("commit_id", ExactText, nullable=False),
            Column("run", BigInteger, nullable=False),  # 0: belongs to no run
            Column("time", BigInteger, nullable=False),
            Column("body", json_text(), nullable=False),
            Column("key", ExactText),
            **self._sharded("session_id", "incarnation", "seq"),
        )
        # Small values beside the log: leases, cancel requests, media. Oracle keeps an empty value as NULL.
        self.records = self._table(
            "records",
            Column("session_id", ExactText, primary_key=True),
            Column("incarnation", ExactText, primary_key=True),
            Column("key", ExactText, primary_key=True),
            Column("value", binary()),
            **self._sharded("session_id", "incarnation", "key"),
        )
        self.indexes = [] if dialect == "singlestoredb" else self._indexes()

    def _table(self, name: str, *columns: Column[Any], **options: Any) -> Table:
        engine = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}
        return Table(f"{self.prefix}{name}", self.metadata, *columns, **engine, **options)

    def _sharded(self, *sort_key: str) -> Mapping[str, Any]:
        """SingleStore's keys, for a table in columns: it has no ordered indexes, but one order of its rows."""
        if self._dialect != "singlestoredb":
            return {}
        from sqlalchemy_singlestoredb import (  # pyright: ignore[reportMissingTypeStubs] (comes with the dialect)
            ShardKey,
            SortKey,
        )

        return {"singlestoredb_shard_key": ShardKey("session_id"), "singlestoredb_sort_key": SortKey(*sort_key)}

    def _indexes(self) -> list[Index]:
        sessions, commits = self.sessions.c, self.commits.c
        name = f"{self.prefix}sessions"
        return [
            Index(f"{name}_updated", sessions.updated_at, sessions.session_id),
            Index(f"{name}_created", sessions.created_at, sessions.session_id),
            Index(f"{name}_user", sessions.user_id, sessions.updated_at, sessions.session_id),
            Index(f"{name}_agent", sessions.agent, sessions.updated_at, sessions.session_id),
            Index(f"{name}_expires", sessions.expires_at),
            Index(f"{name}_hidden", sessions.hidden, sessions.updated_at, sessions.session_id),
            Index(f"{self.prefix}commits_run", commits.session_id, commits.incarnation, commits.run, commits.seq),
            self.index_of_keys(),
        ]

    def index_of_keys(self) -> Index:
        """Where a database can leave rows out of an index, only commits that have a key are in it."""
        commits = self.commits.c
        columns = (commits.session_id, commits.incarnation, commits.key, commits.seq)
        only: Any = {f"{dialect}_where": commits.key.is_not(None) for dialect in ("postgresql", "sqlite", "mssql")}
        return Index(f"{self.prefix}commits_key", *columns, **only)
