"""Who is in a team, and what its leader and its members are told of each other."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from ...errors import InvalidInputError, NotResumableError
from ..agent import Agent
from ..run.company import TeamRequest

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
        shared_answers: how many tokens of what has been answered in a run the next members are shown.
        max_handoffs: how often members may hand over in one run.
    """

    title: str
    members: Mapping[str, Agent[Any]]
    mode: str | Callable[[Any, Any], Awaitable[Any]]
    member_history: MemberHistory
    briefing: str | None
    shared_answers: int = 0
    max_handoffs: int = 0

    def of(self, members: Mapping[str, Agent[Any]]) -> Roster:
        """The same team with these members."""
        return replace(self, members=members, briefing=briefing(self.mode, members))


ChooseMembers = Callable[[TeamRequest], Any]
"""A function of what the team is asked, synchronous or not, that returns the members of one run."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Where the members of a run come from.

    Attributes:
        fixed: those that the team was made with.
        function: what the team was made with instead.
        given: those that a run was given: names of fixed ones, or agents.
        check: raises an error where they cannot be members.
    """

    fixed: Mapping[str, Agent[Any]]
    function: ChooseMembers | None
    given: Sequence[Agent[Any] | str] | None
    check: Callable[[Mapping[str, Agent[Any]]], None]

    @property
    def is_fixed(self) -> bool:
        """Whether every run has the same members."""
        return self.function is None and self.given is None

    async def chosen(self, request: TeamRequest) -> dict[str, Agent[Any]]:
        """The members of a new run. A synchronous function is called in a thread: it may ask a database."""
        if self.given is not None:
            return self._checked([self._named(one) for one in self.given])
        assert self.function is not None, "the members are fixed"
        found: Any = await asyncio.to_thread(self.function, request)
        found = await found if inspect.isawaitable(found) else found
        if isinstance(found, str) or not isinstance(found, Sequence):
            raise InvalidInputError(f"A function that chooses members returns a list of agents, not {found!r}.")
        return self._checked(cast("Sequence[Agent[Any]]", found))

    async def found(self, names: Sequence[str], request: TeamRequest, number: int) -> dict[str, Agent[Any]]:
        """The members of these names, which a run has begun with."""
        there = dict(self.fixed)
        if self.function is not None and self.given is None:
            there.update(await self.chosen(request))
        there.update({one.name: one for one in self.given or () if isinstance(one, Agent) and one.name is not None})
        if missing := [name for name in names if name not in there]:
            raise NotResumableError(
                f"Run {number} of session {request.session_id!r} was begun with the members "
                f"{', '.join(map(repr, names))}; {', '.join(map(repr, missing))} cannot be found.",
                hint="Pass them as members=, or end the run with storage.cancel_run; nothing was written.",
            )
        return self._checked([there[name] for name in names])

    def _named(self, one: Agent[Any] | str) -> Agent[Any]:
        if not isinstance(one, str):
            return one
        if one not in self.fixed:
            raise InvalidInputError(f"The team has no member {one!r}; it has {', '.join(map(repr, self.fixed))}.")
        return self.fixed[one]

    def _checked(self, members: Sequence[Agent[Any]]) -> dict[str, Agent[Any]]:
        named = by_name(members)
        self.check(named)
        return named


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
    if callable(mode) or mode == "handoff":
        return None
    return "\n".join([BRIEFINGS[mode], "", "The members:", *listed(members)])


def listed(members: Mapping[str, Agent[Any]]) -> list[str]:
    """Members as a model is told of them, a line each."""
    return [
        f"- {name}: {member.description}" if member.description else f"- {name}" for name, member in members.items()
    ]
