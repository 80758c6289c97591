"""Sessions that are held: nothing of them may be deleted, for a law or a case asks for it."""

from __future__ import annotations

from ..records import Session, UserId
from .core import Core
from .ids import check_id
from .leases import shown_heads
from .snapshots import Draft, Snapshot, owned
from .vocabulary import SessionHeld


async def hold(core: Core, session_id: str, reason: str | None, *, user_id: UserId = None) -> Session:
    """See `Storage.hold`, and with None `Storage.release`."""
    user_id = core.check_access(session_id, user_id)
    if reason is not None:
        check_id(reason, "reason")

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, session_id, user_id)
        return Draft([SessionHeld(reason=reason).entry()], free=True)

    committed = await core.commit(session_id, user_id, change, core.deadline())
    assert committed is not None, "this change always drafts something"
    await shown_heads(core, [committed.head], core.deadline())
    return committed.head
