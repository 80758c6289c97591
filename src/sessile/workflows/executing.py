"""Executing one step: replay it if it has finished, take it from the cache, or call it, and keep what it comes to."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, cast

from ..agents.agent import Agent
from ..agents.state import entered
from ..errors import (
    InvalidInputError,
    InvalidStateError,
    StepFailedError,
    StorageError,
    TooLargeError,
    UnknownFormatError,
    problem_of,
)
from ..records import MICROSECOND, Entry, JsonObject
from ..storage import cache, patch
from ..storage.core import now_micros
from ..storage.encoding import checked_copy, encode
from .agent_steps import run_agent
from .journal import STEP_FAILED, STEP_FINISHED, Path, path_text
from .runtime import AtWork, CurrentStep, Scope, WorkflowRun, scope_here, step_here
from .steps import Nested, Step, inputs_of
from .values import dump, load

logger = logging.getLogger("sessile")


@dataclass(slots=True)
class Call:
    """One call of a step: what, where, and with what."""

    step: Step[..., Any]
    path: Path
    scope: Scope
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    def data(self, attempt: int, started: int) -> JsonObject:
        """What an entry about this step begins with."""
        data: JsonObject = {"path": path_text(self.path), "name": self.name, "attempt": attempt}
        data |= {"started_at": started, "ended_at": max(now_micros(), started)}
        return {**data, "within": self.scope.within} if self.scope.within else data


@dataclass(slots=True)
class Outcome:
    """What an attempt came to: the value, its JSON form, what it changed in the state, and what its agent said."""

    value: Any
    data: Any
    changes: patch.Patch = field(default_factory=list[Any])
    entries: list[Entry] = field(default_factory=list[Entry])


def replayed(run: WorkflowRun, call: Call) -> tuple[Any] | None:
    """What the step came to before, in a tuple, or None if it is to be executed; raises as it did, if it failed."""
    run.check_at_work()
    run.journal.check_fits(call.path, call.name)
    entry = run.journal.kept(call.path)
    if entry is None:
        return None
    data: JsonObject = entry.data
    _ended(call, data)
    seconds = (data["ended_at"] - data["started_at"]) / MICROSECOND
    about: JsonObject = {"attempt": data["attempt"], "seconds": seconds, "replayed": True}
    if entry.kind == STEP_FAILED:
        error = _failed(call, data["error"]["type"], data["error"]["message"])
        run.tell("step.failed", call.name, call.path, error=error.message, **about)
        run.failures.append((error, call.path))
        raise error
    value = load(data["output"])
    run.tell("step.finished", call.name, call.path, cached="cached" in data, **about)
    return (value,)


def _ended(call: Call, data: JsonObject) -> None:
    """What the end of a step does to what is around it: the same when it is replayed."""
    call.scope.apply(data.get("state", []))
    call.scope.now = max(call.scope.now, data["ended_at"])


async def execute(run: WorkflowRun, call: Call) -> Any:
    """The result of the step, which is kept when this returns. Raises `StepFailedError` if it fails for good."""
    kept = replayed(run, call)
    if kept is not None:
        return kept[0]
    task = asyncio.current_task()
    assert task is not None, "steps are executed in tasks"
    known = task in run.tasks
    run.tasks.add(task)
    try:
        return await _executed(run, call)
    finally:
        if not known:
            run.tasks.discard(task)


async def _executed(run: WorkflowRun, call: Call) -> Any:
    key = _cache_key(run, call) if call.step.cache is not None else None
    cached = None if key is None else await _cached(run, call, key)
    if cached is not None:
        return await _finished(run, call, 1, now_micros(), cached, cached=True)
    outcome = await _attempts(run, call)
    if key is not None:
        await _keep_in_cache(run, call, key, outcome)
    return outcome.value


async def _attempts(run: WorkflowRun, call: Call) -> Outcome:
    """The first attempt that succeeds; each one that fails is kept in the journal."""
    first = run.journal.attempts(call.path) + 1
    attempt = first
    while True:
        started = now_micros()
        run.at_work[call.path] = AtWork(call.name, call.path, attempt, started)
        run.tell("step.started", call.name, call.path, attempt=attempt)
        entries: list[Entry] = []
        outcome: Outcome | None = None
        try:
            outcome = await _attempt(run, call, attempt, entries)
            await _finished(run, call, attempt, started, outcome)
            return outcome
        except Exception as error:
            if run.journal.broken is not None or (isinstance(call.step.target, Nested) and _is_inner(run, call, error)):
                raise
            # What has succeeded and was refused when it was stored is not done once more: it would be refused again.
            pause = _pause_after(call.step, error, attempt - first + 1) if outcome is None else None
            if isinstance(error, TooLargeError):
                entries.clear()  # they may be what is too large
            failure = await _store_failure(run, call, attempt, started, error, entries, pause)
            if pause is None:
                run.failures.append((failure, call.path))
                raise failure from error
            await asyncio.sleep(pause)
            attempt += 1
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


async def _attempt(run: WorkflowRun, call: Call, attempt: int, entries: list[Entry]) -> Outcome:
    before = deepcopy(call.scope.state)
    state = deepcopy(before)
    with _inside(run, call, attempt, state), entered(run.session(state)):
        value = await _in_time(run, call, entries)
    changes = patch.diff(before, checked_copy(state, f"The state after step {call.name!r}"))
    return Outcome(value, dump(value, f"What step {call.name!r} returned"), changes, entries)


@contextmanager
def _inside(run: WorkflowRun, call: Call, attempt: int, state: JsonObject) -> Any:
    """The context of the code inside a step: its scope, and what it may know of itself."""
    scope = Scope(call.path, call.scope.now, state, (call.name, len(call.path)))
    tokens = scope_here.set(scope), step_here.set(CurrentStep(call.name, path_text(call.path), attempt, run))
    try:
        yield
    finally:
        scope.leave()
        scope_here.reset(tokens[0])
        step_here.reset(tokens[1])


async def _in_time(run: WorkflowRun, call: Call, entries: list[Entry]) -> Any:
    if call.step.timeout is None:
        return await _called(run, call, entries)
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
    if isinstance(target, Nested):
        return await target.body(run, *call.args, **call.kwargs)
    if isinstance(target, Agent):
        return await run_agent(run, call, cast("Agent[Any]", target), entries)
    if not callable(target):  # a team, or what else has sessions and is run like an agent
        options = {"session_id": f"{run.run_id}/{path_text(call.path)}", "user_id": run.user_id, **call.kwargs}
        result = await target.arun(*call.args, **options)
        return getattr(result, "output", result)
    if inspect.iscoroutinefunction(target):
        return await target(*call.args, **call.kwargs)
    result = await run.in_thread(lambda: target(*call.args, **call.kwargs))
    return await result if inspect.isawaitable(result) else result  # a lambda around a coroutine function


async def _finished(
    run: WorkflowRun, call: Call, attempt: int, started: int, outcome: Outcome, *, cached: bool = False
) -> Any:
    data: JsonObject = {**call.data(attempt, started), "output": outcome.data}
    if outcome.changes:
        data["state"] = outcome.changes
    if cached:
        data["cached"] = True
    await run.journal.commit(call.path, run.journal.entry(STEP_FINISHED, data), outcome.entries)
    _ended(call, data)
    seconds = (data["ended_at"] - started) / MICROSECOND
    run.tell("step.finished", call.name, call.path, attempt=attempt, seconds=seconds, cached=cached)
    return outcome.value


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
    data: JsonObject = {**call.data(attempt, started), "error": problem}
    if pause is not None:
        data["retry_in"] = round(pause, 3)
    failure = _failed(call, kind, message)
    try:
        await run.journal.commit(call.path, run.journal.entry(STEP_FAILED, data), entries)
    except asyncio.CancelledError:  # it is kept, but nobody hears of it: if the run fails, it is done again
        run.unheard.append(call.path)
        raise
    if pause is None:
        _ended(call, data)
        seconds = (data["ended_at"] - started) / MICROSECOND
        run.tell("step.failed", call.name, call.path, attempt=attempt, seconds=seconds, error=failure.message)
    else:
        run.tell("step.retrying", call.name, call.path, attempt=attempt, seconds=pause, error=f"{kind}: {message}")
    return failure


def _failed(call: Call, kind: str, message: str) -> StepFailedError:
    text = f"Step {call.name!r} has failed with {kind}: {message}"
    return StepFailedError(text.rstrip(": "), step=call.name, path=path_text(call.path), error_type=kind)


# ---------------------------------------------------------------- the cache


def _cache_key(run: WorkflowRun, call: Call) -> str:
    step = call.step
    try:
        inputs = dump(inputs_of(step.target, call.args, call.kwargs), f"An input of step {step.name!r}")
    except InvalidStateError as error:
        raise InvalidInputError(f"{error.message} Its results cannot be cached.") from error
    return cache.cache_key(run.user_id, step.name, step.version, encode(inputs))


async def _cached(run: WorkflowRun, call: Call, key: str) -> Outcome | None:
    """The result that is kept, if there is one that this program can read."""
    assert call.step.cache is not None, "asked before"
    found = await run.storage.arun_operation(cache.read_result, key, call.step.cache, user_id=run.user_id)
    if found is None:
        return None
    try:
        return Outcome(load(found["output"]), found["output"])
    except UnknownFormatError:  # another version of the program has computed it: computed anew
        return None


async def _keep_in_cache(run: WorkflowRun, call: Call, key: str, outcome: Outcome) -> None:
    """Keep a result for others; that this fails is no reason to stop a run whose own result is kept."""
    assert call.step.cache is not None, "asked before"
    try:
        await run.storage.arun_operation(
            cache.keep_result,
            key,
            {"name": call.name, "output": outcome.data},
            call.step.cache,
            user_id=run.user_id,
            owner=run.journal.turn.spec.owner,
        )
    except StorageError as error:
        logger.warning("The result of step %r could not be cached: %s", call.name, error)
