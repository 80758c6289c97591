"""What all checks stand on: the driver under test, the two faces of its storage, and expectations that explain.

A check is a plain `async def check(trial)`. It runs twice: once through the synchronous face of the storage,
where it never suspends and is stepped, and once through the asynchronous one, in an event loop. `Trial` hides the
difference, so that no check is written twice.
"""

from __future__ import annotations

import asyncio
import builtins
import inspect
import os
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from ..errors import InvalidInputError, SessileError, UnsupportedError
from ..records import ANY_USER, Entry, Run
from ..storage import registry
from ..storage.core import Core
from ..storage.driver import Capabilities, Deadline
from ..storage.faces import step
from ..storage.rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from ..storage.storage import Storage, aoperate, operate

T = TypeVar("T")

Face = Literal["sync", "async"]
FACES: tuple[Face, ...] = ("sync", "async")

Location = str | Callable[..., Storage]
"""How another process opens the same data: a URL for `sessile.open`, or a function that can be pickled (a class, a
`functools.partial` of one) and takes the keyword arguments of `Storage`."""

PATIENCE = 500
"""How often a list that may lag, or a moment that must pass, is looked at again, 10 ms apart."""


# ---------------------------------------------------------------- expectations


class ConformanceError(AssertionError):
    """The driver did something else than the contract says."""


def all_runs(storage: Storage, session_id: str) -> list[Run]:
    """All runs of nobody's session, in order. One call brings `max_read_bytes`, and a quick machine writes more."""
    found = list(storage.runs(session_id, from_run=1))
    while found and found[0].number > 1:
        older = storage.runs(session_id, from_run=1, to_run=found[0].number - 1)
        if not older:
            break
        found = [*older, *found]
    return found


def expect(condition: bool, message: str) -> None:
    """Fail with a message unless the condition holds."""
    if not condition:
        raise ConformanceError(message)


def expect_equal(got: Any, wanted: Any, what: str) -> None:
    """Fail unless the two are equal."""
    if got != wanted:
        raise ConformanceError(f"{what}:\n  expected {_short(wanted)}\n  got      {_short(got)}")


