"""Who is in a team, and what its leader and its members are told of each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import InvalidInputError
from ..agent import Agent

BRIEFINGS = {
    "coordinate": (
        "You lead a team. Let its members work with the tool `delegate_task`, several at the same time where their "
        "tasks do not depend on each other, and write the answer from what comes back. A member knows only what you "
        "tell it, and what it did earlier."
    ),
    "route": (
        "You lead a team. Choose the one member that fits the request best, and hand the request over with the tool "
        "`delegate_task`. The member's answer goes to the user as it is."
    ),
    "collaborate": (
        "You lead a team whose members have all worked on the request, each on its own. Join what they say into one "
        "answer, and say where they disagree."
    ),
}

MemberHistory = Literal["own", "team"]
"""What members are sent along: their own earlier work in the session, or the team's conversation."""


@dataclass(frozen=True, slots=True)
class Roster:
    """A team as the runs of its members need to know it.

    Attributes:
        title: what the team is called.
        members: its members by name, in their order.
        mode: how they work together: a name, or a function of what the team was asked and of its members.
        member_history: what they are sent along.
        briefing: what their leader is told about them; None where a function leads.
    """

    title: str
    members: Mapping[str, Agent[Any]]
    mode: str | Callable[[Any, Any], Awaitable[Any]]
    member_history: MemberHistory
    briefing: str | None


def by_name(members: Sequence[Agent[Any]]) -> dict[str, Agent[Any]]:
    """The members of a team, checked."""
    named: dict[str, Agent[Any]] = {}
    for member in members:
        if not isinstance(member, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"The members of a team are agents and teams; this is a {type(member).__name__}.")
        if member.name is None:
            raise InvalidInputError("Every member of a team needs a name.")
        if member.review:
            raise InvalidInputError(
                f"Nobody sees what the member {member.name!r} answers before its leader does.",
                hint="Make the team with review=True.",
            )
        if member.name in named:
            raise InvalidInputError(f"Two members are called {member.name!r}.")
        named[member.name] = member
    if not named:
        raise InvalidInputError("A team needs members.")
    return named


def briefing(mode: str | Callable[..., Any], members: Mapping[str, Agent[Any]]) -> str | None:
    """What the leader is told about its team."""
    if callable(mode):
        return None
    lines = [
        f"- {name}: {member.description}" if member.description else f"- {name}" for name, member in members.items()
    ]
    return "\n".join([BRIEFINGS[mode], "", "The members:", *lines])
