"""The head as a pure fold of the commits.

`fold(head, seq, time, entries)` gives the head after a commit. It looks at nothing but its arguments, so that a
head that lags can be rolled forward, a log can be checked against its head, and any writer comes to the same head.
Kinds that are not named here do not change the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

from ..errors import CorruptDataError
from ..records import Entry, Head, OpenRun, Usage
from . import patch
from .driver import CommitRow
from .encoding import decode_commit

CREATED = "session.created"
RENAMED = "session.renamed"
METADATA = "session.metadata"
TTL = "session.ttl"
REWOUND = "session.rewound"
SUMMARIZED = "session.summarized"
READY = "session.ready"
DELETED = "session.deleted"
STATE = "state.patched"
RUN_STARTED = "run.started"
RUN_TAKEN = "run.taken"
RUN_ENDED = "run.ended"
MESSAGE = "message"
STATE_KEPT = "state.kept"
"""The state that a workflow's run began with, which its replays begin with as well."""

KEPT_INTERRUPTED = 16
KEPT_PAUSED = 64
"""How many interrupted and paused runs the head remembers, and how many failed ones that can be resumed (as many as
interrupted ones); older ones stay in the log and cannot be resumed."""


def fold(head: Head | None, seq: int, time: int, entries: Sequence[Entry]) -> Head:
    """The head after the commit `seq`, made at `time`. The given head is left as it is."""
    if head is None:
        head = _created(entries)
        head.created_at = time
    else:
        head = copy(head)
    for entry in entries:
        rule = _RULES.get(entry.kind)
        if rule is not None:
            rule(head, entry, entry.data)
    head.revision = seq
    head.updated_at = time
    head.expires_at = None if head.ttl is None else time + head.ttl
    return head


def roll_forward(head: Head | None, rows: Iterable[CommitRow]) -> Head | None:
    """`head` with all later commits among `rows` (ascending) folded in; a gap is `CorruptDataError`."""
    for row in rows:
        if head is not None and row.seq <= head.revision:
            continue
        expected = 1 if head is None else head.revision + 1
        if row.seq != expected:
            raise CorruptDataError(f"The log has commit {row.seq} where commit {expected} should be.")
        try:
            head = fold(head, row.seq, row.time, decode_commit(row))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise CorruptDataError(f"Commit {row.seq} is damaged: {error!r}.") from error
    return head


def _created(entries: Sequence[Entry]) -> Head:
    first = entries[0] if entries else None
    if first is None or first.kind != CREATED:
        raise CorruptDataError("The first commit of a log does not create the session.")
    data = first.data
    return Head(
        session_id=data["session_id"],
        incarnation=data["incarnation"],
        kind=data["kind"],
        owner=data.get("owner"),
        user_id=data.get("user_id"),
        name=data.get("name"),
        metadata=data.get("metadata") or {},
        state=data.get("state") or {},
        ttl=data.get("ttl"),
        forked_from=data.get("forked_from"),
        hidden=data.get("hidden"),
    )


def _run_started(head: Head, entry: Entry, data: Any) -> None:
    if entry.parent_run_id is not None or entry.run is None:
        return
    if not head.segments or head.tip != head.run_count:
        head.segments = [*head.segments, (head.tip, entry.run)]
    head.run_count = head.tip = entry.run
    head.status = "running"
    opened = OpenRun(entry.run_id or "", "running", 1, data.get("until", 0))
    head.open_runs = {**head.open_runs, entry.run: opened}


def _run_taken(head: Head, entry: Entry, data: Any) -> None:
    if entry.parent_run_id is not None or entry.run is None:
        return
    taken = OpenRun(entry.run_id or "", "running", data["epoch"], data["until"])
    head.open_runs = {**head.open_runs, entry.run: taken}
    if entry.run == head.run_count:
        head.status = "running"


def _run_ended(head: Head, entry: Entry, data: Any) -> None:
    if entry.run is None:
        return
    if not data.get("copied"):  # the runs of a fork were paid for in the session that they come from
        head.usage = head.usage + Usage.from_json(data.get("usage") or {})
    if entry.parent_run_id is not None:
        return
    others = {number: run for number, run in head.open_runs.items() if number != entry.run}
    if data["status"] in ("paused", "interrupted") or data.get("resumable"):
        before = head.open_runs.get(entry.run)
        epoch = data.get("epoch", before.epoch if before else 1)
        others[entry.run] = OpenRun(entry.run_id or "", data["status"], epoch, 0)
    for status, kept in (("interrupted", KEPT_INTERRUPTED), ("failed", KEPT_INTERRUPTED), ("paused", KEPT_PAUSED)):
        others = _without_old(others, status, kept)
    head.open_runs = others
    if entry.run == head.run_count:
        head.status = data["status"]


def _without_old(runs: dict[int, OpenRun], status: str, kept: int) -> dict[int, OpenRun]:
    """Crashes and forgotten approvals must not let the head grow: only the newest few such runs stay in it."""
    old = sorted(number for number, run in runs.items() if run.status == status)[:-kept]
    return {number: run for number, run in runs.items() if number not in old} if old else runs


def _state(head: Head, entry: Entry, data: Any) -> None:
    head.state = patch.apply(head.state, data["patch"])


def _metadata(head: Head, entry: Entry, data: Any) -> None:
    head.metadata = patch.apply(head.metadata, data["patch"])


def _renamed(head: Head, entry: Entry, data: Any) -> None:
    head.name = data["name"]


def _ttl(head: Head, entry: Entry, data: Any) -> None:
    head.ttl = data["ttl"]


def _rewound(head: Head, entry: Entry, data: Any) -> None:
    head.tip = data["run"]


def _summarized(head: Head, entry: Entry, data: Any) -> None:
    head.summary = data


def _ready(head: Head, entry: Entry, data: Any) -> None:
    head.hidden = None


def _deleted(head: Head, entry: Entry, data: Any) -> None:
    head.hidden = "deleted"


_RULES: dict[str, Callable[[Head, Entry, Any], None]] = {
    RUN_STARTED: _run_started,
    RUN_TAKEN: _run_taken,
    RUN_ENDED: _run_ended,
    STATE: _state,
    METADATA: _metadata,
    RENAMED: _renamed,
    TTL: _ttl,
    REWOUND: _rewound,
    SUMMARIZED: _summarized,
    READY: _ready,
    DELETED: _deleted,
}
