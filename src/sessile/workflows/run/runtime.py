"""One run of a workflow in progress: what its context and its steps share."""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

import anyio.to_thread

from ...errors import SessileError
from ...live.session import CurrentSession
from ...records import JsonObject
from ...storage import patch
from ...storage.computing import computed
from ...storage.encoding import copied, frozen
from ...storage.storage import Storage
from .events import Emit, WorkflowEvent, unheard
from .journal import Journal, Path, path_of, path_text
from .pausing import Pause

R = TypeVar("R")


@dataclass(slots=True)
class Scope:
    """Where positions are counted: the workflow's function, the inside of a step, or a parallel branch.

    Attributes:
        path: its own position, `()` for the workflow's function.
        now: the time as the workflow sees it, microseconds: when the last step here ended.
        state: the session's state as it is seen here: a step has a copy, whose changes are kept with its result.
        within: the name and the depth of what is around its steps, as their entries say it: `("gather", 2)`.
        worker: the task or thread that counts here; others would count in no certain order.
        steps, draws: how many positions and random values were given out.
        pending: what a plain function waits for here, in its thread.
        left: whether what works here was given up. Nobody can stop a thread; it then begins nothing more.
        pause: what is waited for here. The function is left then, and what it calls on its way out is not begun: it
            will come here again.
    """

    path: Path
    now: int
    state: JsonObject
    within: tuple[str, int] | None = None
    worker: Any = None
    steps: int = 0
    draws: int = 0
    pending: Future[Any] | None = None
    left: bool = False
    pause: Pause | None = None

    def paused(self, pause: Pause) -> Pause:
        """Take note that the function here is left, because it waits."""
        self.pause = self.pause or pause
        return pause

    def apply(self, changes: patch.Patch) -> None:
        """Put changes into the state, which stays the same object for those who hold it."""
        if changes:
            changed = patch.apply(self.state, changes)
            self.state.clear()
            self.state.update(changed)

    def next_path(self) -> Path:
        """The next position, for the task or thread that works here."""
        if self.left:
            raise SessileError(
                "A step was called in a branch or an attempt that was given up.",
                hint="Another branch has failed, or its time limit was over; let the error end this one as well.",
            )
        if self.pause is not None:
            raise self.pause
        try:
            here = asyncio.current_task() or threading.current_thread()
        except RuntimeError:  # no event loop runs here
            here = threading.current_thread()
        if self.worker is None:
            self.worker = here
        if here is not self.worker:
            raise SessileError(
                "A step was called in a task or thread of its own, where the order of steps is not certain.",
                hint="Call steps where the workflow's function runs, and use ctx.gather for parallel branches.",
            )
        self.steps += 1
        return (*self.path, self.steps)

    def wait(self, future: Future[R]) -> R:
        """What a plain function waits for, in its thread; cancelled when the scope is left."""
        self.pending = future
        if self.left:
            future.cancel()
        return future.result()

    def leave(self) -> None:
        """Nothing more is begun here."""
        self.left = True
        if self.pending is not None:
            self.pending.cancel()


@dataclass(slots=True, frozen=True)
class CurrentStep:
    """The running step, for the code inside it.

    Attributes:
        name, path: which step it is.
        attempt: which attempt, from 1; those before a crash that were not finished are not counted.
    """

    name: str
    path: str
    attempt: int
    run: WorkflowRun = field(repr=False)

    @property
    def idempotency_key(self) -> str:
        """The same each time that this step of this run is executed, after a crash too, and different for all others.

        For services that recognise repeated requests. It is no secret: whoever knows the ids of session and run can
        compute it.
        """
        return str(self.run.step_uuid("step", path_of(self.path)))

    @property
    def own_session(self) -> str:
        """The id of a session of the step's own: always the same, and only who reads the run's log can compute it."""
        session = self.run.journal.turn.head
        assert session is not None, "a run that is running has begun"
        return str(self.run.derived_uuid(f"session {session.incarnation}", path_of(self.path)))


scope_here: ContextVar[Scope] = ContextVar("sessile_scope")
step_here: ContextVar[AtWork] = ContextVar("sessile_step")


def current_step() -> CurrentStep:
    """The running step. Raises `SessileError` outside of one."""
    try:
        at_work = step_here.get()
    except LookupError:
        raise SessileError("There is no step here.", hint="Call this inside a step of a workflow.") from None
    return CurrentStep(at_work.name, path_text(at_work.path), at_work.attempt, at_work.run)


@dataclass(slots=True)
class AtWork:
    """A step that is executed at the moment."""

    run: WorkflowRun = field(repr=False, compare=False)
    name: str
    path: Path
    attempt: int
    started_at: int


