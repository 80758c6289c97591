"""How tests run: in several processes, with files in memory, one seed for all campaigns, and an end for what hangs."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import traceback
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from types import FrameType

import pytest
from tests.campaigns import ABOVE_DRIVERS, CAMPAIGNS, SHARES, TORTURE, share_of
from tests.servers.debian import NEWEST
from tests.servers.process import is_running

from sessile.storage import threads
from sessile.storage.faces import background
from sessile.testing import DriverConformance

pytest_plugins = ["tests.servers.fixtures", "tests.failing"]

ROOM = 6 * 2**30
"""Bytes of memory that must be free for files to be kept there."""

SAMPLED_OF = 8
"""Of so many tests of MariaDB one runs on MySQL, beside those that always do; and of those of S3 one on SeaweedFS."""

SECOND = {
    "mysql",
    "mysql-itself",
    "sqlalchemy-mysql-itself",
    "mysql_itself_url",
    "seaweedfs",
    "seaweedfs_url",
}
"""Parameters of tests that run on a second server of a kind."""

HANG = 600.0
"""Seconds after which a test is taken for one that hangs: far more than any needs on a slow and busy machine."""


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # shells let what they start with `&` ignore it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        return  # it inherits all that
    # Hundreds of child processes, and each worker, would compile the same modules again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ.setdefault("SESSILE_SEED", str(random.randrange(2**32)))
    folder = memory_folder()
    if folder is not None:
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


def pytest_report_header() -> str:
    return f"SESSILE_SEED={os.environ['SESSILE_SEED']} (makes the same random choices again); files in {gettempdir()}"


def memory_folder() -> Path | None:
    """A folder in memory for the files of tests and servers, if there is room for them; None: where others are.

    What is synced there costs nothing. Nothing is lost by that: a process that is killed leaves its files in either
    place, and power cuts are simulated from the calls that a program makes (`tests/power`).
    """
    memory = Path("/dev/shm")
    if "TMPDIR" in os.environ or not os.access(memory, os.W_OK | os.X_OK):
        return None
    for left in memory.glob(f"sessile-tests-{os.getuid()}-*"):
        if not is_running(int(left.name.rpartition("-")[2])):
            shutil.rmtree(left, ignore_errors=True)
    state = os.statvfs(memory)
    available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    room = min(state.f_bavail * state.f_frsize, int(available[1]) * 1024 if available else 0)
    if room < ROOM or state.f_flag & os.ST_NOEXEC:
        return None
    folder = memory / f"sessile-tests-{os.getuid()}-{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o1777)  # as /tmp: servers run as other users
    return folder


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """How many processes `-n auto` means: one more than there are processors, because many tests wait.

    Each has servers of its own. On servers that somebody else runs there is one, because some tests count what a server
    does, or change its settings.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    if any(name.startswith("TEST_") and name.endswith("_URL") for name in os.environ):
        return 0
    return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 7) + 1


# ---------------------------------------------------------------- what runs on a second server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test of MariaDB is one of MySQL, and every one of S3 runs on two servers."""
    if "s3_kind" in metafunc.fixturenames:
        metafunc.parametrize("s3_kind", ["s3", "seaweedfs"], indirect=True, scope="session")
    if "mysql_kind" in metafunc.fixturenames:
        metafunc.parametrize("mysql_kind", ["mariadb", "mysql"], indirect=True, scope="session")


def is_sampled(item: pytest.Item) -> bool:
    """Whether a test runs: all do, but for what is repeated on another server or driver.

    Of that some run, which the seed chooses. `SESSILE_TORTURE=1` and `SESSILE_NEWEST=1` run all.
    """
    given: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    suite = getattr(item, "cls", None)
    if suite is not None and issubclass(suite, DriverConformance):
        share = share_of(suite, item, given.get("face"))
    else:
        share = SHARES.get(getattr(item, "originalname", ""), 1)
    names = ("mysql_kind", "s3_kind", "database", "server_url", "url")
    if "gcs_url" in (given.get(name) for name in names):
        share = max(share, 3)
    if not SECOND.isdisjoint(given.get(name) for name in names):
        if "tests/mysql/" not in item.nodeid or given.get("face") == "async":
            share = max(share, SAMPLED_OF)
        elif given.get("face") == "sync":
            share = max(share, 3)
    return zlib.crc32(f"{os.environ['SESSILE_SEED']} {item.nodeid}".encode()) % share == 0


