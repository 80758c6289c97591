"""What a workflow's function is given: steps, parallel branches, waiting, and values that replay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, overload
from uuid import UUID

from pydantic_ai.agent import AbstractAgent

from ..agents.agent import Agent
from ..agents.forms import Form, FormError, form_of
from ..errors import InvalidInputError
from ..records import MICROSECOND, Duration, JsonObject
from ..storage.checks import check_count, seconds_of
from ..storage.computing import computed
from ..storage.forms import untyped
from ..storage.ids import check_id, check_optional_id
from ..storage.journals import Event
from ..storage.vocabulary import PatchPassed, StepFinished
from .run.earlier import LOOKED_AT, EarlierRun, earlier_runs
from .run.journal import Path
from .run.pausing import Pause
from .run.runtime import Scope, WorkflowRun, current_step, scope_here
from .run.values import load
from .steps.call import Call
from .steps.executing import areplayed, execute, overdue, replayed
from .steps.step import Nested, Step, step_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

GATHER = "gather"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MOST_STEPS = 100
"""How many functions of a run are remembered as steps."""


class BaseContext:
    """What both kinds of context have."""

    def __init__(self, run: WorkflowRun) -> None:
        self._run = run
        self._steps: dict[Any, Step[..., Any]] = {}

    @property
    def session_id(self) -> str:
        """The session that the run belongs to."""
        return self._run.session_id

    @property
    def user_id(self) -> str | None:
        """Whose session it is."""
        return self._run.user_id

    @property
    def run_id(self) -> str:
        """The run's id: the same each time that it is resumed."""
        return self._run.run_id

    @property
    def state(self) -> JsonObject:
        """The session's state, to read and to change.

        What was changed is committed when the run ends or pauses. A replay begins with the state that the run began
        with. Inside a step it is the step's own copy, the same as `session_state()`, whose changes are kept with the
        step's result.
        """
        return scope_here.get().state

    @property
    def idempotency_key(self) -> str:
        """Inside a step: what is the same whenever this step of this run is executed; see `CurrentStep`."""
        return current_step().idempotency_key

    def now(self) -> datetime:
        """The time, as it can be replayed: when the last step here ended, or the run began. In UTC."""
        return EPOCH + timedelta(microseconds=scope_here.get().now)

    def random(self) -> float:
        """A number from 0 up to 1 that looks random, and is the same when the run is replayed."""
        return (int.from_bytes(self._run.derived("random", self._draw())[:7], "big") >> 3) / 2**53

    def uuid(self) -> UUID:
        """A UUID that is the same when the run is replayed.

        It is no secret: whoever knows the ids of session and run can compute it. Make tokens, passwords and the like in
        a step, with `secrets`.
        """
        return self._run.derived_uuid("uuid", self._draw())

    def _draw(self) -> Path:
        scope = scope_here.get()
        scope.draws += 1
        return (*scope.path, scope.draws)

    def patched(self, name: str) -> bool:
        """Whether this run has come here for the first time since the change of that name was made to the code.

        ```python
        outline = await ctx.step(outline_2 if ctx.patched("new outline") else outline_1, topic)
        ```

        False for runs that had gone beyond this point before, which are replayed as they were; True for all others.
        A run keeps to its answer.
        """
        check_id(name, "The name of a change")
        journal, scope = self._run.journal, scope_here.get()
        if name in journal.patches:
            return True
        if name in self._run.unpatched or journal.reach(scope.path) > scope.steps:
            self._run.unpatched.add(name)
            return False
        journal.patches.add(name)
        journal.note(PatchPassed(name=name))
        return True

    def _call(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """A call at the next position: given out when the step is called, not when it is awaited."""
        step, scope = self._step_of(target), scope_here.get()
        return Call(step, scope.next_path(), scope, args, kwargs)

    def _step_of(self, target: Any) -> Step[..., Any]:
        """What is called, as a step; the one of a function is made once, for most are called again and again."""
        if type(target) is not FunctionType:
            return step_of(target)
        step = self._steps.get(target)
        if step is None:
            step = step_of(target)
            if len(self._steps) < MOST_STEPS:  # there may be a function for each call
                self._steps[target] = step
        return step

    def decide(self, target: Any, check: Callable[[Any], Any], /, *args: Any) -> Coroutine[Any, Any, Any]:
        """A step whose result must pass a check, which raises an error else: then the step has failed.

        For what decides how a declared workflow goes on: a choice that cannot be followed is no choice.
        """
        call = self._call(target, args, {})
        call.check = check
        return execute(self._run, call)

    def _branches(self, count: int) -> list[Scope]:
        """A scope for each of the branches that run in parallel at the next position."""
        scope = scope_here.get()
        path = scope.next_path()
        self._run.check_at_work()
        self._run.journal.check_fits(path, GATHER)
        within = (GATHER, len(path))
        return [Scope((*path, number), scope.now, scope.state, within) for number in range(1, count + 1)]

    async def _receive(
        self,
        call: Call,
        name: str,
        timeout: Duration | None,  # noqa: ASYNC109 (outlives tasks)
        form: Form | None,
    ) -> Any:
        """The value of the next event of that name, kept as the result of this position; `Pause` if there is none."""
        until = None if timeout is None else call.scope.now + round(seconds_of(timeout, "timeout") * MICROSECOND)
        kept = await areplayed(self._run, call)
        if kept is not None:
            return kept[0] if form is None else form.filled(kept[0])
        journal = self._run.journal
        event, problem = self._next_event(name, form)
        if event is None:
            await journal.look_for_events()
            event, problem = self._next_event(name, form, problem)
        now = self._run.now()
        if event is None:
            if until is not None and now >= until:
                raise await overdue(self._run, call, f"Event {name!r} was not sent in time.", now)
            asked = None if form is None else {name: form.asked(problem)}
            raise call.scope.paused(Pause([name], until, forms=asked))
        value = event.value if form is None else untyped(event.value)
        step = StepFinished(**call.about(1, now, now), output=value, event=event.seq)
        await journal.commit(call.path, step)
        call.scope.now = max(call.scope.now, step.ended_at)
        self._run.tell("step.finished", call.name, call.path)
        if form is not None:
            return form.filled(value)
        return await computed(lambda: load(value), value)

    def _next_event(self, name: str, form: Form | None, problem: str | None = None) -> tuple[Event | None, str | None]:
        """The oldest event of that name that fills the form; what was wrong with the newest that did not."""
        while (event := self._run.journal.take_event(name)) is not None:
            if form is None:
                return event, None
            try:
                form.filled(untyped(event.value))
            except FormError as error:
                problem = str(error)
            else:
                return event, None
        return None, problem

    def _earlier(self, last: int, agent: str | None, steps: Sequence[str]) -> Call:
        """The reading of earlier runs as a step: what was read is kept, so that a replay finds the same."""
        check_count(last, "last", least=1, most=LOOKED_AT)
        check_optional_id(agent, "agent")
        if isinstance(steps, str):
            raise InvalidInputError(f"steps are names of steps in a list, not {steps!r}.")
        run, whose = self._run, agent or self._run.journal.turn.spec.agent

        async def read(last: int, agent: str | None, steps: Sequence[str]) -> list[EarlierRun]:
            return await earlier_runs(run, last, agent, steps)

        return self._call(Step(read, "earlier runs"), (last, whose, list(steps)), {})

    def _wait_call(self, name: str) -> Call:
        return self._call(Step(_nothing, f"wait for {check_id(name, 'The name of an event')}"), (), {})


def _nothing() -> None:
    """What a position calls where the workflow only waits."""


class Context(BaseContext):
    """What an `async` workflow function is given as its first argument.

    The function is run again from its start when the run is resumed; steps that have finished are not. So it must do
    the same every time: what is slow, random or has effects belongs into steps.
    """

    @overload
    def step(self, target: Agent[R], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(self, target: AbstractAgent[Any, R], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(self, target: Nested[R], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, target: Step[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(self, target: Step[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(
        self, target: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]: ...
    @overload
    def step(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    def step(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, an agent, a team or another workflow as a step, and keep its result.

        Awaited, it gives the result; a step that has finished before gives it without being called again.
        `asyncio.gather(ctx.step(…), ctx.step(…))` runs steps in parallel.

        An agent's messages are kept below the workflow's run; with `session_id=` it answers in that session of its own.

        Raises:
            StepFailedError: the step has failed, and no further attempt is due. `except` it to go on another way.
            WorkflowChangedError: another step stood at this position when the run came here before.
            StorageError: the result could not be kept. The run stops; resumed, it executes the step again.
        """
        return execute(self._run, self._call(target, args, kwargs))

    def gather(self, *branches: Awaitable[Any]) -> Coroutine[Any, Any, list[Any]]:
        """Run branches in parallel, each of which may have any number of steps; returns their results in order.

        ```python
        text, picture = await ctx.gather(write(ctx, topic), paint(ctx, topic))
        ```

        If a branch fails, the others are cancelled, and its error is raised. If one waits for an event, the others
        go on to their end first.
        """
        return _gathered(self._branches(len(branches)), branches)

    def earlier_runs(
        self, last: int = 1, *, agent: str | None = None, steps: Sequence[str] = ()
    ) -> Coroutine[Any, Any, list[EarlierRun]]:
        """What the last runs of this session have returned that had completed before this one; oldest first.

        ```python
        before = await ctx.earlier_runs(3, steps=["outline"])
        outlines = [run.steps.get("outline") for run in before]
        ```

        It stands in the journal like a step: what was read is kept with this run, and a replay finds the same,
        whatever has been erased, rewound or added since then. Of a session that was rewound the runs of this run's
        branch are meant; up to a hundred runs are looked through.

        Args:
            last: how many at most.
            agent: whose runs: the name of a workflow, agent or team. Default: this workflow's.
            steps: names of steps whose results come along.

        Raises:
            InvalidInputError: an argument is wrong.
            StepFailedError: they could not be read; `resume` tries again.
        """
        return execute(self._run, self._earlier(last, agent, steps))

    def last_output(self, default: Any = None, *, agent: str | None = None) -> Coroutine[Any, Any, Any]:
        """What the run of this session before this one has returned, or `default` if none has completed.

        See `earlier_runs`.
        """
        return _output_of(self.earlier_runs(agent=agent), default)

    @overload
    def wait_for_event(
        self, event: str, *, form: type[T], question: str = "", timeout: Duration | None = None
    ) -> Coroutine[Any, Any, T]: ...
    @overload
    def wait_for_event(
        self,
        event: str,
        *,
        form: JsonObject | None = None,
        question: str = "",
        timeout: Duration | None = None,
    ) -> Coroutine[Any, Any, Any]: ...
    def wait_for_event(
        self, event: str, *, form: Any = None, question: str = "", timeout: Duration | None = None
    ) -> Coroutine[Any, Any, Any]:
        """The value that `workflow.send_event(session_id, event, value)` sends, now or at any time.

        If none was sent yet, the run is stored as paused when nothing else of it is running, and `run` returns: its
        process may end. Each event is received once, the oldest first.

        Args:
            event: its name.
            form: what a person is to fill in: a Pydantic model or another type, of which the value then is, or a JSON
                Schema. What does not fit is refused where it is sent, and the run goes on waiting; what was sent
                before the run waited is passed over.
            question: what the person is asked.
            timeout: seconds (or a `timedelta`) after which it is waited for no longer, counted from when the step
                before it ended, or the run began. Nobody wakes a paused run: who resumes it after that time (its
                result says when, `waiting_until`) lets it go on.

        Raises:
            EventTimeoutError: the time is over and no event has come. `except` it (or `TimeoutError`) to go on another
                way; if it ends the run, `resume` looks again.
        """
        return self._receive(self._wait_call(event), event, timeout, form_of(form, question))


async def _output_of(reading: Coroutine[Any, Any, list[EarlierRun]], default: Any) -> Any:
    found = await reading
    return found[-1].output if found else default


async def _gathered(scopes: Sequence[Scope], branches: Sequence[Awaitable[Any]]) -> list[Any]:
    outer = scope_here.get()
    tasks = [asyncio.ensure_future(_in_scope(*pair)) for pair in zip(scopes, branches, strict=True)]
    try:
        await _all_or_first_failure(tasks)
    except Pause as pause:
        raise outer.paused(pause)  # noqa: B904 (the same one)
    finally:
        await _ended(tasks)
    outer.now = max([outer.now, *(scope.now for scope in scopes)])
    return [task.result() for task in tasks]


async def _in_scope(scope: Scope, branch: Awaitable[Any]) -> Any:
    scope_here.set(scope)
    try:
        return await branch
    finally:
        scope.leave()


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what has not ended, and wait for it; its errors come after the first one, which is raised."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


async def _all_or_first_failure(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Wait for all; raise the first error at once, and pauses when all others have ended."""
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            if not task.cancelled() and task.exception() is not None and not isinstance(task.exception(), Pause):
                task.result()
    pauses = [error for task in tasks if not task.cancelled() and isinstance(error := task.exception(), Pause)]
    if pauses:
        raise Pause.of(pauses)


class SyncContext(BaseContext):
    """What a plain workflow function is given: `Context` for code that does not await.

    The function runs in a thread of its own.
    """

    @overload
    def step(self, target: Agent[R], /, *args: Any, **kwargs: Any) -> R: ...
    @overload
    def step(self, target: AbstractAgent[Any, R], /, *args: Any, **kwargs: Any) -> R: ...
    @overload
    def step(self, target: Nested[R], /, *args: Any, **kwargs: Any) -> R: ...
    @overload
    def step(self, target: Step[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def step(self, target: Step[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def step(self, target: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def step(self, target: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    def step(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """See `Context.step`; returns the result itself."""
        call = self._call(target, args, kwargs)
        kept = replayed(self._run, call)
        return kept[0] if kept is not None else self._await(execute(self._run, call))

    def gather(self, *branches: Callable[[], Any]) -> list[Any]:
        """Call functions in parallel, each in a thread; returns their results in order. See `Context.gather`.

        ```python
        text, picture = ctx.gather(lambda: ctx.step(write, topic), lambda: ctx.step(paint, topic))
        ```
        """
        scopes = self._branches(len(branches))
        return self._await(_gathered(scopes, [self._run.in_thread(branch) for branch in branches]))

    def earlier_runs(self, last: int = 1, *, agent: str | None = None, steps: Sequence[str] = ()) -> list[EarlierRun]:
        """See `Context.earlier_runs`."""
        call = self._earlier(last, agent, steps)
        kept = replayed(self._run, call)
        return kept[0] if kept is not None else self._await(execute(self._run, call))

    def last_output(self, default: Any = None, *, agent: str | None = None) -> Any:
        """See `Context.last_output`."""
        found = self.earlier_runs(agent=agent)
        return found[-1].output if found else default

    @overload
    def wait_for_event(
        self, event: str, *, form: type[T], question: str = "", timeout: Duration | None = None
    ) -> T: ...
    @overload
    def wait_for_event(
        self,
        event: str,
        *,
        form: JsonObject | None = None,
        question: str = "",
        timeout: Duration | None = None,
    ) -> Any: ...
    def wait_for_event(
        self, event: str, *, form: Any = None, question: str = "", timeout: Duration | None = None
    ) -> Any:
        """See `Context.wait_for_event`."""
        return self._await(self._receive(self._wait_call(event), event, timeout, form_of(form, question)))

    def _await(self, coroutine: Coroutine[Any, Any, R]) -> R:
        return scope_here.get().wait(asyncio.run_coroutine_threadsafe(coroutine, self._run.loop))
