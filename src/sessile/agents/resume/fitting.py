"""Whether an agent can carry out what was decided about a run, asked before anything is written.

A decision is used up when the run goes on: by code that cannot carry it out it would be lost.
"""

from __future__ import annotations

from collections.abc import Collection, Set

from pydantic_ai import DeferredToolResults

from ...errors import NotResumableError
from ...records import FINISHED, Run, Session
from ...storage.forms import REVIEW
from ...storage.turns import TurnSpec
from ...storage.vocabulary import Pending, ToolStarted
from ..messages.stored import requests_of
from ..run.job import Job
from .decisions import decidable
from .tools import Tools, UnlistedError

OTHERS = "Resume it with what has begun it; if that was renamed on purpose, with adopt=True."


def check_owner(head: Session | None, run: Run, spec: TurnSpec) -> None:
    """Raise `NotResumableError` if the run is another agent's or team's."""
    if run.agent != spec.agent:
        raise NotResumableError(
            f"Run {run.number} of session {spec.session_id!r} is one of {run.agent!r}; this is {spec.agent!r}.",
            hint=OTHERS,
        )
    if spec.kind != "team" and _is_teams(head, run):
        raise NotResumableError(
            f"Run {run.number} of session {spec.session_id!r} is one of a team; {spec.agent!r} is an agent.",
            hint=OTHERS,
        )


def _is_teams(head: Session | None, run: Run) -> bool:
    """Whether a team has begun the run: members have worked in it, or the session is the team's."""
    of_team = head is not None and head.kind == "team" and head.agent == run.agent
    return of_team or any(child.key is not None for child in run.children)


class Abilities:
    """The tools of an agent, and of the members below it, as they are asked for."""

    def __init__(self) -> None:
        self._tools: dict[str, Tools] = {}

    async def ask(self) -> None:
        """Ask the toolsets that do not show their tools by themselves."""
        for tools in self._tools.values():
            await tools.ask()

    def check(self, run: Run, given: DeferredToolResults, job: Job, path: str = "") -> None:
        """Raise `NotResumableError` if a decision is about a tool, or a member, that is not there (any more).

        `UnlistedError` if the toolsets must be asked first.
        """
        decided = given.approvals.keys() | given.calls.keys()
        below: set[str] = set()
        for child in run.children:
            calls = set[str]() if child.status in FINISHED else set[str]().union(*decidable(child))
            below |= calls
            if calls & decided:
                member = job.company.member_job(child.agent or "", child.run_id)
                if member is None:
                    raise _missing(run.agent, f"member {child.agent!r}")
                self.check(child, given, member, f"{path}/{child.agent}")
        names = _names(run, decided - below)
        own = "session_id" not in run.metadata  # else the runs below it stand in that session, with their tools
        missing = self._tools_of(job, path).without(names) if own else self._without(names, job, path)
        if missing:
            raise _missing(run.agent, f"tool {', '.join(map(repr, missing))}")

    def _tools_of(self, job: Job, path: str) -> Tools:
        return self._tools.setdefault(path, Tools(job))

    def _without(self, names: Collection[str], job: Job, path: str) -> Collection[str]:
        """Which of these tools neither the agent has nor anybody below it."""
        missing = self._tools_of(job, path).without(names)
        for name, member in job.company.member_jobs().items() if missing else ():
            missing = self._without(missing, member, f"{path}/{name}")
        return missing


async def check_tools(agent: str | None, tools: Tools, names: Set[str]) -> None:
    """Raise `NotResumableError` if an agent does not have these tools (any more), whose calls were decided about."""
    try:
        missing = tools.without(names)
    except UnlistedError:
        await tools.ask()
        missing = tools.without(names)
    if missing:
        raise _missing(agent, f"tool {', '.join(map(repr, missing))}")


def _missing(agent: str | None, what: str) -> NotResumableError:
    return NotResumableError(
        f"{agent!r} has no {what}, which the decision is about.",
        hint="Resume the run with a program that has it, or end the run with storage.cancel_run; nothing was written.",
    )


def _names(run: Run, calls: Set[str]) -> set[str]:
    """The names of the tools that these calls of the run are calls of; not of those that make or give its output."""
    calls = set(calls)
    started = {said.tool_call_id: said for step in run.steps if (said := ToolStarted.read(step)) is not None}
    names = {call: said.tool_name for call, said in started.items()}
    if run.pending is not None and Pending.of(run.pending).requests is not None:
        waiting = requests_of(run)
        calls -= {call for call, said in waiting.metadata.items() if REVIEW in said}
        names = {call.tool_call_id: call.tool_name for call in (*waiting.approvals, *waiting.calls)} | names
    return {names[call] for call in calls if call in names and not (call in started and started[call].output)}
