"""What must hold when connections break: campaigns against any database that is reached over TCP.

```python
from sessile.testing import Network, Scale, run_absent, run_cuts, run_exhausted, run_read_cuts
from sessile.testing.proxy import postgres_messages

def connect(host, port, **options):
    return PostgresStorage(f"postgresql://{host}:{port}/test", **options)

network = Network(connect, "127.0.0.1", 5432, framing=postgres_messages)
run_cuts(network, Scale.from_environment()).check()
run_read_cuts(network, Scale.from_environment()).check()
run_absent(network)
run_exhausted(Network(functools.partial(connect, pool_size=2), "127.0.0.1", 5432), pool_size=2)
```

The storages under test reach the server through a proxy (`sessile.testing.proxy`); what they claim is compared with
what a storage sees that reaches it directly. Each campaign runs sync and async. Afterwards, always: every
acknowledged commit is there exactly once; none is there twice; what an error says about its write is true; the log is
dense and folds to its head; and the same storage works again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from ..errors import DeadlineError, SessileError, StorageError, StorageUnavailableError
from ..storage.core import Core
from ..storage.driver import Append, Deadline, Driver, Span
from ..storage.ids import uuid7
from ..storage.storage import Storage, operate
from .checks import FACES, Face, Scale, Subject, Trial, all_runs, expect, expect_error
from .faults import Fault, FaultyDriver
from .processes import Figures
from .proxy import CuttingProxy, Direction, Framing, Recording

DIRECTIONS: tuple[Direction, ...] = ("request", "answer")

SHORT = 0.2
"""The timeout of operations that cannot succeed, in seconds."""

VARIES = 16
"""By how many bytes one commit may be shorter than the next: times and checksums have more digits, or fewer."""

PATIENT = 300.0
"""The timeout of writers while the server is gone and comes back, in seconds."""


class Connect(Protocol):
    """Opens a storage on the data under test."""

    def __call__(self, host: str, port: int, **options: Any) -> Storage:
        """A storage that reaches the server at this address; `options` are the keyword arguments of `Storage`."""
        ...


@dataclass(frozen=True, slots=True)
class Network:
    """A database that is reached over TCP. Every campaign uses sessions of its own.

    Attributes:
        connect: opens a storage on the data, at an address.
        host, port: where the server is.
        framing: finds the messages of its protocol; without it a cut comes at the ends of chunks.
        monitoring: tells what clients send by themselves to watch the server (`CuttingProxy`).
    """

    connect: Connect
    host: str
    port: int
    framing: Framing | None = None
    monitoring: Callable[[bytes], bool] | None = None

    def direct(self, **options: Any) -> Storage:
        """A storage that reaches the server without a proxy."""
        return self.connect(self.host, self.port, **options)

    def proxy(self) -> CuttingProxy:
        """A proxy before the server."""
        return CuttingProxy(self.host, self.port, framing=self.framing, monitoring=self.monitoring)

    def trial(self, proxy: CuttingProxy, face: Face) -> Trial:
        """A storage that reaches the server through the proxy, used through a face."""
        return Trial(Subject(lambda: self.connect("127.0.0.1", proxy.port)), face)


# ---------------------------------------------------------------- what was claimed, and what is there


@dataclass(slots=True)
class Ledger:
    """What the storage under test has said about the runs of one session, by their texts.

    Attributes:
        acknowledged: they are there.
        unknown: they may be there, once.
    """

    session_id: str
    acknowledged: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])

    def add(self, storage: Storage, text: str) -> StorageError | None:
        """Append a run; returns the error of the storage."""
        try:
            storage.add_run(self.session_id, input=text, format="test/1", messages=[{"text": text}])
        except StorageError as error:
            return error
        return None

    async def aadd(self, storage: Storage, text: str) -> StorageError | None:
        """The `async` version of `add`."""
        try:
            await storage.aadd_run(self.session_id, input=text, format="test/1", messages=[{"text": text}])
        except StorageError as error:
            return error
        return None

    async def add_and_note(self, trial: Trial, text: str) -> StorageError | None:
        """Append a run through the face of a trial, and note the outcome; returns the error of the storage."""
        error = await self.aadd(trial.storage, text) if trial.face == "async" else self.add(trial.storage, text)
        self.note(text, error)
        return error

    def note(self, text: str, error: SessileError | None) -> None:
        """Note the outcome of an append."""
        if error is None or error.written == "yes":
            self.acknowledged.append(text)
        elif error.written == "unknown":
            self.unknown.append(text)

    def compare(self, storage: Storage, figures: Figures) -> None:
        """Count what is not as it was said."""
        runs = all_runs(storage, self.session_id)
        there = [run.input for run in runs]
        figures.acknowledged += len(self.acknowledged)
        figures.lost += len(set(self.acknowledged) - set(there))
        figures.doubled += len(there) - len(set(there))
        figures.unacknowledged += len(set(there) - set(self.acknowledged))
        where = f"session {self.session_id!r}"
        if denied := set(there) - {*self.acknowledged, *self.unknown}:
            figures.problems.append(f"{where} has runs whose errors said that they were not written: {sorted(denied)}")
        if [run.number for run in runs] != list(range(1, len(runs) + 1)):
            figures.problems.append(f"{where} numbers its runs {[run.number for run in runs]}")
        if [[message.data["text"] for message in run.messages] for run in runs] != [[text] for text in there]:
            figures.problems.append(f"{where} has runs with the messages of others")
        if runs and storage.verify(self.session_id) != len(runs):
            figures.problems.append(f"{where} has {storage.verify(self.session_id)} commits for {len(runs)} runs")


class _Watched(FaultyDriver):
    """Compares what each append of a driver claims, before the core repeats it, with what is there."""

    def __init__(self, inner: Driver, direct: Storage, figures: Figures) -> None:
        super().__init__(inner, _nothing)
        self.direct = direct
        self.figures = figures
        self.appends = 0

    async def append(self, write: Append, deadline: Deadline) -> bool:
        self.appends += 1
        try:
            won = await self.inner.append(write, deadline)
        except StorageError as error:
            if error.written == "no" and self._is_there(write):
                self.figures.problems.append(f"the driver said that this was not written, but it is there: {error!r}")
            raise
        if won and not self._is_there(write):
            self.figures.problems.append(
                f"the driver acknowledged commit {write.commits[0].commit_id}; it is not there"
            )
        return won

    def _is_there(self, write: Append) -> bool:
        first, last = write.commits[0], write.commits[-1]

        async def find(core: Core) -> bool:
            span = Span(first=first.seq, last=last.seq)
            rows = await core.driver.entries(write.session_id, write.incarnation, span, core.deadline())
            return first.commit_id in {row.commit_id for row in rows}

        return operate(self.direct, find)


def _nothing(operation: str) -> Fault | None:
    """The plan of a driver to which nothing happens."""
    del operation
    return None


async def _watch(core: Core, direct: Storage, figures: Figures) -> _Watched:
    core.driver = watched = _Watched(core.driver, direct, figures)
    return watched


@contextmanager
def _patience(trial: Trial, seconds: float) -> Generator[None]:
    """Give the operations inside so much time."""

    async def set_timeout(core: Core, seconds: float) -> float:
        before = core.settings.timeout
        core.settings = replace(core.settings, timeout=seconds)
        return before

    before = trial.run(trial.operate(partial(set_timeout, seconds=seconds)))
    try:
        yield
    finally:
        trial.run(trial.operate(partial(set_timeout, seconds=before)))


# ---------------------------------------------------------------- connections that are cut


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a commit loses its connection.

    `after` is a number of bytes; None: before the commit, which finds a connection that is lost already. `gone`: the
    server cannot be reached again until the commit has ended.
    """

    direction: Direction
    after: int | None
    gone: bool = False

    def begin(self, proxy: CuttingProxy, *, reset: bool) -> None:
        """Let it happen to the next commit."""
        if self.after is not None:
            proxy.cut_after(self.direction, self.after, reset=reset, refuse=self.gone)
            return
        if self.gone:
            proxy.refuse()
        proxy.cut(reset=reset)


