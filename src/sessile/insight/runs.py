"""Runs across sessions, by filters, in the order of time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..errors import CorruptDataError, NewerVersionError
from ..records import ANY_USER, Rating, Usage
from ..storage import Storage
from ..storage.checks import check_count
from ..storage.core import Core
from ..storage.storage import operate
from .facts import COUNTED, paid, used
from .filters import Indexed, RunFilters, Where, Whose, cursor_of, paired, place_of_cursor, where_of
from .found import FoundPage, FoundRun
from .lots import batches, one_of
from .narrowing import Lead, best
from .place import Place

MOST = 1000
"""The largest page."""

_COLUMNS = (
    "id",
    "number",
    "run_id",
    "parent_run_id",
    "agent",
    "user_id",
    "model",
    "status",
    "error",
    "started_at",
    "ended_at",
    "first_token",
    "on_branch",
    *COUNTED,
    "total_tokens",
    "total_cost",
    "total_unpriced",
)
SELECTED = ", ".join(["s.session_id", "s.name", "s.incarnation", *(f"r.{column}" for column in _COLUMNS)])
"""The columns of a run, as `found_run` takes them."""


def runs(
    storage: Storage,
    place: Place,
    complete_until: int,
    *,
    whose: Whose,
    limit: int,
    cursor: str | None,
    ascending: bool,
    filters: RunFilters,
) -> FoundPage[FoundRun]:
    """See `Index.runs`."""
    check_count(limit, "limit", least=1, most=MOST)
    where = where_of(whose, filters)
    after = None if cursor is None else place_of_cursor(cursor)
    page = FoundPage[FoundRun]([], complete_until_us=complete_until)
    troubled = True
    while (left := limit - len(page)) > 0:
        ids, shown = _page(place, where, after, left + 1, complete_until, ascending=ascending)
        troubled = shown.troubled or not ids  # nobody has looked
        rows = [shown.rows[one] for one in ids[:left] if one in shown.rows]
        living = [row.columns for row in rows if row.living]
        for columns in there(storage, place, living):
            run = found_run(columns, whose)
            run.tools, run.ratings = shown.rows[run.row].tools, shown.rows[run.row].ratings
            page.items.append(run)
        if len(ids) <= left:
            page.next_cursor = None
            break
        after = ids[left - 1]
        page.next_cursor = cursor_of(after)
    if troubled:
        page.unreadable.update(_named(place.read(*_reachable(whose, filters.get("session_id"), runs_too=True)), whose))
    return page


class _Way(NamedTuple):
    """How a list is read: from where, the column of ids there, the conditions, and what gathers rows of one id."""

    source: str
    key: str
    conditions: list[str]
    gathered: str = ""


def _way(place: Place, where: Where, values: dict[str, Any], limit: int, *, ascending: bool) -> _Way:
    """How a page is best read."""
    direction = "ASC" if ascending else "DESC"
    bounds = _bounds(values, ascending=ascending)
    indexed = paired(where.indexed)
    leads = [_lead(place, one, bounds) for one in indexed]
    for one in [one for one in indexed if one.beside is not None and not one.in_order]:
        indexed.append(one)  # what is rated is in the order of time, though not what is rated so high
        leads.append(_by_run(place, one, bounds))
    number = best(place, leads, values, direction, limit)
    if number is None:
        return _Way(f"{{runs}} r{place.engine.by_id}", "r.id", [*where.without(), *_within("r.id", bounds)])
    leading, lead = indexed[number], leads[number]
    source = lead.source if leading.beside is None else f"{lead.source} {place.engine.join} {{runs}} r ON r.id = x.run"
    gathered = " GROUP BY x.run" if leading.beside == "ratings" else ""  # of which a run may have several
    return _Way(source, lead.key, [*lead.conditions, *lead.more, *where.without(leading.stands)], gathered)


def _bounds(values: dict[str, Any], *, ascending: bool) -> dict[str, str]:
    """What limits the ids of a page: the parameters, by the sign that stands between; of each side one."""
    signs = {"since_id": ">=", "until_id": "<"}
    bounds = {sign: f":{name}" for name, sign in signs.items() if name in values}
    if "after" in values:
        bounds.pop(">=" if ascending else "<", None)
        bounds[">" if ascending else "<"] = ":after"
    return bounds


def _within(key: str, bounds: dict[str, str]) -> list[str]:
    return [f"{key} {sign} {bound}" for sign, bound in bounds.items()]


def _lead(place: Place, one: Indexed, bounds: dict[str, str]) -> Lead:
    """One of the filters as it is asked for its runs, within the time that is asked for."""
    alias, key = ("r", "r.id") if one.beside is None else ("x", "x.run")
    table = one.beside or "runs"
    by = place.engine.led_by(place.prefix, one.by) if one.by else place.engine.by_primary(place.prefix, table)
    source = f"{{{table}}} {alias}{by}"
    said = [*one.keys, *one.more]
    if one.in_order:
        return Lead(source, key, [*said, *_within(key, bounds)], key)
    column, sign, _ = one.keys[0].split(" ", 2)
    order = column if sign in (">=", "<=") else ""
    return Lead(source, key, said, order, in_order=False, more=tuple(_within(key, bounds)))


def _by_run(place: Place, one: Indexed, bounds: dict[str, str]) -> Lead:
    """A table beside the runs in their order, which is that of its primary key."""
    source = f"{{{one.beside}}} x{place.engine.by_primary(place.prefix, one.beside or '')}"
    return Lead(source, "x.run", _within("x.run", bounds), "x.run", more=(*one.keys, *one.more))


class _Row(NamedTuple):
    """A run of a page: its columns, whether its session is there, and what lies beside it."""

    columns: tuple[Any, ...]
    living: bool
    tools: dict[str, int]
    ratings: dict[str, Rating]


class _Shown(NamedTuple):
    """Runs by their ids, and whether there is anything that the index could not read."""

    rows: dict[int, _Row]
    troubled: bool


def _page(
    place: Place, where: Where, after: int | None, limit: int, now: int, *, ascending: bool
) -> tuple[list[int], _Shown]:
    """The ids of some runs, in their order, and what is shown of them; a run that is gone by then is not."""
    values = dict(where.values) if after is None else {**where.values, "after": after}
    way = _way(place, where, values, limit, ascending=ascending)
    direction = "ASC" if ascending else "DESC"
    ids = (  # first the ids, which indexes have, then what is shown of those on the page
        f"SELECT {way.key} AS id FROM {way.source} WHERE {' AND '.join(way.conditions)}{way.gathered}"
        f" ORDER BY {way.key} {direction} LIMIT :limit"
    )
    values["limit"] = limit
    if place.engine.apart is None:
        shown = _shown(place, f"({ids}) p", {**values, "now": now})
        return sorted(shown.rows, reverse=not ascending), shown
    found = [row[0] for row in place.read(ids, values)]
    return found, _shown(place, place.engine.apart, {"ids": found, "now": now}) if found else _Shown({}, True)


def _shown(place: Place, ids: str, values: dict[str, Any]) -> _Shown:
    """What is shown of the runs whose ids a table `p` has: one row for each of their tools and ratings."""
    join, width = place.engine.join, len(_COLUMNS) + 3
    living = "CASE WHEN h.session_id IS NULL THEN 0 ELSE 1 END" if place.shared else "1"
    heads = alive(place).replace(join, "LEFT JOIN", 1)
    sql = (
        f"SELECT {SELECTED}, {living}, EXISTS (SELECT 1 FROM {{problems}}),"
        " t.tool, t.calls, g.source, g.score, g.label, g.by_whom, g.rated_at"
        f" FROM {ids} {join} {{runs}} r ON r.id = p.id {join} {{sessions}} s ON s.id = r.session{heads}"
        " LEFT JOIN {tools} t ON t.run = r.id LEFT JOIN {ratings} g ON g.run = r.id"
    )
    rows: dict[int, _Row] = {}
    troubled: Any = True
    for row in place.read(sql, values):
        is_there, troubled, tool, calls, source, score, label, by, time = row[width:]
        if (one := rows.get(row[3])) is None:
            one = rows[row[3]] = _Row(row[:width], bool(is_there), {}, {})
        if tool is not None:
            one.tools[str(tool)] = calls  # a name, or what somebody has made of it
        if source is not None:
            one.ratings[source] = Rating(source, score, label, None, by, 0, time)
    return _Shown(rows, bool(troubled))


def alive(place: Place) -> str:
    """Joins the heads of the log where they lie in the same database, so that deleted sessions are in no answer."""
    if not place.shared:
        return ""
    return (
        f" {place.engine.join} {{heads}} h ON h.session_id = s.session_id AND h.incarnation = s.incarnation"
        " AND NOT h.hidden AND (h.expires_at IS NULL OR h.expires_at > :now)"
    )


def there(storage: Storage, place: Place, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows whose sessions are still there; where the log lies elsewhere, their heads are looked at."""
    if place.shared or not rows:
        return list(rows)
    sessions = {(row[0], row[2]) for row in rows}
    living = operate(storage, _living, sessions)
    return [row for row in rows if (row[0], row[2]) in living]


