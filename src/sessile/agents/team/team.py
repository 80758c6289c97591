"""`Team`: several agents, one session, one state."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from pydantic_ai.agent import AbstractAgent
from pydantic_ai.models import KnownModelName, Model
from pydantic_ai.models.test import TestModel
from pydantic_ai.output import OutputSpec

from ...errors import InvalidInputError
from ...live.result import OutputT
from ...live.streams import AsyncRunStream, Put, RunStream
from ...records import JsonObject
from ...storage.checks import check_choice, check_count
from ...storage.scopes import checked_scopes
from ...storage.storage import Storage
from ...storage.turns import Durability, OnBusy
from ..agent import Agent
from ..events import Listen, TeamEvent
from ..history.shortened import Shortened
from ..history.summary import RollingSummary
from ..history.tools import SearchSessions
from ..history.windows import History, window_of
from ..memory import MemoryOption
from ..options import AgentOptions, Prompt, RunOptions, StreamOptions
from ..partial import types_of
from ..printing import AnswerView
from ..run.job import Job
from ..titles import Titles
from .handing import Handing
from .modes import Collaboration, Mode, OwnFunction, Routing, Teamwork
from .printing import TeamView
from .roster import ChooseMembers, MemberHistory, Pool, Roster, briefing, by_name
from .voice import listener

MODES = ("coordinate", "route", "collaborate", "handoff")

HANDOFFS = 5
"""How often members may hand over in one run, where nothing else is said."""

MOST_HANDOFFS = 40
"""What can be said at most: each takes a step of the team's run, which Pydantic AI ends after 50."""


class TeamOptions(AgentOptions, total=False):
    """The arguments that a team has in common with `Agent`."""

    storage: Storage | None
    name: str | None
    session_id: str | None
    user_id: str | None
    state: JsonObject | None
    scopes: Sequence[str]
    history: History
    durability: Durability
    on_busy: OnBusy
    queue_timeout: float
    on_state_conflict: Literal["last_write_wins", "error"]
    usage_scope: Literal["run", "session"]
    read_chat_history: bool
    search_sessions: SearchSessions
    memory: MemoryOption
    titles: Titles
    review: bool


