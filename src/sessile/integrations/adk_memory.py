"""Memory of Google ADK in any storage of Sessile's: what was said in sessions that are over, found by its words.

What was said in a session is one session here. A search reads what there is of the user's, and hands it to ADK's own
service in memory, which answers: so a query finds here what it finds there.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others.)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..errors import SessionNotFoundError as MissingError
from ..errors import UnsupportedError, missing_dependency
from ..storage.extending import (
    Core,
    Draft,
    Entry,
    Session,
    Snapshot,
    Storage,
    all_entries,
    aoperate,
    commit,
    rewrite,
    started_session,
)
from .adk_events import owner
from .ids import short, stored_id
from .lines import Lines
from .stored import passing_over, reads_stored

try:
    from google.adk.events.event import Event
    from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse
    from google.adk.memory.in_memory_memory_service import InMemoryMemoryService
    from google.adk.sessions import Session as AdkSession
except ImportError as error:
    raise missing_dependency("google-adk", "google-adk", "A memory service of Google ADK", error) from error

KIND = "google-adk-memory"
SAID, FORGOTTEN = "adk.remembered", "adk.forgotten"
AT_ONCE = 200
"""How many events are one commit."""

KEPT = {"id", "author", "invocation_id", "timestamp", "content"}
"""What of an event is remembered."""


class SessileMemoryService(BaseMemoryService):
    """What was said in earlier sessions: `Runner(…, memory_service=SessileMemoryService(storage))`.

    An event is remembered once, however often its session is added. A search finds the ten events that have most words
    of the query, as `InMemoryMemoryService` does; it reads all that is remembered of the user.

    Args:
        storage: where it is kept. The caller closes it. What is remembered of a user belongs to that user.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._lines = Lines()

    async def add_session_to_memory(self, session: AdkSession) -> None:
        """Remember the events of a session; those that are remembered stay."""
        await self._add(session.app_name, session.user_id, session.id, session.events)

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Remember some events; `custom_metadata` has no meaning here."""
        await self._add(app_name, user_id, session_id or "", events)

    async def search_memory(self, *, app_name: str, user_id: str, query: str) -> SearchMemoryResponse:
        """The ten events that have most words of the query."""
        theirs = InMemoryMemoryService()
        for head in await self._heads(app_name, user_id):
            with passing_over(head.session_id):
                found = _events(await aoperate(self.storage, all_entries, head))
                await theirs.add_events_to_memory(
                    app_name=app_name, user_id=user_id, events=found, session_id=head.session_id
                )
        return await theirs.search_memory(app_name=app_name, user_id=user_id, query=query)

    async def delete_memory(self, *, app_name: str, user_id: str, memory_id: str | None = None) -> None:
        """Forget an event, for good: its text is taken out of the log, and it is not remembered again."""
        for head in await self._heads(app_name, user_id) if memory_id else []:
            with passing_over(head.session_id):
                entries = await aoperate(self.storage, all_entries, head)
                if memory_id in _ids(entries, SAID):
                    await aoperate(self.storage, _forget, head, memory_id)

    async def _add(self, app_name: str, user_id: str, session_id: str, events: Sequence[Event]) -> None:
        said = [event.model_dump(mode="json", exclude_none=True, include=KEPT) for event in events if _speaks(event)]
        names = app_name, user_id, session_id
        async with self._lines.at(stored_id("adk-memory", *names)):
            for start in range(0, len(said), AT_ONCE):
                await aoperate(self.storage, _remember, names, said[start : start + AT_ONCE])

    async def _heads(self, app_name: str, user_id: str) -> list[Session]:
        """What is remembered of a user, by session, oldest first."""
        found: list[Session] = []
        cursor: str | None = None
        while user_id:
            page = await self.storage.asessions(
                kind=KIND, agent=short(app_name), user_id=owner(user_id), cursor=cursor, limit=100
            )
            for one in page:
                with passing_over(one.session_id):
                    if _names_of(one)[:2] == (app_name, user_id):
                        found.append(one)
            cursor = page.next_cursor
            if cursor is None:
                break
        return sorted(found, key=lambda one: (one.created_at, one.session_id))


# ---------------------------------------------------------------- operations


async def _remember(core: Core, names: tuple[str, str, str], said: list[dict[str, Any]]) -> None:
    """Add events that are neither there nor forgotten, in one commit. Reads what is there of the session."""
    app_name, user_id, session_id = names
    stored, user = stored_id("adk-memory", *names), owner(user_id)
    told = {"app_name": app_name, "user_id": user_id, "session_id": session_id}

    async def change(snapshot: Snapshot) -> Draft:
        head, first = started_session(
            core, snapshot, stored, user_id=user, kind=KIND, agent=short(app_name), metadata=told
        )
        there = [] if snapshot.head is None else await all_entries(core, head)
        known = _ids(there, SAID) | _ids(there, FORGOTTEN)
        new = {one["id"]: one for one in said if one["id"] not in known}
        if not new:
            raise _NothingError
        return Draft([*first, *(Entry(SAID, {"id": name, "event": one}) for name, one in new.items())])

    with suppress(_NothingError):
        await commit(core, stored, change, user_id=user)


async def _forget(core: Core, head: Session, memory_id: str) -> None:
    """Hide an event, and then take its text out of the log, where the database can."""
    stored, user = head.session_id, head.user_id

    async def change(snapshot: Snapshot) -> Draft:
        if snapshot.head is None:
            raise MissingError(f"There is no session {stored!r}.")
        return Draft([Entry(FORGOTTEN, {"id": memory_id})])

    def without(entry: Entry) -> Entry | None:
        return None if entry.kind == SAID and entry.data.get("id") == memory_id else entry

    with suppress(MissingError):  # then it is forgotten, too
        await commit(core, stored, change, user_id=user)
        with suppress(UnsupportedError):  # then it is hidden
            await rewrite(core, stored, without, user_id=user)


class _NothingError(Exception):
    """There is nothing to write."""


# ---------------------------------------------------------------- helpers


def _speaks(event: Event) -> bool:
    return bool(event.content and event.content.parts and not event.partial)


@reads_stored
def _ids(entries: Sequence[Entry], kind: str) -> set[str]:
    found = [entry.data["id"] for entry in entries if entry.kind == kind]
    if not all(isinstance(one, str) for one in found):
        raise TypeError("an id is a text")
    return set(found)


@reads_stored
def _events(entries: Sequence[Entry]) -> list[Event]:
    """What is remembered, without what is forgotten."""
    gone = _ids(entries, FORGOTTEN)
    said = {entry.data["id"]: entry.data["event"] for entry in entries if entry.kind == SAID}
    return [Event.model_validate(one) for name, one in said.items() if name not in gone]


@reads_stored
def _names_of(head: Session) -> tuple[str, str, str]:
    """App, user and session, as the metadata says; these must be what the id is made of."""
    told = head.metadata
    names = told["app_name"], told["user_id"], told["session_id"]
    if stored_id("adk-memory", *names) != head.session_id or owner(names[1]) != head.user_id:
        raise ValueError("its id is made of other names")
    return names
