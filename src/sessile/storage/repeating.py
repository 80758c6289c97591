"""Repeating: an id that a caller gave (`run_id`) names one run for as long as the session lives.

The commit that starts such a run carries a key, by which it is found again in one request, however many commits follow.
The key is `run:` and the id, or `run#` and the SHA-256 digest of an id that is too long for that. Runs without a given
id have none, and pay nothing.

The same id with another input, or from another agent, is an error. Where two callers start one run at once, one of them
loses the race for the commit, looks again, and finds the run of the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import AlreadyExistsError, InvalidInputError
from ..records import Entry, Run, Session
from .core import Core
from .driver import Deadline
from .encoding import encode_sorted
from .ids import MAX_ID_BYTES
from .readable import read_entries
from .redacting import redacted_value
from .runs import read_run
from .snapshots import Attempt, Snapshot
from .vocabulary import ERASED_VALUE, RunStarted


def run_key(run_id: str) -> str:
    """The key of the commit that starts the run of a given id."""
    return key_of("run", run_id)


def key_of(what: str, given: str) -> str:
    """The key of the commit by which something of a given id (`run`, `event`) was written."""
    key = f"{what}:{given}"
    if len(key.encode()) <= MAX_ID_BYTES:
        return key
    import hashlib  # loads OpenSSL, which hardly anybody needs for this

    return f"{what}#{hashlib.sha256(given.encode()).hexdigest()}"


async def find_started(
    core: Core, head: Session | None, run_id: str, deadline: Deadline, *, attempt: Attempt | None = None
) -> Entry | None:
    """The entry that started the run of a given id, the newest one if there are several; None if there is none.

    What `attempt` itself has written, unheard, is none: whoever makes it will find that out.
    """
    if head is None:
        return None
    rows = await core.find(head, run_key(run_id), deadline, limit=1, newest_first=True)
    if attempt is not None:
        rows = [row for row in rows if row.commit_id != attempt.commit_id]
    for entry in await read_entries(core.driver, rows):
        if entry.kind == RunStarted.KIND and entry.run_id == run_id and entry.parent_run_id is None:
            return entry
    return None


def check_same(core: Core, started: Entry, session_id: str, input: Any, agent: str | None) -> None:
    """Raise `InvalidInputError` if a run that is there began with another input, or is another agent's."""
    if started.agent != agent:
        raise _other(started, session_id, f"as one of {started.agent!r}")
    began_with = RunStarted.of(started.data).input
    given = (input, redacted_value(core.settings.redact, input))
    if began_with != ERASED_VALUE and not any(same_json(began_with, one) for one in given):
        raise _other(started, session_id, "with another input")


def _other(started: Entry, session_id: str, how: str) -> InvalidInputError:
    return InvalidInputError(
        f"Session {session_id!r} has a run {started.run_id!r} already, {how}.",
        hint="Give each request an id of its own; nothing was written.",
    )


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; the order of keys is no matter, and `true` is not `1`."""
    return canonical(one) == canonical(other)


def canonical(value: Any) -> str:
    """JSON text that is the same for the same JSON, whatever the order of its keys."""
    return encode_sorted(value)


class RunExistsError(AlreadyExistsError):
    """The session has a run of the id that a caller gave already."""

    default_hint = "Look at the run that is there."


class Found(NamedTuple):
    """A run that was found by the id that its caller gave.

    `open` says that it has not ended: it is running, paused, interrupted, or failed in a way that can be
    resumed. `run.status` tells which. `session` is the head that it was found by.
    """

    session: Session
    run: Run
    started: Entry
    open: bool


async def find_run(core: Core, head: Session | None, run_id: str, deadline: Deadline) -> Found | None:
    """The run of a given id, with its messages; None if there is none."""
    started = await find_started(core, head, run_id, deadline)
    if head is None or started is None or started.run is None:
        return None
    run = await read_run(core, Snapshot(head, [], core.clock.now()), started.run, deadline)
    return Found(head, run, started, started.run in head.open_runs)
