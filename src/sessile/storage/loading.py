"""Loading a session whose log reaches to its head: one whose newest commits are gone is damaged, on every database."""

from __future__ import annotations

from ..errors import CorruptDataError
from .absence import is_expired
from .driver import Deadline, Driver, Loaded, Span


async def load(driver: Driver, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
    """As `Driver.load`; raises `CorruptDataError` if commits were asked for and the newest one is not there.

    Else a session without a log would look like one without runs. So it does if the head names another session: what a
    call did not name, it neither reads nor writes. What is absent is not looked into: its log may be on its way out.
    """
    loaded = await driver.load(session_id, newest, deadline)
    if loaded is not None and loaded.head.session_id != session_id:  # who writes to the database may change that, too
        raise CorruptDataError(f"What is stored as session {session_id!r} says that it is another one.")
    if loaded is None or not newest or _reaches_head(loaded):
        return loaded
    again = await driver.load(session_id, newest, deadline)  # it may have been removed between head and log
    if again is not None and not _reaches_head(again):
        head = again.head  # the driver may say more of what is wrong with it
        span = Span(first=head.revision, last=head.revision, limit=1)
        if not await driver.entries(session_id, head.incarnation, span, deadline):
            raise CorruptDataError(f"The newest commits of session {session_id!r} are not in its log.")
    return again


def _reaches_head(loaded: Loaded) -> bool:
    head = loaded.head
    if head.hidden or is_expired(head, loaded.now):
        return True
    return bool(loaded.commits) and loaded.commits[-1].seq >= head.revision
