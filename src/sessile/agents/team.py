"""`Team`: several agents, one session, one state."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import reduce
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, Unpack, cast, get_args, get_origin

from pydantic_ai.agent import AbstractAgent
from pydantic_ai.models import KnownModelName, Model
from pydantic_ai.models.test import TestModel
from pydantic_ai.output import OutputSpec

from ..errors import InvalidInputError
from ..records import JsonObject
from ..storage import open_storage
from ..storage.reads import check_choice
from ..storage.storage import Storage
from ..storage.turns import Durability, OnBusy, TurnSpec
from .agent import Agent, Prompt
from .driving import Job
from .history import History, RollingSummary
from .member import MemberHistory
from .options import AgentOptions, RunOptions
from .result import OutputT, RunResult
from .streaming import AsyncRunStream, Put
from .team_events import Listen, listener
from .teamwork import Mode, teamwork_of

if TYPE_CHECKING:
    from .printing import AnswerView


MOST_NEWEST = 50
"""The most runs that the first look of a team's run reads."""

MODES = ("coordinate", "route", "collaborate")

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


class TeamOptions(AgentOptions, total=False):
    """The arguments that a team has in common with `Agent`."""

    storage: Storage | None
    name: str | None
    session_id: str | None
    user_id: str | None
    state: JsonObject | None
    history: History
    durability: Durability
    on_busy: OnBusy
    on_state_conflict: Literal["last", "error"]
    usage_scope: Literal["run", "session"]
    read_chat_history: bool
    search_sessions: bool


class Team(Agent[OutputT]):
    """Several agents that share a session and its state.

    ```python
    team = Team([researcher, writer], model="openai:gpt-5-mini", storage=SqliteStorage("sessions.db"))
    team.run("A paragraph about tides.", session_id="s1", user_id="ada")
    ```

    It is used as an `Agent` is: `run`, `stream`, `print_response`, `resume`, `session`, and their asynchronous twins.
    The session holds the conversation with the team. The run of a member stands below the run of the team that it
    worked for, with messages and usage of its own.

    Args:
        members: agents and teams, each with a name of its own. What they do within the team is stored in its
            session: the team's storage, durability and busy rule hold for them. A member with a storage of its own
            keeps its messages there, in its own session.
        model: the leader's model, or a ready `pydantic_ai.Agent`. Not needed where the mode is a function.
        mode: `"coordinate"`: the leader delegates tasks to members and writes the answer. `"route"`: it picks one
            member, whose answer is returned as it is. `"collaborate"`: all members work on the request at the same
            time, and the leader joins the results. Or an `async` function of the request and the `Members`, which
            asks them and returns the answer.
        member_history: what a member is sent along: its `"own"` earlier work in the session (as many runs of it as its
            own `history` says), or the `"team"`'s conversation, questions and answers.
        output_type: the type of the leader's answers.
        options: the further arguments of `Agent`. `description` is what the leader of a team above is told about it.
    """

    def __init__(
        self,
        members: Sequence[Agent[Any]],
        model: Model | KnownModelName | str | AbstractAgent[Any, OutputT] | None = None,
        *,
        mode: Mode = "coordinate",
        member_history: MemberHistory = "own",
        output_type: OutputSpec[OutputT] = str,
        **options: Unpack[TeamOptions],
    ) -> None:
        _check_mode(mode, model.output_type if isinstance(model, AbstractAgent) else output_type)
        check_choice(member_history, "member_history", ("own", "team"))
        self.members = _by_name(members)
        self.mode: Mode = mode
        self.member_history: MemberHistory = member_history
        self.briefing = _briefing(mode, self.members)
        super().__init__(TestModel() if model is None and callable(mode) else model, output_type=output_type, **options)
        self.kind = "team"
        self._check_windows()
        states = [member._state for member in self.members.values()]
        self._state = deepcopy(reduce(lambda one, other: {**one, **other}, [*states, self._state]))

    @property
    def title(self) -> str:
        """The team's name, or `team`."""
        return self.name or "team"

    def _check_windows(self) -> None:
        for name, member in self.members.items():
            own = member.storage is not None and member.storage is not self.storage
            if isinstance(member.window, RollingSummary) and self.member_history == "own" and not own:
                raise InvalidInputError(
                    f"The member {name!r} cannot keep a RollingSummary of its work in a session that it shares.",
                    hint='Use another history, member_history="team", or a storage of its own.',
                )

    @property
    def newest(self) -> int:
        """See `Agent`. A team's run has more commits than an agent's: each member's has as many."""
        most = max(self.window.newest, *(member.newest for member in self.members.values()))
        return min(most * (1 + len(self.members)), MOST_NEWEST)

    def job(
        self, options: RunOptions, *, stored: bool = False, listen: Listen | None = None, answers: bool = True
    ) -> Job:
        """See `Agent`."""
        if "output_type" in options:
            _check_mode(self.mode, options["output_type"])
        job = super().job(options, stored=stored)
        job.team = teamwork_of(self.mode)(self, listen, answers=answers)
        job.options["toolsets"] = [*(job.options.get("toolsets") or ()), job.team.toolset()]
        return job

    def astream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        session_id: str | None = None,
        user_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRunStream[OutputT]:
        """See `Agent.astream`. The text is that of the team's answer; events are `TeamEvent`s, which say who speaks."""
        if options.get("event_stream_handler") is not None:
            raise InvalidInputError("A stream takes the run's events; do not pass event_stream_handler.")
        spec = self.spec(session_id, user_id, run_metadata)

        async def start(put: Put) -> RunResult[Any]:
            return await self._begin(prompt, spec, self.job(options, listen=listener(put, events=events)))

        return AsyncRunStream(start)

    def _view(self) -> AnswerView:
        from .printing import TeamView

        return TeamView(self.title)

    async def _run_alone(self, prompt: Prompt | None, spec: TurnSpec, job: Job) -> RunResult[Any]:
        """A run without a storage: members share a session while it lasts, and nothing is kept of it."""
        async with open_storage("memory://") as storage:
            result = await self._run_stored(storage, prompt, spec, job)
        for each in _with_members(result):
            each.number = 0
        return result


