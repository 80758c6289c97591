"""Who in this process works on a run hears at once that somebody in this process asks to cancel it."""

from __future__ import annotations

from collections.abc import Callable

from .forking import Lock, forks

Key = tuple[str, int]
"""The incarnation of a session, and the number of a run."""

_lock = Lock()
_listeners: dict[Key, list[Callable[[], None]]] = {}
forks.first_in_child(_listeners.clear)  # the parent's runs are the parent's


def listen(key: Key, heard: Callable[[], None]) -> None:
    """Have `heard` called, in whatever thread asks, until `unlisten`."""
    with _lock:
        _listeners.setdefault(key, []).append(heard)


def unlisten(key: Key, heard: Callable[[], None]) -> None:
    """Have it called no more."""
    with _lock:
        heard_here = _listeners.get(key, [])
        if heard in heard_here:  # not in a forked child
            heard_here.remove(heard)
        if not heard_here:
            _listeners.pop(key, None)


def tell(key: Key) -> None:
    """Call who listens to a run."""
    with _lock:
        heard = [*_listeners.get(key, ())]
    for one in heard:
        one()