@dataclass
class WorkflowRun:
    """A run in progress, in one event loop.

    Attributes:
        state: the session's state as the workflow sees it; what it changes is committed when the run ends or pauses.
        failures: what failed steps have raised, with the position of the step.
        unheard: steps that were cancelled while their failure was kept.
        at_work: the steps that are executed at the moment, for the lease record.
        tasks: the tasks that execute them.
        unpatched: changes of the code that this run had gone beyond before they were made.
        stopped: whether the run has ended here, so that nothing more is begun.
        cancelled: whether it was asked to cancel.
        temp: what its steps keep for each other, and nobody stores.
    """

    storage: Storage
    journal: Journal
    emit: Emit
    state: JsonObject
    loop: asyncio.AbstractEventLoop
    failures: list[tuple[BaseException, Path]] = field(default_factory=list[tuple[BaseException, Path]])
    unheard: list[Path] = field(default_factory=list[Path])
    at_work: dict[Path, AtWork] = field(default_factory=dict[Path, AtWork])
    tasks: set[asyncio.Task[Any]] = field(default_factory=set[asyncio.Task[Any]])
    unpatched: set[str] = field(default_factory=set[str])
    stopped: bool = False
    cancelled: bool = False
    temp: dict[str, Any] = field(default_factory=dict[str, Any])
    threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(math.inf))

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.journal.turn.spec.session_id

    def now(self) -> int:
        """The database's time, microseconds UTC."""
        return self.journal.turn.clock.now()

    @property
    def user_id(self) -> str | None:
        """Whose session it is, also where the caller has named no user."""
        head = self.journal.turn.head
        return self.journal.turn.user_id if head is None else head.user_id

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self.journal.turn.spec.run_id

    def session(self, state: JsonObject) -> CurrentSession:
        """The session as agents' tools and `session_state()` see it."""
        agent = self.journal.turn.spec.agent
        return CurrentSession(
            self.session_id,
            self.user_id,
            self.run_id,
            self.storage,
            state,
            agent=agent,
            scopes=frozenset(self.journal.turn.scoped.scopes),
            temp=self.temp,
            incarnation=None if self.journal.turn.head is None else self.journal.turn.head.incarnation,
        )

    def check_at_work(self) -> None:
        """Raise if nothing may be begun any more."""
        if self.journal.broken is not None:
            raise self.journal.broken
        if self.stopped:
            raise SessileError("The run has ended; a step was called after that.", hint="Await all steps.")

    @property
    def heard(self) -> bool:
        """Whether anybody listens to what happens."""
        return self.emit is not unheard

    def tell(self, kind: Any, name: str, path: Path, **about: Any) -> None:
        """Tell whoever listens what has happened to a step."""
        if self.heard:
            self.emit(WorkflowEvent(kind, name, path_text(path), **about))

    def note(self) -> list[JsonObject] | None:
        """The running steps, for the lease record."""
        steps = [
            {"path": path_text(one.path), "name": one.name, "attempt": one.attempt, "started_at": one.started_at}
            for one in self.at_work.values()
        ]
        return steps or None

    async def changes(self, *, json_only: bool = False) -> patch.Patch:
        """What the run has changed in the state since its changes were last committed; or only what of it is JSON."""
        state, patched = self.journal.state, self.journal.patched
        before = await computed(lambda: patch.apply(state, patched), state, patched)
        copy, size = frozen(self.state, "The session's state", before if json_only else None)
        return await computed(lambda: patch.diff(before, copy()), before, size=size)

    # ------------------------------------------------------------ values that replay

    def derived(self, what: str, path: Path) -> bytes:
        """32 bytes that look random, and are always the same for this position of this run."""
        text = f"{what}\n{path_text(path)}\n{self.run_id}\n{self.session_id}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

    def derived_uuid(self, what: str, path: Path) -> UUID:
        """A UUID of version 8 (RFC 9562, section 5.8) made of such bytes."""
        value = int.from_bytes(self.derived(what, path)[:16], "big")
        return UUID(int=value & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62)

    def step_uuid(self, what: str, path: Path) -> UUID:
        """One for the step that stands at a position now, and that is no other one's that stood there before."""
        lives = self.journal.lives(path)
        return self.derived_uuid(f"{what}/{lives}" if lives else what, path)

    # ------------------------------------------------------------ threads

    async def in_thread(self, function: Callable[[], R]) -> R:
        """Call a plain function in a worker thread, with this task's context; a cancellation does not wait for it."""
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=self.threads)


def replayed_state(journal: Journal) -> JsonObject:
    """The state that a replay begins with."""
    return copied(journal.state)
