"""Writing the index: what was read of sessions takes the place of what was known of their runs, in one transaction.

All of it may happen again, and by several processes at once: what is written is what the log says, and a writer that
has read an older state of a session than another has written leaves that alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..records import Session
from ..storage.driver import RunStatement
from ..tokens import agent_term, count_terms, session_term, user_term
from .engines import Engine
from .facts import COUNTED, Facts
from .lots import batches, one_of
from .place import Place
from .postings import COLUMNS, FIELDS, facet, facets_of, number_of, rows_of, tokens_of
from .spans import TICK, blocks_of_ids, blocks_of_moments
from .texts import pieces_of, pieces_of_session

SESSION = (
    "id",
    "session_id",
    "incarnation",
    "revision",
    "committed_at",
    "kind",
    "agent",
    "user_id",
    "name",
    "status",
    "created_at",
    "updated_at",
    "expires_at",
    "path",
    *COLUMNS,
    "name_number",
    "tokens",
)
RUN = (
    "id",
    "session",
    "number",
    "run_id",
    "parent_run_id",
    "kind",
    "agent",
    "user_id",
    "model",
    "status",
    "error",
    "started_at",
    "ended_at",
    "duration",
    "first_token",
    "on_branch",
    "cut",
    *COUNTED,
    "total_tokens",
    "total_cost",
    "total_unpriced",
)


class Indexed(NamedTuple):
    """One run as it is to be written: little beside the messages that it was made of, of which lots would be large.

    Attributes:
        number, run_id: which one.
        started_us: when it began.
        row: its row in the table of runs, from the number on.
        models, tools, ratings: its rows in theirs, without its id.
        words: see `Engine.taken`; None: the index has no text.
    """

    number: int
    run_id: str
    started_us: int
    row: tuple[Any, ...]
    models: list[tuple[Any, ...]]
    tools: list[tuple[Any, ...]]
    ratings: list[tuple[Any, ...]]
    words: Any


@dataclass(slots=True)
class News:
    """What was read of one session.

    Attributes:
        head: the session at the revision up to which was read.
        numbers: the runs that were read anew, by number; what the index has of them is replaced.
        runs: them, and the runs below them, but for those that could not be read.
        words: the words of the session itself (`Engine.taken`); None: the index has no text.
        complete: whether this is all up to that revision; else more of the session follows.
        problems: why runs could not be read, by number; 0 stands for the session as a whole.
    """

    head: Session
    numbers: Sequence[int]
    runs: list[Indexed]
    words: Any
    complete: bool = True
    problems: dict[int, str] = field(default_factory=dict[int, str])


def path_of(head: Session) -> str:
    """The current branch as it is noted: JSON of its ranges."""
    return json.dumps(head.path())


class Known(NamedTuple):
    """A session as the index has it; `path` and `committed_at` are those of `revision`."""

    id: int
    incarnation: str
    revision: int
    committed_at: int
    path: str


class Writer:
    """Writes within one transaction.

    Args:
        place: the index.
        run: runs statements in the transaction.
        free: is called once this process has nothing more to do for it but to wait for the database.
    """

    def __init__(self, place: Place, run: RunStatement, free: Callable[[], object] = lambda: None) -> None:
        self._place = place
        self._run = run
        self._free = free
        self._tables = place.tables
        self._touched: set[int] = set()
        self._new: set[int] = set()

    async def _ask(self, statement: str, values: dict[str, Any] | None = None) -> list[Any]:
        return await self._run(self._place.sql(statement), values or {})

    # ------------------------------------------------------------ taking out

    async def remove_sessions(self, ids: Sequence[int]) -> None:
        """Take out sessions with all that belongs to them."""
        for some in batches(ids):
            condition, values = one_of("session", some)
            await self._remove_runs(
                [row[0] for row in await self._ask(f"SELECT id FROM {{runs}} WHERE {condition}", values)]
            )
            named, values = one_of("id", some)
            names = f"SELECT session_id FROM {{sessions}} WHERE {named}"
            await self._ask(f"DELETE FROM {{problems}} WHERE session_id IN ({names})", values)
            await self._remove_facets(some)
            await self._ask(f"DELETE FROM {{sessions}} WHERE {named}", values)
        await self._note_touched()

    async def _remove_facets(self, ids: Sequence[int]) -> None:
        condition, values = one_of("id", ids)
        columns = ", ".join(COLUMNS)
        rows = await self._ask(f"SELECT id, updated_at, tokens, {columns} FROM {{sessions}} WHERE {condition}", values)
        for session, updated_at, tokens, *fields in rows:
            for some in batches(facets_of(fields, json.loads(tokens))):
                one, values = one_of("facet", some)
                sql = f"DELETE FROM {{facets}} WHERE {one} AND updated_at = :updated_at AND session = :session"
                await self._ask(sql, {**values, "updated_at": updated_at, "session": session})

    async def remove_gone(self, gone: Sequence[tuple[str, str]]) -> None:
        """Take out sessions that were deleted, by id and incarnation, and the notes that they were."""
        for session_id, incarnation in gone:
            key = {"session_id": session_id, "incarnation": incarnation}
            which = "WHERE session_id = :session_id AND incarnation = :incarnation"
            if not incarnation:  # whichever it was
                which, key = "WHERE session_id = :session_id", {"session_id": session_id}
            await self.remove_sessions([row[0] for row in await self._ask(f"SELECT id FROM {{sessions}} {which}", key)])
            problems = "DELETE FROM {problems} WHERE session_id = :session_id AND number = 0"
            await self._ask(problems, {"session_id": session_id})
            await self._ask(f"DELETE FROM {{gone}} {which}", key)

    async def _remove_runs(self, ids: Sequence[int], session_row: int | None = None) -> None:
        """Remove rows of runs, and the one that stands for a session, which no sum counts."""
        self._touched |= blocks_of_ids(one for one in ids if one != session_row)
        for some in batches(ids):
            await self._place.engine.remove_words(self._run, some, self._tables)
            beside = ("models", "tools", "ratings", "vectors")
            for table, column in (*((name, "run") for name in beside), ("runs", "id")):
                condition, values = one_of(column, some)
                await self._ask(f"DELETE FROM {{{table}}} WHERE {condition}", values)

    # ------------------------------------------------------------ entering

    async def write(self, news: Sequence[News]) -> None:
        """Enter what was read, where nobody has entered something newer.

        Words come last: SQLite writes those that it has gathered whenever another statement changes several rows.
        """
        rows = await self._ask("SELECT worded FROM {state}")
        self._place.check_words(rows[0][0] if rows else None)
        known = await self._known([one.head.session_id for one in news])
        fresh: list[tuple[News, Known | None]] = []
        for one in news:
            there = known.get(one.head.session_id)
            if there is not None and there.incarnation != one.head.incarnation:
                await self.remove_sessions([there.id])
                there = None
            if there is None or there.revision <= one.head.revision:
                fresh.append((one, there))
        entered, kept = await self._enter_sessions(fresh)
        words = await self._enter_runs(entered, kept)
        await self._note_problems([one for one, _ in fresh])
        for one, there in fresh:
            await self._mark_branch(one, there)
        await self._note_touched()
        engine = self._place.engine
        await engine.put_words(self._run, words, self._tables)
        self._free()
        await engine.put_text(self._run, words, self._tables)

    async def _known(self, session_ids: Sequence[str]) -> dict[str, Known]:
        """Those of the sessions that are there."""
        found: dict[str, Known] = {}
        for some in batches(session_ids):
            condition, values = one_of("session_id", some)
            columns = ", ".join(("session_id", *Known._fields))
            rows = await self._ask(f"SELECT {columns} FROM {{sessions}} WHERE {condition}", values)
            found |= {row[0]: Known(*row[1:]) for row in rows}
        return found

    async def _enter_sessions(
        self, fresh: Sequence[tuple[News, Known | None]]
    ) -> tuple[list[tuple[News, int]], dict[tuple[int, int, str], int]]:
        """Write the rows of the sessions, and remove their runs that are entered anew.

        Returns the numbers of the sessions, and the ids that these runs have had (`_take_out`).
        """
        made: list[tuple[News, int]] = []
        kept: dict[tuple[int, int, str], int] = {}
        rows: list[tuple[Any, ...]] = []
        facets: list[tuple[int, int, int, int]] = []
        again = [there.id for _, there in fresh if there is not None]
        free = (await self._ask("SELECT coalesce(max(id), 0) + 1 FROM {sessions}"))[0][0]
        for some in batches(again):
            await self._remove_facets(some)
            condition, values = one_of("id", some)
            await self._ask(f"DELETE FROM {{sessions}} WHERE {condition}", values)
        for one, there in fresh:
            number = free if there is None else there.id
            if there is None:
                free += 1
            else:
                kept |= await self._take_out(number, one)
            row, its_facets = _row_of_session(number, one, there)
            rows.append(row)
            facets += its_facets
            made.append((one, number))
        await self._insert("sessions", SESSION, rows)
        await self._insert("facets", ("facet", "updated_at", "session", "name_number"), facets)
        return made, kept

    async def _insert(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        await self._place.engine.insert(self._run, self._tables[table], columns, rows)

    async def _take_out(self, session: int, news: News) -> dict[tuple[int, int, str], int]:
        """Remove the runs that are entered anew; returns their ids, which they keep, by session, number and run id."""
        ids: dict[tuple[int, int, str], int] = {}
        for some in batches([0, *news.numbers]):
            condition, values = one_of("number", some)
            sql = f"SELECT number, run_id, id FROM {{runs}} WHERE session = :session AND {condition}"
            for number, run_id, row in await self._ask(sql, {**values, "session": session}):
                ids[session, number, run_id] = row
        await self._remove_runs(list(ids.values()), ids.get((session, 0, "")))
        return ids

    async def _note_touched(self) -> None:
        """Note that what was summed up of these times is out of date."""
        for some in batches(sorted(self._touched)):
            condition, values = one_of("block", some)
            await self._ask(f"UPDATE {{spans}} SET changed = changed + 1, summed = 0 WHERE {condition}", values)
        new = self._new
        for some in batches(sorted(new)):
            condition, values = one_of("block", some)
            new = new - {row[0] for row in await self._ask(f"SELECT block FROM {{spans}} WHERE {condition}", values)}
        await self._insert("spans", ("block", "changed", "summed"), [(one, 1, 0) for one in new])
        self._touched, self._new = set(), set()

    async def _enter_runs(
        self, fresh: Sequence[tuple[News, int]], kept: dict[tuple[int, int, str], int]
    ) -> list[tuple[int, Any]]:
        """Write the runs, without their words, which it returns, with the id of each."""
        rows: list[tuple[Any, ...]] = []
        models: list[tuple[Any, ...]] = []
        tools: list[tuple[Any, ...]] = []
        ratings: list[tuple[Any, ...]] = []
        words: list[tuple[int, Any]] = []
        wanted = [((session, 0, ""), one.head.created_us) for one, session in fresh] + [
            ((session, run.number, run.run_id), run.started_us) for one, session in fresh for run in one.runs
        ]
        ids = await self._ids(wanted, kept)
        for one, session in fresh:
            row = ids[session, 0, ""]
            rows.append(_session_row(row, session, one.head))
            words += [] if one.words is None else [(row, one.words)]
            for run in one.runs:
                row = ids[session, run.number, run.run_id]
                rows.append((row, session, *run.row))
                words += [] if run.words is None else [(row, run.words)]
                models += [(row, *more) for more in run.models]
                tools += [(row, *more) for more in run.tools]
                ratings += [(row, *more) for more in run.ratings]
        self._new |= blocks_of_moments(run.started_us for one, _ in fresh for run in one.runs)
        self._touched |= self._new
        await self._insert("runs", RUN, rows)
        await self._insert("models", ("run", "model", *COUNTED), models)
        await self._insert("tools", ("run", "tool", "calls", "errors"), tools)
        await self._insert("ratings", ("run", "source", "score", "label", "by_whom", "rated_at"), ratings)
        return words

    async def _ids(
        self, wanted: Iterable[tuple[tuple[int, int, str], int]], kept: dict[tuple[int, int, str], int]
    ) -> dict[tuple[int, int, str], int]:
        """An id for each run: the one that it has had, or the first free one from when it began."""
        ids: dict[tuple[int, int, str], int] = {}
        new: dict[tuple[int, int, str], int] = {}
        for key, moment in wanted:
            if key in kept:
                ids[key] = kept[key]
            else:
                new[key] = max(0, moment) // TICK
        taken = set(kept.values())
        for some in batches(sorted(set(new.values())), self._place.engine.listed):
            condition, values = one_of("id", some)
            taken |= {row[0] for row in await self._ask(f"SELECT id FROM {{runs}} WHERE {condition}", values)}
        for key, first in new.items():
            candidate = first
            while candidate in taken or (candidate != first and await self._is_taken(candidate)):
                candidate += 1
            taken.add(candidate)
            ids[key] = candidate
        return ids

    async def _is_taken(self, candidate: int) -> bool:
        return bool(await self._ask("SELECT 1 FROM {runs} WHERE id = :id", {"id": candidate}))

    async def _note_problems(self, news: Sequence[News]) -> None:
        """What was read takes the place of what could not be read before."""
        noted: set[str] = set()
        for some in batches([one.head.session_id for one in news if one.numbers]):
            condition, values = one_of("session_id", some)
            noted |= {
                row[0] for row in await self._ask(f"SELECT session_id FROM {{problems}} WHERE {condition}", values)
            }
        for one in news:
            for some in batches([0, *one.numbers]) if one.head.session_id in noted else ():
                condition, values = one_of("number", some)
                sql = f"DELETE FROM {{problems}} WHERE session_id = :session_id AND {condition}"
                await self._ask(sql, {**values, "session_id": one.head.session_id})
        rows = [(one.head.session_id, number, said) for one in news for number, said in one.problems.items()]
        await self._insert("problems", ("session_id", "number", "problem"), rows)

    async def note_unreadable(self, session_id: str, problem: str) -> None:
        """Note that a session cannot be read at all."""
        key = {"session_id": session_id}
        await self._ask("DELETE FROM {problems} WHERE session_id = :session_id AND number = 0", key)
        rows = [(session_id, 0, problem)]
        await self._insert("problems", ("session_id", "number", "problem"), rows)

    async def _mark_branch(self, news: News, there: Known | None) -> None:
        """Mark the runs that a rewind has left; those that were just entered are marked already."""
        if there is None or there.path == path_of(news.head):
            return
        key = {"session": there.id}
        await self._ask("UPDATE {runs} SET on_branch = 0 WHERE session = :session AND number > 0", key)
        for first, last in news.head.path():
            sql = "UPDATE {runs} SET on_branch = 1 WHERE session = :session AND number BETWEEN :first AND :last"
            await self._ask(sql, {**key, "first": first, "last": last})


def _row_of_session(
    number: int, news: News, there: Known | None
) -> tuple[tuple[Any, ...], list[tuple[int, int, int, int]]]:
    """The row of a session, and those of its facets."""
    head = news.head
    before = (0, 0) if there is None else (there.revision, there.committed_at)
    fields = [facet(*one) for one in zip(FIELDS, (head.user_id, head.agent, head.status, head.kind), strict=True)]
    tokens = tokens_of(head.metadata)
    row = (
        number,
        head.session_id,
        head.incarnation,
        *((head.revision, head.updated_us) if news.complete else before),
        head.kind,
        head.agent,
        head.user_id,
        head.name,
        head.status,
        head.created_us,
        head.updated_us,
        head.expires_us,
        path_of(head),
        *fields,
        number_of(head.name),
        json.dumps(tokens),
    )
    return row, rows_of(number, head.updated_us, fields, tokens, head.name)


def _session_row(row: int, session: int, head: Session) -> tuple[Any, ...]:
    """The row that stands for the session itself, number 0: its name and metadata are found by it."""
    moment = head.created_us
    nothing = (0,) * (len(COUNTED) + 3)
    return (
        row,
        session,
        0,
        "",
        None,
        head.kind,
        head.agent,
        head.user_id,
        None,
        "",
        None,
        moment,
        moment,
        None,
        None,
        1,
        0,
        *nothing,
    )


def words_of_session(engine: Engine[Any], head: Session) -> Any:
    """The words of a session itself, as an engine takes them."""
    found, _ = count_terms(piece.text for piece in pieces_of_session(head))
    return engine.taken(found | _marks(head, head.agent))


def indexed(engine: Engine[Any] | None, head: Session, facts: Facts) -> Indexed:
    """A run as it is to be written; with its words as an engine takes them, or without any."""
    run, words, cut = facts.run, None, False
    if engine is not None:
        texts = dict.fromkeys(piece.text for piece in pieces_of(run))  # what was asked stands in a message, too
        found, cut = count_terms(texts)
        found.update(_marks(head, run.agent))
        words = engine.taken(found)
    return Indexed(
        run.number,
        run.run_id,
        run.started_us,
        _row_of_run(head, facts, cut=cut),
        [(model, *used.row()) for model, used in facts.models.items()],
        [(tool, used.calls, used.errors) for tool, used in facts.tools.items()],
        [(said.source, said.score, said.label, said.by, said.time_us) for said in facts.ratings.values()],
        words,
    )


def _marks(head: Session, agent: str | None) -> dict[str, int]:
    """Whose, which session's and which agent's words these are, as words that no text has."""
    marks = [user_term(head.user_id), session_term(head.session_id)]
    return dict.fromkeys(marks if agent is None else [*marks, agent_term(agent)], 1)


def _row_of_run(head: Session, facts: Facts, *, cut: bool) -> tuple[Any, ...]:
    run, total = facts.run, facts.with_members
    return (
        run.number,
        run.run_id,
        run.parent_run_id,
        head.kind,
        run.agent,
        head.user_id,
        facts.model,
        run.status,
        facts.error,
        run.started_us,
        run.ended_us,
        facts.duration,
        facts.first_token,
        int(head.on_path(run.number)),
        int(cut),
        *facts.used.row(),
        total.input_tokens + total.output_tokens,
        total.cost,
        total.unpriced,
    )
