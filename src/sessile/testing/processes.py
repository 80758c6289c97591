"""Several processes on the same data, and processes that are killed while they write."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from ..records import Run
from ..storage.storage import Storage
from .checks import Area, ConformanceError, Location, Scale, Trial, all_runs, expect, expect_equal, open_location
from .worker import Job, Writer

writers = Area("writers")
kills = Area("kill")

ONE_FACE = ("sync",)
"""Processes have their own storage: the face of the checking one makes no difference."""


@dataclass(slots=True)
class Figures:
    """What a campaign has done: rounds, appends that were acknowledged, and what was wrong with them."""

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    unacknowledged: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list[str])

    def check(self) -> None:
        """Fail if anything was lost, doubled or otherwise wrong."""
        expect(self.rounds > 0 and self.acknowledged > 0, "nothing was written at all")
        wrong = self.lost or self.doubled or self.problems
        expect(not wrong, f"{self.lost} lost, {self.doubled} doubled; {'; '.join(self.problems[:5])}")


# ---------------------------------------------------------------- many writers


@writers.check(needs="multi_process", faces=ONE_FACE)
async def processes_lose_nothing(trial: Trial) -> None:
    """Processes with several threads each write to one session: every run once, dense, every read a prefix."""
    run_writers(trial.where(), trial.subject.scale).check()


@writers.check(needs="multi_process", faces=ONE_FACE)
async def processes_set_up_at_once(trial: Trial) -> None:
    """Processes that open fresh data at the same moment do not get in each other's way."""
    with _started([Job(trial.where(), f"s{number}", "w", appends=2) for number in range(4)]) as started:
        for writer in started:
            writer.wait_until_ready()
            writer.start()
        for writer in started:
            expect_equal(len(list(writer.acknowledged())), 2, "runs of a process that set up the data")
            writer.expect_done()
    with open_location(trial.where()) as storage:
        for number in range(4):
            expect_equal(storage.verify(f"s{number}"), 2, "commits of a process")


@writers.check(needs="multi_process", faces=ONE_FACE)
async def forked_processes_write(trial: Trial) -> None:
    """A storage goes on working in a forked child and in its parent."""
    trial.need("forks")
    if not hasattr(os, "fork"):
        return
    count = trial.subject.scale.appends
    with Writer(Job(trial.where(), "s", "w", appends=count, fork=True)) as writer:
        writer.wait_until_ready()
        writer.start()
        acknowledged = list(writer.acknowledged())
        writer.expect_done()
    wanted = sorted(f"w-{thread}-{number}" for thread in (0, 1) for number in range(1, count + 1))
    expect_equal(sorted(acknowledged), wanted, "acknowledged runs of a process and its fork")
    with open_location(trial.where()) as storage:
        runs = all_runs(storage, "s")
        expect_equal(sorted(run.run_id for run in runs), wanted, "runs of a process and its fork")
        expect_equal(storage.verify("s"), len(wanted), "commits")


def run_writers(location: Location, scale: Scale, session_id: str = "s", *, tasks: bool = False) -> Figures:
    """Let processes with several threads each append to one session at once, read meanwhile, and compare.

    With `tasks` each process has an event loop, with as many tasks as others have threads.
    """
    began = time.monotonic()
    jobs = [
        Job(location, session_id, f"w{number}", scale.threads, scale.appends, tasks=tasks)
        for number in range(scale.writers)
    ]
    acknowledged: list[str] = []
    figures = Figures(rounds=1)
    with _started(jobs) as started, open_location(location, timeout=600.0) as storage:
        for writer in started:
            writer.wait_until_ready()
        over = threading.Event()
        reader = threading.Thread(target=_read_prefixes, args=(storage, session_id, over, figures.problems))
        reader.start()
        collectors = [threading.Thread(target=_collect, args=(writer, acknowledged)) for writer in started]
        for writer, collector in zip(started, collectors, strict=True):
            writer.start()
            collector.start()
        for collector in collectors:
            collector.join()
        over.set()
        reader.join()
        for writer in started:
            writer.expect_done()
        _compare(storage, session_id, acknowledged, figures)
        state = {
            f"w{number}-{thread}": scale.appends for number in range(scale.writers) for thread in range(scale.threads)
        }
        head = storage.get_session(session_id)
        if head is None or head.state != state:
            figures.problems.append(f"the state is {None if head is None else head.state}, not {state}")
    if len(acknowledged) != scale.writers * scale.threads * scale.appends:
        figures.problems.append(f"only {len(acknowledged)} appends were acknowledged")
    figures.seconds = time.monotonic() - began
    return figures


