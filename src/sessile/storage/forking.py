"""Forks: what the threads of this process share is brought to rest before, and belongs to nobody in the child after.

A child has one thread, the one that forked. A lock that another one held at that moment would be held there for ever,
and what it guards may be half changed. Python prints what a hook of a fork raises, and goes on: so each of them is
called, whatever others raise. One that is left out would leave locks held, or connections that are the parent's.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

logger = logging.getLogger("sessile")


class Hooks(NamedTuple):
    """What is done with an object at a fork."""

    before: Callable[[Any], object]
    """In the thread that forks: bring what the child inherits to rest, and keep other threads from it."""
    in_parent: Callable[[Any], object]
    """In the same thread: let them go on; also where the first was interrupted half-way."""
    in_child: Callable[[Any], object]
    """In the child: forget what is the parent's."""


class Forks:
    """The objects that take part in forks as long as they live, and what a child does before all else."""

    def __init__(self) -> None:
        self._objects: weakref.WeakKeyDictionary[object, Hooks] = weakref.WeakKeyDictionary()
        self._first: list[Callable[[], object]] = []
        self._lock = threading.Lock()
        self._forking: list[tuple[object, Hooks]] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

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

    def _before(self) -> None:
        self._lock.acquire()
        self._forking[:] = list(self._objects.items())
        _all("before a fork", (partial(hooks.before, one) for one, hooks in self._forking))

    def _in_parent(self) -> None:
        _all("after a fork", (partial(hooks.in_parent, one) for one, hooks in self._forking))
        self._forking.clear()
        self._lock.release()

    def _in_child(self) -> None:
        self._lock = threading.Lock()
        self._forking.clear()
        _all("in a forked child", self._first)
        _all("in a forked child", [partial(hooks.in_child, one) for one, hooks in list(self._objects.items())])


def _all(when: str, actions: Iterable[Callable[[], object]]) -> None:
    for action in actions:
        try:
            action()
        except BaseException:  # of a signal's handler, too: what is raised here reaches nobody
            logger.exception("What is to be done %s has failed.", when)


forks = Forks()


class Lock:
    """A lock of threads, for what takes a moment: in a forked child it is free, whoever held it."""

    __slots__ = ("__weakref__", "_lock", "_new")

    def __init__(self, *, reentrant: bool = False) -> None:
        self._new = threading.RLock if reentrant else threading.Lock
        self._lock = self._new()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Let it be free, in a forked child."""
        self._lock = self._new()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


@forks.first_in_child
def _renew_locks() -> None:
    for lock in list(_locks):
        lock.renew()
