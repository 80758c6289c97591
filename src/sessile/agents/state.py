"""The session as tools and instructions see it while a run is at work."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from ..errors import SessileError
from ..records import JsonObject
from ..storage.encoding import encode
from ..storage.storage import Storage


class CurrentSession:
    """The session that the run at hand belongs to.

    Attributes:
        session_id, user_id, run_id, storage: which run of which session it is.
        team: of a run of a team's member: the same for the run of the team above it. None otherwise.
        top: the same for the session's top-level run that this one is a part of, or is.
    """

    __slots__ = ("_state", "run_id", "session_id", "storage", "team", "top", "user_id")

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
    ) -> None:
        self.session_id, self.user_id, self.run_id, self.storage = session_id, user_id, run_id, storage
        self.team = team
        self.top: CurrentSession = team.top if shared and team is not None else self
        self._state = state

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


_current: ContextVar[CurrentSession] = ContextVar("sessile_session")


def current_session() -> CurrentSession:
    """The session of the run at hand, for tools, instructions and validators.

    Raises `SessileError` outside a run of an agent with a storage.
    """
    try:
        return _current.get()
    except LookupError:
        raise SessileError(
            "There is no session here.", hint="Call this inside a run of an agent that has a storage."
        ) from None


def session_state() -> JsonObject:
    """The state of the session at hand: a dictionary to read and to change."""
    return current_session().state


def enter(session: CurrentSession) -> None:
    """Make this the session at hand, for the rest of the context."""
    _current.set(session)


def is_inside(storage: Storage, session_id: str) -> bool:
    """Whether the code at hand runs inside a run of that session."""
    session = _current.get(None)
    return session is not None and session.storage is storage and session.session_id == session_id


@contextmanager
def entered(session: CurrentSession) -> Generator[CurrentSession]:
    """Make this the session at hand within the block."""
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)


_PLACEHOLDER = re.compile(r"\{([A-Za-z_][\w]*(?:\.[\w]+)*)\}")


def fill_placeholders(text: str, state: Mapping[str, Any]) -> str:
    """`text` with each `{key}` (or `{key.inner}`) that the state has replaced by its value.

    Text stands as it is, other values as JSON. Braces that name no key of the state are left alone, so that
    instructions may hold JSON examples.
    """

    def value(match: re.Match[str]) -> str:
        node: Any = state
        for key in match[1].split("."):
            if not isinstance(node, Mapping) or key not in node:
                return match[0]
            node = cast(Mapping[str, Any], node)[key]
        return node if isinstance(node, str) else encode(node)

    return _PLACEHOLDER.sub(value, text) if "{" in text else text


def may_have_placeholders(instructions: Any) -> bool:
    """Whether instructions may come to hold placeholders: text with a brace, or anything that makes text."""
    if instructions is None or isinstance(instructions, str):
        return instructions is not None and "{" in instructions
    if isinstance(instructions, (list, tuple)):
        return any(may_have_placeholders(item) for item in cast(list[Any], instructions))
    return True
