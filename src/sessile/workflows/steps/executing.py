"""Executing one step: replay it if it has finished, take it from the cache, or call it, and keep its result."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any, cast

from ...agents.agent import Agent
from ...errors import EventTimeoutError, StepFailedError, TooLargeError, problem_of
from ...live.session import enter, leave
from ...records import MICROSECOND, Entry, JsonObject
from ...storage import patch
from ...storage.computing import LARGE, computed, weight
from ...storage.encoding import copies_of, frozen
from ...storage.vocabulary import Step as KeptStep
from ...storage.vocabulary import StepFailed, StepFinished
from ..run.journal import path_text
from ..run.pausing import Pause
from ..run.runtime import AtWork, Scope, WorkflowRun, scope_here, step_here
from ..run.values import PLAIN, dump, load
from .agents import figures_of, run_agent
from .cached import found_in_cache, keep_in_cache, key_of
from .call import Call, Outcome
from .step import Nested, Step, body_of


def replayed(run: WorkflowRun, call: Call) -> tuple[Any] | None:
    """The kept result of a step, in a tuple; None if it is to be executed. A kept failure is raised again."""
    step = _kept(run, call)
    return None if step is None else _told_again(run, call, step, load(step.output))


async def areplayed(run: WorkflowRun, call: Call) -> tuple[Any] | None:
    """As `replayed`, on the event loop: large results are read beside it."""
    step = _kept(run, call)
    return None if step is None else await _read_again(run, call, step)


async def _read_again(run: WorkflowRun, call: Call, step: StepFinished) -> tuple[Any]:
    output = step.output
    plain = type(output) in PLAIN
    return _told_again(run, call, step, output if plain else await computed(lambda: load(output), output))


def _kept(run: WorkflowRun, call: Call) -> StepFinished | None:
    run.check_at_work()
    step = run.journal.fitting(call.path, call.name, call.inputs)
    if step is None:
        return None
    _ended(call, step)
    if isinstance(step, StepFinished):
        return step
    if isinstance(step, StepFailed):
        error = _failed(call, step.error["type"], step.error["message"])
        run.tell("step.failed", call.name, call.path, error=error.message, **_about(step))
        run.failures.append((error, call.path))
        raise error
    raise AssertionError("a step has finished or failed")


def _told_again(run: WorkflowRun, call: Call, step: StepFinished, value: Any) -> tuple[Any]:
    if run.heard:
        run.tell("step.finished", call.name, call.path, cached=step.cached, **_about(step))
    return (value,)


def _about(step: KeptStep) -> JsonObject:
    seconds = (step.ended_at - step.started_at) / MICROSECOND
    return {"attempt": step.attempt, "seconds": seconds, "replayed": True}


def _ended(call: Call, step: KeptStep) -> None:
    """Bring the state and the time of the surrounding scope up to the step's end; the same when it is replayed."""
    scope, said = call.scope, step.json
    if changes := said.get("state"):
        scope.apply(changes)
    if said["ended_at"] > scope.now:
        scope.now = said["ended_at"]


async def execute(run: WorkflowRun, call: Call) -> Any:
    """The result of the step, which is kept when this returns. Raises `StepFailedError` if it fails for good."""
    step = _kept(run, call)
    if step is not None:
        output = step.json["output"]
        plain = type(output) in PLAIN and not run.heard  # what most replays consist of
        return output if plain else (await _read_again(run, call, step))[0]
    task = asyncio.current_task()
    assert task is not None, "steps are executed in tasks"
    known = task in run.tasks
    run.tasks.add(task)
    try:
        if call.step.cache is not None:
            return await _cached(run, call)
        return (await _attempts(run, call)).value
    except Pause as pause:
        raise call.scope.paused(pause)  # noqa: B904 (the same one)
    finally:
        if not known:
            run.tasks.discard(task)


async def _cached(run: WorkflowRun, call: Call) -> Any:
    key = key_of(run, call)
    cached = await found_in_cache(run, call, key)
    if cached is not None:
        await _finished(run, call, 1, run.now(), cached, cached=True)
        return cached.value
    outcome = await _attempts(run, call)
    await keep_in_cache(run, call, key, outcome)
    return outcome.value


async def _attempts(run: WorkflowRun, call: Call) -> Outcome:
    """The first attempt that succeeds; each one that fails is kept in the journal."""
    first = run.journal.attempts(call.path) + 1
    attempt = first
    while True:
        started = run.now()
        run.at_work[call.path] = at_work = AtWork(run, call.name, call.path, attempt, started)
        if run.heard:
            run.tell("step.started", call.name, call.path, attempt=attempt)
        entries: list[Entry] = []
        outcome: Outcome | None = None
        try:
            outcome = await _attempt(run, call, at_work, entries)
            await _finished(run, call, attempt, started, outcome)
            return outcome
        except Exception as error:
            if run.journal.broken is not None or (call.nested and _is_inner(run, call, error)):
                raise
            # What has succeeded and was refused when it was stored is not done once more: it would be refused again.
            pause = _pause_after(call.step, error, attempt - first + 1) if outcome is None else None
            if isinstance(error, TooLargeError):
                entries[:] = figures_of(entries, error)  # the rest may be what is too large
            failure = await _store_failure(run, call, attempt, started, error, entries, pause)
            if pause is None:
                run.failures.append((failure, call.path))
                raise failure from error
            await asyncio.sleep(pause)
            attempt += 1
        except BaseException:  # the run is stopped here
            run.journal.leave(entries)
            raise
        finally:
            run.at_work.pop(call.path, None)


