"""A handler of signals may raise at any moment of the main thread's: whatever it interrupts, the storage works on."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.alarms import run_alarms, run_interrupts
from tests.servers.networks import check

import sessile
from sessile import MemoryStorage, SqliteStorage
from sessile.errors import InvalidInputError
from sessile.records import JsonObject
from sessile.storage import on_loop, quick_json
from sessile.storage.core import Core
from sessile.storage.storage import operate
from sessile.storage.threads import hurry
from sessile.testing import Scale

ALARMS = 200


@pytest.fixture(
    params=["sqlite", "json", "postgres_url", "mysql_url", "redis_url", "mongodb_url", "dynamodb_url", "s3_url"]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param.endswith("_url"):
        return request.getfixturevalue(request.param)
    return f"{request.param}:///{tmp_path}/sessions"


def test_alarms_at_any_moment(url: str, scale: Scale, capsys: pytest.CaptureFixture[str]) -> None:
    with sessile.open(url) as storage:
        check(run_alarms(storage, scale.seed, ALARMS), capsys)


@pytest.mark.parametrize("kept", ["sqlite:///{}/sessions.db?on_loop=true", "sqlite:///{}/sessions.db"])
def test_alarms_at_any_moment_of_an_event_loop(
    kept: str, tmp_path: Path, scale: Scale, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_loop, "QUICK", 60.0)  # a slow disk is taken for a quick one
    with sessile.open(kept.format(tmp_path)) as storage:
        check(run_alarms(storage, scale.seed, ALARMS, on_a_loop=True), capsys)


@pytest.mark.usefixtures("nothing_but_ctrl_c")
@pytest.mark.parametrize(
    "kept",
    [
        "memory://",
        "sqlite:///{}/sessions.db",
        "sqlite://",
        "json:///{}/sessions",
        "postgres_url",
        "mysql_url",
        "redis_url",
    ],
)
def test_ctrl_c_at_any_moment(
    kept: str, tmp_path: Path, scale: Scale, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue(kept) if kept.endswith("_url") else kept.format(tmp_path)
    with sessile.open(url) as storage:
        assert storage._core is not None
        assert storage._core.driver.ends_promptly
        check(run_interrupts(storage, scale.seed, ALARMS), capsys)
    assert hurry.get() is None  # what comes later is in no hurry, and may go with others


INTERRUPTED_WHILE_COLLECTING = """
import gc, signal, time
import sessile

sessile.MemoryStorage().create_session("s")
signal.signal(signal.SIGALRM, signal.default_int_handler)
ballast = [[number] for number in range(200_000)]  # nearly all time goes into collecting
raised = 0
for after in range(1, 51):
    end = time.monotonic() + 60
    try:
        signal.setitimer(signal.ITIMER_REAL, after / 2000)
        while raised < after and time.monotonic() < end:
            gc.collect()
        break
    except KeyboardInterrupt:
        raised += 1
print(raised)
"""


def test_ctrl_c_is_not_lost_while_garbage_is_collected() -> None:
    """What a signal's handler raises in Python code that the collector calls is thrown away."""
    program = [sys.executable, "-c", INTERRUPTED_WHILE_COLLECTING]
    assert subprocess.run(program, check=True, capture_output=True, text=True).stdout == "50\n"


