"""`Workflow`: plain Python as steps whose results are kept, so that what interrupts it does not undo them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from copy import deepcopy
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from ..agents.shutdown import stored_on_sigterm
from ..errors import AlreadyExistsError, InvalidInputError, NotResumableError, UnsupportedError
from ..records import JsonObject
from ..storage import journals
from ..storage.faces import background
from ..storage.ids import check_id, check_optional_id, uuid7
from ..storage.reads import check_count, check_seconds
from ..storage.registry import open_storage
from ..storage.storage import Storage, check_storage
from ..storage.turns import TurnSpec
from ..storage.writes import checked_patch
from .context import Context, SyncContext
from .declared import Element, checked_elements, flowchart, run_elements
from .driving import begin, drive, prepare, take
from .events import Emit, unheard
from .result import OutputT, StepRecord, WorkflowResult, step_records, stored_result
from .runtime import WorkflowRun
from .steps import Nested, name_of
from .streaming import AsyncWorkflowStream, WorkflowStream, from_any_thread
from .values import dump, load

P = ParamSpec("P")
R = TypeVar("R")

RESERVED = ("session_id", "user_id", "run_id", "run_metadata")
"""Names that `run` takes itself, and a workflow's function cannot have."""


class Workflow(Nested, Generic[OutputT]):
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
        name: the workflow's name, stored as the session's owner; runs are resumed by the workflow of that name.
            Default: the function's name.
        storage: where the sessions are kept; without one, in memory while the workflow works.
        state: what the state of a new session begins with.
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
        user_id: str | None = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **kwargs: Any,
    ) -> WorkflowResult[OutputT]:
        """Run the workflow and return what it came to, when that is stored.

        Args:
            args, kwargs: what the function takes after its context; kept with the run.
            session_id: the session that the run belongs to; made if it is not there.
            user_id: whose session it is.
            run_id: an id of the caller's own makes the call repeatable: a run of that id that is open is gone on with,
                and of one that is among the session's last commits the result is returned; nothing is done twice.
            run_metadata: JSON that the application keeps beside the run.

        Raises:
            StepFailedError: a step has failed, and the function has not caught it; `resume` tries it again.
            NotResumableError: another process is at work on the run of that `run_id`, or it was cancelled.
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
        user_id: str | None = None,
        run_id: str | None = None,
        run_metadata: JsonObject | None = None,
        **kwargs: Any,
    ) -> WorkflowResult[OutputT]:
        """The `async` twin of `run`. Cancelling the task interrupts the run, which can be resumed."""
        spec = self._spec(session_id, user_id, run_id, run_metadata)
        return await self._start(spec, args, kwargs, unheard)

    def resume(self, session_id: str, *, run: int | None = None, user_id: str | None = None) -> WorkflowResult[OutputT]:
        """Go on with a run that was interrupted or has failed, or that waits for an event which has been sent.

        Interrupted are runs whose process is gone or was told to stop (SIGTERM, Ctrl-C), or whose task was cancelled.
        What its finished steps came to is taken from the journal; steps whose failure ended the run are tried again.

        Args:
            session_id: the session.
            run: the run's number; default: the newest of the current branch that can be gone on with.
            user_id: whose session it is.

        Raises `NotResumableError` if there is no such run or another process is at work on it, `WorkflowChangedError`
        if the code does not fit what the run has done, and what `run` raises.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(self.aresume(session_id, run=run, user_id=user_id))

    async def aresume(
        self, session_id: str, *, run: int | None = None, user_id: str | None = None
    ) -> WorkflowResult[OutputT]:
        """The `async` twin of `resume`."""
        return await self._resume_told(unheard, session_id, run=run, user_id=user_id)

    def send(
        self,
        session_id: str,
        event: str,
        value: Any = None,
        *,
        run: int | None = None,
        user_id: str | None = None,
        resume: bool = True,
    ) -> WorkflowResult[OutputT]:
        """Send the value that `ctx.wait(event)` waits for, from any process, and go on with the run if it is paused.

        Args:
            session_id, user_id: the session, and whose it is.
            event: the name that the run waits for, now or later.
            value: what it receives: anything that a step may return.
            run: the run's number; default: the newest one of this workflow in the current branch that is not over.
            resume: whether a run on which no process is at work is gone on with here.

        The status of the result is `running` where another process is at work, which then receives the event, and what
        it was before with `resume=False`. Raises `NotResumableError` if no run could receive it.
        """
        with stored_on_sigterm(waiting=True):
            return background.run(self.asend(session_id, event, value, run=run, user_id=user_id, resume=resume))

    async def asend(
        self,
        session_id: str,
        event: str,
        value: Any = None,
        *,
        run: int | None = None,
        user_id: str | None = None,
        resume: bool = True,
    ) -> WorkflowResult[OutputT]:
        """The `async` twin of `send`."""
        check_id(event, "event")
        data = dump(value, f"The value of event {event!r}")
        sent = await self.storage.arun_operation(
            journals.send_event, session_id, self.name, event, data, _checked_number(run), user_id=user_id
        )
        if resume and not sent.at_work:
            try:
                return await self.aresume(session_id, run=sent.number, user_id=user_id)
            except NotResumableError:
                pass  # another process was faster, or the run waits for something else: shown as it is
        return await self._as_it_is(session_id, sent.number, user_id)

    def stream(self, *args: Any, resume: bool = False, **kwargs: Any) -> WorkflowStream[OutputT]:
        """`run` (or, with `resume=True`, `resume`) with the same arguments, told as it happens.

        An iterator of `WorkflowEvent`s, whose `result` is there when it has ended. Closed early, it interrupts the run.
        """
        return WorkflowStream(self.astream(*args, resume=resume, **kwargs))

    def astream(self, *args: Any, resume: bool = False, **kwargs: Any) -> AsyncWorkflowStream[OutputT]:
        """The `async` twin of `stream`: `async for event in workflow.astream(…)`; not awaited itself."""
        return AsyncWorkflowStream(lambda put: self._told(from_any_thread(put), resume, args, kwargs))

    def print_run(self, *args: Any, resume: bool = False, **kwargs: Any) -> WorkflowResult[OutputT]:
        """`run` (or `resume`) with a live view in the terminal: steps, times, attempts, the text of agents.

        Needs the package `rich` (`pip install "sessile[cli]"`).
        """
        from .printing import print_stream

        return print_stream(self.name, self.stream(*args, resume=resume, **kwargs))

    async def aprint_run(self, *args: Any, resume: bool = False, **kwargs: Any) -> WorkflowResult[OutputT]:
        """The `async` twin of `print_run`."""
        from .printing import aprint_stream

        return await aprint_stream(self.name, self.astream(*args, resume=resume, **kwargs))

    # ------------------------------------------------------------ looking

    def journal(self, session_id: str, *, run: int | None = None, user_id: str | None = None) -> list[StepRecord]:
        """The steps of a run (default: the newest) in the order in which they ended, then those that are at work.

        A step is shown as at work from when its process next renews its lease, after a third of the lease's time.
        """
        found = self.storage.run_operation(journals.journal_run, session_id, _checked_number(run), user_id=user_id)
        return step_records(*found)

    async def ajournal(
        self, session_id: str, *, run: int | None = None, user_id: str | None = None
    ) -> list[StepRecord]:
        """The `async` twin of `journal`."""
        found = await self.storage.arun_operation(
            journals.journal_run, session_id, _checked_number(run), user_id=user_id
        )
        return step_records(*found)

    def mermaid(self) -> str:
        """A declared workflow as a Mermaid flowchart. Of one that is a function, only running it shows the steps."""
        if not self.steps:
            raise UnsupportedError(
                f"Workflow {self.name!r} is a function, in which Python decides what comes next.",
                hint="Declare it, Workflow(steps=[…]), to draw it; look at workflow.journal(session_id) after a run.",
            )
        return flowchart(self.steps)

    # ------------------------------------------------------------ parts

    async def body(self, run: WorkflowRun, *args: Any, **kwargs: Any) -> Any:
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
        self, emit: Emit, session_id: str, *, run: int | None = None, user_id: str | None = None
    ) -> WorkflowResult[OutputT]:
        return await self._resume(self._spec(session_id, user_id, None, None), run, emit)

    async def _start(self, spec: TurnSpec, args: Any, kwargs: Any, emit: Emit) -> WorkflowResult[OutputT]:
        """Start a run, unless there is one of its id; then go on with that one, or return what it came to."""
        spec.input = self._dump_inputs(args, kwargs)
        while True:
            if spec.only_once:
                found = await self.storage.arun_operation(
                    journals.find_run, spec.session_id, spec.run_id, user_id=spec.user_id
                )
                if found is not None:
                    return await self._found(spec, found, emit)
            try:
                with stored_on_sigterm():
                    turn = await begin(self.storage, spec)
                    assert turn.head is not None, "it has just been committed"
                    run = prepare(self.storage, turn, None, emit)
                    return await drive(run, self._body_of(args, kwargs), turn.head.updated_at, self.timeout)
            except AlreadyExistsError:
                if not spec.only_once:
                    raise

    async def _found(self, spec: TurnSpec, found: journals.Found, emit: Emit) -> WorkflowResult[OutputT]:
        if found.ended is None:
            shown = await self._as_it_is(spec.session_id, found.number, spec.user_id)
            if shown.status != "paused":
                return await self._resume(spec, found.number, emit)
            try:
                return await self._resume(spec, found.number, emit)
            except NotResumableError:
                return shown
        if found.ended.data["status"] != "completed":
            raise NotResumableError(f"Run {spec.run_id!r} was {found.ended.data['status']}.")
        return await self._as_it_is(spec.session_id, found.number, spec.user_id)

    async def _resume(self, spec: TurnSpec, number: int | None, emit: Emit) -> WorkflowResult[OutputT]:
        with stored_on_sigterm():
            turn, taken = await take(self.storage, spec, _checked_number(number))
            run = prepare(self.storage, turn, taken, emit)
            return await drive(run, self._body_of(*self._load_inputs(taken.input)), taken.started_at, self.timeout)

    async def _as_it_is(self, session_id: str, number: int, user_id: str | None) -> WorkflowResult[OutputT]:
        """A run as the log has it."""
        run, _ = await self.storage.arun_operation(journals.journal_run, session_id, number, user_id=user_id)
        return stored_result(session_id, run)

    def _body_of(self, args: Any, kwargs: Any) -> Callable[[WorkflowRun], Coroutine[Any, Any, Any]]:
        return lambda run: self.body(run, *args, **kwargs)

    def _spec(
        self,
        session_id: str | None,
        user_id: str | None,
        run_id: str | None,
        run_metadata: JsonObject | None,
    ) -> TurnSpec:
        checked_patch(run_metadata, "run_metadata")
        return TurnSpec(
            session_id=uuid7() if session_id is None else session_id,
            run_id=check_optional_id(run_id, "run_id") or uuid7(),
            input=None,
            user_id=user_id,
            owner=self.name,
            kind="workflow",
            durability="workflow",
            metadata=run_metadata,
            session={"state": self._state} if self._state else {},
            only_once=run_id is not None,
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
        check_count(number, "run", least=1)
    return number


def _parameters(function: Callable[..., Any]) -> inspect.Signature:
    """What a workflow's function takes after its context."""
    signature = inspect.signature(function)
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


@overload
def workflow(function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> Workflow[R]: ...
@overload
def workflow(function: Callable[Concatenate[SyncContext, P], R], /) -> Workflow[R]: ...
@overload
def workflow(
    *,
    name: str | None = None,
    storage: Storage | None = None,
    state: JsonObject | None = None,
    timeout: float | None = None,
) -> _Decorator: ...
def workflow(function: Any = None, /, **options: Any) -> Any:
    """Make a function a `Workflow`: `@workflow(storage=…)`; the options are those of `Workflow`."""

    def decorate(function: Callable[..., Any]) -> Any:
        return Workflow(function, **options)  # pyright: ignore[reportUnknownVariableType]

    return decorate if function is None else decorate(function)


class _Decorator:
    """How a type checker sees `@workflow(…)`."""

    @overload
    def __call__(self, function: Callable[Concatenate[Context, P], Coroutine[Any, Any, R]], /) -> Workflow[R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[SyncContext, P], R], /) -> Workflow[R]: ...
    def __call__(self, function: Any, /) -> Any: ...
