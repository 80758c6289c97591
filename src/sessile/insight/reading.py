"""Reading the words of one run in the log: what is shown comes from there, so that what was erased is not."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import CorruptDataError, NewerVersionError
from ..records import Run
from ..storage.core import Core
from ..storage.driver import Span
from ..storage.readable import rows_to_entries
from ..storage.runs import build_runs
from .texts import Piece, pieces_of, pieces_of_session


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
        found = _below(build_runs(rows_to_entries(rows)).values(), run_id)
        return [] if found is None else list(pieces_of(found))
    except (CorruptDataError, NewerVersionError):
        return []


def _below(runs: Iterable[Run], run_id: str) -> Run | None:
    for run in runs:
        found = run if run.run_id == run_id else _below(run.children, run_id)
        if found is not None:
            return found
    return None
