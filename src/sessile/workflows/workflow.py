"""`Workflow`: plain Python as steps whose results are kept, so that what interrupts it does not undo them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import copy, deepcopy
from typing import Any, Self, cast

from pydantic_ai import DeferredToolResults

from ..agents.options import Approval
from ..agents.resume.decisions import all_given
from ..errors import InvalidInputError, NotResumableError, UnsupportedError
from ..live.sigterm import stored_on_sigterm
from ..records import JsonObject, UserId
from ..storage import journals, turns
from ..storage.checks import check_count, check_seconds
from ..storage.faces import background
from ..storage.given import checked_patch
from ..storage.ids import check_id, check_optional_id, uuid7
from ..storage.registry import open_storage
from ..storage.repeating import Found, RunExistsError
from ..storage.scopes import checked_scopes
from ..storage.storage import Storage, aoperate, check_storage, operate
from ..storage.taking import checked_epoch
from ..storage.turns import TurnSpec
from .context import Context, SyncContext
from .declared.elements import Element, checked_elements, flowchart, run_elements
from .run.driving import begin, drive, prepare, take
from .run.events import Emit, unheard
from .run.result import OutputT, StepRecord, WorkflowResult, step_records, stored_result
from .run.runtime import WorkflowRun
from .run.values import dump, load
from .steps.step import Nested, name_of
from .streaming import AsyncWorkflowStream, StreamEmit, WorkflowStream

RESERVED = ("session_id", "user_id", "run_id", "run_metadata")
"""Names that `run` takes itself, and a workflow's function cannot have."""


