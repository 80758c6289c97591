"""Runs in progress in this process: each is a task of its own, and what it tells can be read from any place on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..records import JsonObject
from ..storage.encoding import encode

T = TypeVar("T")

MOST_BYTES = 8_000_000
"""How much of what is no text a run keeps for those who read on; what comes later is told to nobody who comes late."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a client has read in a run's stream: the `id` of a frame, `EPOCH.INDEX.CHARS`.

    Attributes:
        epoch: whose frames: a process that takes the run over begins anew.
        index: how many frames of that.
        chars: how many characters of the run's text.
        ended: whether the end of the run was among them.
    """

    epoch: int = 0
    index: int = 0
    chars: int = 0
    ended: bool = False

    @classmethod
    def of(cls, text: str | None) -> Place:
        """The place that a `Last-Event-ID` names; the beginning, if it names none."""
        parts = (text or "").split(".")
        ended = parts[3:] == ["end"]
        parts = parts[:3] if ended else parts
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 16 for part in parts):
            return cls()
        epoch, index, chars = map(int, parts)
        return cls(epoch, index, chars, ended)

    def __str__(self) -> str:
        return f"{self.epoch}.{self.index}.{self.chars}{'.end' if self.ended else ''}"


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream.

    Attributes:
        place: how far one has read who has read it.
        event: what kind of event.
        data: its JSON.
        text: the piece of text that it brings.
        begun: of the first one: which run it is.
        outcome: of the last one: what has come of the run.
    """

    place: Place
    event: str
    data: str
    text: str = ""
    begun: JsonObject | None = None
    outcome: JsonObject | None = None

    @property
    def bytes(self) -> bytes:
        """As server-sent events are written."""
        return f"id: {self.place}\nevent: {self.event}\ndata: {self.data}\n\n".encode("utf-8", "backslashreplace")


def text_frame(place: Place, text: str) -> Frame:
    """A piece of text."""
    return Frame(place, "text", encode({"text": text}), text)


def begun_frame(place: Place, run: JsonObject) -> Frame:
    """The beginning of a run."""
    return Frame(place, "run.started", encode(run), begun=run)


def end_frame(place: Place, outcome: JsonObject) -> Frame:
    """The end of a run."""
    return Frame(place, "run.ended", encode(outcome), outcome=outcome)


class LiveRun:
    """A run in progress here, and what it has told so far.

    Args:
        session_id, run_id, number: which run.
        epoch: which process's turn it is.
        before: what the run has said, and stored, before it came here.
    """

    def __init__(self, session_id: str, run_id: str, number: int, *, epoch: int = 1, before: str = "") -> None:
        self.session_id, self.run_id, self.number, self.epoch, self.before = session_id, run_id, number, epoch, before
        self.frames: list[Frame] = []
        self.chars = len(before)
        self.outcome: JsonObject | None = None
        self.ended = False
        self._bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def begin(self, agent: str) -> None:
        """Tell which run it is."""
        run = {"session_id": self.session_id, "run_id": self.run_id, "number": self.number, "agent": agent}
        self._put(begun_frame(Place(self.epoch, len(self.frames) + 1, self.chars), run))

    def say(self, text: str) -> None:
        """Tell a piece of the run's text."""
        self.chars += len(text)
        self._put(text_frame(Place(self.epoch, len(self.frames) + 1, self.chars), text))

    def tell(self, event: str, data: JsonObject) -> None:
        """Tell what else has happened."""
        text = encode(data)
        if self._bytes + len(text) > MOST_BYTES:
            return
        self._bytes += len(text)
        self._put(Frame(Place(self.epoch, len(self.frames) + 1, self.chars), event, text))

    def end(self, outcome: JsonObject | None) -> None:
        """Tell what has come of it; None: its stream breaks off, and goes on where the run does."""
        self.outcome = outcome
        self.ended = True
        if outcome is not None:
            place = Place(self.epoch, len(self.frames) + 1, self.chars, ended=True)
            self._put(end_frame(place, outcome))
        self._wake()

    def _put(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._wake()

    def _wake(self) -> None:
        for one in self._waiting:
            if not one.done():
                one.set_result(None)
        self._waiting.clear()

    async def _news(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    async def read(self, after: Place) -> AsyncIterator[Frame]:
        """What it tells after a place, as it comes, to its end; no piece of text twice, none left out."""
        at = after.chars
        for frame in self._caught_up(after):
            at = frame.place.chars
            yield frame
        index = min(after.index, len(self.frames)) if after.epoch == self.epoch else 0
        while True:
            while index < len(self.frames):
                frame = self.frames[index]
                index += 1
                if not frame.text:
                    yield frame
                elif frame.place.chars > at:
                    new = frame.place.chars - at
                    yield frame if new >= len(frame.text) else text_frame(frame.place, frame.text[-new:])
                    at = frame.place.chars
            if self.ended:
                return
            await self._news()

    def _caught_up(self, after: Place) -> list[Frame]:
        """What brings a reader to where the run has begun here."""
        here = len(self.before)
        place = Place(self.epoch, 0, here)
        if after.epoch == self.epoch:
            return []
        if after.epoch and self.epoch - after.epoch > 1 and after.chars:  # what it had may have been another's
            restart = Frame(Place(self.epoch), "text.restarted", encode({"keep": 0}))
            return [restart, text_frame(place, self.before)] if here else [restart]
        if after.chars > here:
            return [Frame(place, "text.restarted", encode({"keep": here}))]
        return [text_frame(place, self.before[after.chars :])] if after.chars < here else []


@dataclass
class Work:
    """All runs in progress in this process, and the tasks that do them."""

    kept_seconds: float = 60.0
    live: dict[tuple[str, int], LiveRun] = field(default_factory=dict[tuple[str, int], LiveRun])
    tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    on_change: Callable[[], None] | None = None
    """Is called when a run has begun or ended here."""

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something in a task of its own, which whoever asked for it may leave alone."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever asked; who has gone meanwhile does not hear it

    def begin(self, stored_id: str, run: LiveRun) -> None:
        """Let a run be found by those who want to read it."""
        self.live[stored_id, run.number] = run
        self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def ended(self, stored_id: str, run: LiveRun) -> None:
        """Forget a run, a while after its end."""
        key = (stored_id, run.number)
        self._changed()
        if run.outcome is None:
            self.forget(key, run)
        else:
            asyncio.get_running_loop().call_later(self.kept_seconds, self.forget, key, run)

    def forget(self, key: tuple[str, int], run: LiveRun) -> None:
        """Let a run be read from the log from now on."""
        if self.live.get(key) is run:
            del self.live[key]

    async def stop(self, seconds: float) -> None:
        """Wait so long for what is running, then interrupt it and wait until that is stored."""
        if own := of_this_loop(self.tasks):
            await asyncio.wait(own, timeout=seconds)
        await cancelled(self.tasks)


def of_this_loop(tasks: Iterable[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that can be waited for here: an application may be asked in several event loops, as test clients do."""
    loop = asyncio.get_running_loop()
    return [task for task in tasks if task.get_loop() is loop]


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for their ends; those of other event loops are only told."""
    told = list(tasks)
    own = of_this_loop(told)
    for task in told:
        if task in own:
            task.cancel()
        elif not (loop := task.get_loop()).is_closed():
            loop.call_soon_threadsafe(task.cancel)
    if own:
        await asyncio.wait(own)