# ---------------------------------------------------------------- what is measured


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what runs, and of what coverage is measured."""
    left_out = [] if TORTURE or NEWEST else [item for item in items if not is_sampled(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
    for item in items:
        if not is_measured(item):
            item.add_marker("no_cover")


def is_measured(item: pytest.Item) -> bool:
    """Whether coverage is measured, which takes as long as the test itself.

    Random campaigns run the same lines over and over, and so does the conformance suite in what stands above the
    drivers: of these, what runs over one driver (with measured children, in SQLite's file) is measured.
    """
    name = getattr(item, "originalname", None)
    if item.get_closest_marker("measured_children"):
        return True
    if name in CAMPAIGNS:
        return False
    return name not in ABOVE_DRIVERS or not issubclass(getattr(item, "cls", None) or object, DriverConformance)


@contextmanager
def children_measured(item: pytest.Item) -> Iterator[None]:
    """Child processes are measured only where a test says so: it takes most of them longer than what they do."""
    config = None if item.get_closest_marker("measured_children") else os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    try:
        yield
    finally:
        if config is not None:
            os.environ["COVERAGE_PROCESS_CONFIG"] = config


@contextmanager
def threads_measured(item: pytest.Item) -> Iterator[None]:
    """What stops measuring stops it in all threads, and goes on only in this one and in new ones.

    So lasting ones end, but for the one with the background loop, which is told to go on. It is asked after every test:
    whatever else ends its tracing, nobody would notice but the figure at the end.
    """
    yield
    anew = item.get_closest_marker("no_cover") is not None
    if anew:
        threads.renew()
    if background._thread is not None and background._thread.is_alive():
        background.loop().call_soon_threadsafe(_trace_here, anew)


def _trace_here(anew: bool) -> None:
    if anew or sys.gettrace() is None:
        sys.settrace(threading.gettrace())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """The processes that run tests are measured by pytest-cov alone.

    As children of one that is measured they would begin by themselves, too, and go on with that where pytest-cov stops.
    """
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)


def pytest_collection_finish() -> None:
    """Coverage takes what it patches for new each time it goes on after a test that is not measured.

    After hundreds of them a fork would begin it as often in the child, for a minute, and `os._exit` would be as deep as
    that, so that a child could not end.
    """
    control = sys.modules.get("coverage.control")
    measuring = control.Coverage.current() if control is not None else None
    if measuring is not None:
        measuring.config.patch = []


# ---------------------------------------------------------------- what hangs


@contextmanager
def given_up_when_it_hangs(item: pytest.Item) -> Iterator[None]:
    """A test that hangs fails, and shows where every thread is.

    By Python's own means, not by `faulthandler`: that reads the stacks of threads while they run, which ends the
    process when their code is traced for coverage.
    """
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(number: int, frame: FrameType | None) -> None:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        alike: dict[str, list[str]] = {}
        for ident, stack in sys._current_frames().items():
            alike.setdefault("".join(traceback.format_stack(stack)[-25:]), []).append(names.get(ident, str(ident)))
        stacks = "\n".join(f"{', '.join(threads)}:\n{text}" for text, threads in alike.items())
        pytest.fail(f"{item.nodeid} hangs, after {HANG:g} s.\n\n{stacks}", pytrace=False)

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, HANG, 60)  # again, should a test's own handling of errors go on
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with children_measured(item), threads_measured(item), given_up_when_it_hangs(item):
        return (yield)
