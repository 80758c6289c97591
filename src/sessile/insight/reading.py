"""Reading the words of runs in the log: what is shown comes from there, so that what was erased is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..errors import CorruptDataError, NewerVersionError
from ..records import Run
from ..storage.core import Core
from ..storage.driver import CommitRow, Span
from ..storage.readable import rows_to_entries
from ..storage.runs import build_runs
from .place import Place
from .texts import Piece, pieces_of, pieces_of_session

SMALL = 100_000
"""How long a commit may be, in characters, that is read together with those of other runs."""

COMMITS = 500
"""How many commits are read together at most."""

_COLUMNS = ("seq", "commit_id", "run", "time", "body", "key")


class Which(NamedTuple):
    """A run, or (number 0) a session itself."""

    session_id: str
    incarnation: str
    number: int
    run_id: str


async def pieces_of_some(core: Core, place: Place, some: Sequence[Which]) -> list[list[Piece]]:
    """The words of some runs, as `pieces_at` tells them; with one question, where the log lies beside the index."""
    found = await _together(core, place, some) if place.shared and core.driver.as_stored else {}
    return [found[number] if number in found else await pieces_at(core, *one) for number, one in enumerate(some)]


async def _together(core: Core, place: Place, some: Sequence[Which]) -> dict[int, list[Piece]]:
    """The words of those that are small, by their places."""
    asked = {number: one for number, one in enumerate(some) if one.number > 0}
    if len(asked) < 2:
        return {}
    rows = await place.read_in(core, *_question(place, asked))
    commits: defaultdict[int, list[Any]] = defaultdict(list)
    for number, *row in rows:
        commits[int(number)].append(row)
    if len(rows) == COMMITS:
        asked = {number: one for number, one in asked.items() if number < int(rows[-1][0])}
    small = {number: one for number, one in asked.items() if all(row[4] is not None for row in commits[number])}
    return {number: _pieces(commits[number], one.run_id) for number, one in small.items()}


def _question(place: Place, asked: dict[int, Which]) -> tuple[str, dict[str, Any]]:
    """All commits of these runs, each with the place of its run; without the bodies of large ones."""
    values: dict[str, Any] = {"small": SMALL, "most": COMMITS}
    selects: list[str] = []
    for number, one in asked.items():
        selects.append(
            f"SELECT {number} AS place, :s{number} AS session_id, :i{number} AS incarnation, {one.number} AS run"
        )
        values |= {f"s{number}": one.session_id, f"i{number}": one.incarnation}
    columns = ", ".join(f"c.{name}" for name in _COLUMNS)
    columns = columns.replace("c.body", "CASE WHEN LENGTH(c.body) > :small THEN NULL ELSE c.body END")
    sql = (
        f"SELECT a.place, {columns} FROM ({' UNION ALL '.join(selects)}) a"
        f" {place.engine.join} {{commits}} c{place.engine.log_by_run(place.prefix)} ON c.session_id = a.session_id"
        " AND c.incarnation = a.incarnation AND c.run = a.run AND c.run > 0 ORDER BY a.place, c.seq LIMIT :most"
    )
    return sql, values


def _pieces(rows: Sequence[Sequence[Any]], run_id: str) -> list[Piece]:
    """The words of a run, out of all of its commits; none if it cannot be read."""
    try:
        found = _below(build_runs(rows_to_entries([CommitRow.stored(row) for row in rows])).values(), run_id)
    except (CorruptDataError, NewerVersionError):
        return []
    return [] if found is None else list(pieces_of(found))


async def pieces_at(core: Core, session_id: str, incarnation: str, number: int, run_id: str) -> list[Piece]:
    """The words of a run as they are stored, none if it cannot be read or is gone."""
    try:
        if number == 0:
            head = (await core.look(session_id, core.deadline())).head
            return [] if head is None or head.incarnation != incarnation else list(pieces_of_session(head))
        deadline = core.deadline()
        span = Span(runs=(number, number))
        rows = await core.driver.entries(session_id, incarnation, span, deadline)
        while rows and len(rows) % span.limit == 0:
            more = await core.driver.entries(session_id, incarnation, span._replace(first=rows[-1].seq + 1), deadline)
            if not more:
                break
            rows += more
        return _pieces(rows, run_id)
    except (CorruptDataError, NewerVersionError):
        return []


def _below(runs: Iterable[Run], run_id: str) -> Run | None:
    for run in runs:
        found = run if run.run_id == run_id else _below(run.children, run_id)
        if found is not None:
            return found
    return None
