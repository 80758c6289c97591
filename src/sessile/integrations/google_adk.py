"""Sessions of Google's Agent Development Kit (`google-adk`) in any storage of Sessile's.

    from sessile import SqliteStorage
    from sessile.integrations.google_adk import SessileSessionService

    service = SessileSessionService(SqliteStorage("sessions.db"))
    runner = Runner(agent=agent, app_name="weather", session_service=service)

An invocation is one run of the session, its events are the run's messages. A session is stored as
`adk:APP:USER:SESSION` (`sessile.integrations.ids`), of the kind `google-adk`, and belongs to that user.
`SessileArtifactService` and `SessileMemoryService` are for the same runner.
"""

# pyright: basic, reportMissingImports=false
# (The framework is not where this is checked: it conflicts with others.)

from __future__ import annotations

import uuid
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from ..errors import AlreadyExistsError as TakenError
from ..errors import SessionNotFoundError as MissingError
from ..errors import missing_dependency
from ..storage.extending import (
    ANY_USER,
    Core,
    Draft,
    Entry,
    Message,
    Session,
    Snapshot,
    Storage,
    aoperate,
    commit,
    entries_between,
    find_in,
    look,
    metadata_changed,
    run_added,
    run_amended,
    started_session,
    state_changed,
    tail,
)
from .adk_artifacts import SessileArtifactService
from .adk_events import FORMAT, Invocations, event_of, named, owner, pending, scoped, text_of, usage_of
from .adk_known import KeptEvents, Keys
from .adk_memory import SessileMemoryService
from .ids import digest, is_usable, short, stored_id
from .lines import Lines
from .stored import passing_over, reads_stored

try:
    from google.adk.errors.already_exists_error import AlreadyExistsError
    from google.adk.errors.session_not_found_error import SessionNotFoundError
    from google.adk.events.event import Event
    from google.adk.sessions import Session as AdkSession
    from google.adk.sessions.base_session_service import BaseSessionService, GetSessionConfig, ListSessionsResponse
except ImportError as error:
    raise missing_dependency("google-adk", "google-adk", "A session service of Google ADK", error) from error

__all__ = ["SessileArtifactService", "SessileMemoryService", "SessileSessionService"]

KIND, STATES = "google-adk", "google-adk-state"
BEGUN = "adk.begun"
NEWEST = 8
"""How many commits come along with a look."""
LOOKED_BACK = 200
"""How many entries are looked through for an invocation that is not among the newest."""

MOST_KNOWN = 256
"""Of how many sessions something is remembered."""
MOST_EVENTS = 64
"""Of how many events the commits come along with a look that is to bring so many."""
Scopes = dict[str, dict[str, Any]]
Names = tuple[str, str, str]
"""App, user, and session."""


