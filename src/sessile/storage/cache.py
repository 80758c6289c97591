"""Results that are kept across sessions: each in a small hidden session of its own, which expires.

So they are the user's own (deleting the user deletes them), they show in no list, and `sweep` removes what is too
old. Their ids are reserved: no caller can name one, and so nobody's session can stand there before.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ..errors import CorruptDataError, NewerVersionError
from ..records import MICROSECOND
from .clock import AHEAD
from .computing import compute
from .core import Core
from .driver import Loaded
from .encoding import decode_head
from .ids import KEPT
from .readable import rows_to_entries
from .snapshots import Draft, Snapshot
from .vocabulary import ResultKept
from .writes import creation

CACHE = "cache"


def cache_key(*parts: str | None) -> str:
    """The id of the session that keeps the result of these inputs."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"\0" if part is None else b"\1%d:" % len(part.encode("utf-8", "surrogatepass")))
        digest.update((part or "").encode("utf-8", "surrogatepass"))
    return f"{KEPT}{digest.hexdigest()}"


async def read_result(core: Core, key: str, max_age: float, *, user_id: str | None = None) -> ResultKept | None:
    """The result that is kept under the key, if it is no older than `max_age` seconds and this user's; else None."""
    user = core.user if user_id is None else user_id
    deadline = core.deadline()
    await core.prepare(deadline)
    loaded = await core.driver.load(key, 1, deadline)
    rows = [] if loaded is None else loaded.commits
    return await compute(core.driver, lambda: _fresh(loaded, max_age, user), rows=rows)


def _fresh(loaded: Loaded | None, max_age: float, user_id: str | None) -> ResultKept | None:
    if loaded is None or not loaded.commits:
        return None
    try:
        return _fresh_one(loaded, max_age, user_id)
    except (NewerVersionError, CorruptDataError):
        return None  # what cannot be read is computed again


def _fresh_one(loaded: Loaded, max_age: float, user_id: str | None) -> ResultKept | None:
    head = decode_head(loaded.head)
    kept = head.hidden == CACHE and head.user_id == user_id
    if not kept or not -AHEAD <= loaded.now - head.created_us <= max_age * MICROSECOND:
        return None
    found = map(ResultKept.read, rows_to_entries(loaded.commits))
    return next((result for result in found if result is not None), None)


async def keep_result(
    core: Core, key: str, result: ResultKept, max_age: float, *, user_id: str | None = None, agent: str | None = None
) -> None:
    """Keep a result under the key for `max_age` seconds, in place of an older one; of several writers the last wins."""
    user = core.user if user_id is None else user_id
    created = creation(core, key, user_id=user, agent=agent, kind=CACHE, ttl=max_age, hidden=CACHE)
    deadline = core.deadline()
    await core.prepare(deadline)
    began = core.clock.now()

    async def change(snapshot: Snapshot) -> Draft | None:
        found: Any = snapshot.found
        if found is not None and found.hidden == CACHE and began <= found.created_us <= core.clock.now() + AHEAD:
            return None  # somebody else has computed the same at the same time
        if snapshot.head is not None:
            return None  # no kept result, and none of our making
        return Draft([created(), result.entry()])

    await core.commit(key, user, change, deadline)