def _with_members(result: RunResult[Any]) -> Iterator[RunResult[Any]]:
    yield result
    for member in result.members:
        yield from _with_members(member)


def _check_mode(mode: Any, output_type: Any) -> None:
    if not callable(mode):
        check_choice(mode, "mode", MODES)
    elif not inspect.iscoroutinefunction(mode):
        raise InvalidInputError("A mode of your own is an `async def` function of the request and the members.")
    if isinstance(output_type, Sequence):
        types = cast("Sequence[Any]", output_type)
    else:
        types = get_args(output_type) if get_origin(output_type) in (Union, UnionType, Annotated) else (output_type,)
    if str not in types and (callable(mode) or mode == "route"):
        raise InvalidInputError(
            "The answer is a member's or a function's here: the team has no output_type of its own."
        )


def _by_name(members: Sequence[Agent[Any]]) -> dict[str, Agent[Any]]:
    named: dict[str, Agent[Any]] = {}
    for member in members:
        if not isinstance(member, Agent):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"The members of a team are agents and teams; this is a {type(member).__name__}.")
        if member.name is None:
            raise InvalidInputError("Every member of a team needs a name.")
        if member.name in named:
            raise InvalidInputError(f"Two members are called {member.name!r}.")
        named[member.name] = member
    if not named:
        raise InvalidInputError("A team needs members.")
    return named


def _briefing(mode: Mode, members: dict[str, Agent[Any]]) -> str | None:
    """What the leader is told about its team."""
    if callable(mode):
        return None
    lines = [
        f"- {name}: {member.description}" if member.description else f"- {name}" for name, member in members.items()
    ]
    return "\n".join([BRIEFINGS[mode], "", "The members:", *lines])
