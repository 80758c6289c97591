"""SIGTERM: let runs store what they have before the process ends."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any

from ..storage.forking import Lock

_plain: Any = import_module("_signal")
"""What the module `signal` wraps. Its enumerations, made four times a run, take a thirtieth of a run's time."""

_lock = Lock(reentrant=True)  # a finalizer may end another run while it is held
_active: set[object] = set()
_waiting: set[object] = set()
"""The blocks that are running, and those that keep the thread waiting. Taken out, whatever has become of putting in."""


@contextmanager
def stored_on_sigterm(*, waiting: bool = False) -> Generator[None]:
    """While a run is in progress, SIGTERM becomes `SystemExit(143)` in the main thread.

    The run is then cancelled like any other and stores what it has, and the process ends with the status that a
    shell shows for SIGTERM. Only where the program has no handler of its own (servers have one, which cancels the
    tasks), and only from the main thread, which alone may set one. `waiting` says that the block keeps the thread
    waiting, so that an event loop that runs there cannot do anything.
    """
    block = object()
    ours = threading.current_thread() is threading.main_thread()
    try:
        if ours:
            with _lock:
                _active.add(block)
                if waiting:
                    _waiting.add(block)
                if len(_active) == 1 and _plain.getsignal(signal.SIGTERM) == _plain.SIG_DFL:
                    _plain.signal(signal.SIGTERM, _leave)
        yield
    finally:
        if ours:
            with _lock:
                _active.discard(block)
                _waiting.discard(block)
                # What is left behind may be ended by the garbage collector in another thread, which sets no handler.
                here = threading.current_thread() is threading.main_thread()
                if here and not _active and _plain.getsignal(signal.SIGTERM) is _leave:
                    _plain.signal(signal.SIGTERM, _plain.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    """End the program: at once where the thread only waits, else between two steps of the event loop.

    In the middle of a step the error would tear apart whatever code of other libraries is running there.
    """
    try:
        loop = None if _waiting else asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is None:
        _exit(number)
    else:
        loop.call_soon_threadsafe(_exit, number)


def _exit(number: int) -> None:
    raise SystemExit(128 + number)
