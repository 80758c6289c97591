"""Signals whose handlers raise, at random moments of a storage's work: Ctrl-C, limits of queues, `signal.alarm`."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from sessile.storage import Storage
from sessile.testing import Figures
from sessile.testing.checks import all_runs

SIGNAL = signal.SIGUSR1
WRITERS = 12
"""More threads at once than a pool has connections: a lost one would make them wait."""

RAISED_WITHIN = 60.0
"""Seconds after which a signal's exception is taken for lost."""

SHOOTER = """
import os, signal, sys, time
for seconds in sys.stdin:
    time.sleep(float(seconds))
    os.kill(os.getppid(), signal.SIGINT)
"""


class Alarm(BaseException):
    """Raised by the handler."""


@contextmanager
def untraced() -> Generator[None]:
    """This thread, and those that begin meanwhile, without coverage.

    It holds a lock of its own for a moment at many calls, and what a handler raises there leaves it held for ever.
    """
    here, in_threads = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(cast(Any, None))
    try:
        yield
    finally:
        threading.settrace(cast(Any, in_threads))
        sys.settrace(here)


@untraced()
def run_alarms(storage: Storage, seed: int, alarms: int, *, on_a_loop: bool = False) -> Figures:
    """Interrupt writes and reads of the main thread so many times, and then see what is left.

    With `on_a_loop` those of asynchronous callers, each time on another event loop: one that was interrupted between
    any two instructions of its own is of no more use.

    What was acknowledged is there, once; the log is whole; and as many threads as ever can write and read at once.
    """
    assert threading.current_thread() is threading.main_thread()
    choices, began = random.Random(seed), time.monotonic()
    figures = Figures()
    armed = struck = over = False
    missed = 0

    def strike(number: int, frame: FrameType | None) -> None:
        nonlocal armed, struck
        if armed:
            armed, struck = False, True
            raise Alarm

    acknowledged: list[int] = []
    storage.create_session("alarmed")
    turn = time.monotonic()
    storage.add_run("alarmed", input=0)
    turn = time.monotonic() - turn

    def shoot() -> None:
        main = threading.main_thread().ident
        assert main is not None
        while not over:
            time.sleep(choices.uniform(0, 2.5 * turn))
            signal.pthread_kill(main, SIGNAL)

    before = signal.signal(SIGNAL, strike)
    shooter = threading.Thread(target=shoot)
    shooter.start()
    try:
        number = 0
        while figures.rounds < alarms:
            number += 1
            try:
                loop, work = _new_loop() if on_a_loop else None, _awork(storage, number, acknowledged)
                armed, struck = True, False
                if loop is None:
                    _work(storage, number, acknowledged)
                else:
                    loop.run_until_complete(work)
                armed, missed = False, 0
            except Alarm:
                missed += 1
                if missed % 10 == 0:  # the machine has become slower: some writes are to come through
                    turn *= 2
            armed = False
            if loop is not None:
                loop.close()
            work.close()
            figures.rounds += struck
    finally:
        over = True
        shooter.join()
        signal.signal(SIGNAL, before)
    _look(storage, acknowledged, figures)
    figures.seconds = time.monotonic() - began
    return figures


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # it would tell of what was interrupted, and of what is left behind
    return loop


def _work(storage: Storage, number: int, acknowledged: list[int]) -> None:
    storage.add_run("alarmed", input=number, state={"newest": number})
    acknowledged.append(number)
    storage.runs("alarmed", last=2)
    storage.sessions(limit=5)


async def _awork(storage: Storage, number: int, acknowledged: list[int]) -> None:
    await storage.aadd_run("alarmed", input=number, state={"newest": number})
    acknowledged.append(number)
    await storage.aruns("alarmed", last=2)
    await storage.asessions(limit=5)


@untraced()
def run_interrupts(storage: Storage, seed: int, interrupts: int) -> Figures:
    """As `run_alarms`, with Ctrl-C and Python's own handler of it, which nobody has replaced.

    Each signal is awaited, so that none comes when nobody is there to catch it. Another process sends it: a thread of
    this one may wait for seconds for its turn, where operations let go of the interpreter often, and never for long.
    """
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    choices, began = random.Random(seed), time.monotonic()
    figures = Figures()
    acknowledged: list[int] = []
    storage.create_session("alarmed")
    turn = time.monotonic()
    storage.add_run("alarmed", input=0)
    turn = time.monotonic() - turn
    number = 0
    with subprocess.Popen([sys.executable, "-c", SHOOTER], stdin=subprocess.PIPE, text=True, bufsize=1) as shooter:
        assert shooter.stdin is not None
        for _ in range(interrupts):
            try:
                print(choices.uniform(0, 2.5 * turn), file=shooter.stdin)
                lost = time.monotonic() + RAISED_WITHIN
                while time.monotonic() < lost:
                    number += 1
                    storage.add_run("alarmed", input=number, state={"newest": number})
                    acknowledged.append(number)
                    storage.runs("alarmed", last=2)
                    storage.sessions(limit=5)
                figures.problems.append("Ctrl-C was lost.")
                break
            except KeyboardInterrupt:
                figures.rounds += 1
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        figures.problems.append("Python's handler of SIGINT is not back in its place.")
    _look(storage, acknowledged, figures)
    figures.seconds = time.monotonic() - began
    return figures


def _look(storage: Storage, acknowledged: list[int], figures: Figures) -> None:
    with ThreadPoolExecutor(WRITERS) as threads:
        written = list(threads.map(lambda name: storage.add_run("alarmed", input=name).input, "abcdefghijkl"))
        heads = list(threads.map(lambda _: storage.get_session("alarmed"), range(WRITERS)))
    stored = [run.input for run in all_runs(storage, "alarmed")]
    figures.acknowledged = len(acknowledged)
    figures.lost = len({*acknowledged, *written} - set(stored))
    figures.doubled = len(stored) - len(set(stored))
    storage.verify("alarmed")
    if None in heads:
        figures.problems.append("A session that is there was not found.")
