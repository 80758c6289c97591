"""What a step is made of: what it calls, its name, and how often, how long and for how long kept."""

from __future__ import annotations

import functools
import inspect
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from pydantic_ai.agent import AbstractAgent

from ...agents.agent import Agent
from ...errors import InvalidInputError
from ...storage.checks import check_count, check_pause, check_seconds, in_seconds
from ...storage.ids import check_id

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    from typing_extensions import ParamSpec as ParamSpecWithDefault  # type checkers bring them, Python from 3.13 on
    from typing_extensions import TypeVar as TypeVarWithDefault

    StepP = ParamSpecWithDefault("StepP", default=...)
    ResultT = TypeVarWithDefault("ResultT", default=Any, covariant=True)
else:
    StepP, ResultT = ParamSpec("StepP"), TypeVar("ResultT", covariant=True)
"""What a step takes, and what it returns: anything, for type checkers, unless `@step` has made it of a function."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a step is tried again.

    Args:
        on: the errors after which it is tried again, and no others. `TimeoutError` includes the step's own time limit.
        attempts: how often it is tried altogether, each time that a process works on the run.
        wait_initial: the pause before the second attempt, in seconds or as a `timedelta`.
        wait_exp_base: how many times as long each further pause is.
        wait_max: the longest pause, in seconds or as a `timedelta`; 0: no pause at all.
        wait_jitter: the most that chance adds to a pause, in seconds or as a `timedelta`, so that runs which failed
            at the same moment do not try again at the same moment.

    The words and the rule are those of the package stamina: after the attempt of number n the pause is
    `min(wait_max, wait_initial * wait_exp_base ** (n - 1) + random.uniform(0, wait_jitter))`.
    """

    on: type[Exception] | tuple[type[Exception], ...]
    attempts: int = 3
    wait_initial: float | timedelta = 1.0
    wait_exp_base: float = 2.0
    wait_max: float | timedelta = 60.0
    wait_jitter: float | timedelta = 1.0

    def __post_init__(self) -> None:
        check_count(self.attempts, "attempts", least=1)
        kinds = self.on if isinstance(self.on, tuple) else (self.on,)
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"on must name the errors that are worth another attempt; it is {self.on!r}.")
        for name in ("wait_initial", "wait_max", "wait_jitter"):
            check_pause(getattr(self, name), name)
        base: Any = self.wait_exp_base
        if isinstance(base, bool) or not isinstance(base, (int, float)) or not 1 <= base < math.inf:
            raise InvalidInputError(f"wait_exp_base must be a number of at least 1; it is {base!r}.")

    def pause(self, failed: int) -> float:
        """Seconds to wait after the attempt of that number has failed."""
        initial, longest, jitter = map(in_seconds, (self.wait_initial, self.wait_max, self.wait_jitter))
        grown = initial * min(self.wait_exp_base, 1e9) ** min(failed - 1, 32)
        return min(longest, grown + random.uniform(0, jitter))


class Nested(Generic[ResultT]):
    """A workflow as a step of another one: its function runs inside the same run."""

    name: str

    def _body(self, run: Any, *args: Any, **kwargs: Any) -> Awaitable[ResultT]:
        """Run the workflow's function as a part of a running run."""
        raise NotImplementedError


def body_of(nested: Nested[ResultT], run: Any, *args: Any, **kwargs: Any) -> Awaitable[ResultT]:
    """The function of a workflow, called as a part of a running run."""
    return nested._body(run, *args, **kwargs)  # pyright: ignore[reportPrivateUsage] (of the same module)


