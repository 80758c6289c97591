"""Who writes to one session in one process stands in line, instead of losing races against each other.

Correctness needs none of it: a commit is appended once, however many writers there are. But of many who write at once
all but one look again and draft again, and some would not have their turn before their deadline.
"""

from __future__ import annotations

import asyncio
import os
import threading
from weakref import WeakKeyDictionary, WeakValueDictionary


class Lines:
    """A line for each session, on each event loop; who waits in it has not begun, so that no deadline counts it."""

    def __init__(self) -> None:
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakValueDictionary[str, asyncio.Lock]]
        self._locks = WeakKeyDictionary()

    def at(self, session_id: str) -> asyncio.Lock:
        """The line of a session: `async with lines.at(session_id): …`."""
        here = self._locks.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
        return here.setdefault(session_id, asyncio.Lock())


class ThreadLines:
    """The same for threads: `with lines.at(session_id): …`."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[int, str], threading.Lock] = WeakValueDictionary()

    def at(self, session_id: str) -> threading.Lock:
        """The line of a session in this process: a forked child has lines of its own, in which nobody stands."""
        return self._locks.setdefault((os.getpid(), session_id), threading.Lock())
