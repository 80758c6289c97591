"""Stored runs as cases: what was asked, what came out, what should have, and what it took."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Unpack

from ..errors import CorruptDataError, NewerVersionError, RunNotFoundError, SessionNotFoundError
from ..insight import FoundRun, Index, RunFilters
from ..insight.tooluses import ToolUse, tool_uses
from ..records import ANY_USER, JsonObject, Run, Session, UserId
from ..storage import Storage
from ..storage.checks import check_count

REPLAYED = "replay-"
"""What the ids of sessions begin with that replays make."""

_IS_REPLAY = re.compile(f"{REPLAYED}[0-9a-f]{{24}}")

MOST = 100_000
"""The largest number of cases that are read at once."""


@dataclass(slots=True)
class Case:
    """A stored run that is to be run again.

    Attributes:
        session_id, number, run_id, user_id: which run, and whose.
        input: what was asked, as it is stored.
        expected: what should come out: the newest correction of a rating, else what came out then.
        corrected: whether it is a correction.
        run: the run itself.
    """

    session_id: str
    number: int
    run_id: str
    user_id: str | None
    input: Any
    expected: Any
    corrected: bool
    run: Run = field(repr=False)

    @property
    def id(self) -> str:
        """A name of the case that stays the same: session, number and id of the run."""
        return f"{self.session_id}#{self.number}:{self.run_id}"


@dataclass(slots=True)
class Replayed:
    """How a run ended: then, or now.

    Attributes:
        session_id, number: where the run is stored.
        status: what has become of it; all but `completed` count as failures.
        output: what came out, JSON.
        error: what went wrong, in words, or None.
        tools: the calls of tools that have returned.
        seconds: how long it took, or None.
        cost: dollars, or None where the price of a request is not known.
        tokens: of input and output.
        verdicts: by the name of the evaluator.
    """

    session_id: str
    number: int
    status: str
    output: Any = None
    error: str | None = None
    tools: list[ToolUse] = field(default_factory=list[ToolUse])
    seconds: float | None = None
    cost: Decimal | None = None
    tokens: int = 0
    verdicts: dict[str, JsonObject] = field(default_factory=dict[str, Any])

    @property
    def failed(self) -> bool:
        """Whether it had no result."""
        return self.status != "completed"

    @property
    def score(self) -> float | None:
        """The mean of its scores; 0 if it has failed, None if nobody has judged it."""
        if self.failed:
            return 0.0
        scores = [one["score"] for one in self.verdicts.values() if one.get("score") is not None]
        return sum(scores) / len(scores) if scores else None


def replayed_of(session_id: str, run: Run) -> Replayed:
    """A stored run, in the figures that are compared."""
    error = None if run.error is None else f"{run.error.get('type', 'Error')}: {run.error.get('message', '')}"
    over = run.ended_us is not None
    return Replayed(
        session_id,
        run.number,
        run.status,
        run.output,
        error,
        tool_uses(run),
        max(0, (run.ended_us or 0) - run.started_us) / 1e6 if over else None,
        run.usage.cost,
        run.usage.input_tokens + run.usage.output_tokens,
    )


def cases(
    storage: Storage,
    *,
    user_id: UserId = None,
    limit: int = 100,
    into: str | None = None,
    **filters: Unpack[RunFilters],
) -> list[Case]:
    """The newest runs that match, as cases, oldest first; replays, and runs that were asked nothing, are left out.

    ```python
    cases(storage, user_id=ANY_USER, agent="support", label="good", limit=50)
    ```

    Args:
        storage: whose runs.
        user_id: whose sessions; None: those without a user; `ANY_USER`: all.
        limit: how many at most.
        into: the SQL database of the index, if it does not lie beside the log.
        **filters: which runs, as in `Index.runs`; members' runs are no cases of their own.

    Raises:
        InvalidInputError: an argument is wrong, or there is no such filter.
        StorageError: one of the databases failed.
    """
    check_count(limit, "limit", least=1, most=MOST)
    found: list[Case] = []
    cursor: str | None = None
    with Index(storage, into) as index:
        while len(found) < limit:
            page = index.runs(user_id=user_id, limit=min(100, limit), cursor=cursor, **filters)
            found += [case for run in page if (case := case_of(storage, run)) is not None]
            cursor = page.next_cursor
            if cursor is None:
                break
    return found[:limit][::-1]


def case_of(storage: Storage, found: FoundRun) -> Case | None:
    """A run of the index as a case; None if it is a replay, is gone, cannot be read, or was asked nothing."""
    if _IS_REPLAY.fullmatch(found.session_id):
        return None
    try:
        run = storage.get_run(found.session_id, found.number, user_id=ANY_USER)
    except (RunNotFoundError, SessionNotFoundError, CorruptDataError, NewerVersionError):
        return None
    if run.input is None:
        return None
    corrected = next((one.correction for one in reversed(run.ratings) if one.correction is not None), None)
    expected = run.output if corrected is None else corrected
    return Case(
        found.session_id, found.number, run.run_id, found.user_id, run.input, expected, corrected is not None, run
    )


def before(head: Session, number: int) -> int:
    """The run that a run follows on its branch; 0: none."""
    ranges = [(first, min(last, number - 1)) for first, last in head.path(number) if first < number]
    return ranges[-1][1] if ranges else 0