def run_cuts(network: Network, scale: Scale, *, samples: int | None = 64, faces: Sequence[Face] = FACES) -> Figures:
    """Cut the connection in the middle of a commit: its reads and its write.

    At every message boundary of what is sent and of what is answered, once so that the next connection works (then the
    commit must be acknowledged in the end) and once so that none works until it has failed; and at `samples` further
    bytes of each direction that the seed decides (None: at every byte).
    """
    began = time.monotonic()
    figures = Figures()
    chance = random.Random(scale.seed)
    with network.direct() as direct, network.proxy() as proxy:
        for face in faces:
            for cut in _choose_cuts(_record_commit(network, proxy, face), chance, samples):
                with network.trial(proxy, face) as trial:
                    _cut_commit(trial, proxy, cut, direct, figures, reset=chance.random() < 0.5)
    figures.seconds = time.monotonic() - began
    return figures


def _record_commit(network: Network, proxy: CuttingProxy, face: Face) -> Recording:
    """What passes while the second run of a session is added."""
    ledger = Ledger(new_session())
    with network.trial(proxy, face) as trial:
        _expect_none([trial.run(ledger.add_and_note(trial, "first"))])
        recording = proxy.record()
        _expect_none([trial.run(ledger.add_and_note(trial, "second"))])
        proxy.record()
    return recording


