"""Every statement, built once for the tables of a database; SQLAlchemy compiles each once for an engine and keeps it.

Parameters that select rows are named `of_…`, because SQLAlchemy keeps the names of columns for values to be stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    CompoundSelect,
    Delete,
    Insert,
    LargeBinary,
    Select,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ...records import ANY_USER
from ...storage.driver import CommitRow, HeadRow, ListQuery, RecordName
from ...storage.states import MARK
from ..sql import log
from .tables import Tables

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

_KEY = ("session_id", "incarnation")
FIXED = ("seq", "commit_id", "run", "time")
"""What never changes in a commit."""

_HEAD_KEY = {*_KEY, "kind", "created_at"}
"""What never changes in a head."""


class Statements:
    """What the driver runs; `statements_for` keeps those that were built."""

    def __init__(self, tables: Tables, dialect: str) -> None:
        self.tables = tables
        self.dialect = dialect
        sessions, commits, records, version = tables.sessions.c, tables.commits.c, tables.records.c, tables.version.c
        self.head_columns = [sessions[name] for name in HeadRow._fields]
        self._stateless = [*self.head_columns[:-1], _without_state(sessions.body, dialect)]
        self.commit_columns = [commits[name] for name in CommitRow._fields]
        of_session = sessions.session_id == bindparam("of_session_id")

        def of_incarnation(columns: Any) -> ColumnElement[bool]:
            return and_(*(columns[name] == bindparam(f"of_{name}") for name in _KEY))

        self.load_head = select(*self.head_columns, _clock(dialect)).where(of_session)
        self.incarnation = select(tables.sessions.c.incarnation).where(of_session)
        self.load = self._load().where(of_session)
        self.create = self._create().execution_options(preserve_rowcount=True)  # not kept for INSERT otherwise
        changes = [name for name in HeadRow._fields if name not in _HEAD_KEY]
        at_revision = sessions.revision == bindparam("of_revision")
        self.advance = update(tables.sessions).where(of_incarnation(sessions), at_revision).values(_values(changes))
        self.commits = tables.commits
        self.log = insert(tables.commits)
        self.entries = {
            (name, newest_first): self._entries(name, newest_first=newest_first).where(of_incarnation(commits))
            for name in ("entries", "entries_of_runs", "entries_of_few_runs", "entries_of_run", "entries_of_key")
            for newest_first in (False, True)
        }
        self.sizes = {
            which: statement.with_only_columns(commits.seq, _BYTES_OF[dialect](commits.body))
            for which, statement in self.entries.items()
            if dialect in _BYTES_OF
        }
        fixed = [commits[name] for name in FIXED]
        of_seqs = commits.seq.in_(bindparam("of_seqs", expanding=True))
        self.fixed = select(*fixed).where(of_incarnation(commits), of_seqs)
        of_commit = and_(of_incarnation(commits), commits.seq == bindparam("of_seq"))
        self.rewrite = update(tables.commits).where(of_commit).values(_values(["body", "key"]))
        self.now = select(_clock(dialect))
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

        A commit that has more than its share of what a load may bring comes without its body, but for the newest one.
        `seq` is dense, so the head's revision tells which commits there must be, whatever else is committed meanwhile.
        """
        sessions, commits = self.tables.sessions.c, self.tables.commits.c
        newest = and_(
            *(commits[name] == sessions[name] for name in _KEY),
            commits.seq > sessions.revision - bindparam("newest", type_=BigInteger),
            commits.seq <= sessions.revision,
        )
        newest_of_all = commits.seq == sessions.revision
        once = or_(commits.seq.is_(None), newest_of_all)

        def shared(column: Column[Any]) -> ColumnElement[Any]:
            if column.name != "body" or self.dialect not in _BYTES_OF:
                return column
            fits = _BYTES_OF[self.dialect](column) <= bindparam("share", type_=BigInteger)
            return case((or_(newest_of_all, fits), column), else_=None)

        head = [
            case((once, column), else_=None) if column.name in ("metadata", "body") else column
            for column in self.head_columns
        ]
        tables = self.tables.sessions.outerjoin(self.tables.commits, newest)
        return select(*head, _clock(self.dialect), *map(shared, self.commit_columns)).select_from(tables)

    def _entries(self, name: str, *, newest_first: bool) -> Select[Any]:
        """One of the statements that read a span of the log."""
        commits = self.tables.commits.c
        # An expression that no index serves, so that a few runs, and commits of a key, are found by their own, and not
        # by reading the whole log.
        seq = commits.seq if name in ("entries", "entries_of_runs") else commits.seq + 0
        statement = select(*self.commit_columns).where(seq.between(bindparam("first"), bindparam("last")))
        if name == "entries_of_run":
            statement = statement.where(commits.run == bindparam("first_run"))
        elif name != "entries":
            statement = statement.where(commits.run.between(bindparam("first_run"), bindparam("last_run")))
        if name == "entries_of_key":
            statement = statement.where(commits.key == bindparam("key"))
        return statement.order_by(seq.desc() if newest_first else seq).limit(bindparam("limit"))

    def newest(self, sessions: Sequence[tuple[str, str]], count: int) -> CompoundSelect[Any]:
        """The newest commits of several sessions, each behind the number of its session."""
        commits = self.tables.commits.c

        def of_one(number: int, session_id: str, incarnation: str) -> Select[Any]:
            newest = (
                select(literal_column(str(number), BigInteger()).label("number"), *self.commit_columns)
                .where(commits.session_id == session_id, commits.incarnation == incarnation)
                .order_by(commits.seq.desc())
                .limit(count)
            )
            return select(newest.subquery())  # not every database takes an order within a UNION

        return union_all(*(of_one(number, *session) for number, session in enumerate(sessions)))

    # ------------------------------------------------------------ records

    def get_records(self, names: Sequence[RecordName]) -> Select[Any]:
        """Several records, each behind its name."""
        records = self.tables.records.c
        key = [records[name] for name in RecordName._fields]
        each = (and_(*(column == value for column, value in zip(key, name, strict=True))) for name in names)
        return select(*key, records.value).where(or_(*each))

    def record_keys(self, session_id: str, incarnation: str, prefix: str, after: str, limit: int) -> Select[Any]:
        """The keys of records that begin with `prefix` and follow `after`. Oracle cannot compare with an empty text."""
        records = self.tables.records.c
        where = [records.session_id == session_id, records.incarnation == incarnation]
        if prefix:
            where += _begins(records.key, prefix)
        if after:
            where.append(records.key > after)
        return select(records.key).where(*where).order_by(records.key).limit(limit)

    # ------------------------------------------------------------ lists

    def page(self, query: ListQuery, after: tuple[int, str] | None, limit: int) -> Select[Any]:
        """One page of heads, in order. Filters on metadata are not in it."""
        columns = self.head_columns if query.with_state else self._stateless
        return self._in_order(select(*columns), query, after, limit)

    def places(self, query: ListQuery, after: tuple[int, str] | None, limit: int) -> Select[Any]:
        """Where the heads of a page stand."""
        return self._in_order(select(self._moment(query), self.tables.sessions.c.session_id), query, after, limit)

    def _in_order(
        self, statement: Select[*tuple[Any, ...]], query: ListQuery, after: tuple[int, str] | None, limit: int
    ) -> Select[*tuple[Any, ...]]:
        order = [self._moment(query), self.tables.sessions.c.session_id]
        moment, session_id = order
        where = self._conditions(query)
        if after is not None:
            time, last = after
            # Not a comparison of rows, which not every database has, or uses an index for.
            if query.ascending:
                where += [moment >= time, or_(moment > time, session_id > last)]
            else:
                where += [moment <= time, or_(moment < time, session_id < last)]
        ordered = order if query.ascending else [column.desc() for column in order]
        return statement.where(*where).order_by(*ordered).limit(limit)

    def count(self, query: ListQuery) -> Select[Any]:
        """How many heads match. Filters on metadata are not in it."""
        return select(func.count()).select_from(self.tables.sessions).where(*self._conditions(query))

    def _moment(self, query: ListQuery) -> ColumnElement[int]:
        sessions = self.tables.sessions.c
        return sessions.created_at if query.order == "created" else sessions.updated_at

    def _conditions(self, query: ListQuery) -> list[ColumnElement[bool]]:
        sessions, moment = self.tables.sessions.c, self._moment(query)
        where: list[ColumnElement[bool]] = []
        for name in ("kind", "agent", "status"):
            value = getattr(query, name)
            if value is not None:
                where.append(sessions[name] == value)
        if query.user_id is not ANY_USER:
            where.append(sessions.user_id == query.user_id)  # with None: IS NULL
        if query.name_prefix:
            where += _begins(sessions.name, query.name_prefix)
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


