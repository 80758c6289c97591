"""What several sessions want of the database at one moment, asked for together: commits (group commit) and loads.

Who finds nobody else goes at once, alone. Who comes while others are on their way waits for them, and then goes with
all who wait, in one statement or transaction. So nobody waits who need not, and the more come the less each costs.

Nothing that a caller is promised changes by that:

- A load begins after it was asked for, so it sees what was acknowledged before. Who asks for the same session at that
  moment gets the same. What it brings is made out by each caller, and what is wrong with one session costs no other.
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
import time
from _thread import allocate_lock
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import Context
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from ...errors import StorageError
from ...storage.driver import Deadline
from ...storage.faces import kept
from ...storage.leaving import about_to_wait
from ...storage.retrying import copy_of, cut_off
from ...storage.rows import Append
from ...storage.stats import Stats
from ...storage.turnstile import enter_again

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger("sessile")

AT_WORK = 2
"""How many batches are on their way at the same time, where a server does the work."""

MOST = 32
"""How many sessions a batch of threads has at most, where nothing else is said."""

MOST_OF_TASKS = 16
"""The same of tasks: while one batch is on its way, their only thread makes out what the other one has brought."""

SOON = 0.005
"""After how many seconds of waiting a batch of threads begins beside another one, or as soon as it has all it may have.

