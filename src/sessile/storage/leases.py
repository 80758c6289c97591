"""Leases: who works on a run, and whether its process is still there.

The lease that a run starts with stands in its start commit; renewals stand in a small record per run beside the
log, so that they change no revision. Taking a run over is a commit that raises the run's epoch. All times are the
database's (`clock.py`). Processes whose leases are longer than `LONGEST_LEASE` must share that setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from ..errors import CorruptDataError, LeaseLostError
from ..records import MICROSECOND, OpenRun, Session
from .clock import AHEAD
from .core import Core
from .driver import Deadline, RecordName
from .encoding import decode, encode
from .snapshots import Snapshot
from .vocabulary import CancelRequest, Lease

LONGEST_LEASE = 24 * 3600 * MICROSECOND
"""For how long, in microseconds, a lease is believed to hold at most, unless the storage's own leases are longer."""


def lease_until(core: Core) -> int:
    """When a lease that is taken or renewed now runs out."""
    return core.clock.now() + int(core.settings.lease * MICROSECOND)


async def is_alive(core: Core, snapshot: Snapshot, number: int, run: OpenRun, deadline: Deadline) -> bool:
    """Whether the lease of a running run holds, by the log or by its last renewal."""
    assert snapshot.head is not None, "a session that is there has its runs"
    (alive,) = await which_alive(core, [AtWork(snapshot.head, number, run)], deadline)
    return alive


class AtWork(NamedTuple):
    """A running run of a session: the head, the run's number, and what the head knows of it."""

    head: Session
    number: int
    run: OpenRun


async def which_alive(core: Core, runs: Sequence[AtWork], deadline: Deadline) -> list[bool]:
    """Of each of these runs, of one session or of many, whether its lease holds, in their order.

    One round trip for all whose first lease has run out; none if there are no such runs.
    """
    now = core.clock.now()
    alive = [_holds(core, run.until_us, now) for _, _, run in runs]
    unsure = [index for index, holds in enumerate(alive) if not holds]
    if unsure:
        renewals = await core.driver.get_records([_name(runs[index]) for index in unsure], deadline)
        for index, value in zip(unsure, renewals, strict=True):
            record = _whole(value)
            epoch = runs[index].run.epoch
            alive[index] = record is not None and record.epoch == epoch and _holds(core, record.until, now)
    return alive


def _whole(value: bytes | None) -> Lease | None:
    """A lease record; a damaged one renews nothing, and costs no other run of the page anything."""
    lease = None if value is None else Lease.of(_object(value))
    try:
        return None if lease is None or type(lease.epoch) is not int or type(lease.until) is not int else lease
    except KeyError:
        return None


def _object(value: bytes) -> dict[str, Any]:
    """A record's JSON object; an empty one if it is damaged."""
    try:
        found = decode(value.decode())
    except (CorruptDataError, UnicodeDecodeError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


async def shown_heads(core: Core, heads: Sequence[Session], deadline: Deadline) -> None:
    """Give heads the status that readers see; one round trip for all of them.

    A newest run whose process is gone is `interrupted`, though nobody has written that down; and a session that waits
    for another run is `paused` then.
    """
    newest = [(head, head.open_runs.get(head.run_count)) for head in heads if head.last_status == "running"]
    if not newest:
        return
    at_work = [AtWork(head, head.run_count, run) for head, run in newest if run is not None]
    for (head, _, _), alive in zip(at_work, await which_alive(core, at_work, deadline), strict=True):
        if not alive:
            head.last_status = "interrupted"
            head.status = "paused" if head.waiting else "interrupted"


def _holds(core: Core, until: int, now: int) -> bool:
    """Whether a lease holds; one that would for very long was taken by a clock that was wrong, and has run out."""
    longest = max(LONGEST_LEASE, int(core.settings.lease * MICROSECOND) + AHEAD)
    return now < until <= now + longest


def _name(run: AtWork) -> RecordName:
    return RecordName(run.head.session_id, run.head.incarnation, f"lease/{run.number}")


async def renew(core: Core, head: Session, number: int, epoch: int, deadline: Deadline, note: Any = None) -> bool:
    """Hold the lease for another term; returns whether the run was asked to cancel.

    Raises `LeaseLostError` if a newer epoch is found, or the session was deleted.
    """
    lease = await _lease(core, head, number, deadline)
    if lease is not None and lease.epoch > epoch:
        raise lost(head, number)
    if not await write_lease(core, head, number, epoch, deadline, note):
        raise lost(head, number)
    return await is_asked_to_cancel(core, head, number, epoch, deadline)


async def write_lease(core: Core, head: Session, number: int, epoch: int, deadline: Deadline, note: Any = None) -> bool:
    """Write the lease record of a run, with what it is doing; False if the session was deleted."""
    body = encode(Lease(epoch=epoch, until=lease_until(core), note=note).json).encode()
    return await core.driver.put_record(head.session_id, head.incarnation, f"lease/{number}", body, deadline)


async def lease_note(core: Core, head: Session, number: int, deadline: Deadline) -> Any:
    """What a run was doing when it last renewed its lease; None if it has not said, or its lease has run out."""
    lease = await _lease(core, head, number, deadline)
    opened = head.open_runs.get(number)
    if lease is None or opened is None or lease.epoch != opened.epoch:
        return None
    return lease.note if _holds(core, lease.until, core.clock.now()) else None


async def request_cancel(core: Core, head: Session, number: int, run: OpenRun, deadline: Deadline) -> None:
    """Ask the process that works on a run to cancel it, which looks for that more often than every second."""
    body = encode(CancelRequest(epoch=run.epoch).json).encode()
    await core.driver.put_record(head.session_id, head.incarnation, f"cancel/{number}", body, deadline)


async def forget(core: Core, head: Session, number: int, deadline: Deadline) -> None:
    """Remove the records of a run that has ended."""
    for key in (f"lease/{number}", f"cancel/{number}"):
        await core.driver.put_record(head.session_id, head.incarnation, key, None, deadline)


async def is_asked_to_cancel(core: Core, head: Session, number: int, epoch: int, deadline: Deadline) -> bool:
    """Whether somebody has asked to cancel a run."""
    request = await core.driver.get_record(head.session_id, head.incarnation, f"cancel/{number}", deadline)
    asked = None if request is None else _object(request).get("epoch")
    return type(asked) is int and asked >= epoch


def check_epoch(head: Session, number: int, epoch: int) -> None:
    """Raise `LeaseLostError` if another process has taken the run since."""
    opened = head.open_runs.get(number)
    if opened is not None and opened.epoch > epoch:
        raise lost(head, number)


def lost(head: Session, number: int) -> LeaseLostError:
    """The error of a writer whose run was taken over."""
    return LeaseLostError(f"Run {number} of session {head.session_id!r} was taken over by another process.")


async def _lease(core: Core, head: Session, number: int, deadline: Deadline) -> Lease | None:
    return _whole(await core.driver.get_record(head.session_id, head.incarnation, f"lease/{number}", deadline))