def _bytes_in_sqlite(body: ColumnElement[str]) -> ColumnElement[int]:
    return func.length(cast(body, LargeBinary))  # `octet_length` is there from 3.43 on only


_BYTES_OF: dict[str, Any] = {
    "cockroachdb": func.octet_length,
    "mariadb": func.length,
    "mysql": func.length,
    "postgresql": func.octet_length,
    "sqlite": _bytes_in_sqlite,
}
"""How databases tell how many bytes a text has in UTF-8; on others the core reads a few commits at a time."""

_PLACE_OF: dict[str, Any] = {
    "cockroachdb": func.strpos,
    "mariadb": func.instr,
    "mysql": func.instr,
    "postgresql": func.strpos,
    "sqlite": func.instr,
}
"""How databases find a text in another one. From others heads come whole, and lose their states here."""


def _without_state(body: Column[str], dialect: str) -> ColumnElement[str]:
    """A head's body without its state, as `states.without_state` leaves it."""
    if dialect not in _PLACE_OF:
        return body
    place = _PLACE_OF[dialect](body, MARK)
    cut = type_coerce(func.substr(body, 1, place - 1), body.type)
    return case((place > 0, cut.concat("}")), else_=body).label("body")


def _begins(column: Column[Any], prefix: str) -> list[ColumnElement[bool]]:
    """That a text begins with another one. Not BETWEEN, in which PostgreSQL takes no collation."""
    return [column >= prefix, column <= log.last_with(prefix)]


def _values(names: Any) -> dict[str, Any]:
    return {name: bindparam(name) for name in names}


def _clock(dialect: str) -> ColumnElement[int]:
    return literal_column(CLOCKS.get(dialect, "NULL"), BigInteger()).label("clock")