def _is_inner(run: WorkflowRun, call: Call, error: BaseException) -> bool:
    """Whether an error comes from a step inside this one, which has kept it already."""
    depth = len(call.path)
    return any(one is error and path[:depth] == call.path for one, path in run.failures)


def _pause_after(step: Step[..., Any], error: Exception, tried: int) -> float | None:
    """Seconds until the next attempt; None: there is none."""
    retry = step.retry
    return retry.pause(tried) if retry and isinstance(error, retry.on) and tried < retry.attempts else None


async def _attempt(run: WorkflowRun, call: Call, at_work: AtWork, entries: list[Entry]) -> Outcome:
    copy, size = copies_of(call.scope.state)
    # What is light is not awaited at all: that takes longer than the work.
    before, state = (copy(), copy()) if size < LARGE else await computed(lambda: (copy(), copy()), size=size)
    value = await _in_context(run, call, at_work, state, entries)
    thaw, size = frozen(state, f"The state after step {call.name!r}")

    def outcome() -> Outcome:
        changes = patch.diff(before, thaw())
        return Outcome(value, dump(value, f"What step {call.name!r} returned"), changes, entries)

    return outcome() if size + weight(value) < LARGE else await computed(outcome, size=LARGE)


async def _in_context(run: WorkflowRun, call: Call, at_work: AtWork, state: JsonObject, entries: list[Entry]) -> Any:
    """Call what the step is made of, with what its code may know: its scope, the step itself, and the session."""
    scope = Scope(call.path, call.scope.now, state, (call.name, len(call.path)))
    in_scope = scope_here.set(scope)
    in_step = step_here.set(at_work)
    in_session = enter(run.session(state))
    try:
        value = await (_called(run, call, entries) if call.step.timeout is None else _in_time(run, call, entries))
        if call.check is not None:
            call.check(value)
        return value
    finally:
        leave(in_session)
        scope.leave()
        scope_here.reset(in_scope)
        step_here.reset(in_step)


async def _in_time(run: WorkflowRun, call: Call, entries: list[Entry]) -> Any:
    limit = asyncio.timeout(call.step.timeout)
    try:
        async with limit:
            return await _called(run, call, entries)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeoutError(f"It did not end within {call.step.timeout:g} s.") from error


async def _called(run: WorkflowRun, call: Call, entries: list[Entry]) -> Any:
    """Call what the step is made of."""
    target: Any = call.step.target
    if call.step.is_async:
        return await target(*call.args, **call.kwargs)
    if isinstance(target, Nested):
        return await body_of(cast("Nested[Any]", target), run, *call.args, **call.kwargs)
    if isinstance(target, Agent):
        return await run_agent(run, call, cast("Agent[Any]", target), entries)
    if not callable(target):  # a team, or what else has sessions and is run like an agent
        options = {"session_id": f"{run.run_id}/{path_text(call.path)}", "user_id": run.user_id, **call.kwargs}
        result = await target.arun(*call.args, **options)
        return getattr(result, "output", result)
    result = await run.in_thread(lambda: target(*call.args, **call.kwargs))
    return await result if inspect.isawaitable(result) else result  # a lambda around a coroutine function


async def overdue(run: WorkflowRun, call: Call, message: str, now: int) -> StepFailedError:
    """Keep that what is waited for has not come in time; returns the error to be raised."""
    problem = {"type": EventTimeoutError.__name__, "message": message}
    step = StepFailed(**call.about(run.journal.attempts(call.path) + 1, now, now), error=problem)
    await run.journal.commit(call.path, step)
    _ended(call, step)
    run.tell("step.failed", call.name, call.path, error=message)
    error = _failed(call, problem["type"], message)
    run.failures.append((error, call.path))
    return error


async def _finished(
    run: WorkflowRun, call: Call, attempt: int, started: int, outcome: Outcome, *, cached: bool = False
) -> None:
    about = call.about(attempt, started, run.now())
    step = StepFinished(**about, output=outcome.data, state=outcome.changes or None, cached=cached)
    await run.journal.commit(call.path, step, outcome.entries)
    _ended(call, step)
    if run.heard:
        seconds = (step.ended_at - started) / MICROSECOND
        run.tell("step.finished", call.name, call.path, attempt=attempt, seconds=seconds, cached=cached)


async def _store_failure(
    run: WorkflowRun,
    call: Call,
    attempt: int,
    started: int,
    error: Exception,
    entries: Sequence[Entry],
    pause: float | None,
) -> StepFailedError:
    problem = problem_of(error)
    kind, message = problem["type"], problem["message"]
    about = call.about(attempt, started, run.now())
    step = StepFailed(**about, error=problem, retry_in=None if pause is None else round(pause, 3))
    failure = _failed(call, kind, message)
    try:
        await run.journal.commit(call.path, step, entries)
    except asyncio.CancelledError:  # it is kept, but nobody hears of it: if the run fails, it is done again
        run.unheard.append(call.path)
        raise
    if pause is None:
        _ended(call, step)
        seconds = (step.ended_at - started) / MICROSECOND
        run.tell("step.failed", call.name, call.path, attempt=attempt, seconds=seconds, error=failure.message)
    else:
        run.tell("step.retrying", call.name, call.path, attempt=attempt, seconds=pause, error=f"{kind}: {message}")
    return failure


def _failed(call: Call, kind: str, message: str) -> StepFailedError:
    if kind == EventTimeoutError.__name__:
        return EventTimeoutError(message, step=call.name, path=path_text(call.path), error_type=kind)
    text = f"Step {call.name!r} has failed with {kind}: {message}"
    return StepFailedError(text.rstrip(": "), step=call.name, path=path_text(call.path), error_type=kind)
