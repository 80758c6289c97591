"""What is read from another library's files: conversations of turns, before they are sessions of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...records import JsonObject, Status, Usage


@dataclass(slots=True)
class Turn:
    """What becomes a run.

    Attributes:
        run_id: the source's id of it, or one that is made of what stays as it is: a second import knows it by that.
        input, output, error, metadata: as `Storage.add_run` takes them.
        messages: the turn's own, in `format`.
        started_us, ended_us: when it was, microseconds UTC; 0 if nobody knows.
        after: the place, in the conversation's turns, of the one that it follows, where that is not the one before;
            -1: it begins the conversation anew.
        below: what members of a team did for it.
    """

    run_id: str
    input: Any = None
    output: Any = None
    messages: list[JsonObject] = field(default_factory=list[JsonObject])
    format: str | None = None
    status: Status = "completed"
    error: JsonObject | None = None
    usage: Usage | None = None
    agent: str | None = None
    metadata: JsonObject | None = None
    started_us: int = 0
    ended_us: int = 0
    after: int | None = None
    below: list[Turn] = field(default_factory=list["Turn"])


@dataclass(slots=True)
class Conversation:
    """What becomes a session.

    Attributes:
        source: what it is known by where it comes from, whatever it is called here.
        session_id: its id.
        user_id: whose it is; None where the source does not say.
        state: the state that it ended with, whole; null is a value.
        created_us: when it began, microseconds UTC; 0 if nobody knows.
        turns: what was said, in the order in which it was; a generator is read once.
        end: the place of the turn that it stands at, where that is not the last one.
    """

    source: str
    session_id: str
    user_id: str | None = None
    agent: str | None = None
    kind: str = "agent"
    name: str | None = None
    state: JsonObject | None = None
    metadata: JsonObject = field(default_factory=dict[str, Any])
    created_us: int = 0
    turns: list[Turn] = field(default_factory=list[Turn])
    end: int | None = None


Skip = Callable[[str, str], None]
"""Is told what is left out: where it stands, and why."""

Conversations = Iterator[Conversation]