def _choose_cuts(recording: Recording, chance: random.Random, samples: int | None) -> Iterator[_Cut]:
    for direction in DIRECTIONS:
        track = recording.track(direction)
        # The last byte of the answer ends the commit; a connection that is lost then is one that is lost while idle.
        everywhere = range(track.total + (direction == "request"))
        boundaries = {0, *track.boundaries} & {*everywhere}
        sampled = everywhere if samples is None else chance.sample(everywhere, min(samples, len(everywhere)))
        for after in (None, *sorted(boundaries)):
            yield _Cut(direction, after, gone=True)
        for after in (None, *sorted({*boundaries, *sampled})):
            yield _Cut(direction, after)


def _cut_commit(
    trial: Trial, proxy: CuttingProxy, cut: _Cut, direct: Storage, figures: Figures, *, reset: bool
) -> None:
    ledger = Ledger(new_session())
    _expect_none([trial.run(ledger.add_and_note(trial, "first"))])
    watched = trial.run(trial.operate(partial(_watch, direct=direct, figures=figures)))
    cut.begin(proxy, reset=reset)
    with _patience(trial, SHORT if cut.gone else PATIENT):
        error = trial.run(ledger.add_and_note(trial, "second"))
    if proxy.bytes_left > VARIES and not isinstance(error, DeadlineError):
        figures.problems.append(f"{cut}: the commit was over before so many bytes had passed")
    proxy.heal()
    if error is not None and not cut.gone:
        figures.problems.append(f"{cut}: one lost connection made a commit fail: {error!r}")
    if error is not None and not watched.appends and error.written != "no":
        figures.problems.append(f"{cut}: a commit that had not begun is said to be {error.written}: {error!r}")
    if (after := trial.run(ledger.add_and_note(trial, "third"))) is not None:
        figures.problems.append(f"{cut}: the storage did not work again: {after!r}")
    ledger.compare(direct, figures)
    figures.rounds += 1


def run_read_cuts(
    network: Network, scale: Scale, *, samples: int | None = 64, faces: Sequence[Face] = FACES
) -> Figures:
    """Cut the connection in the middle of a read: it brings everything or fails, and never takes a part for the whole.

    Where, `run_cuts` says.
    """
    began = time.monotonic()
    figures = Figures()
    chance = random.Random(scale.seed)
    with network.proxy() as proxy:
        for face in faces:
            ledger = Ledger(new_session())
            with network.trial(proxy, face) as trial:
                for text in ("first", "second"):
                    _expect_none([trial.run(ledger.add_and_note(trial, text))])
                figures.acknowledged += len(ledger.acknowledged)
                recording = proxy.record()
                _expect_none([_read(trial, ledger, figures, None)])
                proxy.record()
                for cut in _choose_cuts(recording, chance, samples):
                    cut.begin(proxy, reset=chance.random() < 0.5)
                    with _patience(trial, SHORT if cut.gone else PATIENT):
                        _read(trial, ledger, figures, cut)
                    proxy.heal()
                    _expect_none([_read(trial, ledger, figures, cut)])
                    figures.rounds += 1
    figures.seconds = time.monotonic() - began
    return figures


