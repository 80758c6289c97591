"""The session as tools and instructions see it while a run is in progress."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Any

from ..errors import SessileError
from ..records import JsonObject
from ..storage.storage import Storage


class CurrentSession:
    """The session that the run at hand belongs to.

    Attributes:
        session_id, user_id, run_id, storage: which run of which session it is.
        agent: the name of the agent, team or workflow.
        team: of a member's run: the `CurrentSession` of the run of its team. None otherwise.
        top: the `CurrentSession` of the top-level run that this run is a part of; of a top-level run, itself.
        outer: the `CurrentSession` of the run inside of which this one has begun, in a tool or a step; or None.
        ended: whether the run has ended, or pauses.
        scopes: which states that outlive the session stand in `state`: of `"user"` and `"app"`.
        incarnation: what tells the session from others that had or will have its id; None: it is not stored yet.
    """

    __slots__ = (
        "_scopes",
        "_state",
        "_temp",
        "_top",
        "agent",
        "ended",
        "incarnation",
        "outer",
        "run_id",
        "session_id",
        "storage",
        "team",
        "user_id",
    )

    def __init__(
        self,
        session_id: str,
        user_id: str | None,
        run_id: str,
        storage: Storage,
        state: JsonObject,
        team: CurrentSession | None = None,
        *,
        shared: bool = False,
        agent: str | None = None,
        scopes: frozenset[str] = frozenset(),
        temp: dict[str, Any] | None = None,
        incarnation: str | None = None,
    ) -> None:
        self.session_id, self.user_id, self.run_id, self.storage = session_id, user_id, run_id, storage
        self.team, self.agent, self.incarnation = team, agent, incarnation
        self._top = team.top if shared and team is not None else None
        self._state, self._scopes = state, scopes
        self._temp: dict[str, Any] = {} if temp is None else temp
        self.ended = False
        self.outer = _at_work(_current.get(None))

    @property
    def top(self) -> CurrentSession:
        """See above. Not kept where it is itself: what refers to itself waits for the garbage collector."""
        return self if self._top is None else self._top

    @property
    def state(self) -> JsonObject:
        """The session's state, which tools may read and change.

        What has changed is saved as a patch when the run ends, also when it fails or is cancelled. The members of a
        team share one with it, unless they keep sessions of their own.
        """
        return self.top._state

    @state.setter
    def state(self, state: JsonObject) -> None:
        self.top._state = state

    @property
    def scopes(self) -> frozenset[str]:
        """Which states that outlive the session stand among its own."""
        return self.top._scopes

    @property
    def temp(self) -> dict[str, Any]:
        """What the tools of this run keep for each other, and nobody stores."""
        return self.top._temp

    @property
    def shown(self) -> Mapping[str, Any]:
        """All that placeholders in instructions may name."""
        return {**self.state, **{f"temp:{key}": value for key, value in self.temp.items()}} if self.temp else self.state


_current: ContextVar[CurrentSession] = ContextVar("sessile_session")


def current_session() -> CurrentSession:
    """The session of the run at hand, for tools, instructions and validators.

    Threads that a tool starts itself do not know it, unless they are started with `contextvars.copy_context().run`.

    Raises `SessileError` outside a run of an agent.
    """
    try:
        return _current.get()
    except LookupError:
        raise SessileError(
            "There is no session here.",
            hint="Call this inside a run of an agent. A tool's own threads need its context: run their functions by "
            "contextvars.copy_context().run(…), or pass them what session_state() has given.",
        ) from None


def session_state() -> JsonObject:
    """The state of the session at hand: a dictionary to read and to change."""
    return current_session().state


class ScopedState(MutableMapping[str, Any]):
    """A part of the state at hand by its own keys: `user_state()["plan"]` is `session_state()["user:plan"]`."""

    def __init__(self, session: CurrentSession, word: str) -> None:
        self._session, self._start = session, f"{word}:"

    def __getitem__(self, key: str) -> Any:
        try:
            return self._session.state[self._start + key]
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance] (JSON has no others)
            raise TypeError(f"Keys of a state are strings, not {type(key).__name__}.")
        self._session.state[self._start + key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        del self._session.state[self._start + key]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._start + key in self._session.state

    def __iter__(self) -> Iterator[str]:
        return iter([key.removeprefix(self._start) for key in self._session.state if key.startswith(self._start)])

    def __len__(self) -> int:
        return sum(key.startswith(self._start) for key in self._session.state)

    def __repr__(self) -> str:
        return repr(dict(self))


def user_state() -> MutableMapping[str, Any]:
    """The state of the user at hand, the same in all of the user's sessions: to read and to change.

    It is the part of `session_state()` whose keys begin with `user:`. What a run changes in it is saved when the run
    ends, key by key, with what other sessions change at the same time. Instructions show it by `{user:key}`.

    Raises `SessileError` outside a run, of an agent without `scopes=["user"]`, and where the session has no user.
    """
    return _scope("user")


def app_state() -> MutableMapping[str, Any]:
    """The state of the application, the same for all users: as `user_state`, for agents with `scopes=["app"]`."""
    return _scope("app")


def temp_state() -> dict[str, Any]:
    """What the tools of this run keep for each other: any values, never stored, gone when the run ends or pauses."""
    return current_session().temp


def _scope(word: str) -> ScopedState:
    session = current_session()
    if word not in session.scopes:
        if word == "user" and session.user_id is None:
            raise SessileError("There is no user here, and no user's state.", hint="Pass user_id= to the run.")
        raise SessileError(
            f"The {'user' if word == 'user' else 'application'}'s state is not at hand in this run.",
            hint=f'Make the agent, team or workflow with scopes=["{word}"].',
        )
    return ScopedState(session, word)


def enter(session: CurrentSession) -> Token[CurrentSession]:
    """Make this the session at hand: for the rest of the context, or until `leave` is given what this returns."""
    return _current.set(session)


def leave(entered: Token[CurrentSession]) -> None:
    """Make the session at hand what it was before."""
    _current.reset(entered)


def runs_around() -> frozenset[str]:
    """The ids of the runs that the code at hand is inside of: they do not end before it."""
    ids: set[str] = set()
    session = _at_work(_current.get(None))
    while session is not None:
        ids.update((session.run_id, session.top.run_id))
        session = _at_work(session.outer)
    return frozenset(ids)


def tops_around() -> list[CurrentSession]:
    """The top-level runs that the code at hand is inside of, from the innermost one on."""
    tops: dict[str, CurrentSession] = {}
    session = _at_work(_current.get(None))
    while session is not None:
        tops.setdefault(session.top.run_id, session.top)
        session = _at_work(session.outer)
    return list(tops.values())


def _at_work(session: CurrentSession | None) -> CurrentSession | None:
    """The innermost one whose run is running: what a run has left in the context that has ended is no part of one."""
    while session is not None and session.ended:
        session = session.outer
    return session


@contextmanager
def entered(session: CurrentSession) -> Generator[CurrentSession]:
    """Make this the session at hand within the block."""
    token = enter(session)
    try:
        yield session
    finally:
        leave(token)
