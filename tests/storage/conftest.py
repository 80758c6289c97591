from __future__ import annotations

import gc
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType

import pytest

from sessile import MemoryStorage, SqliteStorage, Storage


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    made: Storage = MemoryStorage() if request.param == "memory" else SqliteStorage(tmp_path / "sessions.db")
    with made:
        yield made


@pytest.fixture
def memory() -> Iterator[MemoryStorage]:
    with MemoryStorage() as made:
        yield made


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "sessions.db") as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, isolation_level=None)
    yield connection
    connection.close()


@pytest.fixture
def nothing_but_ctrl_c() -> Iterator[None]:
    """No handlers but Python's own, as in a program that has installed none; a test that hangs ends the process.

    What a handler raises while Python code is told of a garbage collection is thrown away: Hypothesis has such code.
    """
    of_others = [one for one in gc.callbacks if isinstance(one, FunctionType)]
    for one in of_others:
        gc.callbacks.remove(one)
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals() if number != signal.SIGINT}
    installed = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in installed:  # that of tests which hang, and those of whoever measures
        signal.signal(number, signal.SIG_DFL)
    yield
    gc.callbacks.extend(of_others)
    for number, handler in installed.items():
        signal.signal(number, handler)