def _read(trial: Trial, ledger: Ledger, figures: Figures, cut: _Cut | None) -> StorageError | None:
    """Load a session and list it, and note what is missing; returns the last error of the storage."""
    failed: StorageError | None = None
    try:
        view = trial.run(trial.do.get_session(ledger.session_id, last_runs=9))
        found = None if view is None else [run.input for run in view.runs]
        if found != ledger.acknowledged:
            figures.problems.append(f"{cut}: a read brought {found}, where {ledger.acknowledged} are stored")
    except StorageError as error:
        failed = error
    try:
        page = trial.run(trial.do.sessions(limit=100))
        if page.unreadable or ledger.session_id not in [head.session_id for head in page]:
            figures.problems.append(f"{cut}: a list lacks a session that is there; unreadable: {page.unreadable}")
    except StorageError as error:
        failed = error
    return failed


# ---------------------------------------------------------------- servers that do not answer


def run_absent(network: Network) -> None:
    """A server that is not there at first use is a clear error, and no more than that: later the storage works."""
    with network.direct() as direct, network.proxy() as proxy:
        for face in FACES:
            proxy.refuse()
            ledger = Ledger(new_session())
            with network.trial(proxy, face) as trial:
                with _patience(trial, SHORT):
                    for operation in (trial.do.get_session, trial.do.add_run, trial.do.delete):
                        error = trial.run(expect_error(StorageError, operation("s"), "a server that is not there"))
                        clear = isinstance(error, (StorageUnavailableError, DeadlineError))
                        expect(clear, f"the error does not say that the server is not there: {error!r}")
                        expect(error.written == "no", f"nothing can have been written, but it says {error.written}")
                        expect(error.retryable, f"a retry may help when the server is there again: {error!r}")
                        expect(str(proxy.port) in str(error), f"the error does not name the address: {error}")
                proxy.heal()
                expect(
                    trial.run(ledger.add_and_note(trial, "first")) is None,
                    "the server is there; the storage does not work",
                )
            figures = Figures(rounds=1)
            ledger.compare(direct, figures)
            figures.check()


def run_exhausted(network: Network, pool_size: int) -> None:
    """More operations than the pool has connections, on a server that does not answer: each ends with an error.

    Afterwards the storage works again, with as many connections as before. `network` connects with a pool of
    `pool_size` connections.
    """
    figures = Figures(rounds=1)
    with network.direct() as direct, network.proxy() as proxy:
        for face in FACES:
            ledgers = [Ledger(new_session()) for _ in range(pool_size + 2)]
            with network.trial(proxy, face) as trial:

                async def add_everywhere(text: str, trial: Trial = trial, ledgers: list[Ledger] = ledgers) -> list[Any]:
                    return await trial.together(*(partial(ledger.add_and_note, trial, text) for ledger in ledgers))

                _expect_none(trial.run(add_everywhere("first")))
                proxy.stall()
                with _patience(trial, SHORT):
                    errors = trial.run(add_everywhere("second"))
                expect(all(errors), f"a server that does not answer cannot acknowledge anything: {errors}")
                proxy.heal()
                for number in range(3):
                    _expect_none(trial.run(add_everywhere(f"later {number}")))
            for ledger in ledgers:
                ledger.compare(direct, figures)
    figures.check()


def _expect_none(errors: list[Any]) -> None:
    failed = [error for error in errors if error is not None]
    expect(not failed, f"the storage failed though the server answers: {failed!r}")


def new_session() -> str:
    """The id of a session that nobody else uses."""
    return f"fault-{uuid7()}"