class Team(Agent[OutputT]):
    """Several agents that share a session and its state.

    ```python
    team = Team([researcher, writer], model="openai:gpt-5-mini", storage=SqliteStorage("sessions.db"))
    team.run("A paragraph about tides.", session_id="s1", user_id="ada")
    ```

    It is used as an `Agent` is: `run`, `stream`, `print_response`, `resume`, `session`, and their async versions.
    The session holds the conversation with the team. The run of a member is below the run of the team that it
    worked for, with messages and usage of its own.

    Args:
        members: agents and teams, each with a name of its own. What they do within the team is stored in its
            session: the team's storage, durability and busy rule hold for them. A member with a storage of its own
            keeps its messages there, in its own session. Or a function of the request (`TeamRequest`), synchronous or
            not, which returns the members of one run; the log has their names, and a run that is resumed must find
            them again. A run may also be given its own: `team.run(…, members=["researcher", writer])`.
        model: the leader's model, or a ready `pydantic_ai.Agent`. Not needed where the mode is a function.
        mode: `"coordinate"`: the leader delegates tasks to members and writes the answer. `"route"`: it picks one
            member, whose answer is returned as it is. `"collaborate"`: all members work on the request at the same
            time, and the leader joins the results. `"handoff"`: one member answers the user itself, at first the first
            one, until it hands over to another, which answers from then on, in later runs, too. Or an `async` function
            of the request and the `Members`, which asks them and returns the answer.
        member_history: what a member is sent along: its `"own"` earlier work in the session (as many runs of it as its
            own `history` says), or the `"team"`'s conversation, questions and answers. Default: its own; with
            `mode="handoff"` the conversation, in which what it has answered itself is whole.
        shared_answers: about how many tokens of what members have answered before in the same run each next one is
            shown, behind its task. 0: a member knows only what it is told.
        max_handoffs: how often members may hand over within one run, 40 times at most; then the one that leads answers.
            Default: 5. Only with `mode="handoff"`.
        output_type: the type of the leader's answers.
        options: the further arguments of `Agent`. `description` is what the leader of a team above is told about it.
    """

    _kind = "team"

    def __init__(
        self,
        members: Sequence[Agent[Any]] | ChooseMembers,
        model: Model | KnownModelName | str | AbstractAgent[Any, OutputT] | None = None,
        *,
        mode: Mode = "coordinate",
        member_history: MemberHistory | None = None,
        shared_answers: int = 0,
        max_handoffs: int | None = None,
        output_type: OutputSpec[OutputT] = str,
        **options: Unpack[TeamOptions],
    ) -> None:
        _check_mode(mode, model.output_type if isinstance(model, AbstractAgent) else output_type)
        member_history = member_history or ("team" if mode == "handoff" else "own")
        check_choice(member_history, "member_history", ("own", "team"))
        check_count(shared_answers, "shared_answers", least=0)
        self.max_handoffs = _handoffs_of(mode, max_handoffs, model)
        self._choose_members = members if callable(members) else None
        self.members = {} if callable(members) else by_name(members)
        self.mode: Mode = mode
        self.member_history: MemberHistory = member_history
        self.shared_answers = shared_answers
        self._briefing = briefing(mode, self.members)
        leaderless = model is None and (callable(mode) or mode == "handoff")
        super().__init__(TestModel() if leaderless else model, output_type=output_type, **options)
        self._check_windows(self.members)
        states = [member._state for member in self.members.values()]
        self._scopes = checked_scopes([*self._scopes, *(name for one in self.members.values() for name in one._scopes)])
        self._state = deepcopy(reduce(lambda one, other: {**one, **other}, [*states, self._state]))

    @property
    def _title(self) -> str:
        """The team's name, or `team`."""
        return self.name or "team"

    def _held_open(self) -> Iterator[AbstractAgent[Any, Any]]:
        yield from super()._held_open()
        for member in self.members.values():
            yield from member._held_open()

    def _check_windows(self, members: Mapping[str, Agent[Any]]) -> None:
        for name, member in members.items():
            own = member.storage is not None and member.storage is not self.storage
            window = member._window.window if isinstance(member._window, Shortened) else member._window
            if isinstance(window, RollingSummary) and self.member_history == "own" and not own:
                raise InvalidInputError(
                    f"The member {name!r} cannot keep a RollingSummary of its work in a session that it shares.",
                    hint='Use another history, member_history="team", or a storage of its own.',
                )

    def _job(
        self, options: RunOptions, *, stored: bool = False, listen: Listen | None = None, answers: bool = True
    ) -> Job:
        """See `Agent`."""
        if "output_type" in options:
            _check_mode(self.mode, options["output_type"])
        given = options.get("members")
        job = super()._job({**options, "members": None}, stored=stored, listen=listen, answers=answers)
        roster = Roster(
            self._title,
            self.members,
            self.mode,
            self.member_history,
            self._briefing,
            self.shared_answers,
            self.max_handoffs,
        )
        pool = Pool(self.members, self._choose_members, given, self._check_windows)
        work = _teamwork_of(self.mode)(roster, pool, listen, answers=answers)
        job.company = work
        if self.mode == "handoff":  # nobody looks back but the members, each by its own window
            job.window = window_of(None)
        job.options["toolsets"] = [*(job.options.get("toolsets") or ()), work.toolset()]
        return job

    def _told(self, options: RunOptions, put: Put, *, events: bool) -> Job:
        """See `Agent`. Events are `TeamEvent`s, which say who speaks."""
        if self.review:
            return self._job(options)
        text = self._is_text(options)
        job = self._job(options, listen=listener(put, events=events, text=text))
        if not (events or text):
            job.partial, job.placeholders = put, True
        return job

    def _view(self, options: RunOptions) -> AnswerView:
        return TeamView(self._title)

    if TYPE_CHECKING:  # the same methods, whose events are a team's

        @overload
        def stream(
            self, prompt: Prompt | None, *, events: Literal[False] = False, **options: Unpack[StreamOptions]
        ) -> RunStream[OutputT]: ...

        @overload
        def stream(
            self, prompt: Prompt | None, *, events: Literal[True], **options: Unpack[StreamOptions]
        ) -> RunStream[OutputT, TeamEvent]: ...

        @overload
        def stream(
            self, prompt: Prompt | None, *, events: bool, **options: Unpack[StreamOptions]
        ) -> RunStream[OutputT, Any]: ...

        def stream(  # pyright: ignore[reportIncompatibleMethodOverride] (other events)
            self, prompt: Prompt | None, *, events: bool = False, **options: Unpack[StreamOptions]
        ) -> Any:
            """As `Agent.stream`; events are `TeamEvent`s, which say who speaks.

            Args:
                prompt: what the user says.
                events: whether the stream has the team's events instead of its answer.
                **options: the arguments of `Agent.stream`.

            Raises:
                InvalidInputError: an `event_stream_handler` was passed; the events come by the stream.
                SessileError: what `run` raises, while the stream is read.
            """

        @overload
        def astream(
            self, prompt: Prompt | None, *, events: Literal[False] = False, **options: Unpack[StreamOptions]
        ) -> AsyncRunStream[OutputT]: ...

        @overload
        def astream(
            self, prompt: Prompt | None, *, events: Literal[True], **options: Unpack[StreamOptions]
        ) -> AsyncRunStream[OutputT, TeamEvent]: ...

        @overload
        def astream(
            self, prompt: Prompt | None, *, events: bool, **options: Unpack[StreamOptions]
        ) -> AsyncRunStream[OutputT, Any]: ...

        def astream(  # pyright: ignore[reportIncompatibleMethodOverride] (other events)
            self, prompt: Prompt | None, *, events: bool = False, **options: Unpack[StreamOptions]
        ) -> Any:
            """As `stream`, for asynchronous callers; see `Agent.astream`."""


def _check_mode(mode: Any, output_type: Any) -> None:
    if not callable(mode):
        check_choice(mode, "mode", MODES)
    elif not inspect.iscoroutinefunction(mode):
        raise InvalidInputError("A mode of your own is an `async def` function of the request and the members.")
    if str not in types_of(output_type) and (callable(mode) or mode in ("route", "handoff")):
        raise InvalidInputError(
            "The answer is a member's or a function's here: the team has no output_type of its own."
        )


def _teamwork_of(mode: Mode) -> type[Teamwork]:
    """What a mode does."""
    if callable(mode):
        return OwnFunction
    return {"coordinate": Teamwork, "route": Routing, "collaborate": Collaboration, "handoff": Handing}[mode]


def _handoffs_of(mode: Mode, most: int | None, model: Any) -> int:
    """How often members may hand over in one run."""
    if mode != "handoff":
        if most is not None:
            raise InvalidInputError('Only with mode="handoff" members hand over: leave max_handoffs out.')
        return 0
    if model is not None:
        raise InvalidInputError(
            'With mode="handoff" no leader\'s model is asked: the members answer.',
            hint="Leave the model out; who answers first is the first member.",
        )
    most = HANDOFFS if most is None else most
    check_count(most, "max_handoffs", least=1)
    if most > MOST_HANDOFFS:
        raise InvalidInputError(f"max_handoffs must be {MOST_HANDOFFS} at most; it is {most}.")
    return most
