"""Leases: who works on a run, and whether its process is still there.

The lease that a run starts with stands in its start commit; renewals stand in a small record per run beside the
log, so that they change no revision. Taking a run over is a commit that raises the run's epoch.
"""

from __future__ import annotations

from typing import Any, cast

from ..errors import LeaseLostError
from ..records import MICROSECOND, Head, OpenRun
from .core import Core, Snapshot, now_micros
from .driver import Deadline
from .encoding import decode, encode


def lease_until(core: Core, now: int) -> int:
    """When a lease that is taken or renewed at `now` runs out."""
    return now + int(core.settings.lease * MICROSECOND)


async def is_alive(core: Core, snapshot: Snapshot, number: int, run: OpenRun, deadline: Deadline) -> bool:
    """Whether the lease of a running run holds, by the log or by its last renewal."""
    if run.until > snapshot.now:
        return True
    head = cast(Head, snapshot.head)
    record = await _read(core, head, f"lease/{number}", deadline)
    return record is not None and record["epoch"] == run.epoch and record["until"] > snapshot.now


async def renew(core: Core, head: Head, number: int, epoch: int, deadline: Deadline, note: Any = None) -> bool:
    """Hold the lease for another term; returns whether the run was asked to cancel.

    Raises `LeaseLostError` if a newer epoch is found, or the session was deleted.
    """
    record = await _read(core, head, f"lease/{number}", deadline)
    if record is not None and record["epoch"] > epoch:
        raise lost(head, number)
    if not await write_lease(core, head, number, epoch, deadline, note):
        raise lost(head, number)
    request = await _read(core, head, f"cancel/{number}", deadline)
    return request is not None and request["epoch"] >= epoch


async def write_lease(core: Core, head: Head, number: int, epoch: int, deadline: Deadline, note: Any = None) -> bool:
    """Write the lease record of a run, with what it is doing; False if the session was deleted."""
    snapshot = await core.driver.load(head.session_id, 0, deadline)  # for the database's clock
    now = now_micros() if snapshot is None else snapshot.now
    lease = {"epoch": epoch, "until": lease_until(core, now)}
    body = encode(lease if note is None else {**lease, "note": note}).encode()
    return await core.driver.put_record(head.session_id, head.incarnation, f"lease/{number}", body, deadline)


async def lease_note(core: Core, head: Head, number: int, deadline: Deadline) -> Any:
    """What a run was doing when it last renewed its lease; None if it has not said, or its lease has run out."""
    record = await _read(core, head, f"lease/{number}", deadline)
    opened = head.open_runs.get(number)
    if record is None or opened is None or record["epoch"] != opened.epoch or record["until"] <= now_micros():
        return None
    return record.get("note")


async def request_cancel(core: Core, head: Head, number: int, run: OpenRun, deadline: Deadline) -> None:
    """Ask the process that works on a run to cancel it; it sees that when it renews its lease."""
    body = encode({"epoch": run.epoch}).encode()
    await core.driver.put_record(head.session_id, head.incarnation, f"cancel/{number}", body, deadline)


async def forget(core: Core, head: Head, number: int, deadline: Deadline) -> None:
    """Remove the records of a run that has ended."""
    for key in (f"lease/{number}", f"cancel/{number}"):
        await core.driver.put_record(head.session_id, head.incarnation, key, None, deadline)


def check_epoch(head: Head, number: int, epoch: int) -> None:
    """Raise `LeaseLostError` if another process has taken the run since."""
    opened = head.open_runs.get(number)
    if opened is not None and opened.epoch > epoch:
        raise lost(head, number)


def lost(head: Head, number: int) -> LeaseLostError:
    """The error of a writer whose run was taken over."""
    return LeaseLostError(f"Run {number} of session {head.session_id!r} was taken over by another process.")


async def _read(core: Core, head: Head, key: str, deadline: Deadline) -> dict[str, Any] | None:
    value = await core.driver.get_record(head.session_id, head.incarnation, key, deadline)
    return None if value is None else decode(value.decode())