Large batches cost less than many: of two at a time, each would have half. Tasks do not wait for that: to begin a batch
costs them little, and while they wait nobody uses their processor.
"""

MAX_CHARS = 64 * 1024
"""What has more characters goes alone, so that small commits do not wait for its way."""

FEW_COMMITS = 16
"""How many of the newest commits a load brings at most that goes with others."""

LOADED_CHARS = 512 * 1024
"""How many bytes of bodies a load brings that goes with others: which has more is asked for again, alone."""

PATIENCE = 0.1
"""For how many seconds one waits at most until its batch begins."""


MORE_TIME = 1.0
"""By how many seconds the deadlines of a batch are later at most than that of the thread which leads it."""


class Asked(Protocol):
    """Something that is asked for about one session."""

    @property
    def session_id(self) -> str: ...


class Load(NamedTuple):
    """A load of the head, and of this many of the newest commits."""

    session_id: str
    newest: int


Rows = list[tuple[Any, ...]]
"""What a load has brought of one session, as it came."""

Q = TypeVar("Q", bound=Asked)
A = TypeVar("A")


class _Waiting(Generic[Q, A]):
    """Something that is asked for, and what its caller is told."""

    __slots__ = (
        *("answer", "asked", "batch", "begun", "bell", "deadline", "error", "future", "gone", "leads", "next", "since"),
        "told",
    )

    def __init__(self, asked: Q, deadline: Deadline, *, suspends: bool) -> None:
        self.asked = asked
        self.deadline = deadline
        self.since = time.monotonic()
        self.future: asyncio.Future[None] | None = None
        self.bell = None if suspends else allocate_lock()
        if self.bell is not None:
            self.bell.acquire()
        self.leads = False
        """Whether it is to lead a batch, and has not begun to. Of tasks nobody leads: a batch is a task of its own."""
        self.batch: list[_Waiting[Q, A]] = []
        """The batch that it leads, itself included, until all of it are told."""
        self.begun = False
        """Whether it waits no more to be taken into a batch."""
        self.told = False
        self.gone = False
        """Whether its caller waits no more, told or not."""
        self.next: _Waiting[Q, A] | None = None
        """Of the same batch: whom its caller wakes, when it has woken itself."""
        self.answer: A | None = None
        """What the batch has brought; None: it is to go alone."""
        self.error: StorageError | None = None

    def tell(self, answer: A | None, error: StorageError | None = None) -> None:
        """Let its caller go on, unless that was done."""
        if not self.told:
            self.answer, self.error = answer, error
            self.told = True  # after that: its caller may look at any moment
            self.ring()

    def ring(self) -> None:
        if self.bell is None:
            if self.future is not None and not self.future.done():
                self.future.set_result(None)
            return
        try:
            self.bell.release()
        except RuntimeError:  # it rings already
            return

    async def wait(self, seconds: float) -> None:
        """Wait until it is told something, or to lead its batch."""
        if self.bell is not None:
            self.bell.acquire(timeout=seconds)
            self.pass_on()
            return
        if self.told:
            return
        timer = _loop().call_later(seconds, self.ring)
        try:
            await self.rung()
        finally:
            timer.cancel()

    def pass_on(self) -> None:
        """Wake who comes next. So threads of a batch come one after the other, and do not fight for the interpreter."""
        after, self.next = self.next, None
        if after is not None:
            after.ring()

    async def rung(self) -> None:
        """Of a task: wait until somebody rings."""
        self.future = _loop().create_future()
        await self.future


class _Patience:
    """Rings for tasks that have waited for `PATIENCE`. One timer for all: one for each costs as much as the rest."""

    def __init__(self) -> None:
        self._until: deque[tuple[float, _Waiting[Any, Any]]] = deque()  # all wait equally long, so in the order of time
        self._runs = False

    def add(self, waiting: _Waiting[Any, Any]) -> None:
        """Ring for this one later, unless it was told what it waits for."""
        loop, until = _loop(), self._until
        while until and until[0][1].told:  # what it was told may be large
            until.popleft()
        until.append((loop.time() + PATIENCE, waiting))
        if not self._runs:
            self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        self._runs = bool(self._until)
        if self._runs:
            loop.call_at(self._until[0][0], self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        now, until = loop.time() + 0.001, self._until  # event loops may be a little early
        while until and (until[0][1].told or until[0][0] <= now):
            until.popleft()[1].ring()
        self._go_on(loop)


_session_of: Callable[[_Waiting[Any, Any]], str] = attrgetter("asked.session_id")


class Batches(ABC, Generic[Q, A]):
    """What is on its way over one port. For threads, or for the tasks of one event loop.

    Args:
        suspends: whether what it calls suspends.
        stats: where is counted what happens beside the work.
        at_work: how many batches, or first ones alone, are on their way at the same time, before others wait.
        most: how many sessions a batch has at most.
        grace: for how many seconds after its own deadline one waits for a batch that has begun, so as to hear what
            has become of it. For databases that keep the deadline of whoever leads.
    """

    what: str
    """What is asked for, in messages."""
    shares = False
    """Whether who asks for the same session gets the same answer; else a batch has one of each."""

    def __init__(
        self, *, suspends: bool, stats: Stats, at_work: int = AT_WORK, most: int | None = None, grace: float = 0.0
    ) -> None:
        self._may_work, self._grace = at_work, grace
        self._most = most or (MOST_OF_TASKS if suspends else MOST)
        self._suspends = suspends
        self._stats = stats
        self._lock = threading.RLock()  # a finalizer that runs while it is held may ask for something, too
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._patience = _Patience() if suspends else None
        self._at_work = 0
        self._batches = 0
        """How many of those on their way are several sessions'."""
        self._beginning = False
        """Whether a batch is about to begin, which those who wait will be taken into."""

    @abstractmethod
    def may_wait(self, asked: Q, deadline: Deadline) -> bool:
        """Whether it may go with others."""

    def _go_together(self, first: Q, other: Q) -> bool:
        """Whether these may be in one batch."""
        return True

    @abstractmethod
    async def _alone(self, asked: Q, deadline: Deadline) -> A:
        """Ask for one."""

    @abstractmethod
    async def _together(self, batch: Sequence[Q], deadline: Deadline) -> Mapping[str, A]:
        """Ask for several, sorted by their sessions' ids; who is not among the answers goes alone."""

    @abstractmethod
    def _lost(self) -> StorageError | None:
        """What each of a batch is told of which nobody knows what has become; None: to go alone."""

    async def ask(self, asked: Q, deadline: Deadline) -> A:
        """The answer, got alone or with others. Raises what a lone one raises."""
        if not self.may_wait(asked, deadline):
            return await self._alone(asked, deadline)
        mine = self._enter(asked, deadline) or await self._with_who_comes(asked, deadline)
        if mine is None:
            try:
                return await self._alone(asked, deadline)
            finally:
                self._next()
        try:
            left = deadline.remaining()
            if self._patience is not None and left > PATIENCE:
                self._patience.add(mine)
                await mine.rung()
            else:
                await mine.wait(min(PATIENCE, left))
            if self._leaves(mine):
                return await self._alone(asked, deadline)
            while not mine.told and not mine.leads and (left := deadline.remaining() + self._grace) > 0:
                await mine.wait(min(PATIENCE, left))  # whoever should wake it may have been struck
            if mine.leads:
                enter_again()  # so that who has his turn by now goes with it
                await self._lead(self._led_by(mine))
        finally:
            self._out(mine)
        if not mine.told:
            self._late(deadline)
        if mine.error is not None:
            raise mine.error
        return await self._alone(asked, deadline) if mine.answer is None else mine.answer

    def _late(self, deadline: Deadline) -> None:
        """Raise if the answer of a batch has not come, and is not to be asked for again."""
        lost = self._lost()
        deadline.check(self.what, written="no" if lost is None else "unknown")
        if lost is not None:
            raise self._counted(lost)

    def _enter(self, asked: Q, deadline: Deadline) -> _Waiting[Q, A] | None:
        """Begin at once (None), or join those who wait."""
        with self._lock:
            beside = self._at_work < self._may_work and not self._waiting and not self._batches
            if beside or self._at_work == 0:
                self._at_work += 1
                return None
            about_to_wait()
            mine = self._new(asked, deadline)
            self._waiting.append(mine)
            begins = not self._beginning and self._may_begin()
            self._at_work += begins
        if begins:
            self._next()
        return mine

    def _may_begin(self) -> bool:
        """Whether those who wait go by now, beside others that are on their way."""
        if self._at_work == 0:
            return True
        if self._at_work >= self._may_work:
            return False
        if self._suspends or len(self._waiting) >= self._most:
            return True
        return time.monotonic() - self._waiting[0].since >= SOON

    def _new(self, asked: Q, deadline: Deadline) -> _Waiting[Q, A]:
        return _Waiting(asked, deadline, suspends=self._suspends)  # to name the types here takes 1 µs

    async def _with_who_comes(self, asked: Q, deadline: Deadline) -> _Waiting[Q, A] | None:
        """Who begins goes with the tasks that are as far at this moment, once around the event loop; None: with nobody.

        Else the first ones of many that become ready together would go alone, each for itself.
        """
        if not self._suspends:
            return None
        try:
            await _around_the_loop()
        except BaseException:
            self._next()
            raise
        if not self._waiting:
            return None
        mine = self._new(asked, deadline)
        self._waiting.appendleft(mine)
        self._next()
        return mine

    def _leaves(self, mine: _Waiting[Q, A]) -> bool:
        """Stop waiting for a batch, unless there is one already."""
        if mine.begun:
            return False
        with self._lock:
            if mine.begun:
                return False
            self._waiting.remove(mine)
            mine.begun = True
            return True

    def _out(self, mine: _Waiting[Q, A]) -> None:
        """Whatever ends a caller's waiting: nobody is kept by it, and somebody else leads the batch that it should."""
        if not mine.begun:
            self._leaves(mine)
        if not mine.told:
            with self._lock:
                mine.gone = True
        mine.pass_on()
        batch, mine.batch = mine.batch, []
        for each in batch:  # what interrupted it came before it could lead them
            each.tell(None)
        if mine.leads:
            mine.leads = self._beginning = False
            self._next()
        elif batch:
            self._next()

    def _next(self) -> None:
        """Somebody has ended its work: let those who wait go, as one batch.

        Which these are is decided when it begins: until a leader has its turn in the interpreter, more of them come.
        """
        with self._lock:
            self._at_work -= 1
            if not self._waiting or self._beginning or not self._may_begin():
                return
            self._at_work += 1
            self._beginning = True
            if not self._suspends:
                leader = self._waiting.pop()  # who came last has most time
                leader.begun = leader.leads = True
                leader.ring()
                return
        kept(_loop().create_task(self._lead_those_who_wait(), context=Context()))

    async def _lead_those_who_wait(self) -> None:
        await self._lead(self._begun([]))

    def _led_by(self, leader: _Waiting[Q, A]) -> list[_Waiting[Q, A]]:
        """A leader and those who go with it."""
        leader.batch = self._begun([leader])
        leader.leads = False
        return leader.batch

    def _begun(self, batch: list[_Waiting[Q, A]]) -> list[_Waiting[Q, A]]:
        """The batch that begins, with who waits by now; if it does not take all of them, another one may."""
        with self._lock:
            self._beginning = False
            taken = self._taken(batch)
            others = bool(self._waiting) and self._may_begin()
            self._at_work += others
        if others:
            self._next()
        return taken

    def _taken(self, batch: list[_Waiting[Q, A]]) -> list[_Waiting[Q, A]]:
        """The next batch, by session, with a leader or none so far: who has waited longest and what goes with it.

        Who leads is not held up by somebody who has much more time.
        """
        most_time = batch[0].deadline.remaining() + MORE_TIME if batch else inf
        sessions = {each.asked.session_id for each in batch}
        others: list[_Waiting[Q, A]] = []
        while self._waiting and (len(sessions) < self._most or self.shares):
            each = self._waiting.popleft()
            first = batch[0] if batch else each
            session_id = each.asked.session_id
            fits = self.shares if session_id in sessions else len(sessions) < self._most
            fits = fits and (most_time == inf or each.deadline.remaining() <= most_time)
            if fits and self._go_together(first.asked, each.asked):
                sessions.add(session_id)
                batch.append(each)
                each.begun = True
            else:
                others.append(each)
        self._waiting.extendleft(reversed(others))
        return sorted(batch, key=_session_of)

    async def _lead(self, batch: list[_Waiting[Q, A]]) -> None:
        """Ask for a batch, and tell all of it what has become of it."""
        lost = failed = self._lost()  # unless it is learned what has happened
        answers: Mapping[str, A] = {}
        many = len(batch) > 1
        try:
            with self._lock:
                self._batches += many
            if many:
                deadline = max((each.deadline for each in batch), key=Deadline.remaining)
                asked = {each.asked.session_id: each.asked for each in batch}
                if len(asked) > 1:
                    answers = await self._together([*asked.values()], deadline)
                else:
                    answers = {batch[0].asked.session_id: await self._alone(batch[0].asked, deadline)}
            failed = None
        except StorageError as error:
            failed = None if error.written == "no" or lost is None else error
            logger.info("A batch of %d failed. %s: %s", len(batch), self.what, error.message)
        except (UnicodeError, OverflowError):  # of one of them; it will hear of it alone
            failed = None
        finally:
            with self._lock:
                self._batches -= many
            self._next()  # first of all: the next batch is on its way while these go on
            self._tell(batch, answers, failed)

    def _tell(self, batch: list[_Waiting[Q, A]], answers: Mapping[str, A], failed: StorageError | None) -> None:
        """Tell all of a batch what has become of it: tasks at once, threads one after the other."""
        threads: list[_Waiting[Q, A]] = []
        with self._lock:
            for each in batch:
                answer = answers.get(each.asked.session_id) if failed is None else None
                error = None if failed is None else self._counted(failed if each is batch[0] else copy_of(failed))
                if each.bell is None or each.batch is batch:  # who leads is awake
                    each.tell(answer, error)
                elif not each.told and not each.gone:
                    each.answer, each.error = answer, error
                    threads.append(each)
            first: _Waiting[Q, A] | None = None
            for each in reversed(threads):
                each.next, first = first, each
                each.told = True  # after that: its caller may look at any moment
        batch.clear()
        if first is not None:
            first.ring()

    def _counted(self, error: StorageError) -> StorageError:
        self._stats.unknown(error)
        return error