async def _living(core: Core, sessions: set[tuple[str, str]]) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for session_id, incarnation in sessions:
        try:
            head = (await core.look(session_id, core.deadline())).head
        except (NewerVersionError, CorruptDataError) as error:
            core.skipped(session_id, "The head", error)
            continue
        if head is not None and head.incarnation == incarnation:
            found.add((session_id, incarnation))
    return found


_NUMBERS = frozenset((int, bool, type(None)))


def found_run(row: Sequence[Any], whose: Whose) -> FoundRun:
    """A row as a record; `TypeError` if times or counts are no numbers (SQLite takes values of any type)."""
    session_id, name, _, id_, number, run_id, parent, agent, user_id, model, status, error, *others = row
    if not _NUMBERS.issuperset(map(type, others)) or others[0] is None:
        raise TypeError("a time or a count of a run is no number")
    started, ended, first_token, branch, *counts, tokens, total_cost, total_unpriced = others
    usage = Usage(*used(counts))
    usage.nano_dollars, usage.unpriced = paid(counts)
    return FoundRun(
        whose.said(session_id),
        number,
        run_id,
        parent,
        agent,
        user_id,
        name,
        model,
        status,
        error,
        started,
        ended,
        first_token,
        bool(branch),
        usage,
        tokens,
        total_cost,
        total_unpriced,
        row=id_,
    )


