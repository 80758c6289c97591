"""The runs that are told to others: walked through session by session, with what must not be told taken out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ..errors import CorruptDataError, NewerVersionError, SessileError, SessionNotFoundError
from ..records import ANY_USER, JsonObject, Run, Session
from ..storage import Storage
from ..storage.driver import HeadRow
from ..storage.encoding import decode_head
from ..storage.runs import MissingRunsError
from . import reading
from .filters import SessionChoice, query_of_choice

RUNS = 25
"""How many runs are read at a time."""

Redaction = Callable[[str], str]
"""Takes out of a text what must not be passed on."""


@dataclass(slots=True)
class Exported:
    """What was written.

    Attributes:
        sessions, rows: how many sessions it is of, and how many rows, lines or conversations it has.
        skipped: what could not be read, by the session's id, or that and the run's number (`s1 3`), and why.
    """

    sessions: int = 0
    rows: int = 0
    skipped: dict[str, SessileError] = field(default_factory=dict[str, SessileError])


def sessions_told(
    storage: Storage, session_ids: Sequence[str] | None, choice: SessionChoice, done: Exported
) -> Iterator[Session]:
    """The sessions that are in lists, the one that has not changed for longest first; or those of the ids."""
    query = replace(query_of_choice(choice), hidden=False)
    if session_ids is None:
        for row in reading.all_rows(storage, query, done.skipped):
            head = _readable(row, done)
            if head is not None:
                done.sessions += 1
                yield head
        return
    for session_id in session_ids:
        head = storage.get_session(session_id, user_id=choice.get("user_id", ANY_USER))
        if head is None:
            raise SessionNotFoundError(f"There is no session {session_id!r}.")
        done.sessions += 1
        yield head


def _readable(row: HeadRow, done: Exported) -> Session | None:
    try:
        return decode_head(row)
    except (CorruptDataError, NewerVersionError) as error:
        done.skipped[row.session_id] = error
        return None


def runs_told(storage: Storage, session: Session, done: Exported) -> Iterator[Run]:
    """The runs of the session's current branch, oldest first, a few in memory at a time."""
    first, size = 1, RUNS
    while first <= session.run_count:
        last = first + size - 1
        numbers = [number for number in session.last_on_path(size, below=last + 1) if number >= first]
        if not numbers:
            first = min((start for start, _ in session.path() if start > last), default=session.run_count + 1)
            continue
        runs = storage.runs(session.session_id, from_run=first, to_run=last, user_id=ANY_USER)
        if len(numbers) == RUNS and not runs and not runs.unreadable:
            done.skipped[f"{session.session_id} {first}"] = MissingRunsError(session, numbers)
            return
        if size > 1 and numbers[0] not in {*(run.number for run in runs), *runs.unreadable}:
            size //= 2  # it ended early for its bytes, with the newest ones
            continue
        for number, error in runs.unreadable.items():
            done.skipped[f"{session.session_id} {number}"] = error
        yield from runs
        first, size = last + 1, min(2 * size, RUNS)


def with_children(run: Run) -> Iterator[Run]:
    """A run, and all that are below it, each before its own."""
    yield run
    for child in run.children:
        yield from with_children(child)


def redacted(value: Any, redact: Redaction | None) -> Any:
    """The value with each text in it as the redaction returns it; keys stay."""
    if redact is None:
        return value
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redacted(item, redact) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: redacted(item, redact) for key, item in cast(JsonObject, value).items()}
    return value


def text_of(value: Any) -> str | None:
    """A value as a text column has it: text as it is, anything else as JSON, null as null."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
