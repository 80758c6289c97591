"""Approvals that hold for more than one call: of one tool, by one agent, in one session or in those of one user.

What was granted and revoked stands in the log of the session, or in a log of the user's own (as scopes are, hidden and
in no list), under one key. So forks have none of it, and what is read is what was written last. What cannot be read
grants nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ..errors import InvalidInputError
from ..records import ANY_USER, Duration, Entry, Session, UserId
from ..times import datetime_of
from .checks import ttl_micros
from .core import Core
from .driver import Deadline
from .ids import check_id, check_optional_id
from .readable import read_entries
from .scopes import APPROVALS, ScopeName, look_at, made, shared
from .snapshots import Draft, Snapshot, owned
from .vocabulary import ApprovalGranted, ApprovalRevoked

KEY = "approvals"
"""The key of the commits that grant and revoke."""

PAGE = 500

Reach = Literal["session", "user"]
"""Where an approval holds: in one session, or in all sessions of its user."""


@dataclass(slots=True, frozen=True)
class Grant:
    """An approval that holds for each call of one tool by one agent.

    Attributes:
        grant_id: its id, by which it is revoked.
        tool: the tool's name, as the model sees it.
        agent: the name of the agent, or of the member of a team, that calls it.
        session_id: the session in which it holds; None: in all sessions of the user.
        user_id: whose session that is, or whose sessions.
        by: who has approved.
        granted_us: since when it holds, microseconds UTC.
        expires_us: when it holds no more; None: until it is revoked.
    """

    grant_id: str
    tool: str
    agent: str
    session_id: str | None = None
    user_id: str | None = None
    by: str | None = None
    granted_us: int = 0
    expires_us: int | None = None

    @property
    def scope(self) -> Reach:
        """Where it holds."""
        return "user" if self.session_id is None else "session"

    @property
    def granted_at(self) -> datetime:
        """Since when it holds."""
        return datetime_of(self.granted_us)

    @property
    def expires_at(self) -> datetime | None:
        """When it holds no more."""
        return None if self.expires_us is None else datetime_of(self.expires_us)


def place_of(core: Core, user_id: UserId) -> ScopeName:
    """Where the approvals of a user stand."""
    if user_id is ANY_USER:
        raise InvalidInputError("An approval is one user's: name the user, or a session.")
    named = core.check_user(user_id)
    if not isinstance(named, str):
        raise InvalidInputError(
            "Name the session in which it holds, or the user.", hint="Pass session_id= or user_id=."
        )
    return ScopeName(APPROVALS, named)


def granted(tool: str, agent: str, by: str | None, until: int | None) -> ApprovalGranted:
    """What grants an approval, as it is stored."""
    return ApprovalGranted(id=secrets.token_hex(8), tool=tool, agent=agent, by=by, until=until)


def until_of(core: Core, ttl: Duration | None) -> int | None:
    """When something ends that holds from now on for so long."""
    lives = ttl_micros(ttl)
    return None if lives is None else core.clock.now() + lives


# ---------------------------------------------------------------- reading


async def _in_log(core: Core, head: Session | None, session_id: str | None, deadline: Deadline) -> list[Grant]:
    """What was granted in a log, not revoked since, and has not expired; oldest first."""
    if head is None:
        return []
    found: dict[str, Grant] = {}
    after = 0
    while True:
        rows = await core.find(head, KEY, deadline, after=after, limit=PAGE)
        for entry in await read_entries(core.driver, rows):
            if (said := ApprovalGranted.read(entry)) is not None:
                found[said.id] = _grant(said, entry, session_id, head.user_id)
            elif (revoked := ApprovalRevoked.read(entry)) is not None:
                found.pop(revoked.id, None)
        if len(rows) < PAGE:
            break
        after = max(row.seq for row in rows)
    now = core.clock.now()
    return [one for one in found.values() if one.expires_us is None or now < one.expires_us]


def _grant(said: ApprovalGranted, entry: Entry, session_id: str | None, user_id: str | None) -> Grant:
    return Grant(said.id, said.tool, said.agent, session_id, user_id, said.by, entry.time_us, said.until)


async def _of_user(core: Core, user_id: str, deadline: Deadline) -> list[Grant]:
    reach = shared(core)
    head = (await look_at(reach, ScopeName(APPROVALS, user_id), deadline)).head
    return await _in_log(reach, head, None, deadline)


async def grants(core: Core, session_id: str | None = None, *, user_id: UserId = None) -> list[Grant]:
    """See `Storage.grants`."""
    deadline = core.deadline()
    if session_id is None:
        return await _of_user(core, str(place_of(core, user_id).user_id), deadline)
    user_id = core.check_access(session_id, user_id)
    head = await core.head_of(session_id, user_id, deadline)
    found = await _in_log(core, head, session_id, deadline)
    return found if head.user_id is None else [*found, *await _of_user(core, head.user_id, deadline)]


async def standing(
    core: Core, session_id: str, user_id: str | None, agent: str, tools: Sequence[str]
) -> dict[str, Grant]:
    """By the tool's name: what approves calls of these tools by this agent, in this session of this user.

    Two reads, and two more for the user's own unless the session's are enough. A session of somebody else has none.
    """
    deadline = core.deadline()
    head = (await core.look(session_id, deadline)).head
    if head is not None and head.user_id != user_id:
        return {}
    found = _fitting(await _in_log(core, head, session_id, deadline), agent, tools)
    if user_id is not None and len(found) < len(set(tools)):
        found = {**_fitting(await _of_user(core, user_id, deadline), agent, tools), **found}
    return found


def _fitting(found: Sequence[Grant], agent: str, tools: Sequence[str]) -> dict[str, Grant]:
    return {one.tool: one for one in found if one.agent == agent and one.tool in tools}


# ---------------------------------------------------------------- writing


async def grant(
    core: Core,
    tool: str,
    agent: str,
    session_id: str | None = None,
    *,
    by: str | None = None,
    ttl: Duration | None = None,
    user_id: UserId = None,
) -> Grant:
    """See `Storage.grant`."""
    check_id(tool, "tool")
    check_id(agent, "agent")
    check_optional_id(by, "by")
    said = granted(tool, agent, by, until_of(core, ttl))
    if session_id is None:
        return (await grant_user(core, str(place_of(core, user_id).user_id), [said]))[0]
    named = core.check_access(session_id, user_id)

    async def change(snapshot: Snapshot) -> Draft:
        owned(snapshot.head, session_id, named)
        return Draft([said.entry()], key=KEY)

    committed = await core.commit(session_id, named, change, core.deadline())
    assert committed is not None, "this change always drafts something"
    return _grant(said, committed.entries[0], session_id, committed.head.user_id)


async def grant_user(core: Core, user_id: str, said: Sequence[ApprovalGranted]) -> list[Grant]:
    """Approve these for all sessions of a user; one commit."""
    scope, reach = ScopeName(APPROVALS, user_id), shared(core)

    async def change(snapshot: Snapshot) -> Draft:
        _, entries = made(reach, scope, snapshot.head)
        return Draft([*entries, *(one.entry() for one in said)], key=KEY)

    committed = await reach.commit(scope.stored_id, user_id, change, core.deadline())
    assert committed is not None, "this change always drafts something"
    entries = committed.entries[-len(said) :]
    return [_grant(one, entry, None, user_id) for one, entry in zip(said, entries, strict=True)]


async def revoke(
    core: Core, grant_id: str, session_id: str | None = None, *, by: str | None = None, user_id: UserId = None
) -> bool:
    """See `Storage.revoke`."""
    check_id(grant_id, "grant_id")
    check_optional_id(by, "by")
    deadline = core.deadline()
    if session_id is None:
        reach, scope = shared(core), place_of(core, user_id)
        stored_id, whose = scope.stored_id, scope.user_id
    else:
        reach, stored_id, whose = core, session_id, core.check_access(session_id, user_id)
        await core.head_of(session_id, whose, deadline)
    found: list[bool] = []

    async def change(snapshot: Snapshot) -> Draft | None:
        known = await _in_log(reach, snapshot.head, session_id, deadline)
        found[:] = [any(one.grant_id == grant_id for one in known)]
        return Draft([ApprovalRevoked(id=grant_id, by=by).entry()], key=KEY, free=True) if found[0] else None

    await reach.commit(stored_id, whose, change, deadline)
    return found[-1]
