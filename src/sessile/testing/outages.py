"""What must hold when a server is killed, or another one takes over, while many threads and tasks write.

```python
from sessile.testing import Network, run_failover, run_restarts

run_restarts(network, server, Scale.from_environment(), restarts=20).check()
```

`sessile.testing.connections` says what a `Network` is, and what is checked afterwards.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from typing import Protocol, Self

from ..errors import StorageError
from ..storage.storage import Storage
from .checks import Scale
from .connections import PATIENT, Ledger, Network, new_session
from .processes import Figures


class Server(Protocol):
    """A server that may be killed."""

    def kill(self) -> None:
        """End it as a crash does."""
        ...

    def start(self) -> None:
        """Start it again on the same data and address; return when it answers."""
        ...


def run_restarts(network: Network, server: Server, scale: Scale, *, restarts: int) -> Figures:
    """Kill the server and start it again, so often, at moments that the seed decides, while threads and tasks write."""
    chance = random.Random(scale.seed)

    def restart() -> None:
        time.sleep(chance.random() * 0.01)  # so that the end comes at any point of a commit
        server.kill()
        server.start()

    began = time.monotonic()
    figures = _disturb_writers(partial(network.direct, timeout=PATIENT), restart, restarts, chance)
    figures.seconds = time.monotonic() - began
    return figures


def run_failover(
    network: Network, fail_over: Callable[[], tuple[str, int]], scale: Scale, *, failovers: int = 1
) -> Figures:
    """Let another server take over, so often, while threads and tasks write.

    `fail_over` ends the server, brings the other one up with all that was acknowledged, and returns its address.
    """
    chance = random.Random(scale.seed)
    began = time.monotonic()
    with network.proxy() as proxy:

        def lead_elsewhere() -> None:
            host, port = fail_over()
            proxy.retarget(host, port)
            proxy.cut()

        through = partial(network.connect, "127.0.0.1", proxy.port, timeout=PATIENT)
        figures = _disturb_writers(through, lead_elsewhere, failovers, chance)
    figures.seconds = time.monotonic() - began
    return figures


class _Writers:
    """Threads and tasks that append to a session of all and to one of their own in turn, until they are stopped."""

    def __init__(self, connect: Callable[[], Storage], each: int) -> None:
        self.shared = Ledger(new_session())
        self.own = [Ledger(new_session()) for _ in range(2 * each)]
        self._connect = connect
        self._errors: list[BaseException] = []
        self._over = threading.Event()
        self._progress = threading.Condition()
        self.acknowledged = 0
        self._outcomes = 0
        self._storage = connect()
        jobs: list[Callable[[], None]] = [partial(self._write, own) for own in self.own[:each]]
        jobs.append(lambda: asyncio.run(self._write_in_tasks(self.own[each:])))
        self._threads = [threading.Thread(target=self._guarded, args=(job,)) for job in jobs]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._storage.close()
        for error in self._errors:
            raise error

    def wait_for(self, more: int) -> None:
        """Wait until so many further appends have ended, one way or the other, or a writer has failed."""
        with self._progress:
            wanted = self._outcomes + more
            self._progress.wait_for(lambda: self._outcomes >= wanted or self._errors)

    def acknowledge(self, more: int, *, within: float) -> bool:
        """Whether so many further appends are acknowledged, within so many seconds.

        How many fail until then says nothing: where there is no primary yet, they fail at once.
        """
        with self._progress:
            wanted = self.acknowledged + more
            self._progress.wait_for(lambda: self.acknowledged >= wanted or self._errors, within)
            return self.acknowledged >= wanted or bool(self._errors)

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (raised again in the end)
            with self._progress:
                self._errors.append(error)
                self._progress.notify_all()

    def _write(self, own: Ledger) -> None:
        for ledger, text in self._texts(own):
            self._note(ledger, text, ledger.add(self._storage, text))

    async def _write_in_tasks(self, ledgers: list[Ledger]) -> None:
        async with self._connect() as storage:
            await asyncio.gather(*(self._awrite(storage, own) for own in ledgers))

    async def _awrite(self, storage: Storage, own: Ledger) -> None:
        for ledger, text in self._texts(own):
            self._note(ledger, text, await ledger.aadd(storage, text))

    def _texts(self, own: Ledger) -> Generator[tuple[Ledger, str]]:
        for number in itertools.count():
            if self._over.is_set():
                return
            yield (own if number % 2 else self.shared), f"{own.session_id} {number}"

    def _note(self, ledger: Ledger, text: str, error: StorageError | None) -> None:
        with self._progress:
            ledger.note(text, error)
            self.acknowledged += error is None
            self._outcomes += 1
            self._progress.notify_all()


def _disturb_writers(
    connect: Callable[[], Storage], disturb: Callable[[], None], rounds: int, chance: random.Random
) -> Figures:
    figures = Figures()
    with _Writers(connect, each=2) as writers:
        for _ in range(rounds):
            writers.wait_for(chance.randrange(1, 40))
            disturb()
            figures.rounds += 1
        if not writers.acknowledge(20, within=PATIENT):
            figures.problems.append("nothing was acknowledged any more in the end, though the server is there")
    with connect() as storage:
        for ledger in (writers.shared, *writers.own):
            ledger.compare(storage, figures)
    return figures
