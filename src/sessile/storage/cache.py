"""Results that are kept across sessions: each in a small hidden session of its own, which expires.

So they are the user's own (deleting the user deletes them), they show in no list, and `sweep` removes what is too old.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ..records import MICROSECOND, Entry, JsonObject
from .core import Core, Draft, Snapshot, now_micros, rows_to_entries
from .driver import Loaded
from .encoding import decode_head
from .writes import creation

CACHE = "cache"
RESULT_KEPT = "result.kept"


def cache_key(*parts: str | None) -> str:
    """The id of the session that keeps the result of these inputs."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"\0" if part is None else b"\1%d:" % len(part.encode("utf-8", "surrogatepass")))
        digest.update((part or "").encode("utf-8", "surrogatepass"))
    return f"cache:{digest.hexdigest()}"


async def read_result(core: Core, key: str, max_age: float, *, user_id: str | None = None) -> JsonObject | None:
    """The result that is kept under the key, if it is no older than `max_age` seconds and this user's; else None."""
    core.check_access(key, user_id)
    deadline = core.deadline()
    await core.prepare(deadline)
    return _fresh(await core.driver.load(key, 1, deadline), max_age, user_id)


def _fresh(loaded: Loaded | None, max_age: float, user_id: str | None) -> JsonObject | None:
    if loaded is None or not loaded.commits:
        return None
    head = decode_head(loaded.head)
    kept = head.hidden == CACHE and head.user_id == user_id
    if not kept or loaded.now - head.created_at > max_age * MICROSECOND:
        return None
    entries = rows_to_entries(loaded.commits)
    return next((entry.data for entry in entries if entry.kind == RESULT_KEPT), None)


async def keep_result(
    core: Core, key: str, data: JsonObject, max_age: float, *, user_id: str | None = None, owner: str | None = None
) -> None:
    """Keep a result under the key for `max_age` seconds, in place of an older one; of several writers the last wins."""
    core.check_access(key, user_id)
    created = creation(core, key, user_id=user_id, owner=owner, kind=CACHE, ttl=max_age, hidden=CACHE)
    began = now_micros()

    async def change(snapshot: Snapshot) -> Draft | None:
        found: Any = snapshot.found
        if found is not None and found.hidden == CACHE and found.created_at >= began:
            return None  # somebody else has computed the same at the same time
        return Draft([created(), Entry(RESULT_KEPT, data)])

    await core.commit(key, change, core.deadline())