@contextmanager
def _started(jobs: list[Job]) -> Generator[list[Writer], None, None]:
    """A process for each job; all of them are gone afterwards."""
    with ExitStack() as stack:
        yield [stack.enter_context(Writer(job)) for job in jobs]


def _collect(writer: Writer, acknowledged: list[str]) -> None:
    acknowledged.extend(writer.acknowledged())


def _read_prefixes(storage: Storage, session_id: str, over: threading.Event, problems: list[str]) -> None:
    """Every read must begin with all that the read before it had, dense and in order."""
    seen: list[str] = []
    while not over.is_set() and not problems:
        runs = all_runs(storage, session_id)
        ids = [run.run_id for run in runs]
        if ids[: len(seen)] != seen:
            problems.append(f"a read brought {ids[: len(seen) + 1]} after {seen}")
        if [run.number for run in runs] != list(range(1, len(runs) + 1)):
            problems.append(f"a read brought the runs {[run.number for run in runs]}")
        seen = ids


def _compare(storage: Storage, session_id: str, acknowledged: list[str], figures: Figures) -> list[Run]:
    """Count what was acknowledged and is not there, and what is there twice; the log must fold to its head."""
    runs = all_runs(storage, session_id)
    ids = [run.run_id for run in runs]
    there = set(ids)
    figures.acknowledged += len(acknowledged)
    figures.lost += sum(run_id not in there for run_id in acknowledged)
    figures.doubled += len(ids) - len(there)
    figures.unacknowledged += len(there - set(acknowledged))
    if [run.number for run in runs] != list(range(1, len(runs) + 1)):
        figures.problems.append(f"the runs are numbered {[run.number for run in runs]}")
    for run in runs:
        if [message.data["text"] for message in run.messages] != [run.run_id]:
            figures.problems.append(f"run {run.run_id} has the messages {run.messages}")
    if runs and storage.verify(session_id) != len(runs):
        figures.problems.append(f"there are {storage.verify(session_id)} commits for {len(runs)} runs")
    return runs


# ---------------------------------------------------------------- kill -9


@kills.check(needs="durable", faces=ONE_FACE)
async def killed_processes_lose_nothing(trial: Trial) -> None:
    """`kill -9` of a writing process: every acknowledged run is there, once, and the data open."""
    location = trial.where()
    trial.storage.setup()
    trial.storage.close()
    run_kills(location, trial.subject.scale).check()


def run_kills(location: Location, scale: Scale, kills: int | None = None, *, tasks: bool = False) -> Figures:
    """Kill writing processes at moments that the seed decides, and look at what they leave.

    Each round has a session of its own and one writer, every third round two (where several processes may write);
    a killed writer may leave at most one run for each of its threads that it could not acknowledge any more. With
    `tasks` these are tasks of an event loop.
    """
    began = time.monotonic()
    chance = random.Random(scale.seed)
    figures = Figures()
    with open_location(location) as storage:
        several = storage.capabilities.multi_process
    for number in range(scale.kills if kills is None else kills):
        processes = 2 if several and number % 3 == 2 else 1
        padding = chance.choice((0, 0, 500, 20_000))
        jobs = [
            Job(location, f"kill-{number}", f"w{index}", threads=1 + number % 2, padding=padding, tasks=tasks)
            for index in range(processes)
        ]
        acknowledged = _write_and_kill(jobs, chance)
        before = figures.unacknowledged
        with open_location(location) as storage:
            _compare(storage, f"kill-{number}", acknowledged, figures)
        if figures.unacknowledged - before > sum(job.threads for job in jobs):
            figures.problems.append(f"round {number} left runs that nobody can have been writing any more")
        figures.rounds += 1
    figures.seconds = time.monotonic() - began
    return figures


def _write_and_kill(jobs: list[Job], chance: random.Random) -> list[str]:
    """Start the writers, kill them after some acknowledged runs and a moment more; returns what was acknowledged."""
    acknowledged: list[str] = []
    with _started(jobs) as started:
        for writer in started:
            writer.wait_until_ready()
        for writer in started:
            writer.start()
        for writer in started:
            lines = writer.acknowledged()
            for _ in range(chance.randrange(1, 8)):
                line = next(lines, None)
                if line is None:
                    raise ConformanceError("A writing process ended before it was killed; its error is above.")
                acknowledged.append(line)
            time.sleep(chance.random() * 0.003)  # so that the end comes at any point of an append
            writer.kill()
            acknowledged.extend(lines)
    return acknowledged