async def expect_error(kind: type[SessileError], action: Awaitable[Any], what: str) -> SessileError:
    """Fail unless the action raises this kind of error; returns it."""
    try:
        result = await action
    except kind as error:
        return error
    raise ConformanceError(f"{what}: expected {kind.__name__}, got {_short(result)}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 1000 else f"{text[:600]} … {text[-300:]}"


# ---------------------------------------------------------------- what is under test


@dataclass(frozen=True, slots=True)
class Scale:
    """How much the long checks do. `seed` decides what they choose at random; it is in every report.

    Attributes:
        examples, steps: how many sequences of operations the model test tries, and how long they are.
        writers, threads, appends: processes, threads in each, and appends of each thread.
        kills: how many writing processes are killed.
    """

    seed: int = field(default_factory=lambda: random.randrange(2**32))
    examples: int = 40
    steps: int = 30
    writers: int = 4
    threads: int = 4
    appends: int = 8
    kills: int = 10

    @classmethod
    def from_environment(cls) -> Scale:
        """The scale that `SESSILE_TORTURE` (a factor, like `10`) and `SESSILE_SEED` ask for."""
        factor = _number("SESSILE_TORTURE", 1)
        seed = _number("SESSILE_SEED", random.randrange(2**32))
        base = cls(seed)
        return cls(
            seed,
            examples=base.examples * factor,
            steps=base.steps,
            appends=base.appends * factor,
            kills=base.kills * factor,
        )


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    if text and not text.isdecimal():
        raise InvalidInputError(f"{variable} must be a whole number; it is {text!r}.")
    return int(text) if text else default


@dataclass(slots=True)
class Subject:
    """A driver under test.

    Attributes:
        make_storage: makes a fresh, empty storage.
        location: how another process opens the data of such a storage; None if none can.
        discard: called with each storage when its check is over, after it was closed.
        break_database: makes every further read of a storage's data fail; False: that cannot be done.
        scale: how much the long checks do.
    """

    make_storage: Callable[[], Storage]
    location: Callable[[Storage], Location | None] = lambda _: None
    discard: Callable[[Storage], None] = lambda _: None
    break_database: Callable[[Storage], bool] = lambda _: False
    scale: Scale = field(default_factory=Scale)


def open_location(location: Location, **options: Any) -> Storage:
    """A storage on the data of a location."""
    if isinstance(location, str):
        return registry.open_storage(location, **options)
    return location(**options)


class NotDeclaredError(Exception):
    """The driver does not declare the capability that a check is about."""


# ---------------------------------------------------------------- one trial


class Trial:
    """One fresh storage, used through one of its faces. A context manager that closes it.

    `await trial.do.rename("s1", "Capitals")` calls `rename` or `arename`; `await trial.driver.load("s1", 0)` calls
    the driver; `await trial.together(a, b)` runs functions at the same time, in threads or tasks.
    """

    def __init__(self, subject: Subject, face: Face) -> None:
        self.subject = subject
        self.face: Face = face
        self.storage = self._first = subject.make_storage()
        self.location = subject.location(self.storage)
        self.do = Operations(self.storage, face)
        self.driver = Port(self)
        self.random = random.Random(subject.scale.seed)
        self._runner = asyncio.Runner() if face == "async" else None

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._close(self.storage)
        if self._runner is not None:
            self._runner.close()
        self.subject.discard(self._first)

    def _close(self, storage: Storage) -> None:
        if self._runner is not None:
            self._runner.run(storage.aclose())
        storage.close()

    def replace_storage(self, storage: Storage) -> None:
        """Continue with another storage on the same data; the one before is closed."""
        self._close(self.storage)
        self.storage = storage
        self.do = Operations(storage, self.face)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that uses this trial to its end."""
        return step(coroutine) if self._runner is None else self._runner.run(coroutine)

    @property
    def capabilities(self) -> Capabilities:
        """What the driver declares."""
        return self.storage.capabilities

    def need(self, capability: str) -> None:
        """End the check here if the driver does not declare the capability."""
        if not getattr(self.capabilities, capability):
            raise NotDeclaredError(capability)

    def where(self) -> Location:
        """How another process opens this data."""
        if self.location is None:
            raise ConformanceError(
                "The driver declares that others can open its data (durable or multi_process); say how with location()."
            )
        return self.location

    async def operate(self, operation: Callable[[Core], Coroutine[Any, Any, T]]) -> T:
        """Run an operation on the core below the storage."""
        if self.face == "sync":
            return operate(self.storage, operation)
        return await aoperate(self.storage, operation)

    async def together(self, *actions: Callable[[], Coroutine[Any, Any, T]]) -> list[T]:
        """The results of several actions that run at the same time, in their order."""
        if self.face == "async":
            return await asyncio.gather(*(action() for action in actions))
        results: dict[int, T] = {}
        errors: list[BaseException] = []
        barrier = threading.Barrier(len(actions))

        def work(index: int) -> None:
            barrier.wait()
            try:
                results[index] = step(actions[index]())
            except BaseException as error:  # noqa: BLE001 (raised again below)
                errors.append(error)

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(actions))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for error in errors:
            raise error
        return [results[index] for index in range(len(actions))]

    async def pause(self, seconds: float = 0.01) -> None:
        """Wait a moment, in the way of this face."""

        async def wait(core: Core) -> None:
            await core.driver.pause(seconds)

        await self.operate(wait)

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Look until a condition holds that the mere passing of time makes true."""
        for _ in range(PATIENCE):
            if await condition():
                return
            await self.pause()
        raise ConformanceError(f"{what}: it never happened.")

    def follow(self, session_id: str, **arguments: Any) -> Callable[[], Coroutine[Any, Any, Entry | None]]:
        """A function that brings the next entry of `follow`, None at its end."""
        if self.face == "async":
            asynchronous = self.storage.afollow(session_id, **arguments)

            async def anext_entry() -> Entry | None:
                return await anext(asynchronous, None)

            return anext_entry
        synchronous = self.storage.follow(session_id, **arguments)

        async def next_entry() -> Entry | None:
            return next(synchronous, None)

        return next_entry

    async def let_expire(self, session_id: str) -> None:
        """Let a session expire, and wait until the database's clock has passed that moment."""
        await self.do.set_ttl(session_id, 0, user_id=ANY_USER)

        async def gone() -> bool:
            return await self.do.get_session(session_id, user_id=ANY_USER) is None

        await self.until(gone, f"Session {session_id!r} expired")


class Operations:
    """The public operations of a storage by their synchronous names, whatever the face."""

    def __init__(self, storage: Storage, face: Face) -> None:
        self._storage = storage
        self._face = face

    def __getattr__(self, name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        if self._face == "async":
            return getattr(self._storage, f"a{name}")
        method = getattr(self._storage, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs)

        return call


class Port:
    """The driver below a storage, reached the way the storage reaches it, with a deadline for each call."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    async def call(self, method: str, *args: Any, deadline: Deadline | None = None, **kwargs: Any) -> Any:
        """Any method of the driver; the deadline, by default the storage's, comes behind `args`."""

        async def operation(core: Core) -> Any:
            await core.prepare(core.deadline())
            return await getattr(core.driver, method)(*args, deadline or core.deadline(), **kwargs)

        return await self._trial.operate(operation)

    async def setup(self) -> None:
        """`Driver.setup`, once more."""
        await self.call("setup")

    async def load(self, session_id: str, newest: int = 0) -> Loaded | None:
        """`Driver.load`."""
        return await self.call("load", session_id, newest)

    async def append(self, write: Append) -> bool:
        """`Driver.append`."""
        return await self.call("append", write)

    async def entries(self, session_id: str, incarnation: str, **span: Any) -> list[CommitRow]:
        """`Driver.entries`, with the fields of a `Span`."""
        return await self.call("entries", session_id, incarnation, Span(**span))

    async def list(self, **query: Any) -> builtins.list[HeadRow]:
        """The rows of `Driver.list`, with the fields of a `ListQuery`."""
        return (await self.listing(**query)).rows

    async def listing(self, **query: Any) -> Listing:
        """`Driver.list`, with the fields of a `ListQuery`."""
        return await self.call("list", ListQuery(**query))

    async def count(self, **query: Any) -> int:
        """`Driver.count`, with the fields of a `ListQuery`."""
        return await self.call("count", ListQuery(**query))

    async def delete(self, session_id: str, incarnation: str) -> None:
        """`Driver.delete`."""
        await self.call("delete", session_id, incarnation)

    async def get_record(self, session_id: str, incarnation: str, key: str) -> bytes | None:
        """`Driver.get_record`."""
        return await self.call("get_record", session_id, incarnation, key)

    async def get_records(self, names: Sequence[RecordName]) -> builtins.list[bytes | None]:
        """`Driver.get_records`."""
        return await self.call("get_records", names)

    async def put_record(self, session_id: str, incarnation: str, key: str, value: bytes | None) -> bool:
        """`Driver.put_record`."""
        return await self.call("put_record", session_id, incarnation, key, value)

    async def record_keys(self, session_id: str, incarnation: str, prefix: str = "", **page: Any) -> builtins.list[str]:
        """`Driver.record_keys`."""
        return await self.call("record_keys", session_id, incarnation, prefix, **page)

    async def newest(self, sessions: Sequence[tuple[str, str]], count: int) -> builtins.list[builtins.list[CommitRow]]:
        """`Driver.newest`."""
        return await self.call("newest", sessions, count)

    async def rewrite(self, session_id: str, incarnation: str, commits: Sequence[CommitRow]) -> bool:
        """`Driver.rewrite`."""
        return await self.call("rewrite", session_id, incarnation, commits)

    async def now(self) -> int:
        """`Driver.now`."""
        return await self.call("now")


# ---------------------------------------------------------------- checks and areas


CheckFunction = Callable[[Trial], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its area and name, what it is about, and the capability that it needs (None: all drivers)."""

    area: str
    name: str
    about: str
    function: CheckFunction
    needs: str | None = None
    faces: tuple[Face, ...] = FACES

    def run(self, subject: Subject, face: Face) -> None:
        """Run it on a fresh storage; raises `NotDeclaredError` or whatever is wrong."""
        with Trial(subject, face) as trial:
            if self.needs is not None:
                trial.need(self.needs)
            try:
                trial.run(self.function(trial))
            except UnsupportedError:
                for capability in ("finds_names", "finds_metadata"):
                    trial.need(capability)  # what filters by these is refused where it is not declared
                raise


class Area:
    """A list of checks that belong together; `@area.check()` adds one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.checks: list[Check] = []

    def check(
        self, *, needs: str | None = None, faces: tuple[Face, ...] = FACES
    ) -> Callable[[CheckFunction], CheckFunction]:
        """Add the decorated function, under its own name and the first line of its docstring."""

        def add(function: CheckFunction) -> CheckFunction:
            name = getattr(function, "__name__", "check")
            about = (inspect.getdoc(function) or name).splitlines()[0]
            self.checks.append(Check(self.name, name, about, function, needs, faces))
            return function

        return add
