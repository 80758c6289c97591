"""`Agent`: Pydantic AI's agent with a storage, which picks up where it left off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Generic, Literal, Unpack, cast

from pydantic_ai import Agent as ModelAgent
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import ReinjectSystemPrompt
from pydantic_ai.messages import UserContent
from pydantic_ai.models import KnownModelName, Model
from pydantic_ai.output import OutputSpec
from pydantic_ai.run import AgentRunResult

from ..errors import InvalidInputError
from ..records import JsonObject
from ..storage.faces import background
from ..storage.ids import check_optional_id, uuid7
from ..storage.reads import check_choice
from ..storage.storage import Storage, check_storage
from ..storage.turns import Durability, OnBusy, TurnSpec
from ..storage.writes import checked_patch
from .driving import Job, drive
from .history import History, window_of
from .messages import usage_of
from .models import LoopModels
from .options import AgentOptions, RunOptions
from .recorder import Recorder
from .result import OutputT, RunResult
from .resuming import resume_run
from .shutdown import stored_on_sigterm
from .state import may_have_placeholders
from .streaming import AsyncRunStream, RunStream, events_to
from .tools import history_tools

if TYPE_CHECKING:
    from .handle import SessionHandle
    from .printing import AnswerView
    from .team_events import Listen

Prompt = str | Sequence[UserContent]
Approval = bool | ToolApproved | ToolDenied


class Agent(Generic[OutputT]):
    """An agent whose sessions are kept in a storage.

    ```python
    agent = Agent("openai:gpt-5-mini", name="support", storage=SqliteStorage("sessions.db"), history=3)
    agent.run("What is the capital of France?", session_id="s1", user_id="ada")
    ```

    One object serves many sessions and users at the same time, from threads and tasks. Methods come twice: `run` and
    `await arun`, `stream` and `astream`, …; the synchronous ones work also where an event loop already runs.

    Args:
        model: what `pydantic_ai.Agent` takes, or a ready `pydantic_ai.Agent`. Of a ready one that is to pause for
            approvals, `DeferredToolRequests` must be among its output types; to others it is added. Given by name,
            the model works in several event loops at once (`run` has one of its own); the connections of a ready
            `Model` belong to one loop, as Pydantic AI says.
        storage: where the sessions are kept; without one every run stands alone.
        name: the agent's name, stored as the session's owner.
        session_id, user_id: defaults for all runs. Without a session id each run makes a session of its own.
        state: what the state of a new session begins with.
        history: which earlier runs are sent along: a number of runs, `"all"`, `TokenBudget(…)`,
            `RollingSummary(…)`, a `Window` of your own, or None.
        durability: `"run"`: the start of a run is committed at once, its messages when it ends. `"step"`: every
            model response, and every tool call before it starts and after it ends, is committed as it happens, so that
            `resume` can go on after a crash. `"exit"`: one commit, at the end; a crash loses the run, and no other
            run can see it at work (`on_busy`).
        on_busy: what happens when another run of the session is at work: `"parallel"`: both run and both are kept.
            `"queue"`: this one waits for the other, across processes. `"reject"`: `SessionBusyError`.
        on_state_conflict: when somebody else has changed the same keys of the state meanwhile: `"last"`: the later
            change wins. `"error"`: `ConflictError`, after the run was stored without its changes of the state.
        usage_scope: whether `usage_limits` span the `"run"` or the whole `"session"`.
        read_chat_history: give the agent a tool that reads earlier messages of its own session.
        search_sessions: give the agent a tool that searches the earlier sessions of the same user.
        output_type: the type of the answers.
        options: further arguments of `pydantic_ai.Agent`.
    """

    def __init__(
        self,
        model: Model | KnownModelName | str | AbstractAgent[Any, OutputT] | None = None,
        *,
        storage: Storage | None = None,
        name: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        state: JsonObject | None = None,
        history: History = 3,
        durability: Durability = "run",
        on_busy: OnBusy = "parallel",
        on_state_conflict: Literal["last", "error"] = "last",
        usage_scope: Literal["run", "session"] = "run",
        read_chat_history: bool = False,
        search_sessions: bool = False,
        output_type: OutputSpec[OutputT] = str,
        **options: Unpack[AgentOptions],
    ) -> None:
        check_storage(storage)
        check_choice(durability, "durability", ("run", "step", "exit"))
        check_choice(on_busy, "on_busy", ("parallel", "queue", "reject"))
        check_choice(on_state_conflict, "on_state_conflict", ("last", "error"))
        check_choice(usage_scope, "usage_scope", ("run", "session"))
        if durability == "exit" and on_busy != "parallel":
            raise InvalidInputError(f'With durability="exit" no run is seen at work, as on_busy={on_busy!r} needs.')
        for value, what in ((name, "name"), (session_id, "session_id"), (user_id, "user_id")):
            check_optional_id(value, what)
        checked_patch(state, "state")
        self.storage = storage
        self.window = window_of(history)
        self.durability: Durability = durability
        self.on_busy: OnBusy = on_busy
        self.kind = "agent"
        self.session_id, self._user_id, self._state = session_id, user_id, deepcopy(state or {})
        self.refuses_conflicts = on_state_conflict == "error"
        self._session_usage = usage_scope == "session"
        self._toolsets = history_tools(read_chat_history, search_sessions)
        self.model_agent = _model_agent(model, name, output_type, options)
        self._models = LoopModels(self.model_agent, model)
        self._ready = self.model_agent is model
        # The instructions of a ready one are its own affair, so any of them may have placeholders.
        # Steps are watched where a state may have to be filled in, or history processors may take messages away.
        self._placeholders = self._ready or _may_be_filled(options)
        self._registered = _registered(self.model_agent)
        self.name = name or self.model_agent.name

    # ------------------------------------------------------------ running

    def run(
        self,
        prompt: Prompt | None,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Run the agent on a prompt and return its answer, when the run is stored.

        Args:
            prompt: what the user says; text, or a sequence of text, images and other content.
            session_id: the session to go on with; made if it is not there.
            user_id: whose session it is.
            run_metadata: JSON that the application keeps beside the run.
            options: further arguments of `pydantic_ai.Agent.run`.

        Raises:
            SessionNotFoundError: the session is another user's.
            SessionBusyError: another run is at work, and `on_busy="reject"`.
            NotStoredError: the model has answered, but the answer could not be stored; the error carries it.
            StorageError: the session could not be read, or the start not be written; the model was not asked.
            Exception: what the model or a tool has raised; the run is stored as failed, with its messages.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(
                self.arun(prompt, session_id=session_id, user_id=user_id, run_metadata=run_metadata, **options)
            )

    async def arun(
        self,
        prompt: Prompt | None,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """The `async` twin of `run`. A cancelled run stores what it has, and is stored as cancelled."""
        return await self._begin(prompt, self.spec(session_id, user_id, run_metadata), self.job(options))

    async def _begin(self, prompt: Prompt | None, spec: TurnSpec, job: Job) -> RunResult[Any]:
        if self.storage is None:
            return await self._run_alone(prompt, spec, job)
        return await self._run_stored(self.storage, prompt, spec, job)

    async def _run_stored(self, storage: Storage, prompt: Prompt | None, spec: TurnSpec, job: Job) -> RunResult[Any]:
        job.prompt = prompt
        with stored_on_sigterm():
            recorder = await Recorder.begin(storage, spec, prompt, self.newest, refuse_conflicts=self.refuses_conflicts)
            return await drive(recorder, job)

    def stream(
        self,
        prompt: Prompt | None,
        *,
        events: bool = False,
        session_id: str | None = None,
        user_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunStream[OutputT]:
        """Run the agent and iterate over the answer's text as it comes, or over Pydantic AI's events.

        The stream's `result` is there when it has ended. A stream that is closed early (as a context manager, or by
        `close`) cancels the run; one that is merely left alone runs on to its end, and is stored.
        """
        return RunStream(
            self.astream(
                prompt, events=events, session_id=session_id, user_id=user_id, run_metadata=run_metadata, **options
            )
        )

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
        """The `async` twin of `stream`: `async for text in agent.astream(…)`; not awaited itself."""
        if options.get("event_stream_handler") is not None:
            raise InvalidInputError("A stream takes the run's events; do not pass event_stream_handler.")
        return AsyncRunStream(
            lambda put: self.arun(
                prompt,
                session_id=session_id,
                user_id=user_id,
                run_metadata=run_metadata,
                **{**options, "event_stream_handler": events_to(put, events=events)},
            )
        )

    def print_response(
        self,
        prompt: Prompt,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Run the agent and show question and answer in the terminal as they come; returns the result.

        Needs the package `rich` (`pip install "sessile[cli]"`).
        """
        from .printing import print_stream

        view = self._view()
        stream = self.stream(
            prompt,
            events=view.events,
            session_id=session_id,
            user_id=user_id,
            run_metadata=run_metadata,
            **options,
        )
        return print_stream(prompt, stream, view)

    async def aprint_response(
        self,
        prompt: Prompt,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """The `async` twin of `print_response`."""
        from .printing import aprint_stream

        view = self._view()
        stream = self.astream(
            prompt,
            events=view.events,
            session_id=session_id,
            user_id=user_id,
            run_metadata=run_metadata,
            **options,
        )
        return await aprint_stream(prompt, stream, view)

    def _view(self) -> AnswerView:
        from .printing import AnswerView

        return AnswerView()

    # ------------------------------------------------------------ going on

    def resume(
        self,
        session_id: str | None = None,
        *,
        run: int | None = None,
        user_id: str | None = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Go on with a run that waits for a decision, or that was interrupted; in this process or another one.

        A paused run needs `approvals` (by tool call id: True, False, `ToolApproved`, `ToolDenied`) or `results` for
        calls that are executed elsewhere. An interrupted run needs to have been run with `durability="step"`: its
        finished model responses and tool calls are not repeated. A tool that had started and not finished runs again
        if it is declared idempotent (`Tool(…, metadata={"idempotent": True})`); else the run pauses, `pending` names
        the calls, and `approvals` says of each whether it is to run again.

        Args:
            session_id: the session; default: the agent's.
            run: the run's number; default: the newest of the current branch that can go on with what is given.

        Raises `NotResumableError` if there is no such run, or another process has it.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(
                self.aresume(session_id, run=run, user_id=user_id, approvals=approvals, results=results, **options)
            )

    async def aresume(
        self,
        session_id: str | None = None,
        *,
        run: int | None = None,
        user_id: str | None = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """The `async` twin of `resume`."""
        session_id = self.session_id if session_id is None else session_id
        if self.storage is None or session_id is None:
            raise InvalidInputError("To resume a run, the agent needs a storage and a session_id.")
        with stored_on_sigterm():
            return await resume_run(
                self.storage,
                self.spec(session_id, user_id, None),
                self.job(options),
                run,
                dict(approvals or {}),
                results,
                refuse_conflicts=self.refuses_conflicts,
            )

    async def arun_part(
        self, prompt: Prompt | None, *, session_id: str, run_id: str, **options: Unpack[RunOptions]
    ) -> AgentRunResult[OutputT]:
        """Run as a part of another run, which keeps what comes of it: without a history and a session of its own.

        `session_id` is that of the run around it, whose state tools and placeholders see. For what is built on agents.
        """
        return await _run_bare(self.job(options), prompt, session_id, run_id)

    def session(self, session_id: str | None = None, *, user_id: str | None = None) -> SessionHandle[OutputT]:
        """A handle of one session: run, state, messages, rename, fork, … without naming it each time."""
        from .handle import SessionHandle

        if self.storage is None:
            raise InvalidInputError("An agent without a storage has no sessions.")
        spec = self.spec(session_id, user_id, None)
        return SessionHandle(self, self.storage, spec.session_id, spec.user_id)

    # ------------------------------------------------------------ parts

    def spec(self, session_id: str | None, user_id: str | None, metadata: JsonObject | None) -> TurnSpec:
        """Which run of which session is to begin."""
        checked_patch(metadata, "run_metadata")
        return TurnSpec(
            session_id=self.session_id or uuid7() if session_id is None else session_id,
            run_id=uuid7(),
            input=None,
            user_id=self._user_id if user_id is None else user_id,
            owner=self.name,
            kind=self.kind,
            durability=self.durability,
            on_busy=self.on_busy,
            metadata=metadata,
            session={"state": self._state} if self._state else {},
        )

    @property
    def description(self) -> str | None:
        """What the leader of a team is told about the agent."""
        return self.model_agent.description

    @property
    def newest(self) -> int:
        """How many runs are read together with the head, in one look."""
        return self.window.newest

    def job(
        self, options: RunOptions, *, stored: bool = False, listen: Listen | None = None, answers: bool = True
    ) -> Job:
        """What a run is driven with. `stored`: also without a storage of the agent's own, it is one that is kept.

        For teams: `listen` is told what happens in the run; `answers` says whether its text is the team's answer.
        """
        if unknown := options.keys() - RunOptions.__annotations__.keys():
            raise InvalidInputError(
                f"A run takes no {', '.join(sorted(unknown))}.",
                hint="The history comes from the storage; decisions go to resume(); options are Pydantic AI's.",
            )
        passed: dict[str, Any] = {**options, "infer_name": False}
        if options.get("model") is None and (model := self._models.here()) is not None:
            passed["model"] = model
        if "output_type" in passed and not self._ready:
            passed["output_type"] = [passed["output_type"], DeferredToolRequests]
        if self._toolsets and (stored or self.storage is not None):
            passed["toolsets"] = [*(options.get("toolsets") or ()), *self._toolsets]
        if self._ready:
            passed["capabilities"] = [*(options.get("capabilities") or ()), _system_prompt()]
        return Job(
            self.model_agent,
            self.window,
            passed,
            newest=self.newest,
            session_usage=self._session_usage,
            placeholders=self._placeholders
            or _may_be_filled(options)
            or _registered(self.model_agent) != self._registered,
        )

    async def _run_alone(self, prompt: Prompt | None, spec: TurnSpec, job: Job) -> RunResult[Any]:
        """A run without a storage: nothing before it, nothing kept of it."""
        result = await _run_bare(job, prompt, spec.session_id, spec.run_id)
        paused = isinstance(result.output, DeferredToolRequests)
        return RunResult(
            output=result.output,
            session_id=spec.session_id,
            run_id=spec.run_id,
            number=0,
            status="paused" if paused else "completed",
            usage=usage_of(result.usage),
            state=deepcopy(self._state),
            pending=cast(DeferredToolRequests, result.output) if paused else None,
            agent_result=result,
        )


async def _run_bare(job: Job, prompt: Prompt | None, session_id: str, run_id: str) -> AgentRunResult[Any]:
    return await job.agent.run(prompt, conversation_id=session_id, run_id=run_id, **job.options)


def _model_agent(model: Any, name: str | None, output_type: Any, options: AgentOptions) -> AbstractAgent[Any, Any]:
    """The agent that talks to the model: the given one, or one made with all that Pydantic AI takes."""
    if isinstance(model, AbstractAgent):
        if options or output_type is not str:
            given = ", ".join([*options, *(["output_type"] if output_type is not str else [])])
            raise InvalidInputError(f"A ready pydantic_ai.Agent has its own {given}; do not pass them beside it.")
        return cast(AbstractAgent[Any, Any], model)
    make = cast(Callable[..., AbstractAgent[Any, Any]], ModelAgent)
    capabilities = [*(options.get("capabilities") or ())]
    if options.get("system_prompt"):
        capabilities.append(_system_prompt())
    rest = {**options, "capabilities": capabilities}
    return make(model, name=name, output_type=[output_type, DeferredToolRequests], **rest)


def _system_prompt() -> ReinjectSystemPrompt[Any]:
    """Sends the system prompt with every run: a window may not reach back to the run that it was stored with."""
    return ReinjectSystemPrompt(replace_existing=True)


def _may_be_filled(options: AgentOptions | RunOptions) -> bool:
    """Whether what is passed to Pydantic AI may bring instructions with placeholders, or history processors."""
    others = options.get("capabilities") or options.get("toolsets")
    return bool(others) or may_have_placeholders(options.get("instructions"))


def _registered(agent: AbstractAgent[Any, Any]) -> tuple[int, int]:
    """How many instructions and toolsets an agent has; users may register more (`@agent.model_agent.instructions`).

    Pydantic AI (2.68) has no public list of instructions.
    """
    return len(getattr(agent, "_instructions", ())), len(agent.toolsets)
