"""Operations in the main thread itself, out of which Ctrl-C is kept: for drivers that end soon after their deadline.

`threads.undisturbed` holds against every handler of signals, and costs two hand-overs between threads, 50 to 200 µs.
A program that has installed no handlers has one all the same: Python's own of SIGINT. It is known to do nothing but
raise, so for a moment another one can stand in its place, which notes the signal and lets the operation end first.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from types import FrameType
from typing import Any, TypeVar

from .threads import Hurry, collecting, hurry, undisturbed

R = TypeVar("R")


def _raw(name: str) -> Any:
    """A function of `signal` without the enumerations around it; None where the interpreter has it nowhere."""
    try:
        return getattr(importlib.import_module("_signal"), name, None)
    except ImportError:
        return None


get_handler, set_handler = _raw("getsignal"), _raw("signal")
NUMBERS = [int(number) for number in signal.valid_signals()]
_main = threading.main_thread
_ident = threading.get_ident


_ordinary: list[Any] = []
"""The handlers of all signals, where Python's own of SIGINT is the only one, as they were last found."""


class _Postponed(Hurry):
    """Stands in the place of Python's handler of SIGINT while an operation is running."""

    __slots__ = ("over", "struck")

    def __init__(self) -> None:
        self.now = self.struck = self.over = False
        self.until = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal, and tell the operation that its time is up; if it is over, do what Python would have done.

        The latter is reached when the signal comes just before its own handler is back.
        """
        if not self.over:
            self.struck = True
            self.tell()
            return
        self.now = False
        set_handler(signal.SIGINT, signal.default_int_handler)
        signal.default_int_handler(number, frame)


def uninterrupted(function: Callable[[], R]) -> R:
    """The result of `function`, which ends soon when its deadline has passed, and which no signal handler interrupts.

    In the main thread it is called here while no handler but Python's own of SIGINT can run, and else by `undisturbed`.
    If Ctrl-C comes meanwhile, the operation is told that its time is up, and `KeyboardInterrupt` raised when it ended.
    """
    global _ordinary
    if _ident() != _main().ident or collecting.here() or sys.is_finalizing():
        return function()
    if get_handler is None:
        return undisturbed(function)
    found = [*map(get_handler, NUMBERS)]
    if found == _ordinary:
        return _postponing(function)
    handlers = [one for one in found if callable(one)]
    if not handlers:
        return function()
    of_sigint = get_handler(signal.SIGINT)
    if len(handlers) > 1 or handlers[0] is not of_sigint:
        return undisturbed(function)
    if of_sigint is signal.default_int_handler:
        _ordinary = found
        return _postponing(function)
    if type(of_sigint) is _Postponed:  # within another operation, or left there by an error that came from nowhere
        return _postponing(function) if of_sigint.over else function()
    return undisturbed(function)


def _postponing(function: Callable[[], R]) -> R:
    postponed = _Postponed()
    # Of its own, so that nothing has to be put back: Ctrl-C may come at any line from the end of the operation on.
    context = copy_context()
    context.run(hurry.set, postponed)
    try:
        set_handler(signal.SIGINT, postponed)
    except ValueError:  # another interpreter than the main one, where no handlers run
        return function()
    try:
        result = context.run(function)
    except BaseException:
        if postponed.struck:
            raise KeyboardInterrupt from None
        raise
    finally:
        postponed.over = True  # from here on Ctrl-C is raised where it comes, before or after its handler is back
        postponed.now = False
        set_handler(signal.SIGINT, signal.default_int_handler)
    if postponed.struck:
        raise KeyboardInterrupt
    return result