class SessileSessionService(BaseSessionService):
    """Sessions with their events and state: `Runner(…, session_service=SessileSessionService(storage))`.

    An event and what it changes in its session's state are one commit. What it changes in the state of the user
    (`user:`) and of the app (`app:`) stands in that commit, too, and is then written there, exactly once: after a crash
    between the two by whoever loads the session next. So no event is without its state. Events come in the order in
    which they were appended. An event id that is there already is the same event, and is not stored again. Session
    objects that are out of date are no error: what they append is added.

    Args:
        storage: where sessions are kept. The caller closes it. Each session belongs to the user whose it is in ADK.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._runs: OrderedDict[str, Invocations] = OrderedDict()
        self._known: OrderedDict[str, Snapshot] = OrderedDict()
        """Of the sessions that were appended to last, what is known: it spares a look, or costs a lost race."""
        self._settled: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._keys: OrderedDict[str, Keys] = OrderedDict()
        self._events = KeptEvents(_said)
        self._lines = Lines()

    # ------------------------------------------------------------ the framework's methods

    async def create_session(
        self, *, app_name: str, user_id: str, state: dict[str, Any] | None = None, session_id: str | None = None
    ) -> AdkSession:
        """Make a session; `AlreadyExistsError` if there is one of that id, which is stripped."""
        session_id = (session_id or "").strip() or str(uuid.uuid4())
        try:
            return await aoperate(self.storage, self._create, (app_name, user_id, session_id), state or {})
        except TakenError:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.") from None

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> AdkSession | None:
        """The session with its events, or the newest of them, and its state with those of user and app; or None."""
        return await aoperate(self.storage, self._get, (app_name, user_id, session_id.strip()), config)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """Sessions without their events, oldest change first; of all users if none is named."""
        found: list[AdkSession] = []
        cursor: str | None = None
        whose = ANY_USER if user_id is None else owner(user_id)
        while user_id != "":
            page = await self.storage.asessions(
                kind=KIND, agent=short(app_name), user_id=whose, cursor=cursor, limit=100, with_state=True
            )
            for one in page:
                if one.metadata.get("app_name") == app_name:
                    with passing_over(one.session_id):
                        found.append(await aoperate(self.storage, self._shown, one, [], _names_of(one)))
            cursor = page.next_cursor
            if cursor is None:
                break
        found.sort(key=lambda one: (one.last_update_time, one.user_id, one.id))
        return ListSessionsResponse(sessions=found)

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete the session; the state of its user and app stays."""
        stored = stored_id("adk", app_name, user_id, session_id.strip())
        await self.storage.adelete(stored, user_id=owner(user_id))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """The state of a user in an app, its keys without their prefix."""
        return await aoperate(self.storage, self._scope, "user", app_name, user_id)

    async def append_event(self, session: AdkSession, event: Event) -> Event:
        """Append an event and what it changes in states; `SessionNotFoundError` if the session is gone."""
        if event.partial:
            return event
        said = event.model_dump(mode="json", exclude_none=True)
        names = session.app_name, session.user_id, session.id
        try:
            async with self._lines.at(stored_id("adk", *names)):
                new = await aoperate(self.storage, self._append, names, said)
        except MissingError:
            raise SessionNotFoundError(f"Session {session.id} not found.") from None
        if new or not any(one.id == event.id for one in session.events):
            await super().append_event(session=session, event=event)
            session.last_update_time = event.timestamp
        return event

    # ------------------------------------------------------------ operations

    async def _create(self, core: Core, names: Names, state: dict[str, Any]) -> AdkSession:
        app_name, user_id, session_id = names
        stored = stored_id("adk", *names)
        own, scopes = scoped(state)
        key = f"adk:created:{uuid.uuid4()}"

        async def change(snapshot: Snapshot) -> Draft:
            if snapshot.head is not None:
                raise TakenError(f"There is a session {stored!r} already.")
            told: dict[str, Any] = {"app_name": app_name, "user_id": user_id, "session_id": session_id}
            told["last_update_time"] = core.clock.now() / 1e6
            told |= {"pending": [key]} if scopes else {}
            given = {"kind": KIND, "agent": short(app_name), "metadata": told, "state": own}
            _, first = started_session(core, snapshot, stored, user_id=owner(user_id), **given)
            return Draft([*first, Entry(BEGUN, {"state": {**own, **named(scopes)}})], key=key)

        head = (await commit(core, stored, change, user_id=owner(user_id))).head
        self._keys_of(head).took(key, head.revision)
        await self._settle(core, head, names, {key: scopes})
        return await self._shown(core, head, [], names)

    async def _append(self, core: Core, names: Names, said: dict[str, Any]) -> bool:
        """Store an event; whether it was not there yet."""
        stored, user, event_id = stored_id("adk", *names), owner(names[1]), str(said.get("id") or uuid.uuid4())
        key = f"adk:{event_id}" if is_usable(f"adk:{event_id}") else f"adk:~{digest(event_id)}"
        delta = (said.get("actions") or {}).get("state_delta") or {}
        own, scopes = scoped(delta)
        if delta:
            kept = {name: value for name, value in delta.items() if not name.startswith("temp:")}
            said = {**said, "actions": {**said["actions"], "state_delta": kept}}
        run_id = str(said.get("invocation_id") or "") or f"event:{event_id}"
        run_id = short(run_id)

        async def change(snapshot: Snapshot) -> Draft:
            head = snapshot.head
            if head is None:
                raise MissingError(f"There is no session {stored!r}.")
            if await self._keys_of(head).has(core, snapshot, key):
                raise _ThereError
            number = await self._number(core, head, run_id)
            text = text_of(said)
            common: dict[str, Any] = {
                "messages": [said],
                "format": FORMAT,
                "agent": short(str(said.get("author") or "-")),
            }
            answer = text if said.get("author") != "user" else None
            usage = usage_of(said)
            if number:
                entries = run_amended(
                    number, run_id, usage=usage or None, **({"output": answer} if answer else {}), **common
                )
            else:
                asked = text if said.get("author") == "user" else None
                number, entries = run_added(head, run_id, input=asked, output=answer, usage=usage, **common)
            told: dict[str, Any] = {"last_update_time": said.get("timestamp", core.clock.now() / 1e6)}
            waiting = [one for one in pending(head) if (head.incarnation, one) not in self._settled]
            waiting += [key] if scopes else []
            told |= {"pending": waiting} if waiting else {}
            left = [] if waiting or "pending" not in head.metadata else ["pending"]
            entries += state_changed(head, own, run_id=run_id, run=number) if own else []
            entries += metadata_changed(head, told, left)
            return Draft(entries, number, key=key)

        known = self._known.pop(stored, None)
        if known is None:
            known = await look(core, stored, newest=NEWEST, user_id=user)
        if known.head is not None:
            await self._settle(core, known.head, names)
        try:
            committed = await commit(core, stored, change, known=known, user_id=user)
        except _ThereError:
            return False
        runs = self._runs.get(committed.head.incarnation)
        if runs is not None and runs.upto == committed.head.revision - 1:
            runs.take(committed.entries)
            runs.upto = committed.head.revision
        self._keys_of(committed.head).took(key, committed.head.revision)
        self._events.appended(committed.head, committed.entries)
        self._remember(self._known, stored, Snapshot(committed.head, [], core.clock.now()))
        await self._settle(core, committed.head, names, {key: scopes})
        return True

    def _keys_of(self, head: Session) -> Keys:
        keys = self._keys.get(head.incarnation) or Keys()
        self._remember(self._keys, head.incarnation, keys)
        return keys

    async def _number(self, core: Core, head: Session, run_id: str) -> int:
        """The number of the run of an invocation; 0 if it has none among the newest.

        The newest entries are looked through once; after that only what others have added.
        """
        runs = self._runs.get(head.incarnation)
        if runs is None or head.revision - runs.upto > LOOKED_BACK:
            page = await tail(core, head.session_id, LOOKED_BACK, kinds=["message"], user_id=ANY_USER)
            runs = Invocations(head.revision)
            runs.take([] if page is None else page.entries[::-1])
        elif runs.upto < head.revision:
            runs.take(await entries_between(core, head, runs.upto + 1, head.revision, limit=LOOKED_BACK))
            runs.upto = head.revision
        self._remember(self._runs, head.incarnation, runs)
        number = runs.numbers.get(run_id, 0)
        return number if head.on_path(number) else 0

    def _remember(self, memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
        memory[key] = value
        if len(memory) > MOST_KNOWN:
            with suppress(KeyError):  # another thread was quicker
                memory.popitem(last=False)

    # ------------------------------------------------------------ state of users and apps

    async def _settle(self, core: Core, head: Session, names: Names, known: dict[str, Scopes] | None = None) -> None:
        """Write to the states of user and app what commits of the session have changed there, once each.

        Whose states these are is in its id; metadata, which others may change, could name another user.
        """
        for key in pending(head) if "pending" in head.metadata else ():
            if (head.incarnation, key) in self._settled:
                continue
            scopes = (known or {}).get(key)
            if scopes is None:
                entries = await find_in(core, head, key)
                scopes = next((scoped(delta)[1] for one in entries if (delta := _delta(one))), {})
            for scope, values in scopes.items():
                stored, user = self._scope_of(scope, names[0], names[1])
                await self._write(core, stored, user, f"adk:{digest(head.incarnation, key)}", values, head.agent)
            self._remember(self._settled, (head.incarnation, key), None)

    async def _write(
        self, core: Core, stored: str, user: str | None, key: str, values: dict[str, Any], app: str | None
    ) -> None:
        """Put values into the state of a user or an app, unless that was done under this key."""

        async def change(snapshot: Snapshot) -> Draft:
            if snapshot.head is not None and await find_in(core, snapshot.head, key, limit=1):
                raise _ThereError
            now, first = started_session(core, snapshot, stored, user_id=user, kind=STATES, agent=app)
            return Draft([*first, Entry("adk.settled"), *state_changed(now, values)], key=key)

        with suppress(_ThereError):
            await commit(core, stored, change, user_id=user)

    def _scope_of(self, scope: str, app_name: str, user_id: str) -> tuple[str, str | None]:
        if scope == "user":
            return stored_id("adk-user", app_name, user_id), owner(user_id)
        return stored_id("adk-app", app_name), None

    async def _scope(self, core: Core, scope: str, app_name: str, user_id: str) -> dict[str, Any]:
        stored, user = self._scope_of(scope, app_name, user_id)
        head = (await look(core, stored, user_id=user)).head
        return {} if head is None else dict(head.state)

    # ------------------------------------------------------------ reading

    async def _get(self, core: Core, names: Names, config: GetSessionConfig | None) -> AdkSession | None:
        count = None if config is None else config.num_recent_events
        newest = NEWEST if count is None else min(MOST_EVENTS, count)  # an event is a commit
        snapshot = await look(core, stored_id("adk", *names), newest=newest, user_id=owner(names[1]))
        if snapshot.head is None:
            return None
        events = [_event(text) for text in await self._events.newest(core, snapshot, count)]
        since = None if config is None else config.after_timestamp
        if since is not None:
            older = [place for place, event in enumerate(events) if event.timestamp < since]
            events = events[older[-1] + 1 :] if older else events
        return await self._shown(core, snapshot.head, events, names)

    async def _shown(self, core: Core, head: Session, events: list[Event], names: Names) -> AdkSession:
        app_name, user_id, session_id = names
        await self._settle(core, head, names)
        state = dict(head.state)
        for scope in ("app", "user"):
            values = await self._scope(core, scope, app_name, user_id)
            state |= {f"{scope}:{name}": value for name, value in values.items()}
        return _session(
            id=session_id,
            app_name=app_name,
            user_id=user_id,
            state=state,
            events=events,
            last_update_time=head.metadata.get("last_update_time", head.updated_at.timestamp()),
        )


class _ThereError(Exception):
    """It was written before."""


@reads_stored
def _session(**given: Any) -> AdkSession:
    return AdkSession(**given)


@reads_stored
def _names_of(head: Session) -> Names:
    """App, user and id of a session of a list, as its metadata says; these must be what its id is made of."""
    told = head.metadata
    names = told["app_name"], told["user_id"], told["session_id"]
    if stored_id("adk", *names) != head.session_id or owner(names[1]) != head.user_id:
        raise ValueError("its id is made of other names")
    return names


@reads_stored
def _delta(entry: Entry) -> dict[str, Any]:
    """What a stored event, or the beginning of a session, has changed in states."""
    if entry.kind == BEGUN:
        return dict(entry.data["state"])
    event = entry.data if entry.format == FORMAT else {}
    return dict((event.get("actions") or {}).get("state_delta") or {})


@reads_stored
def _said(message: Message) -> dict[str, Any] | None:
    """The message as an event's JSON: one of ADK's as it is, one of an agent of Sessile's translated."""
    return message.data if message.format == FORMAT else event_of(message)


@reads_stored
def _event(text: str) -> Event:
    return Event.model_validate_json(text)
