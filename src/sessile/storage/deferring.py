"""Handlers of signals that wait: none of them interrupts an operation on the event loop of the main thread.

`interrupts.uninterrupted` keeps out what is known to do nothing but raise. Here it may be anybody's handlers: that of
`asyncio.run`, those of a server, of a queue's time limit. What is done on an event loop is quick, so that they can be
called after it, as if the signals had come then.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeVar

from .interrupts import NUMBERS, get_handler, set_handler

R = TypeVar("R")

Handler = Callable[[int, FrameType | None], Any]

_main = threading.main_thread
_ident = threading.get_ident

_found: list[Any] = []
"""The handlers of all signals as they were last found, with none of ours among them."""
_callable: list[tuple[int, Handler]] = []
"""Those of them that Python calls, by their signals."""


class _Deferral:
    """The signals that came during one operation, in their order, each with its handler."""

    __slots__ = ("noted", "over")

    def __init__(self) -> None:
        self.over = False
        self.noted: deque[tuple[Handler, int, FrameType | None]] = deque()

    def tell(self) -> None:
        """Call the handlers, all of them, whatever the first of them raises."""
        while self.noted:
            handler, number, frame = self.noted.popleft()
            try:
                handler(number, frame)
            finally:
                self.tell()


class _Deferred:
    """Stands in the place of a handler while an operation is running.

    What a handler raises may come between any two instructions, and so leave it there: then it hands on what comes.
    """

    __slots__ = ("_deferral", "handler")

    def __init__(self, handler: Handler, deferral: _Deferral) -> None:
        self.handler = handler
        self._deferral = deferral

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; if the operation is over, put the handler back, and call it."""
        if not self._deferral.over:
            self._deferral.noted.append((self.handler, number, frame))
            return
        if get_handler(number) is self:
            set_handler(number, self.handler)
        self.handler(number, frame)


def deferred(function: Callable[[], R]) -> R:
    """The result of `function`, which ends soon; signals that come meanwhile are handled when it has ended.

    What their handlers raise is raised then, instead.
    """
    if get_handler is None or _ident() != _main().ident:
        return function()
    handlers = _handlers()
    if not handlers:
        return function()
    deferral = _Deferral()
    placed: list[tuple[int, _Deferred]] = []
    try:
        for number, handler in handlers:
            stand_in = _Deferred(handler, deferral)
            placed.append((number, stand_in))
            try:
                set_handler(number, stand_in)
            except ValueError:  # another interpreter than the main one, where no handlers run
                return function()
        return function()
    finally:
        deferral.over = True  # what comes from here on is handled where it comes
        try:
            for number, stand_in in placed:
                if get_handler(number) is stand_in:
                    set_handler(number, stand_in.handler)
        finally:
            deferral.tell()


def _handlers() -> list[tuple[int, Handler]]:
    """The handlers that Python would call, by their signals; where one of ours was left, that which it stands for.

    Without that of an event loop's own (`loop.add_signal_handler`), which does nothing: the loop hears of the signal in
    another way.
    """
    global _found, _callable
    found = [*map(get_handler, NUMBERS)]
    if found == _found:
        return _callable
    unix = sys.modules.get("asyncio.unix_events")
    nothing = getattr(unix, "_sighandler_noop", None)
    handlers: list[tuple[int, Handler]] = []
    left = False
    for number, handler in zip(NUMBERS, found, strict=True):
        if type(handler) is _Deferred:
            handler, left = handler.handler, True
        if callable(handler) and handler is not nothing:
            handlers.append((number, handler))
    if not left:
        _found, _callable = found, handlers
    return handlers
