"""Whether two storage objects keep their sessions in the same database."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from ..errors import SessileError
from ..records import ANY_USER
from .storage import Storage, UserStorage, seen_like, whole

_known: WeakKeyDictionary[Storage, WeakKeyDictionary[Storage, bool]] = WeakKeyDictionary()


async def shared_by(storage: Storage, other: Storage, session_id: str) -> bool:
    """Whether `storage` has the sessions of `other`, too; found by one that is there in `other`.

    What two objects were made with tells nothing: a path may be a link, and an address has many names. But a session
    has an incarnation, which is random, and a copy of it lags behind the one that has just been written to. Asked once
    for each pair of objects, by two reads; False where it cannot be read.
    """
    one, another = whole(storage), whole(other)
    if one is another:
        return True
    known = _known.setdefault(one, WeakKeyDictionary())
    if another not in known:
        try:
            user = other.user_id if isinstance(other, UserStorage) else ANY_USER
            there = await other.aget_session(session_id, user_id=user)
            here = None if there is None else await seen_like(other, one).aget_session(session_id, user_id=user)
        except SessileError:
            return False
        if there is None:
            return False
        known[another] = (
            here is not None
            and here.incarnation == there.incarnation
            and here.revision >= there.revision  # which was read before
        )
    return known[another]
