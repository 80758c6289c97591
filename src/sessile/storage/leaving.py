"""Leaving the event loop: an operation that is done on it goes on in a thread before it waits, or works for long.

An operation over a driver that blocks never suspends, but here: it stops where it would wait, and a thread does the
rest of it (`on_loop`). So nothing that it has done by then is done twice.

A call of a driver holds locks, which belong to threads, so it cannot stop half-way. What would wait in one raises
`WouldWait` while nothing is written, and `movable` makes the call anew where it may wait.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Collection, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .turnstile import give_way

P = ParamSpec("P")
R = TypeVar("R")

FEW_COMMITS = 32
"""How many commits are read on an event loop at most."""

FEW_CHARS = 256 * 1024
"""How many characters, or bytes, are written there at most."""

AWAITED = "A driver that declares suspends=False has awaited something."

LEAVING = object()
"""What an operation says when it stops in order to leave."""


class Gathered:
    """What an operation on an event loop stops with that is to be done together with others of their kind.

    Attributes:
        asked: what it asks for.
        deadline: that of the operation.
        together: does what several ask for, on the event loop: a collection of the keys of those who have won.
        key: by which it is told apart from others; one is never done together with another one of the same key.
        answer: what has come of it; None: the operation is to do it alone.
        error: raised in the operation instead; `WouldWait`, if it is to be done in a thread.
    """

    __slots__ = ("answer", "asked", "deadline", "error", "key", "together")

    def __init__(
        self, key: str, asked: Any, deadline: Any, together: Callable[[Sequence[Any], Any], Collection[str]]
    ) -> None:
        self.key, self.asked, self.deadline, self.together = key, asked, deadline, together
        self.answer: bool | None = None
        self.error: BaseException | None = None


if TYPE_CHECKING:
    Method = Callable[P, types.CoroutineType[Any, Any, R]]


class _Here(threading.local):
    """Of one thread: whether an operation is being done on its event loop, and whether that has written."""

    now = False
    wrote = False
    others = False
    """Whether other tasks use the storage at this moment."""


_here = _Here()


class WouldWait(BaseException):
    """A call of a driver would have to wait for somebody, on an event loop. It has done nothing."""


def not_on_loop() -> None:
    """Raise `WouldWait` on an event loop. For drivers, in calls that are `movable`, before they have written."""
    if _here.now:
        raise WouldWait


def about_to_wait() -> None:
    """As `not_on_loop`; in a thread, others may work from here on."""
    not_on_loop()
    give_way()


@types.coroutine
def leave() -> Generator[object]:
    """Go on in a thread, if this is on an event loop: what follows may wait, or take long. Locks must not be held.

    In a thread, others may work from here on.
    """
    if _here.now:
        yield LEAVING
    give_way()


@types.coroutine
def leave_with(*, commits: int = 0, chars: int = 0) -> Generator[object]:
    """As `leave`, to read so many commits, or to write so many characters, if these are many."""
    if commits > FEW_COMMITS or chars > FEW_CHARS:
        if _here.now:
            yield LEAVING
        give_way()


@types.coroutine
def with_others(
    key: str, asked: Any, deadline: Any, together: Callable[[Sequence[Any], Any], Collection[str]]
) -> Generator[Gathered, None, bool | None]:
    """Do something together with other tasks, if this is on an event loop, and there are any.

    See `Gathered`; whether it has won, or None: it is to be done alone. For calls that are `movable`.
    """
    if not (_here.now and _here.others):
        return None
    gathered = Gathered(key, asked, deadline, together)
    yield gathered
    if gathered.error is not None:
        raise gathered.error
    return gathered.answer


def movable(*, writes: bool = False) -> Callable[[Method[P, R]], Method[P, R]]:
    """For a driver's method: where it would wait on an event loop, it is called again in a thread."""

    def decorated(method: Method[P, R]) -> Method[P, R]:
        async def moving(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                result = await method(*args, **kwargs)
            except WouldWait:
                await leave()
                return await method(*args, **kwargs)
            if writes:
                _here.wrote = True
            return result

        @functools.wraps(method)
        def call(*args: P.args, **kwargs: P.kwargs) -> types.CoroutineType[Any, Any, R]:
            return moving(*args, **kwargs) if _here.now else method(*args, **kwargs)

        return call

    return decorated


def begun(coroutine: Coroutine[Any, Any, R], *, others: bool = False) -> tuple[R] | Gathered | None:
    """Do an operation on the running event loop, or continue it there.

    Returns its result, or what it wants to be done together with others, or None if it has stopped to leave: `went_on`
    does the rest of it. Raises what it raises.
    """
    _here.now, _here.wrote, _here.others = True, False, others
    try:
        stopped = coroutine.send(None)
    except StopIteration as end:
        return (end.value,)
    finally:
        _here.now = False
    if isinstance(stopped, Gathered):
        return stopped
    check_left(coroutine, stopped)
    return None


def here(function: Callable[[], R]) -> R:
    """The result of a function that is called on the running event loop, where it raises `WouldWait` if it would."""
    _here.now = True
    try:
        return function()
    finally:
        _here.now = False


def has_written() -> bool:
    """Whether what was `begun` last in this thread has written something."""
    return _here.wrote


def went_on(coroutine: Coroutine[Any, Any, R]) -> R:
    """The result of an operation that has stopped to leave its event loop, done to its end in this thread.

    Also of one that was begun in a finalizer, or by a handler of signals, in the middle of another one on the loop.
    """
    on_loop, _here.now = _here.now, False
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    finally:
        _here.now = on_loop
    coroutine.close()
    raise RuntimeError(AWAITED)


def check_left(coroutine: Coroutine[Any, Any, object], stopped: object) -> None:
    """Raise unless an operation has stopped in order to leave its event loop, or to go with others there."""
    if stopped is not LEAVING and not isinstance(stopped, Gathered):
        coroutine.close()
        raise RuntimeError(AWAITED)