WriteOne = Callable[[Append, Deadline], Awaitable[bool]]
"""Writes one commit; tells whether it has won its race."""

WriteMany = Callable[[Sequence[Append], Deadline], Awaitable[Collection[str]]]
"""Writes a commit of each of several sessions, sorted by their ids; returns the ids of those that have won.

What is not among them may have lost its race or not, and was not written.
"""


class CommitBatches(Batches[Append, bool]):
    """Commits: `one` writes one, `many` several."""

    what = "Appending to a session"

    def __init__(self, one: WriteOne, many: WriteMany, **settings: Any) -> None:
        super().__init__(**settings)
        self._one, self._many = one, many

    async def _alone(self, asked: Append, deadline: Deadline) -> bool:
        return await self._one(asked, deadline)

    async def _together(self, batch: Sequence[Append], deadline: Deadline) -> Mapping[str, bool]:
        return dict.fromkeys(await self._many(batch, deadline), True)

    def may_wait(self, asked: Append, deadline: Deadline) -> bool:
        if asked.expected == 0 or len(asked.commits) != 1 or deadline.may_be_hurried:
            return False
        head = asked.head
        chars = len(asked.commits[0].body) + len(head.body) + len(head.metadata) + len(asked.was_body or "")
        return chars <= MAX_CHARS

    def _lost(self) -> StorageError:
        return cut_off()