class Step(Generic[StepP, ResultT]):
    """A unit of work whose result is kept: made by `@step`, or `Step(…)` around a function, an agent or a workflow.

    Called by itself, it calls the function. In a workflow it is called by `ctx.step(it, …)`, or stands among
    `Workflow(steps=[…])`.

    Args:
        target: a function (`async` or not), an agent, a team or another workflow.
        name: what the journal calls it; default: the name of what is called. Together with its position it says
            whether a journal fits the code, so do not change it lightly.
        retry: after which errors it is tried again, how often, and when. Default: never.
        timeout: seconds that one attempt may take; then it fails with `TimeoutError`. What a plain function was doing
            goes on in its thread, because Python cannot stop it.
        cache: for how long (seconds, or a `timedelta`) a result may be taken for other runs of the same user with the
            same inputs; where there is no user, for other runs of the same session.
        shared: whether results in the cache are also taken for other users, and for sessions of nobody.
        version: part of the cache's key: change it when the step would return something else for the same inputs.
    """

    def __init__(
        self,
        target: Any,
        name: str | None = None,
        *,
        retry: Retry | None = None,
        timeout: float | None = None,
        cache: float | timedelta | None = None,
        shared: bool = False,
        version: str = "1",
    ) -> None:
        self.target = _target(target)
        self.is_async = inspect.iscoroutinefunction(self.target)
        self.name = check_id(name_of(self.target) if name is None else name, "A step's name")
        if timeout is not None:
            check_seconds(timeout, "timeout")
        if retry is not None and not isinstance(retry, Retry):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"retry must be a Retry, not {retry!r}.", hint="retry=Retry(on=ConnectionError)")
        self.retry, self.timeout, self.version = retry, timeout, check_id(version, "A step's version")
        self.cache = None if cache is None else in_seconds(cache)
        if self.cache is not None:
            check_seconds(self.cache, "cache")
        elif shared:
            raise InvalidInputError("Only results that are cached can be shared.", hint="Give the step a cache=.")
        self.shared = shared
        if retry is not None and isinstance(self.target, Nested):
            raise InvalidInputError("A workflow as a step is not tried again as a whole; give its steps a retry=.")

    def __call__(self, *args: StepP.args, **kwargs: StepP.kwargs) -> ResultT:
        """Call the function itself, as if it were no step."""
        if not callable(self.target):
            raise TypeError(f"Step {self.name!r} is no function; use it in a workflow.")
        return cast(Callable[StepP, ResultT], self.target)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Step({self.name!r})"


@overload
def step(target: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(
    *,
    name: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    cache: float | timedelta | None = None,
    shared: bool = False,
    version: str = "1",
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(target: Any = None, /, **options: Any) -> Any:
    """Make a function a `Step`: `@step`, or `@step(retry=…, timeout=…, cache=…)`."""

    def decorate(target: Any) -> Any:
        # Not the function's own attributes: they might have the names of the step's.
        return functools.update_wrapper(cast(Any, Step(target, **options)), target, updated=())

    return decorate if target is None else decorate(target)


def step_of(target: Any) -> Step[..., Any]:
    """What is given, as a step."""
    return target if isinstance(target, Step) else Step(target)  # pyright: ignore[reportUnknownVariableType]


def _target(target: Any) -> Any:
    if type(target) is FunctionType:
        return target
    if isinstance(target, Step):
        return target.target  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
    if isinstance(target, AbstractAgent):
        return Agent(target)  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    if isinstance(target, (Agent, Nested)) or callable(target) or inspect.iscoroutinefunction(_arun(target)):
        return target  # pyright: ignore[reportUnknownVariableType]
    raise InvalidInputError(f"A step calls a function, an agent, a team or a workflow, not a {type(target).__name__}.")


def _arun(target: Any) -> Any:
    return getattr(target, "arun", None)


def name_of(target: Any) -> str:
    """What a function, an agent or another callable object is called."""
    if isinstance(target, functools.partial):
        return name_of(target.func)
    name = getattr(target, "name", None) or getattr(target, "__name__", None)
    if name == "<lambda>":
        raise InvalidInputError("A lambda has no name for the journal.", hint="Give it one: name=….")
    return name if isinstance(name, str) else type(target).__name__.lower()


def qualified_name_of(target: Any) -> str:
    """What tells a step's target from another one of the same name: its module and its name there."""
    if isinstance(target, functools.partial):
        return qualified_name_of(target.func)
    named = hasattr(target, "__qualname__") and hasattr(target, "__module__")
    made = cast(Any, target if named else type(target))
    return f"{made.__module__}:{made.__qualname__}"


def inputs_of(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a step was called with, by the names of its parameters where they are known, defaults included.

    What is bound to the function before belongs to it: arguments of a `functools.partial`, the object of a method.
    """
    if isinstance(target, functools.partial):
        return inputs_of(target.func, (*target.args, *args), {**target.keywords, **kwargs})
    if callable(target):
        bound = inspect.signature(target).bind(*args, **kwargs)
        bound.apply_defaults()
        return {**_held_by(target), **bound.arguments}
    return {"args": list(args), **kwargs}


def _held_by(target: Any) -> dict[str, Any]:
    """The object that a method belongs to, or that is called itself: its content decides about the result as well."""
    held = getattr(target, "__self__", target)
    return {} if inspect.isroutine(held) or inspect.isclass(held) or inspect.ismodule(held) else {"$self": held}
