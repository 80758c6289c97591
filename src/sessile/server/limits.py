"""How much one server does at once, and who waits."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from .problems import Problem


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process of the server takes on; each has limits of its own.

    Attributes:
        body: bytes of a request's body; larger ones are answered 413.
        runs: how many runs are in progress at once.
        runs_per_user: how many of them for one user.
        queue: how many more requests wait for their turn; further ones are answered 429.
        queue_seconds: for how long one waits; then it is answered 429.
        streams: how many streams are open at once; a further one is told to come again in five seconds.
        kept_seconds: for how long the text of a run that has ended can be read on where a client has left off.
        stop_seconds: how long a stopping server waits for its runs; then they are interrupted.
    """

    body: int = 10_000_000
    runs: int = 100
    runs_per_user: int = 20
    queue: int = 100
    queue_seconds: float = 10.0
    streams: int = 10_000
    kept_seconds: float = 60.0
    stop_seconds: float = 10.0


def too_many(detail: str) -> Problem:
    """The problem of a request that finds no room."""
    return Problem(
        429, "too-many-runs", detail, hint="Try again a little later.", retryable=True, headers={"Retry-After": "2"}
    )


class Slots:
    """Places for runs, given out in the order in which they were asked for; one user's limit holds up no other."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._users: Counter[str | None] = Counter()
        self._taken = 0
        self._queue: deque[tuple[str | None, asyncio.Future[None]]] = deque()

    @property
    def taken(self) -> int:
        """How many runs are in progress."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @asynccontextmanager
    async def taken_by(self, user: str | None) -> AsyncGenerator[None]:
        """A place while the block lasts; raises a problem (429) where there is none in time."""
        if self._has_room(user) and not any(who == user for who, _ in self._queue):
            self._take(user)
        else:
            await self._wait(user)
        try:
            yield
        finally:
            self._taken -= 1
            self._users[user] -= 1
            if not self._users[user]:
                del self._users[user]
            self._pass_on()

    def _has_room(self, user: str | None) -> bool:
        return self._taken < self._limits.runs and self._users[user] < self._limits.runs_per_user

    def _take(self, user: str | None) -> None:
        self._taken += 1
        self._users[user] += 1

    async def _wait(self, user: str | None) -> None:
        if len(self._queue) >= self._limits.queue:
            raise too_many("The server works on as many runs as it may, and its queue is full.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (user, turn)
        self._queue.append(place)
        try:
            async with asyncio.timeout(self._limits.queue_seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it had just been given the place
                self._taken -= 1
                self._users[user] -= 1
                self._pass_on()
            else:
                self._queue.remove(place)
            if isinstance(error, TimeoutError):
                raise too_many("The server works on as many runs as it may.") from None
            raise

    def _pass_on(self) -> None:
        for place in list(self._queue):
            user, turn = place
            if self._taken >= self._limits.runs:
                return
            if not turn.done() and self._has_room(user):  # else it has just given up
                self._queue.remove(place)
                self._take(user)
                turn.set_result(None)
