"""Every statement, built once for the tables of a database; SQLAlchemy compiles each once for an engine and keeps it.

Parameters that select rows are named `of_…`, because SQLAlchemy keeps the names of columns for values to be stored.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Delete,
    Insert,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ...storage.driver import CommitRow, HeadRow, ListQuery
from .tables import Tables
from .types import MAX_BYTES

# Not by way of local time, of which an hour comes twice a year.
_MYSQL_CLOCK = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"

CLOCKS = {
    "cockroachdb": "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "mariadb": _MYSQL_CLOCK,
    "mssql": "DATEDIFF_BIG(microsecond, '19700101', SYSUTCDATETIME())",
    "mysql": _MYSQL_CLOCK,
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
}
"""The database's clock in microseconds UTC. On others this machine's clock decides, which for SQLite is the same."""

LAST_CHARACTER = "\U0010ffff"

_KEY = ("session_id", "incarnation")
_HEAD_KEY = {*_KEY, "kind", "created_at"}
"""What never changes in a head."""


class Statements:
    """What the driver runs; `statements_for` keeps those that were built."""

    def __init__(self, tables: Tables, dialect: str) -> None:
        self.tables = tables
        self.dialect = dialect
        sessions, commits, records, version = tables.sessions.c, tables.commits.c, tables.records.c, tables.version.c
        self.head_columns = [sessions[name] for name in HeadRow._fields]
        self.commit_columns = [commits[name] for name in CommitRow._fields]
        of_session = sessions.session_id == bindparam("of_session_id")

        def of_incarnation(columns: Any) -> ColumnElement[bool]:
            return and_(*(columns[name] == bindparam(f"of_{name}") for name in _KEY))

        self.load_head = select(*self.head_columns, _clock(dialect)).where(of_session)
        self.load = self._load().where(of_session)
        self.create = self._create().execution_options(preserve_rowcount=True)  # not kept for INSERT otherwise
        changes = [name for name in HeadRow._fields if name not in _HEAD_KEY]
        at_revision = sessions.revision == bindparam("of_revision")
        self.advance = update(tables.sessions).where(of_incarnation(sessions), at_revision).values(_values(changes))
        self.log = insert(tables.commits)
        self.entries = {
            (name, newest_first): self._entries(name, newest_first=newest_first).where(of_incarnation(commits))
            for name in ("entries", "entries_of_runs", "entries_of_few_runs")
            for newest_first in (False, True)
        }
        self.delete: list[Delete] = [
            delete(table).where(of_incarnation(table.c)) for table in (tables.sessions, tables.commits, tables.records)
        ]
        hold = select(sessions.revision).where(of_incarnation(sessions)).with_for_update(key_share=True)
        self.hold_head = hold.with_hint(tables.sessions, "WITH (UPDLOCK)", "mssql")
        of_record = and_(of_incarnation(records), records.key == bindparam("of_key"))
        self.get_record = select(records.value).where(of_record)
        self.set_record = update(tables.records).where(of_record).values(_values(["value"]))
        self.add_record = insert(tables.records).values(_values(records.keys()))
        self.remove_record = delete(tables.records).where(of_record)
        self.schema_state = select(version.version, version.oldest)

    def _create(self) -> Insert:
        """Insert a head unless there is one of that id; where a database has no such statement, that is an error."""
        into: Any = _UNLESS_THERE.get(self.dialect, insert)
        statement = into(self.tables.sessions).values(_values(HeadRow._fields))
        return statement.on_conflict_do_nothing() if self.dialect in _UNLESS_THERE else statement

    def _load(self) -> Select[Any]:
        """The head and its newest commits in one statement, one row for each commit; long columns only in one of them.

        `seq` is dense, so the head's revision tells which commits there must be, whatever else is committed meanwhile.
        """
        sessions, commits = self.tables.sessions.c, self.tables.commits.c
        newest = and_(
            *(commits[name] == sessions[name] for name in _KEY),
            commits.seq > sessions.revision - bindparam("newest", type_=BigInteger),
            commits.seq <= sessions.revision,
        )
        once = or_(commits.seq.is_(None), commits.seq == sessions.revision)
        head = [
            case((once, column), else_=None) if column.name in ("metadata", "body") else column
            for column in self.head_columns
        ]
        tables = self.tables.sessions.outerjoin(self.tables.commits, newest)
        return select(*head, _clock(self.dialect), *self.commit_columns).select_from(tables)

    def _entries(self, name: str, *, newest_first: bool) -> Select[Any]:
        """One of the three statements that read a span of the log."""
        commits = self.tables.commits.c
        # An expression that no index serves, so that a few runs are found by theirs, and not by reading the whole log.
        seq = commits.seq + 0 if name == "entries_of_few_runs" else commits.seq
        statement = select(*self.commit_columns).where(seq.between(bindparam("first"), bindparam("last")))
        if name != "entries":
            statement = statement.where(commits.run.between(bindparam("first_run"), bindparam("last_run")))
        return statement.order_by(seq.desc() if newest_first else seq).limit(bindparam("limit"))

    # ------------------------------------------------------------ lists

    def page(self, query: ListQuery, after: tuple[int, str] | None, limit: int) -> Select[Any]:
        """One page of heads, newest first. Filters on metadata are not in it."""
        moment, session_id = self._moment(query), self.tables.sessions.c.session_id
        where = self._conditions(query)
        if after is not None:
            time, last = after
            # Not a comparison of rows, which not every database has, or uses an index for.
            where += [moment <= time, or_(moment < time, session_id < last)]
        return select(*self.head_columns).where(*where).order_by(moment.desc(), session_id.desc()).limit(limit)

    def count(self, query: ListQuery) -> Select[Any]:
        """How many heads match. Filters on metadata are not in it."""
        return select(func.count()).select_from(self.tables.sessions).where(*self._conditions(query))

    def _moment(self, query: ListQuery) -> ColumnElement[int]:
        sessions = self.tables.sessions.c
        return sessions.created_at if query.order == "created" else sessions.updated_at

    def _conditions(self, query: ListQuery) -> list[ColumnElement[bool]]:
        sessions, moment = self.tables.sessions.c, self._moment(query)
        where: list[ColumnElement[bool]] = []
        for name in ("kind", "owner", "user_id", "status"):
            value = getattr(query, name)
            if value is not None:
                where.append(sessions[name] == value)
        if query.name_prefix:
            # All names with that beginning, in the order of code points: the last one is as long as names can be.
            last = query.name_prefix + LAST_CHARACTER * (MAX_BYTES // 4)
            where += [sessions.name >= query.name_prefix, sessions.name <= last]
        if query.since is not None:
            where.append(moment >= query.since)
        if query.until is not None:
            where.append(moment < query.until)
        if query.now is not None:
            where.append(or_(sessions.expires_at.is_(None), sessions.expires_at > query.now))
        if query.expired_before is not None:
            where.append(sessions.expires_at <= query.expired_before)
        if query.hidden is not None:
            where.append(sessions.hidden == int(query.hidden))
        return where


@lru_cache(maxsize=64)
def statements_for(schema: str | None, prefix: str, dialect: str) -> Statements:
    """The statements for tables of these names: an application may make a storage for each of its requests."""
    return Statements(Tables(schema, prefix, dialect), dialect)


_UNLESS_THERE: dict[str, Any] = {
    "cockroachdb": postgresql.insert,
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}
"""Databases that can insert a row unless there is one. On some of them an error would spoil the transaction."""


def _values(names: Any) -> dict[str, Any]:
    return {name: bindparam(name) for name in names}


def _clock(dialect: str) -> ColumnElement[int]:
    return literal_column(CLOCKS.get(dialect, "NULL"), BigInteger()).label("clock")
