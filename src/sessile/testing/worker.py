"""A process that writes until it is done or killed: `python -m sessile.testing.worker`, with a job on its input.

It acknowledges each run on its output, one id a line, after the storage has acknowledged it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..storage.storage import Storage
from .checks import ConformanceError, Location, open_location

READY = "ready"
DONE = "done"


@dataclass(frozen=True, slots=True)
class Job:
    """What a writing process does.

    Attributes:
        location: where it opens the data.
        session_id: which session its threads append to.
        name: the beginning of all its run ids: `name-thread-number`, numbers from 1.
        threads: how many threads write.
        appends: how many runs each thread appends; None: until it is killed.
        padding: how many characters each run has beside.
        tasks: write in tasks of one event loop instead of threads.
        fork: write from a forked child, after the parent has used the storage and while it goes on.
    """

    location: Location
    session_id: str
    name: str
    threads: int = 1
    appends: int | None = None
    padding: int = 0
    fork: bool = False
    tasks: bool = False


class Writer:
    """A writing process of this machine. A context manager that ends it."""

    def __init__(self, job: Job) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sessile.testing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=False,
        )
        assert self.process.stdin is not None, "asked for above"
        assert self.process.stdout is not None, "asked for above"
        self._input, self._output = self.process.stdin, self.process.stdout
        try:
            self._input.write(pickle.dumps(asdict(job)))
            self._input.flush()
        except BrokenPipeError as error:
            raise ConformanceError("A writing process ended before it began.") from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._input.close()
        self._output.close()

    def wait_until_ready(self) -> None:
        """Wait until the process has opened the storage."""
        line = self._output.readline().decode().strip()
        if line != READY:
            raise ConformanceError(f"A writing process could not open the storage; it said {line!r}.")

    def start(self) -> None:
        """Let it write."""
        self._input.write(b"\n")
        self._input.flush()

    def acknowledged(self) -> Iterator[str]:
        """The ids of the runs that it acknowledges, until it ends; a line that its end has cut off is left out."""
        for line in self._output:
            if line.endswith(b"\n") and line.strip() != DONE.encode():
                yield line.decode().strip()

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def expect_done(self) -> None:
        """Fail unless it ended by itself, without an error."""
        code = self.process.wait()
        if code != 0:
            raise ConformanceError(f"A writing process failed with code {code}; its error is above.")


# ---------------------------------------------------------------- in the process


def main() -> None:
    """Read a job, open the storage, wait for a line, and write."""
    job = Job(**pickle.load(sys.stdin.buffer))  # noqa: S301 (from the process that started this one)
    storage = open_location(job.location, timeout=600.0)
    storage.get_session(job.session_id)
    say(READY)
    sys.stdin.buffer.readline()
    if job.fork:
        write_from_fork(storage, job)
    elif job.tasks:
        asyncio.run(write_in_tasks(storage, job))
    else:
        write_all(storage, job)
    storage.close()
    say(DONE)


def say(line: str) -> None:
    """One line in one write, so that lines of threads and of forked children do not mix."""
    os.write(1, f"{line}\n".encode())


def write_all(storage: Storage, job: Job) -> None:
    """Let all threads write; raises the first error of any of them."""
    errors: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            write(storage, job, thread)
        except BaseException as error:  # noqa: BLE001 (raised again below)
            errors.append(error)

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(job.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error


def write(storage: Storage, job: Job, thread: int) -> None:
    """Append runs, each of which notes its number under a key of its own thread in the state."""
    for run in _runs(job, thread):
        storage.add_run(job.session_id, **run)
        say(run["run_id"])


async def write_in_tasks(storage: Storage, job: Job) -> None:
    """Let as many tasks write as `write_all` threads."""

    async def work(task: int) -> None:
        for run in _runs(job, task):
            await storage.aadd_run(job.session_id, **run)
            say(run["run_id"])

    await asyncio.gather(*map(work, range(job.threads)))


def _runs(job: Job, thread: int) -> Iterator[dict[str, Any]]:
    """What `add_run` is given for each of a thread's runs."""
    numbers = itertools.count(1) if job.appends is None else range(1, job.appends + 1)
    for number in numbers:
        run_id = f"{job.name}-{thread}-{number}"
        message = {"text": run_id, "padding": "x" * job.padding}
        state = {f"{job.name}-{thread}": number}
        yield {"run_id": run_id, "input": number, "format": "test/1", "messages": [message], "state": state}


def write_from_fork(storage: Storage, job: Job) -> None:
    """Write from a forked child as thread 1, and from this process as thread 0, at the same time."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            write(storage, job, 1)
            storage.close()
            code = 0
        finally:
            os._exit(code)
    write(storage, job, 0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise ConformanceError("The forked child could not write.")


if __name__ == "__main__":
    main()
