"""What a server has: agents, teams and workflows over one storage, and what each caller sees of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from ..agents import Agent, Team
from ..drivers.memory import MemoryStorage
from ..errors import InvalidInputError
from ..insight import Index
from ..records import ANY_USER, UserId
from ..storage.storage import Storage
from ..storage.users import said_id, space_of
from ..workflows import Workflow
from .auth import Caller
from .limits import Limits, Slots
from .metrics import Metrics
from .problems import Problem
from .work import Work

Served = Agent[Any] | Workflow[Any]
"""What can be run: an agent, a team, or a workflow."""


@dataclass
class Server:
    """All that requests have in common.

    Attributes:
        storage: where all sessions are.
        served: what can be run, by name.
        limits: what it takes on.
        index_url: where the index lies, if not beside the log.
        work: the runs in progress in this process.
        slots: the places for them.
        indexed_until: up to when the index was complete when it was last brought up to date here, in microseconds.
        stopping: is set when the server is about to end.
        ending: interrupts the runs that do not end in time.
        changes: looks at what changes, once a stream has asked for it (`changing.Changes`).
        experiments: replays that were begun here, by name (`experiments.Experiment`).
        began: when it was made, seconds since 1970.
        keeps_index: whether the index is brought up to date in the background.
        index_error: what has kept the index from being brought up to date in the background, the last time.
    """

    storage: Storage
    served: dict[str, Served]
    limits: Limits = field(default_factory=Limits)
    index_url: str | None = None
    metrics: Metrics = field(default_factory=Metrics)
    streams: int = 0
    indexed_until: int | None = None
    stopping: bool = False
    ending: asyncio.Future[None] | None = None
    changes: Any = None
    experiments: dict[str, Any] = field(default_factory=dict[str, Any])
    began: float = field(default_factory=time.time)
    index_error: str | None = None
    keeps_index: bool = False

    def __post_init__(self) -> None:
        self.work = Work(self.limits.kept_seconds)
        self.slots = Slots(self.limits)
        self._stopped: asyncio.Event | None = None
        self._index: Index | None = None

    @property
    def stopped(self) -> asyncio.Event:
        """Is set when the server is about to end."""
        if self._stopped is None:
            self._stopped = asyncio.Event()
        return self._stopped

    def begin(self) -> None:
        """Serve, also once more after it was told to stop; from its event loop."""
        self.stopping, self._stopped, self.changes = False, None, None

    def stop(self) -> None:
        """Tell streams that the server is about to end; from its event loop."""
        self.stopping = True
        self.stopped.set()

    def index(self) -> Index:
        """The index of all sessions; raises a problem (501) where there can be none."""
        if self._index is None:
            try:
                self._index = self.storage.index(self.index_url)
            except InvalidInputError as error:
                hint = "Start the server with an index: create_app(…, index=URL)."
                raise Problem(501, "no-index", error.message, hint=hint) from None
        assert self._index is not None
        return self._index

    def has_index(self) -> bool:
        """Whether there can be one."""
        try:
            self.index()
        except Problem:
            return False
        return True

    def close(self) -> None:
        """Close what it has opened itself."""
        if self._index is not None:
            self._index.close()
            self._index = None


def served_by_name(given: Iterable[Served], storage: Storage | None) -> tuple[Storage, dict[str, Served]]:
    """What is served, by name, over one storage; raises `InvalidInputError` where that is not so."""
    things = list(given)
    own = [thing.storage for thing in things if thing.storage is not None and not _is_default(thing)]
    whole = storage or (own[0] if own else None)
    if whole is None:
        raise InvalidInputError("A server needs a storage.", hint='Pass storage=sessile.open("sqlite:///sessions.db").')
    if any(one is not whole for one in own):
        raise InvalidInputError("All agents, teams and workflows of a server share one storage object.")
    served: dict[str, Served] = {}
    for thing in things:
        if not thing.name:
            raise InvalidInputError("What is served needs a name.", hint='Make it with name="support".')
        if thing.name in served:
            raise InvalidInputError(f"Two are named {thing.name!r}.", hint="Give each a name of its own.")
        served[thing.name] = own_copy = copy(thing)
        own_copy.storage = whole
    return whole, served


def _is_default(thing: Served) -> bool:
    """Whether a workflow keeps its sessions in memory, as those do that were given no storage."""
    return isinstance(thing, Workflow) and isinstance(thing.storage, MemoryStorage)


def kind_of(thing: Served) -> str:
    """`agent`, `team` or `workflow`."""
    return "workflow" if isinstance(thing, Workflow) else "team" if isinstance(thing, Team) else "agent"


def resumable(thing: Served) -> bool:
    """Whether runs of it go on after a crash."""
    return isinstance(thing, Workflow) or thing.durability == "step"


@dataclass(frozen=True, slots=True)
class View:
    """What one caller sees and may do.

    A user's own sessions have ids of the user's own (`Storage.for_user`); an administrator sees all sessions, under the
    ids by which they are stored.
    """

    server: Server
    caller: Caller
    storage: Storage
    reads: UserId

    @property
    def is_administrator(self) -> bool:
        """Whether all sessions are shown."""
        return self.caller.administrator

    def stored_id(self, session_id: str) -> str:
        """The id by which a session is stored."""
        return session_id if self.is_administrator else f"{space_of(self.caller.user_id or '')}{session_id}"

    def runner(self, name: str) -> Served:
        """The agent, team or workflow of a name, over what the caller sees; raises a problem (404)."""
        thing = self.server.served.get(name)
        if thing is None:
            raise Problem(404, "no-such-agent", f"Nothing of the name {name!r} is served here.")
        return thing if self.is_administrator else thing.for_user(self.caller.user_id or "")

    def index(self) -> Index:
        """The index of the caller's sessions."""
        whole = self.server.index()
        return whole if self.is_administrator else whole.for_user(self.caller.user_id or "")

    def whose(self, user_id: str | None) -> UserId:
        """Whose sessions a list is about: an administrator may name a user."""
        if not self.is_administrator:
            return None
        return ANY_USER if user_id is None else user_id

    def owner(self, user_id: str | None) -> str | None:
        """Whose session a new one is, for what runs it; an administrator may name a user."""
        if not self.is_administrator:
            return None
        return self.caller.user_id if user_id is None else user_id


def view_for(server: Server, caller: Caller) -> View:
    """What a caller sees."""
    if caller.administrator:
        return View(server, caller, server.storage, ANY_USER)
    assert caller.user_id is not None, "only administrators may be nobody"
    return View(server, caller, server.storage.for_user(caller.user_id), None)


async def view_of(request: Request) -> View:
    """What the caller of this request sees: for routes, whose router has found out who it is.

    FastAPI calls what is no coroutine in a thread, which costs more than all else that it does.
    """
    return request.state.view


def said_in(stored_id: str, user_id: str | None) -> tuple[str, str | None]:
    """A stored id as its user says it, and that user; of an id that all users share, None."""
    said = said_id(stored_id, user_id)
    return (said, user_id) if said != stored_id else (stored_id, None)
