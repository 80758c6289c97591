"""`Agent`: Pydantic AI's agent with a storage, which picks up where it left off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from copy import copy, deepcopy
from functools import partial
from typing import Any, Generic, Literal, Self, Unpack

from pydantic_ai import DeferredToolRequests, DeferredToolResults
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models import KnownModelName, Model
from pydantic_ai.output import OutputSpec
from pydantic_ai.run import AgentRunResult

from ..errors import InvalidInputError
from ..live.result import OutputT, RunResult
from ..live.sigterm import stored_on_sigterm
from ..live.streams import Put
from ..records import JsonObject, UserId
from ..storage.checks import check_choice, check_seconds
from ..storage.faces import background
from ..storage.given import checked_patch
from ..storage.ids import check_optional_id, uuid7
from ..storage.repeating import RunExistsError
from ..storage.scopes import checked_scopes
from ..storage.storage import Storage, check_storage
from ..storage.taking import checked_epoch
from ..storage.turns import Durability, OnBusy, TurnSpec
from .alone import run_alone
from .events import Listen
from .handle import AgentSession
from .history.shortened import tools_of
from .history.tools import SearchSessions, history_tools
from .history.windows import Given, History, window_of
from .memory import MemoryOption, ShownMemories, checked_memory, memory_tools
from .messages.stored import dump_input, prompt_of
from .models import LoopModels, has_system_prompt, pydantic_agent_of, system_prompt_again
from .opened import Opened
from .options import AgentOptions, Approval, Prompt, RunOptions
from .partial import is_text, told_to, tools_told_to
from .placeholders import given_for_a_run, may_be_filled, shown_by
from .remembered import media_of, remembered
from .resume.fitting import check_tools
from .resume.repeating import run_again
from .resume.resuming import resume_run
from .resume.tools import Tools
from .run.adapting import Adapting
from .run.company import asked_of
from .run.driving import drive
from .run.job import Job
from .run.recorder import Recorder
from .shown import Shows, check_shows, choose, question_of
from .started import StartedRun, begin
from .streamed import Answers, Streamed
from .titles import Titles, check_titles

IN_A_STEP = "Give the step a session_id= of its own, or wait for an event of the workflow's."


class Agent(Opened, Streamed[OutputT], Generic[OutputT]):
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
        name: the agent's name, stored as the session's agent.
        session_id, user_id: defaults for all runs. Without a session id each run makes a session of its own.
        state: what the state of a new session begins with.
        scopes: which states that outlive the session are at hand: `"user"` (`user_state()`), and `"app"` or
            `"app:NAME"` (`app_state()`); each costs a look at the beginning of a run, and a commit if it was changed.
        history: which earlier runs are sent along: a number of runs, `"all"`, `TokenBudget(…)`,
            `RollingSummary(…)`, `Auto(…)`, a `Window` of your own, or None.
        durability: `"run"`: the start of a run is committed at once, its messages when it ends. `"step"`: every
            model response, and every tool call before it starts and after it ends, is committed as it happens, so that
            `resume` can go on after a crash. `"exit"`: one commit, at the end; a crash loses the run, and no other
            run can see it (`on_busy`).
        on_busy: what happens when another run of the session is running: `"parallel"`: both run and both are kept.
            `"queue"`: this one waits for the other, across processes. `"reject"`: `SessionBusyError`. The same holds
            for runs that are resumed.
        queue_timeout: for how many seconds `"queue"` waits; then it is a `SessionBusyError`, too.
        on_state_conflict: when somebody else has changed the same keys of the state meanwhile: `"last_write_wins"`:
            the later change stays. `"error"`: `ConflictError`, after the run was stored without its changes of the
            state.
        usage_scope: whether `usage_limits` span the `"run"` or the whole `"session"`.
        read_chat_history: give the agent a tool that reads earlier messages of its own session.
        search_sessions: give the agent a tool that searches its own earlier sessions with the same user; `"all"`: the
            user's sessions with all agents; or a `PastSessions(…)`, which also searches by meaning.
        memory: whether what is known about the user from other sessions is shown to the model, and how it is written:
            True, or a `Memory(…)`.
        titles: how a session without a name gets one from its next run: `"words"`: the first words of what is asked;
            or a small model, by name or ready, which is asked while the run is in progress. Default: not at all.
        review: whether a person looks at each answer before it is given. The run is `paused` until somebody has
            accepted or changed it, or has sent it back with a remark, with which the model goes on
            (`storage.decide`, `resume`, `sessile approve`, the dashboard). Streams tell nothing of the answer.
        examples: what the model is shown before the history: what `sessile.insight.examples` has picked, messages of
            Pydantic AI's, or a function of the question that returns such. `Run.examples` has which were used.
        output_type: the type of the answers.
        options: further arguments of `pydantic_ai.Agent`.
    """

    _kind = "agent"

    def __init__(
        self,
        model: Model | KnownModelName | str | AbstractAgent[Any, OutputT] | None = None,
        *,
        storage: Storage | None = None,
        name: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        state: JsonObject | None = None,
        scopes: Sequence[str] = (),
        history: History = 3,
        durability: Durability = "run",
        on_busy: OnBusy = "parallel",
        queue_timeout: float = 600.0,
        on_state_conflict: Literal["last_write_wins", "error"] = "last_write_wins",
        usage_scope: Literal["run", "session"] = "run",
        read_chat_history: bool = False,
        search_sessions: SearchSessions = False,
        memory: MemoryOption = False,
        titles: Titles = None,
        review: bool = False,
        examples: Shows | None = None,
        output_type: OutputSpec[OutputT] = str,
        **options: Unpack[AgentOptions],
    ) -> None:
        check_storage(storage)
        check_choice(durability, "durability", ("run", "step", "exit"))
        check_choice(on_busy, "on_busy", ("parallel", "queue", "reject"))
        check_choice(on_state_conflict, "on_state_conflict", ("last_write_wins", "error"))
        check_choice(usage_scope, "usage_scope", ("run", "session"))
        if durability == "exit" and on_busy != "parallel":
            raise InvalidInputError(f'With durability="exit" no run is seen in progress, as on_busy={on_busy!r} needs.')
        for value, what in ((name, "name"), (session_id, "session_id"), (user_id, "user_id")):
            check_optional_id(value, what)
        checked_patch(state, "state")
        check_shows(examples)
        self._choose = None if examples is None else partial(choose, examples)
        self.storage = storage
        self._window = window_of(history)
        self.durability: Durability = durability
        self.on_busy: OnBusy = on_busy
        check_seconds(queue_timeout, "queue_timeout")
        self.queue_timeout = queue_timeout
        self.session_id, self._user_id, self._state = session_id, user_id, deepcopy(state or {})
        self._scopes, self._titles = checked_scopes(scopes), check_titles(titles)
        self._refuse_conflicts = on_state_conflict == "error"
        self._session_usage = usage_scope == "session"
        self._toolsets = history_tools(read_chat_history, search_sessions, tools_of(self._window))
        self._memory, self.review = checked_memory(memory), review
        self._memory_tools = memory_tools(self._memory)
        self.pydantic_agent = pydantic_agent_of(model, name, output_type, options)
        self._models = LoopModels(self.pydantic_agent, model)
        self._ready = self.pydantic_agent is model
        # The instructions of a ready one are its own affair, so any of them may have placeholders.
        # Steps are watched where a state may have to be filled in, or history processors may take messages away.
        self._placeholders = self._ready or may_be_filled(options)
        self._instructions: Any = options.get("instructions")
        self.name = name or self.pydantic_agent.name

    # ------------------------------------------------------------ running

    def run(
        self,
        prompt: Prompt | None,
        *,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Run the agent on a prompt and return its answer, when the run is stored.

        Args:
            prompt: what the user says; text, or a sequence of text, images and other content; or the `input` of a run
                that is stored in the session.
            session_id: the session to continue; made if it is not there.
            user_id: whose session it is. Default: the agent's own `user_id`, or nobody's. `ANY_USER` continues a
                session that is there, whoever's.
            run_id: an id of the caller's own makes the call repeatable for as long as the session lives, for requests
                that a client or a queue delivers twice. If the run has completed, its stored result is returned,
                and the model is not asked. If it was interrupted, it goes on: after its last stored step, or from
                its beginning if no steps are stored (`durability`).
            run_metadata: JSON that the application keeps beside the run.
            **options: further arguments of `pydantic_ai.Agent.run`. A `message_history` is sent along in the place of
                the session's own runs, and not stored.

        Raises:
            SessionNotFoundError: the session is another user's.
            SessionBusyError: another run is in progress, and `on_busy="reject"`; or a process works on the run of that
                `run_id`, and not `on_busy="queue"`; or the queue has reached its time limit, or would wait for itself.
            InvalidInputError: the session has a run of that `run_id` with another prompt, or of another agent.
            NotResumableError: the run of that `run_id` has failed or was cancelled; the error has its result.
            NotStoredError: the model has answered, but the answer could not be stored; the error carries it.
            StorageError: the session could not be read, or the start not be written; the model was not asked.
            Exception: what the model or a tool has raised; the run is stored as failed, with its messages.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(
                self.arun(
                    prompt, session_id=session_id, user_id=user_id, run_id=run_id, run_metadata=run_metadata, **options
                )
            )

    async def arun(
        self,
        prompt: Prompt | None,
        *,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """As `run`, for asynchronous callers. A cancelled run stores what it has, and is stored as cancelled."""
        return await self._begin(prompt, self._spec(session_id, user_id, run_metadata, run_id), self._job(options))

    def _is_text(self, options: RunOptions) -> bool:
        """See `Streamed`."""
        return is_text(options.get("output_type") or getattr(self.pydantic_agent, "output_type", str))

    def _told(self, options: RunOptions, put: Put, *, events: bool) -> Job:
        """See `Streamed`."""
        if self.review:
            return self._job({**options, "event_stream_handler": tools_told_to(put)} if events else options)
        text = self._is_text(options)
        job = self._job({**options, "event_stream_handler": told_to(put, events=events, text=text)})
        job.placeholders = job.placeholders or not (events or text)
        return job

    async def _begin(self, prompt: Prompt | None, spec: TurnSpec, job: Job) -> RunResult[Any]:
        if self.storage is None:
            return await run_alone(lambda storage: self._run_stored(storage, prompt, spec, job), job)
        return await self._run_stored(self.storage, prompt, spec, job)

    async def _run_stored(self, storage: Storage, prompt: Prompt | None, spec: TurnSpec, job: Job) -> RunResult[Any]:
        if type(prompt) is not str:
            prompt = await prompt_of(prompt, partial(media_of, storage, spec))
        job.prompt, spec.given = prompt, remembered(job.given)
        if job.choose is not None and (used := (await job.show(question_of(prompt))).used):
            spec.given = {**(spec.given or {}), "examples": used}
        if (members := await job.company.choose(asked_of(question_of(prompt), spec))) is not None:
            spec.given = {**(spec.given or {}), "members": members}
        with stored_on_sigterm():
            begin = partial(Recorder.begin, storage, spec, prompt, job.newest, refuse_conflicts=job.refuse_conflicts)
            while spec.only_once:
                spec.input = dump_input(prompt)
                known = await run_again(storage, spec, job)
                if known is not None:
                    return known
                with suppress(RunExistsError):  # another caller has just begun it
                    return await drive(await begin(), job)
            return await drive(await begin(), job)

    # ------------------------------------------------------------ in the background

    def start(
        self, prompt: Prompt | None, *, session_id: str | None = None, user_id: UserId = None, **options: Any
    ) -> StartedRun:
        """Begin a run and return when its start is stored; it goes on in the background, as long as this process lives.

        Any process finds it by its session and number (`attach`), and reads what comes of it, or cancels it. When the
        process ends before it, it is interrupted, and `resume` continues it if its steps are stored.

        Args:
            prompt: what the user says.
            session_id, user_id: as in `run`.
            **options: the further arguments of `run`.

        Raises:
            InvalidInputError: the agent has no storage, or `durability="exit"`: nobody could see the run.
            SessileError: what keeps the run from beginning; see `run`.
        """
        return background.run(self.astart(prompt, session_id=session_id, user_id=user_id, **options))

    async def astart(
        self,
        prompt: Prompt | None,
        *,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **options: Unpack[RunOptions],
    ) -> StartedRun:
        """As `start`, for asynchronous callers: it goes on as long as their event loop runs."""
        if self.storage is None or self.durability == "exit":
            raise InvalidInputError('A run in the background needs a storage, and another durability than "exit".')
        spec, job = self._spec(session_id, user_id, run_metadata, run_id), self._job(options)
        return await begin(self.storage, spec.user_id, job, partial(self._begin, prompt, spec, job))

    def attach(self, session_id: str, run_number: int, *, user_id: UserId = None) -> StartedRun:
        """A run that was started here or in another process: to follow, collect, or cancel. No I/O.

        Args:
            session_id: its session.
            run_number: its number there.
            user_id: whose session it is, as in `run`.

        Raises:
            InvalidInputError: the agent has no storage.
        """
        if self.storage is None:
            raise InvalidInputError("An agent without a storage has no sessions.")
        return StartedRun(self.storage, session_id, run_number, self._user_id if user_id is None else user_id)

    # ------------------------------------------------------------ going on

    def resume(
        self,
        session_id: str | None = None,
        *,
        run_number: int | None = None,
        user_id: UserId = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
        adopt: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """Continue a run that waits for a decision, or that was interrupted; in this process or another one.

        A paused run needs `approvals` (by tool call id: True, False, `ToolApproved`, `ToolDenied`) or `results` for
        calls that are executed elsewhere. An interrupted run needs to have been run with `durability="step"`: its
        finished model responses and tool calls are not repeated. A tool that had started and not finished runs again
        if it is declared idempotent (`Tool(…, metadata={"idempotent": True})`); else the run pauses, `pending` names
        the calls, and `approvals` says of each whether it is to run again.

        Args:
            session_id: the session; default: the agent's.
            run_number: the run's number; default: the newest of the current branch that can continue with this.
            user_id: whose session it is, as in `run`.
            approvals: the decisions about the calls that wait, by the id of the call: True, False, `ToolApproved(…)`
                or `ToolDenied("…")`.
            results: decisions and results as Pydantic AI's `DeferredToolResults`.
            by: who has decided; it stands in the log.
            epoch: the `Run.epoch` (`Waiting.epoch`) of what whoever decided has looked at; goes with `run_number`. A
                run may have gone on meanwhile, and ask something else under the same id of a call. Default: whatever it
                asks now.
            adopt: continue a run that was begun under another name, or by a team instead of an agent: for those who
                have renamed what has begun it.
            **options: further arguments of `pydantic_ai.Agent.run`. Options that the run was given when it began
                still hold; pass one to change it. What cannot be stored (`output_type`, `deps`, toolsets, …) must
                be passed again.

        Raises:
            NotResumableError: there is no such run, it is another agent's (without `adopt`), the agent does not have
                the tool or the member that was decided about, or too little of the run was stored. Nothing was written.
            RunWentOnError: the run has another epoch: what was decided about is over. Nothing was written.
            RunNotFoundError: the session has no run of that number.
            SessionNotFoundError: there is no such session, or it is another user's.
            InvalidInputError: the agent has no storage, the decisions do not fit the calls that wait, or an option is
                missing that the run was given when it began.
            NotStoredError: the model has answered, but the answer could not be stored; the error carries it.
            StorageError: the session could not be read, or the taking over not be written.
            Exception: what the model or a tool has raised; the run is stored as failed, with its messages.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(
                self.aresume(
                    session_id,
                    run_number=run_number,
                    user_id=user_id,
                    approvals=approvals,
                    results=results,
                    by=by,
                    epoch=epoch,
                    adopt=adopt,
                    **options,
                )
            )

    async def aresume(
        self,
        session_id: str | None = None,
        *,
        run_number: int | None = None,
        user_id: UserId = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
        adopt: bool = False,
        **options: Unpack[RunOptions],
    ) -> RunResult[OutputT]:
        """As `resume`, for asynchronous callers."""
        answers = Answers(run_number, dict(approvals or {}), results, by, adopt, epoch)
        return await self._go_on(session_id, user_id, answers, self._job(options))

    async def _go_on(self, session_id: str | None, user_id: UserId, answers: Answers, job: Job) -> RunResult[Any]:
        """See `Streamed`."""
        session_id = self.session_id if session_id is None else session_id
        if self.storage is None or session_id is None:
            raise InvalidInputError("To resume a run, the agent needs a storage and a session_id.")
        with stored_on_sigterm():
            number, approvals, results, by, adopt, epoch = answers
            spec = self._spec(session_id, user_id, None)
            spec.epoch = checked_epoch(epoch, number)
            return await resume_run(self.storage, spec, job, number, approvals, results, by=by, adopt=adopt)

    def session(self, session_id: str | None = None, *, user_id: UserId = None) -> AgentSession[OutputT]:
        """One session of the agent: run, state, messages, rename, fork, … without naming it each time. No I/O.

        Args:
            session_id: which session. Default: the agent's own, or a new one.
            user_id: whose session it is, as in `run`.

        Raises:
            InvalidInputError: the agent has no storage.
        """
        if self.storage is None:
            raise InvalidInputError("An agent without a storage has no sessions.")
        spec = self._spec(session_id, user_id, None)
        return AgentSession(self, self.storage, spec.session_id, spec.user_id)

    def for_user(self, user_id: str) -> Self:
        """The same agent over `storage.for_user(user_id)`: for a server, which makes one for each request. No I/O.

        All calls have that user, and session ids are the user's own. What the agent is made of, it shares with this
        one.

        Args:
            user_id: whose sessions.

        Raises:
            InvalidInputError: the agent has no storage, or the id is wrong.
        """
        if self.storage is None:
            raise InvalidInputError("An agent without a storage has no sessions.")
        own = copy(self)
        own.storage, own._user_id = self.storage.for_user(user_id), user_id
        return own

    # ------------------------------------------------------------ parts

    def _spec(
        self, session_id: str | None, user_id: UserId, metadata: JsonObject | None, run_id: str | None = None
    ) -> TurnSpec:
        """Which run of which session is to begin."""
        checked_patch(metadata, "run_metadata")
        check_optional_id(run_id, "run_id")
        if run_id is not None and session_id is None and self.session_id is None:
            raise InvalidInputError("A run_id names a run of one session: pass session_id, too.")
        return TurnSpec(
            session_id=self.session_id or uuid7() if session_id is None else session_id,
            run_id=uuid7() if run_id is None else run_id,
            input=None,
            user_id=self._user_id if user_id is None else user_id,
            agent=self.name,
            kind=self._kind,
            durability=self.durability,
            on_busy=self.on_busy,
            queue_timeout=self.queue_timeout,
            metadata=metadata,
            session={"state": self._state} if self._state else {},
            only_once=run_id is not None,
            scopes=self._scopes,
        )

    def _shown(self, state: JsonObject, instructions: Any = None) -> Any:
        """What of a state the agent's instructions show, and those of a run; of a ready agent's nobody knows: all."""
        if self._ready:
            return state
        return [*shown_by(self._instructions, state), *shown_by(instructions, state)]

    @property
    def description(self) -> str | None:
        """What the leader of a team is told about the agent."""
        return self.pydantic_agent.description

    def _job(
        self, options: RunOptions, *, stored: bool = False, listen: Listen | None = None, answers: bool = True
    ) -> Job:
        """What a run is driven with.

        Args:
            options: the arguments of `run` that are passed on.
            stored: whether somebody else keeps the run (a team, for a member without a storage).
            listen: of a team: is told what happens in the run.
            answers: of a team: whether the run's text is the answer that the user gets.
        """
        if unknown := options.keys() - RunOptions.__annotations__.keys():
            raise InvalidInputError(
                f"A run takes no {', '.join(sorted(unknown))}.",
                hint="The history comes from the storage; decisions go to resume(); options are Pydantic AI's.",
            )
        if self.review and (stored or self.storage is None):
            raise InvalidInputError(
                f"Nobody could review what {self.name!r} answers here: its run is kept by another one, or not at all.",
                hint="Give the agent a storage; of a team, review=True is for the team.",
            )
        passed: dict[str, Any] = {**options, "infer_name": False}
        if passed.pop("members", None) is not None:
            raise InvalidInputError("Only the run of a team has members.")
        history = passed.pop("message_history", None)
        window = self._window if history is None else Given(history)
        if "instructions" in passed:
            passed["instructions"] = given_for_a_run(passed["instructions"])
        if options.get("model") is None and (model := self._models.here()) is not None:
            passed["model"] = model
        if "output_type" in passed and not self._ready:
            passed["output_type"] = [passed["output_type"], DeferredToolRequests]
        if self._toolsets and (stored or self.storage is not None):
            passed["toolsets"] = [*(options.get("toolsets") or ()), *self._toolsets]
        if self._memory is not None:
            passed["toolsets"] = [*(passed.get("toolsets") or ()), *self._memory_tools]
            passed["capabilities"] = [*(passed.get("capabilities") or ()), ShownMemories(self._memory)]
        if has_system_prompt(self.pydantic_agent):
            passed["capabilities"] = [*(passed.get("capabilities") or ()), system_prompt_again()]
        return Job(
            self.pydantic_agent,
            window,
            passed,
            newest=window.newest,
            session_usage=self._session_usage,
            refuse_conflicts=self._refuse_conflicts,
            placeholders=self._placeholders or may_be_filled(options),
            given=options,
            choose=self._choose,
            titles=None if self.storage is None else self._titles,
            memory=self._memory,
            review=self.review,
            remake=lambda more: self._job(more, stored=stored, listen=listen, answers=answers),
        )


# ------------------------------------------------------------ for teams and workflows


def member_job(member: Agent[Any], listen: Listen | None, *, answers: bool) -> Job:
    """What a member's run is driven with, which its team keeps; see `Agent._job`."""
    return member._job({}, stored=True, listen=listen, answers=answers)  # pyright: ignore[reportPrivateUsage] (of the same module)


def member_spec(member: Agent[Any], session_id: str, user_id: UserId) -> TurnSpec:
    """Which run of which session begins, of a member that keeps a session of its own."""
    return member._spec(session_id, user_id, None)  # pyright: ignore[reportPrivateUsage] (of the same module)


def first_state_of(agent: Agent[Any]) -> JsonObject:
    """What the state of a new session of an agent begins with."""
    return deepcopy(agent._state)  # pyright: ignore[reportPrivateUsage] (of the same module)


def stored_in(agent: Agent[OutputT], storage: Storage) -> Agent[OutputT]:
    """The same agent over another storage, for a while. What it is made of, it shares with this one."""
    own = copy(agent)
    own.storage = storage
    return own


def shown_of(agent: Agent[Any], state: JsonObject, instructions: Any) -> Any:
    """What of a state a run shows the model by the agent's instructions and its own; see `Agent._shown`."""
    return agent._shown(state, instructions)  # pyright: ignore[reportPrivateUsage] (of the same module)


async def check_part(agent: Agent[Any], tools: Set[str], **options: Unpack[RunOptions]) -> None:
    """Raise `NotResumableError` if the agent does not have these tools, about whose calls somebody has decided."""
    await check_tools(agent.name, Tools(agent._job(options)), tools)  # pyright: ignore[reportPrivateUsage] (of the same module)


async def run_part(
    agent: Agent[OutputT],
    prompt: Prompt | None,
    *,
    session_id: str,
    run_id: str,
    messages: Sequence[ModelMessage] | None = None,
    results: DeferredToolResults | None = None,
    **options: Unpack[RunOptions],
) -> AgentRunResult[OutputT]:
    """Run an agent as a part of another run, which keeps its messages: it has no history or session of its own.

    `session_id` is that of the run around it, whose state tools and placeholders see. One that has waited for a
    decision continues with its `messages` and the `results`.
    """
    job = agent._job(options)  # pyright: ignore[reportPrivateUsage] (of the same module)
    if job.review:
        raise InvalidInputError(f"Nobody could review what {agent.name!r} answers in a step.", hint=IN_A_STEP)
    job.options.update(message_history=messages, deferred_tool_results=results)
    if messages:
        job.options["capabilities"] = [*(job.options.get("capabilities") or ()), Adapting(earlier=messages)]
    return await job.agent.run(prompt, conversation_id=session_id, run_id=run_id, **job.options)
