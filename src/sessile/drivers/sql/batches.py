"""Commits of several sessions that go to the database together: group commit.

Who finds nobody writing writes at once, alone. Who comes while others write waits for them, and then goes with all that
wait, in one statement or transaction. So nobody waits who need not, and the more come the less each of them costs.

Nothing that a caller is promised changes by that:

- Compare and set is done for each session by itself. A batch says who has won; whoever else is in it tries again by
  itself, and so learns alone what has become of its commit.
- A batch that fails as a whole, and was not written, is tried one by one. If it is not known whether it was written,
  each of its callers has that error, as if its own answer had been lost.
- Each has its own deadline: a batch is given the time of whoever has most, who leads it. Who has less leaves earlier.
- On a server a batch waits for no lock that it meets (`SKIP LOCKED`), so that no two of them lock each other out, and
  nobody is held up by the session of another. (SQLite has one lock, for which a lone commit waits as well.) Whose turn
  has not come within `PATIENCE` goes alone.
- What can be interrupted goes alone: operations of the main thread. A task that is cancelled only leaves its batch,
  which is a task of its own.

What is large goes alone as well, and what creates a session, and all that is done on connections of the application's.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextvars import Context
from typing import TYPE_CHECKING

from ...errors import StorageError, StorageUnavailableError
from ...storage.driver import Deadline
from ...storage.faces import kept
from ...storage.rows import Append
from ...storage.stats import Stats

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("sessile")

AT_WORK = 2
"""How many batches are written at the same time, where a server writes them."""

MOST = 16
"""How many sessions a batch has at most, where nothing else is said."""

MAX_CHARS = 64 * 1024
"""What has more characters goes alone, so that small commits do not wait for its way."""

PATIENCE = 0.1
"""For how many seconds a commit waits at most until its batch begins."""

WriteOne = Callable[[Append, Deadline], Awaitable[bool]]
"""Writes one commit; tells whether it has won its race."""

WriteMany = Callable[[Sequence[Append], Deadline], Awaitable[Collection[str]]]
"""Writes a commit of each of several sessions, sorted by their ids; returns the ids of those that have won.

What is not among them may have lost its race or not, and was not written.
"""


class _Waiting:
    """A commit on its way, and what its caller is told."""

    __slots__ = ("batch", "begun", "bell", "deadline", "future", "outcome", "told", "write")

    def __init__(self, write: Append, deadline: Deadline, future: asyncio.Future[None] | None) -> None:
        self.write = write
        self.deadline = deadline
        self.future = future
        self.bell = threading.Event() if future is None else None
        self.batch: list[_Waiting] = []
        """The batch that it leads, itself included. Of tasks nobody leads: a batch is a task of its own."""
        self.begun = False
        """Whether its batch has been made, so that it cannot be left any more."""
        self.told = False
        self.outcome: bool | StorageError = False
        """Whether it has won; False: it is to go alone."""

    def tell(self, outcome: bool | StorageError) -> None:
        """Let its caller go on, unless that was done."""
        if not self.told:
            self.outcome = outcome
            self.told = True  # after that: its caller may look at any moment
            self.ring()

    def ring(self) -> None:
        if self.bell is not None:
            self.bell.set()
        elif self.future is not None and not self.future.done():
            self.future.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Wait until it is told something, or to lead its batch."""
        if self.bell is not None:
            self.bell.wait(seconds)
        elif self.future is not None:
            import asyncio

            await asyncio.wait([self.future], timeout=seconds)