_RATED = "SELECT 1 AS what, run, source, score, label, by_whom, rated_at, 0 AS calls FROM {ratings}"
_USED = "SELECT 0, run, tool, NULL, NULL, NULL, 0, calls FROM {tools}"
_PROBLEM = "SELECT 2, number, session_id, NULL, problem, NULL, 0, 0"


def fill(
    place: Place, found: Sequence[FoundRun], whose: Whose, session_id: str | None = None
) -> dict[str, CorruptDataError]:
    """Put the ratings and tools of runs into their records; returns what cannot be read, as `problems` does.

    All with one question to the database.
    """
    by_row = {one.row: one for one in found}
    reachable, values = _reachable(whose, session_id, runs_too=True)
    unreadable: list[tuple[str, int, str]] = []
    asked = [f"{_PROBLEM} FROM ({reachable}) q"]
    for some in batches(list(by_row)) or [[]]:
        if some:
            condition, ids = one_of("run", some)
            asked += [f"{_RATED} WHERE {condition}", f"{_USED} WHERE {condition}"]
            values |= ids
        for what, row, name, score, label, by, time, calls in place.read(" UNION ALL ".join(reversed(asked)), values):
            if what == 1:
                by_row[row].ratings[name] = Rating(name, score, label, None, by, 0, time)
            elif what == 0:
                by_row[row].tools[str(name)] = calls  # a name, or what somebody has made of it
            else:
                unreadable.append((name, row, label))
        asked, values = [], {}
    return _named(sorted(unreadable), whose)


def problems(place: Place, whose: Whose, session_id: str | None = None) -> dict[str, CorruptDataError]:
    """What sessions of those that the user reaches cannot be read, and why; at most 100."""
    sql, values = _reachable(whose, session_id, runs_too=False)
    return _named(place.read(sql, values), whose)


def _named(rows: Iterable[Sequence[Any]], whose: Whose) -> dict[str, CorruptDataError]:
    """What cannot be read by session and run."""
    named = [(whose.said(name), number, problem) for name, number, problem in rows]
    return {f"{name}#{number}" if number else name: CorruptDataError(problem) for name, number, problem in named}


def _reachable(whose: Whose, session_id: str | None, *, runs_too: bool) -> tuple[str, dict[str, Any]]:
    """The question what cannot be read of what the user reaches, at most 100, and its parameters."""
    conditions, values = ["1 = 1" if runs_too else "p.number = 0"], dict[str, Any]()
    user_id = whose.user_id
    if session_id is not None:
        conditions.append("p.session_id = :session_id")
        values["session_id"] = whose.stored(session_id)
    if whose.space:
        conditions.append("SUBSTR(p.session_id, 1, :space_length) = :space")
        values |= {"space": whose.space, "space_length": len(whose.space)}
    if user_id is not ANY_USER:  # of what cannot be read at all nobody knows whose it is
        user = "s.user_id IS NULL" if user_id is None else "s.user_id = :user_id"
        conditions.append(f"EXISTS (SELECT 1 FROM {{sessions}} s WHERE s.session_id = p.session_id AND {user})")
        values |= {} if user_id is None else {"user_id": user_id}
    which = " AND ".join(conditions)
    sql = f"SELECT session_id, number, problem FROM {{problems}} p WHERE {which} ORDER BY session_id, number LIMIT 100"
    return sql, values