class Workflow(Nested[OutputT]):
    """Runs plain Python as named steps, and keeps each step's result in the session that it belongs to.

    ```python
    @workflow(storage=SqliteStorage("sessions.db"))
    async def write_post(ctx: Context, topic: str) -> str:
        draft = await ctx.step(writer, topic)
        return await ctx.step(polish, draft)

    write_post.run("Rain", session_id="post-7")
    ```

    One object serves many sessions and users at the same time. Methods come twice: `run` and `await arun`, …

    Args:
        function: the function of a workflow that is written as one, `async` or plain; its first parameter is the
            context. `@workflow` passes it.
        steps: of a declared workflow, what it does, in order: functions, agents, `Step`, `Parallel`, `Condition`,
            `Loop`, `Router`, `Wait`. Each is given what the one before it returned; the first, what `run` was given.
        name: the workflow's name, stored as the session's agent; runs are resumed by the workflow of that name.
            Default: the function's name.
        storage: where the sessions are kept; without one, in memory while the workflow works.
        state: what the state of a new session begins with.
        scopes: which states that outlive the session are at hand, as of an `Agent`: `"user"`, `"app"`, `"app:NAME"`.
        timeout: seconds that a process may work on a run; then it fails with `TimeoutError`, and can be resumed.
    """

    def __init__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        steps: Sequence[Any] = (),
        name: str | None = None,
        storage: Storage | None = None,
        state: JsonObject | None = None,
        scopes: Sequence[str] = (),
        timeout: float | None = None,
    ) -> None:
        if (function is None) == (not steps):
            raise InvalidInputError("A workflow needs either a function or steps=[…].")
        self.steps: tuple[Element, ...] = checked_elements(steps)
        self.function: Callable[..., Any] = function if function is not None else self._run_steps
        self.name = check_id(name or ("workflow" if function is None else name_of(function)), "name")
        check_storage(storage)
        self.storage = open_storage("memory://") if storage is None else storage
        self._parameters = _parameters(self.function)
        called = type(self.function).__call__  # of an object that is called like a function
        self._is_async = any(map(inspect.iscoroutinefunction, (self.function, called)))
        self._state = deepcopy(dict(checked_patch(state, "state")))
        self._scopes = checked_scopes(scopes)
        if timeout is not None:
            check_seconds(timeout, "timeout")
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"Workflow({self.name!r})"

    # ------------------------------------------------------------ running

    def run(
        self,
        *args: Any,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **kwargs: Any,
    ) -> WorkflowResult[OutputT]:
        """Run the workflow and return its result, when that is stored.

        Args:
            *args: what the function takes after its context; kept with the run.
            session_id: the session that the run belongs to; made if it is not there.
            user_id: whose session it is; None: nobody's; `ANY_USER` continues a session that is there,
                whoever's.
            run_id: an id of the caller's own makes the call repeatable for as long as the session lives. If the
                session has a run of that id, the run goes on; if that has completed, its result is returned, and
                nothing is done twice.
            run_metadata: JSON that the application keeps beside the run.
            **kwargs: what the function takes by name.

        Raises:
            StepFailedError: a step has failed, and the function has not caught it; `resume` tries it again.
            NotResumableError: another process works on the run of that `run_id`, or it was cancelled.
            SessionNotFoundError: the session is another user's.
            RunCancelledError: `storage.cancel_run` was called; such a run cannot be resumed.
            Exception: what else the function has raised; the run is stored as failed, and can be resumed.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(
                self.arun(
                    *args, session_id=session_id, user_id=user_id, run_id=run_id, run_metadata=run_metadata, **kwargs
                )
            )

    async def arun(
        self,
        *args: Any,
        session_id: str | None = None,
        user_id: UserId = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **kwargs: Any,
    ) -> WorkflowResult[OutputT]:
        """As `run`, for asynchronous callers. Cancelling the task interrupts the run, which can be resumed."""
        spec = self._spec(session_id, user_id, run_id, run_metadata)
        return await self._start(spec, args, kwargs, unheard)

    def resume(
        self,
        session_id: str,
        *,
        run_number: int | None = None,
        user_id: UserId = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
    ) -> WorkflowResult[OutputT]:
        """Continue a run that was interrupted or has failed, or that waits for an event or a decision that has come.

        A run is interrupted if its process is gone or was told to stop (SIGTERM, Ctrl-C), or if its task was
        cancelled.
        The results of its finished steps are taken from the journal; steps whose failure ended the run are tried again.

        Args:
            session_id: the session.
            run_number: the run's number; default: the newest of the current branch that can go on.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.
            approvals: decisions about tool calls of agents in steps, which the run's `pending` names, by the id of the
                call: True, False, `ToolApproved(…)` or `ToolDenied("…")`.
            results: decisions, and results of calls that were made elsewhere, as Pydantic AI's `DeferredToolResults`.
            by: who has decided; it stands in the log.
            epoch: the `Run.epoch` (`Waiting.epoch`) of what whoever decided has looked at; goes with `run_number`. A
                run may have gone on meanwhile, and ask something else. Default: whatever it asks now.

        Raises:
            RunWentOnError: the run has another epoch: what was decided about is over.
            NotResumableError: there is no such run, it still waits, or another process works on it.
            InvalidInputError: the decisions do not fit the calls that wait.
            WorkflowChangedError: the code does not fit what the run has done; the run is left as it was.
            StepFailedError: a step has failed, and the function has not caught it.
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no run of that number.
            RunCancelledError: `storage.cancel_run` was called; such a run cannot be resumed.
            Exception: what else the function has raised; the run is stored as failed, and can be resumed.
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
                )
            )

    async def aresume(
        self,
        session_id: str,
        *,
        run_number: int | None = None,
        user_id: UserId = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
    ) -> WorkflowResult[OutputT]:
        """As `resume`, for asynchronous callers."""
        return await self._resume_told(
            unheard,
            session_id,
            run_number=run_number,
            user_id=user_id,
            approvals=approvals,
            results=results,
            by=by,
            epoch=epoch,
        )

    def send_event(
        self,
        session_id: str,
        event: str,
        value: Any = None,
        *,
        id: str | None = None,
        run_number: int | None = None,
        by: str | None = None,
        user_id: UserId = None,
        resume: bool = True,
    ) -> WorkflowResult[OutputT]:
        """Send the value that `ctx.wait_for_event(event)` waits for, from any process. A paused run continues with it.

        Args:
            session_id: the session.
            event: the name that the run waits for, now or later.
            value: what it receives: anything that a step may return.
            id: an id of the caller's own makes the call repeatable for as long as the session lives, for events that a
                client or a queue delivers twice: the event is kept once.
            run_number: the run's number; default: the newest one of this workflow in the current branch that is not
                over.
            by: who sends it; it stands in the log.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.
            resume: whether the run goes on here, if no process works on it.

        Returns:
            The result of the run. Its status is `running` where another process works on it, which then receives the
            event; with `resume=False` it is what it was before.

        Raises:
            NotResumableError: no run of this workflow could receive the event.
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no run of that number.
            InvalidInputError: the value cannot be stored, or does not fill the form that the run waits for, or the
                session has an event of that `id` with another name or value.
            Exception: what `resume` raises, where the run goes on here.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(
                self.asend_event(
                    session_id, event, value, id=id, run_number=run_number, by=by, user_id=user_id, resume=resume
                )
            )

    async def asend_event(
        self,
        session_id: str,
        event: str,
        value: Any = None,
        *,
        id: str | None = None,
        run_number: int | None = None,
        by: str | None = None,
        user_id: UserId = None,
        resume: bool = True,
    ) -> WorkflowResult[OutputT]:
        """As `send_event`, for asynchronous callers."""
        check_id(event, "event")
        data = dump(value, f"The value of event {event!r}")
        sent = await aoperate(
            self.storage,
            journals.send_event,
            session_id,
            self.name,
            event,
            data,
            _checked_number(run_number),
            event_id=check_optional_id(id, "id"),
            by=check_optional_id(by, "by"),
            user_id=user_id,
        )
        if resume and not sent.at_work:
            try:
                return await self.aresume(session_id, run_number=sent.number, user_id=user_id)
            except NotResumableError:
                pass  # another process was faster, or the run waits for something else: shown as it is
        return await self._as_it_is(session_id, sent.number, user_id)

    def stream(self, *args: Any, resume: bool = False, **kwargs: Any) -> WorkflowStream[OutputT]:
        """`run` (or, with `resume=True`, `resume`) with the same arguments, told as it happens.

        An iterator of `WorkflowEvent`s, whose `result` is there when it has ended. Closed early, it interrupts the run.

        Args:
            *args: the arguments of `run`, or of `resume`.
            resume: whether a run is to go on, instead of a new one beginning.
            **kwargs: the arguments of `run`, or of `resume`, by name.

        Raises:
            SessileError: what `run` or `resume` raises, while the stream is read.
        """
        return WorkflowStream(self.astream(*args, resume=resume, **kwargs))

    def astream(self, *args: Any, resume: bool = False, **kwargs: Any) -> AsyncWorkflowStream[OutputT]:
        """As `stream`, for asynchronous callers: `async for event in workflow.astream(…)`; not awaited itself."""
        stream: AsyncWorkflowStream[OutputT] = AsyncWorkflowStream(
            lambda put: self._told(StreamEmit(put, stream.has_begun), resume, args, kwargs)
        )
        return stream

    def print_run(self, *args: Any, resume: bool = False, **kwargs: Any) -> WorkflowResult[OutputT]:
        """`run` (or `resume`) with a live view in the terminal: steps, times, attempts, the text of agents.

        Args:
            *args: the arguments of `run`, or of `resume`.
            resume: whether a run is to go on, instead of a new one beginning.
            **kwargs: the arguments of `run`, or of `resume`, by name.

        Raises:
            MissingDependencyError: the package `rich` is not installed (`pip install "sessile[cli]"`).
            SessileError: what `run` or `resume` raises.
        """
        from .printing import print_stream

        return print_stream(self.name, self.stream(*args, resume=resume, **kwargs))

    async def aprint_run(self, *args: Any, resume: bool = False, **kwargs: Any) -> WorkflowResult[OutputT]:
        """As `print_run`, for asynchronous callers."""
        from .printing import aprint_stream

        return await aprint_stream(self.name, self.astream(*args, resume=resume, **kwargs))

    # ------------------------------------------------------------ looking

    def journal(self, session_id: str, *, run_number: int | None = None, user_id: UserId = None) -> list[StepRecord]:
        """The steps of a run in the order in which they ended, then those that are running.

        A step that is running is shown once its process has renewed the run's lease, which it does whenever a third
        of the lease's time is over.

        Args:
            session_id: the session.
            run_number: the run's number. Default: the newest of the current branch.
            user_id: whose session it is; None: nobody's; `ANY_USER`: whoever's.

        Raises:
            SessionNotFoundError: there is no such session, or it is another user's.
            RunNotFoundError: the session has no such run.
            StorageError: the database could not be read.
        """
        found = operate(self.storage, journals.journal_run, session_id, _checked_number(run_number), user_id=user_id)
        return step_records(*found)

    async def ajournal(
        self, session_id: str, *, run_number: int | None = None, user_id: UserId = None
    ) -> list[StepRecord]:
        """As `journal`, for asynchronous callers."""
        found = await aoperate(
            self.storage, journals.journal_run, session_id, _checked_number(run_number), user_id=user_id
        )
        return step_records(*found)

    def mermaid(self) -> str:
        """A declared workflow as a Mermaid flowchart.

        Raises:
            UnsupportedError: the workflow is a function: only running it shows the steps.
        """
        if not self.steps:
            raise UnsupportedError(
                f"Workflow {self.name!r} is a function, in which Python decides what comes next.",
                hint="Declare it, Workflow(steps=[…]), to draw it; look at workflow.journal(session_id) after a run.",
            )
        return flowchart(self.steps)

    def for_user(self, user_id: str) -> Self:
        """The same workflow over `storage.for_user(user_id)`: for a server, which makes one for each request. No I/O.

        All calls have that user, and session ids are the user's own, also those of agents that it runs as steps.

        Args:
            user_id: whose sessions.

        Raises:
            InvalidInputError: the id is wrong.
        """
        own = copy(self)
        own.storage = self.storage.for_user(user_id)
        return own

    # ------------------------------------------------------------ parts

    async def _body(self, run: WorkflowRun, *args: Any, **kwargs: Any) -> Any:
        """See `Nested`."""
        if self._is_async:
            return await self.function(Context(run), *args, **kwargs)
        return await run.in_thread(lambda: self.function(SyncContext(run), *args, **kwargs))

    async def _run_steps(self, context: Context, input: Any = None) -> Any:
        return await run_elements(context, self.steps, input)

    async def _told(self, emit: Emit, resume: bool, args: Any, kwargs: JsonObject) -> WorkflowResult[OutputT]:
        if resume:
            return await self._resume_told(emit, *args, **kwargs)
        own = {name: kwargs.pop(name, None) for name in RESERVED}
        return await self._start(self._spec(**own), args, kwargs, emit)

    async def _resume_told(
        self,
        emit: Emit,
        session_id: str,
        *,
        run_number: int | None = None,
        user_id: UserId = None,
        approvals: Mapping[str, Approval] | None = None,
        results: DeferredToolResults | None = None,
        by: str | None = None,
        epoch: int | None = None,
    ) -> WorkflowResult[OutputT]:
        given = all_given(approvals or {}, results)
        check_optional_id(by, "by")
        spec = self._spec(session_id, user_id, None, None)
        spec.epoch = checked_epoch(epoch, run_number)
        return await self._resume(spec, run_number, emit, given, by)

    async def _start(self, spec: TurnSpec, args: Any, kwargs: Any, emit: Emit) -> WorkflowResult[OutputT]:
        """Start a run, unless there is one of its id; then continue that one, or return its result."""
        spec.input = self._dump_inputs(args, kwargs)
        while True:
            if spec.only_once:
                found = await aoperate(self.storage, turns.repeated, spec)
                if found is not None:
                    return await self._found(spec, found, emit)
            try:
                with stored_on_sigterm():
                    turn = await begin(self.storage, spec)
                    assert turn.head is not None, "it has just been committed"
                    if isinstance(emit, StreamEmit):
                        emit.begun(turn)
                    run = prepare(self.storage, turn, None, emit)
                    return await drive(run, self._body_of(args, kwargs), turn.head.updated_us, self.timeout)
            except RunExistsError:
                continue  # another process has begun it at the same time

    async def _found(self, spec: TurnSpec, found: Found, emit: Emit) -> WorkflowResult[OutputT]:
        run = found.run
        if found.open:
            try:
                return await self._resume(spec, run.number, emit, DeferredToolResults())
            except NotResumableError:
                if run.status != "paused":
                    raise
        elif run.status != "completed":
            raise NotResumableError(f"Run {spec.run_id!r} was {run.status}.")
        return stored_result(spec.session_id, run)

    async def _resume(
        self, spec: TurnSpec, number: int | None, emit: Emit, given: DeferredToolResults, by: str | None = None
    ) -> WorkflowResult[OutputT]:
        with stored_on_sigterm():
            turn, taken, decided = await take(self.storage, spec, _checked_number(number), given, by)
            if isinstance(emit, StreamEmit):
                emit.begun(turn)
            run = prepare(self.storage, turn, taken, emit, decided)
            return await drive(run, self._body_of(*self._load_inputs(taken.input)), taken.started_us, self.timeout)

    async def _as_it_is(self, session_id: str, number: int, user_id: UserId) -> WorkflowResult[OutputT]:
        """A run as the log has it."""
        run, _ = await aoperate(self.storage, journals.journal_run, session_id, number, user_id=user_id)
        return stored_result(session_id, run)

    def _body_of(self, args: Any, kwargs: Any) -> Callable[[WorkflowRun], Coroutine[Any, Any, Any]]:
        return lambda run: self._body(run, *args, **kwargs)

    def _spec(
        self,
        session_id: str | None,
        user_id: UserId,
        run_id: str | None,
        run_metadata: JsonObject | None,
    ) -> TurnSpec:
        checked_patch(run_metadata, "run_metadata")
        return TurnSpec(
            session_id=uuid7() if session_id is None else session_id,
            run_id=check_optional_id(run_id, "run_id") or uuid7(),
            input=None,
            user_id=user_id,
            agent=self.name,
            kind="workflow",
            durability="workflow",
            metadata=run_metadata,
            session={"state": self._state} if self._state else {},
            only_once=run_id is not None,
            scopes=self._scopes,
        )

    def _dump_inputs(self, args: Any, kwargs: Any) -> JsonObject:
        try:
            arguments = self._parameters.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidInputError(
                f"Workflow {self.name!r} was called with other arguments than it takes: {error}."
            ) from error
        return {name: dump(value, f"The argument {name!r}") for name, value in arguments.items()}

    def _load_inputs(self, data: JsonObject) -> tuple[Any, Any]:
        arguments = {name: load(value) for name, value in data.items()}
        bound = inspect.BoundArguments(self._parameters, cast(Any, arguments))
        return bound.args, bound.kwargs


def _checked_number(number: int | None) -> int | None:
    if number is not None:
        check_count(number, "run_number", least=1)
    return number


def first_state_of(workflow: Workflow[Any]) -> JsonObject:
    """What the state of a new session of a workflow begins with."""
    return deepcopy(workflow._state)  # pyright: ignore[reportPrivateUsage] (of the same module)


def signature_of(workflow: Workflow[Any]) -> inspect.Signature:
    """What a workflow takes and returns, with the types that its annotations name where they can be found."""
    try:
        return _parameters(workflow.function, eval_str=True)
    except (NameError, TypeError, SyntaxError, AttributeError):  # they are there for type checkers alone
        return _parameters(workflow.function)


def _parameters(function: Callable[..., Any], *, eval_str: bool = False) -> inspect.Signature:
    """What a workflow's function takes after its context."""
    signature = inspect.signature(function, eval_str=eval_str)
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        raise InvalidInputError("The first parameter of a workflow's function is its context.")
    taken = [parameter.name for parameter in parameters if parameter.name in RESERVED]
    if taken:
        raise InvalidInputError(f"A workflow's function cannot have parameters named {', '.join(taken)}.")
    return signature.replace(parameters=parameters[1:])