class Batches:
    """The commits that are on their way over one port. For threads, or for the tasks of one event loop.

    Args:
        one: how one commit is written, and `many`: several.
        suspends: whether these suspend.
        stats: where is counted what happens beside the work.
        at_work: how many batches, or first ones alone, are written at the same time, before others wait.
        most: how many sessions a batch has at most.
        grace: for how many seconds after its own deadline a commit waits for a batch that has begun, so as to hear what
            has become of it. For databases that keep the deadline of whoever leads.
    """

    def __init__(
        self,
        one: WriteOne,
        many: WriteMany,
        *,
        suspends: bool,
        stats: Stats,
        at_work: int = AT_WORK,
        most: int = MOST,
        grace: float = 0.0,
    ) -> None:
        self._one, self._many = one, many
        self._may_work, self._most, self._grace = at_work, most, grace
        self._suspends = suspends
        self._stats = stats
        self._lock = threading.RLock()  # a finalizer that runs while it is held may write, too
        self._waiting: deque[_Waiting] = deque()
        self._at_work = 0

    async def append(self, write: Append, deadline: Deadline) -> bool:
        """Write a commit, alone or with others; tells whether it has won its race. Raises what a lone write raises."""
        if not _may_wait(write, deadline):
            return await self._one(write, deadline)
        mine = self._enter(write, deadline)
        if mine is None:
            try:
                return await self._one(write, deadline)
            finally:
                self._next()
        try:
            await mine.wait(min(PATIENCE, deadline.remaining()))
            if self._leaves(mine):
                return await self._one(write, deadline)
            if not mine.told and not mine.batch:
                await mine.wait(deadline.remaining() + self._grace)
            if mine.batch:
                await self._lead(mine.batch)
        finally:
            self._out(mine)
        if not mine.told:
            deadline.check("Appending to a session", written="unknown")
            raise self._counted(_lost())
        if isinstance(mine.outcome, StorageError):
            raise mine.outcome
        return mine.outcome or await self._one(write, deadline)

    def _enter(self, write: Append, deadline: Deadline) -> _Waiting | None:
        """Begin at once (None), or join those who wait."""
        future = _loop().create_future() if self._suspends else None
        with self._lock:
            if self._at_work < self._may_work:
                self._at_work += 1
                return None
            mine = _Waiting(write, deadline, future)
            self._waiting.append(mine)
            return mine

    def _leaves(self, mine: _Waiting) -> bool:
        """Stop waiting for a batch, unless there is one already."""
        with self._lock:
            if mine.begun:
                return False
            self._waiting.remove(mine)
            mine.begun = True
            return True

    def _out(self, mine: _Waiting) -> None:
        """Whatever ends a caller's waiting: nobody is kept by it, and a batch that it should have led goes on."""
        if not mine.begun:
            self._leaves(mine)
        batch, mine.batch = mine.batch, []
        if batch:  # what interrupted it came before it could lead
            for each in batch:
                each.tell(False)
            self._next()

    def _next(self) -> None:
        """Somebody has ended its work: let those who wait go, as one batch."""
        with self._lock:
            batch = self._taken()
            if not batch:
                self._at_work -= 1
                return
            leader = max(batch, key=lambda each: each.deadline.remaining())
            if not self._suspends:
                leader.batch = batch
        if self._suspends:
            kept(_loop().create_task(self._lead(batch), context=Context()))
        else:
            leader.ring()

    def _taken(self) -> list[_Waiting]:
        """The next batch: who has waited longest, one of each session."""
        batch: dict[str, _Waiting] = {}
        others: list[_Waiting] = []
        while self._waiting and len(batch) < self._most:
            each = self._waiting.popleft()
            if each.write.session_id in batch:
                others.append(each)
            else:
                batch[each.write.session_id] = each
                each.begun = True
        self._waiting.extendleft(reversed(others))
        return [batch[session_id] for session_id in sorted(batch)]

    async def _lead(self, batch: list[_Waiting]) -> None:
        """Write a batch, and tell all of it what has become of it."""
        deadline = max((each.deadline for each in batch), key=Deadline.remaining)
        outcome: StorageError | None = _lost()  # unless it is learned what has happened
        won: Collection[str] = ()
        try:
            if len(batch) > 1:
                won = await self._many([each.write for each in batch], deadline)
            outcome = None
        except StorageError as error:
            outcome = None if error.written == "no" else error
            logger.info("A batch of %d commits failed: %s", len(batch), error.message)
        except (UnicodeError, OverflowError):  # of one of them; it will hear of it alone
            outcome = None
        finally:
            for each in batch:
                if outcome is None:
                    each.tell(each.write.session_id in won)
                else:
                    each.tell(self._counted(outcome if each is batch[0] else _copy(outcome)))
            batch.clear()
            self._next()

    def _counted(self, error: StorageError) -> StorageError:
        self._stats.unknown(error)
        return error


def _loop() -> asyncio.AbstractEventLoop:
    import asyncio  # takes a while to import; drivers that block need it not

    return asyncio.get_running_loop()


def _may_wait(write: Append, deadline: Deadline) -> bool:
    if write.expected == 0 or len(write.commits) != 1 or deadline.may_be_hurried:
        return False
    head = write.head
    return len(write.commits[0].body) + len(head.body) + len(head.metadata) + len(write.was_body or "") <= MAX_CHARS


def _copy(error: StorageError) -> StorageError:
    """The error for another caller: each raises its own."""
    return type(error)(error.message, hint=error.hint, retryable=error.retryable, written=error.written)


def _lost() -> StorageError:
    return StorageUnavailableError("A batch of commits was cut off.", written="unknown")