LoadOne = Callable[[Load, Deadline], Awaitable[Rows]]
LoadMany = Callable[[Sequence[Load], Deadline], Awaitable[Mapping[str, Rows]]]
"""Loads as many commits of several sessions; those of which it does not bring all of them are not in the answer."""


class LoadBatches(Batches[Load, Rows]):
    """Loads: `one` brings the rows of one session, `many` those of several. Any of them may be asked for again."""

    what = "Loading a session"
    shares = True

    def __init__(self, one: LoadOne, many: LoadMany, **settings: Any) -> None:
        super().__init__(**settings)
        self._one, self._many = one, many

    async def _alone(self, asked: Load, deadline: Deadline) -> Rows:
        return await self._one(asked, deadline)

    async def _together(self, batch: Sequence[Load], deadline: Deadline) -> Mapping[str, Rows]:
        return await self._many(batch, deadline)

    def may_wait(self, asked: Load, deadline: Deadline) -> bool:
        return asked.newest <= FEW_COMMITS and not deadline.may_be_hurried

    def _go_together(self, first: Load, other: Load) -> bool:
        return first.newest == other.newest  # one statement then brings the same of each

    def _lost(self) -> None:
        return None


def _loop() -> asyncio.AbstractEventLoop:
    import asyncio  # takes a while to import; drivers that block need it not

    return asyncio.get_running_loop()


async def _around_the_loop() -> None:
    import asyncio

    await asyncio.sleep(0)