@pytest.mark.usefixtures("nothing_but_ctrl_c")
def test_an_interrupt_within_an_operation_is_raised_when_it_has_ended(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.create_session("s")

        async def interrupted(core: Core) -> None:
            assert storage.get_session("s") is not None  # its end is not taken for that of this operation
            signal.raise_signal(signal.SIGINT)
            ended.append(core.deadline().remaining())

        ended: list[float] = []
        with pytest.raises(KeyboardInterrupt):
            operate(storage, interrupted)
        assert ended == [0.0]  # it was told
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert storage.rename("s", "later").name == "later"  # which has all its time


class Interrupting(list[JsonObject]):
    """Messages of which the fifth comes with Ctrl-C."""

    seen = 0

    def __iter__(self) -> Iterator[JsonObject]:
        for message in super().__iter__():
            self.seen += 1
            if self.seen == 5:
                signal.raise_signal(signal.SIGINT)
            yield message


@pytest.mark.usefixtures("nothing_but_ctrl_c")
def test_an_interrupt_ends_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who computes looks at no deadline: of a hundred runs that are read, or messages that are written, few follow."""
    with MemoryStorage() as storage:
        for number in range(100):
            storage.add_run("s", input=number)
        decoded = 0
        loads = quick_json.loads

        def interrupting(text: str) -> Any:
            nonlocal decoded
            decoded += 1
            if decoded == 5:
                signal.raise_signal(signal.SIGINT)
            return loads(text)

        monkeypatch.setattr(quick_json, "loads", interrupting)
        reads: list[Callable[[], object]] = [
            lambda: storage.verify("s"),
            lambda: storage.runs("s", last=100),
            lambda: storage.get_session("s", last_runs=100),
            lambda: storage.fork("s"),
        ]
        for read in reads:
            decoded = 0
            with pytest.raises(KeyboardInterrupt):
                read()
            assert 5 <= decoded < 10
        messages = Interrupting([{"role": "user", "content": "hello"}] * 100)
        with pytest.raises(KeyboardInterrupt):
            storage.add_run("s", input=100, messages=messages, format="openai")
        assert messages.seen == 5
        monkeypatch.undo()
        assert storage.verify("s") == len(storage.runs("s", last=200)) == 100


@pytest.mark.usefixtures("nothing_but_ctrl_c")
def test_an_operation_in_the_main_thread_leaves_the_handlers_alone(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:

        async def look(core: Core) -> tuple[str, object]:
            return threading.current_thread().name, signal.getsignal(signal.SIGINT)

        name, within = operate(storage, look)
        assert name == threading.main_thread().name
        assert within is not signal.default_int_handler is signal.getsignal(signal.SIGINT)
        with pytest.raises(InvalidInputError):
            storage.get_session("")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_handlers_run_while_an_operation_is_at_work(tmp_path: Path) -> None:
    """They may use the storage themselves: what they interrupt is in another thread."""
    with SqliteStorage(tmp_path / "s.db") as storage:
        storage.create_session("s")
        main = threading.main_thread().ident
        assert main is not None

        async def interrupted(core: Core) -> str:
            signal.pthread_kill(main, signal.SIGUSR1)
            heard.wait()
            return threading.current_thread().name

        heard = threading.Event()
        before = signal.signal(
            signal.SIGUSR1, lambda number, frame: (storage.rename("s", "by the handler"), heard.set())
        )
        try:
            assert operate(storage, interrupted) != threading.main_thread().name
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert storage.rename("s", None).revision == 3


@pytest.mark.parametrize("handled", [True, False])
def test_an_interrupt_ends_the_wait_for_another_writer(
    handled: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """As Ctrl-C while another process holds the lock: the write is given up, and the next one works."""
    if not handled:
        request.getfixturevalue("nothing_but_ctrl_c")
    with SqliteStorage(tmp_path / "s.db", timeout=60) as storage, SqliteStorage(tmp_path / "s.db") as other:
        storage.create_session("s")
        held, free = threading.Event(), threading.Event()

        def hold() -> None:
            core = other._core
            assert core is not None
            with core.driver._writing(core.deadline()) as connection:  # type: ignore[attr-defined]
                connection.execute("BEGIN IMMEDIATE")
                held.set()
                free.wait()
                connection.execute("ROLLBACK")

        other.setup()
        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            storage.rename("s", "never")
        assert time.monotonic() - began < 30
        free.set()
        holder.join()
        assert storage.rename("s", "later").name == "later"
        assert storage.verify("s") == 2


@pytest.mark.usefixtures("nothing_but_ctrl_c")
def test_an_interrupt_ends_the_wait_for_a_writer_of_this_process(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db", timeout=60) as storage:
        storage.create_session("s")
        held, free = threading.Event(), threading.Event()

        async def hold(core: Core) -> None:
            with core.driver._writing(core.deadline()):  # type: ignore[attr-defined]
                held.set()
                free.wait()

        holder = threading.Thread(target=lambda: operate(storage, hold))
        holder.start()
        held.wait()
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            storage.rename("s", "never")
        assert time.monotonic() - began < 30
        free.set()
        holder.join()
        assert storage.rename("s", "later").name == "later"
