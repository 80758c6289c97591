"""Forks: what the threads of this process share is brought to rest before, and belongs to nobody in the child after.

A child has one thread, the one that forked. A lock that another one held at that moment would be held there for ever,
and what it guards may be half changed. Python prints what a hook of a fork raises, and goes on: so each of them is
called, whatever others raise. One that is left out would leave locks held, or connections that are the parent's.
"""

from __future__ import annotations

import _thread
import logging
import os
import signal
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from operator import attrgetter, methodcaller
from traceback import walk_tb
from typing import Any, NamedTuple, cast

logger = logging.getLogger("sessile")


MOST_STRIKES = 100
"""How many exceptions of handlers one hook outlives: a timer that strikes again and again must not stop it for ever."""


class Hooks(NamedTuple):
    """What is done with an object at a fork."""

    before: Callable[[Any], object]
    """In the thread that forks: bring what the child inherits to rest, and keep other threads from it."""
    in_parent: Callable[[Any], object]
    """In the same thread: let them go on; also where the first was interrupted half-way, or had not begun. Done twice,
    it does nothing more."""
    in_child: Callable[[Any], object]
    """In the child: forget what is the parent's."""


class Forks:
    """The objects that take part in forks as long as they live, and what a child does before all else.

    Python looks for signals at the first line of every function, and prints what a handler raises in a hook of a fork:
    the hook would be left out, and Ctrl-C be lost. So the hooks of the main thread, where handlers run, are generators
    that wait inside of a `try`. Whatever is done in them can be done again, which a second hook does, in case.
    """

    def __init__(self) -> None:
        self._objects: weakref.WeakKeyDictionary[object, Hooks] = weakref.WeakKeyDictionary()
        self._first: list[Callable[[], object]] = []
        self._lock = threading.RLock()
        self._owner: int | None = None
        """The thread that forks now."""
        self._forking: list[tuple[object, Hooks]] = []
        self._left: list[tuple[object, Hooks]] = []
        """Those of them that are not at rest yet."""
        self._begun = False
        self._process = os.getpid()
        self._again: list[int] = []
        """The signal whose handler raised in a hook; it is raised again in the code that forked."""
        work = {"before": self._rest, "in_parent": self._go_on, "in_child": self._begin}
        self._works = work
        self._steady = type("Steady", (threading.local,), {name: staticmethod(do) for name, do in work.items()})()
        self._generators = threading.local()
        if hasattr(os, "register_at_fork"):
            self._make_steady()
            self._register()

    def _register(self) -> None:
        """Those before a fork are called from the last to the first, the others from the first to the last.

        What is not `self._…` is made of C, so that no signal is looked for in it.
        """
        raise_again = partial(cast(Any, max), self._again, key=_thread.interrupt_main, default=None)
        os.register_at_fork(before=self._rest_of_before, after_in_child=self._again.clear)
        os.register_at_fork(
            before=partial(methodcaller("before"), self._steady),
            after_in_parent=partial(methodcaller("in_parent"), self._steady),
            after_in_child=partial(methodcaller("in_child"), self._steady),
        )
        os.register_at_fork(after_in_parent=self._go_on, after_in_child=self._begin)
        os.register_at_fork(after_in_parent=raise_again, after_in_child=raise_again)
        os.register_at_fork(after_in_parent=self._again.clear, after_in_child=self._again.clear)

    def join(self, one: object, hooks: Hooks) -> None:
        """Have this done with an object."""
        self._objects[one] = hooks

    def leave(self, one: object) -> None:
        """Have nothing done with it any more."""
        self._objects.pop(one, None)

    def first_in_child(self, action: Callable[[], object]) -> Callable[[], object]:
        """Have this called in each forked child, before anything is done with the objects. A decorator."""
        self._first.append(action)
        return action

    # ------------------------------------------------------------ what is done; again, it does what is left

    def _rest(self) -> None:
        self._lock.acquire()
        if self._owner != threading.get_ident():
            self._forking[:] = self._left[:] = list(self._objects.items())
            self._begun = False
            self._owner = threading.get_ident()
        while self._left:
            one, hooks = self._left[-1]
            if self._begun:  # and interrupted: undo what it has done
                _call("before a fork", hooks.in_parent, one)
            self._begun = True
            _call("before a fork", hooks.before, one)
            self._left.pop()
            self._begun = False

    def _go_on(self) -> None:
        if self._owner == threading.get_ident():
            while self._forking:
                one, hooks = self._forking[-1]
                _call("after a fork", hooks.in_parent, one)
                self._forking.pop()
            self._owner = None
        with suppress(RuntimeError):  # which says that it is not held any more
            while True:
                self._lock.release()

    def _begin(self) -> None:
        if self._process == os.getpid():
            return
        self._lock = threading.RLock()
        self._owner = None
        self._forking.clear()
        for action in self._first:
            _call("in a forked child", lambda _, action=action: action(), None)
        for one, hooks in list(self._objects.items()):
            _call("in a forked child", hooks.in_child, one)
        self._make_steady()
        self._process = os.getpid()

    def _rest_of_before(self) -> None:
        self._rest()
        if threading.current_thread() is threading.main_thread():
            self._make_steady()

    # ------------------------------------------------------------ signals

    def _make_steady(self) -> None:
        """Have this thread do it in generators; other ones call the functions, which no signal interrupts."""
        for name, work in self._works.items():
            generator = getattr(self._generators, name, None)
            if generator is None or generator.gi_frame is None:
                generator = self._steadily(work)
                next(generator)
                setattr(self._generators, name, generator)
                setattr(self._steady, name, generator.__next__)

    def _steadily(self, work: Callable[[], object]) -> Generator[None]:
        """Do this each time that it goes on, however often a signal's handler raises meanwhile."""
        over, struck = True, 0
        while True:
            try:
                if over:
                    over, struck = False, 0
                    yield
                work()
                over = True
            except GeneratorExit:
                return
            except BaseException as error:  # noqa: BLE001 (it is raised again later)
                struck += 1
                over = struck == MOST_STRIKES
                number = _signal_of(error)
                self._again[:] = [] if number is None else [number]


def _call(when: str, action: Callable[[Any], object], one: object) -> None:
    """Do this; raises only what a signal's handler raises."""
    try:
        action(one)
    except BaseException as error:
        if _signal_of(error) is not None:
            raise
        logger.exception("What is to be done %s has failed.", when)


def _signal_of(error: BaseException) -> int | None:
    """The signal whose handler has raised this, if it was one."""
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    for number in signal.valid_signals():
        if getattr(signal.getsignal(number), "__code__", None) in codes:
            return number
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else None


forks = Forks()


class Lock:
    """A lock of threads, for what takes a moment: in a forked child it is free, whoever held it."""

    __slots__ = ("__weakref__", "_lock", "_new")

    def __init__(self, *, reentrant: bool = False) -> None:
        self._new = threading.RLock if reentrant else threading.Lock
        self._lock = self._new()
        _locks.add(self)

    # Made of C, as those of Python's own locks: no signal's handler raises between a lock and its block.
    __enter__ = cast("Callable[[Lock], bool]", property(attrgetter("_lock.__enter__")))
    __exit__ = cast("Callable[..., None]", property(attrgetter("_lock.__exit__")))

    def renew(self) -> None:
        """Let it be free, in a forked child."""
        self._lock = self._new()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


@forks.first_in_child
def _renew_locks() -> None:
    for lock in list(_locks):
        lock.renew()
