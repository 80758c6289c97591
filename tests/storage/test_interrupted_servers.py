"""Ctrl-C in the main thread of a program that waits for a server: it comes back soon, whatever the server does.

Operations run in the main thread itself here, out of which Python's own handler is kept.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.servers.networks import mysql_network, postgres_network, redis_network

from sessile.storage import Driver, Storage
from sessile.storage.core import Core
from sessile.storage.storage import operate
from sessile.testing import Network
from sessile.testing.proxy import CuttingProxy

pytestmark = [pytest.mark.usefixtures("nothing_but_ctrl_c"), pytest.mark.no_cover]

TIMEOUT = 60
"""Seconds an operation has. Whoever comes back in half of that was interrupted."""

POOL_SIZE = 2

NETWORKS = {"postgres_url": postgres_network, "mysql_url": mysql_network, "redis_url": redis_network}


@pytest.fixture(params=NETWORKS)
def way(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param](request.getfixturevalue(request.param), timeout=TIMEOUT, pool_size=POOL_SIZE)


@contextmanager
def opened(way: Network) -> Generator[tuple[Storage, CuttingProxy]]:
    """A storage that was used, behind a proxy."""
    with CuttingProxy(way.host, way.port) as proxy, way.connect("127.0.0.1", proxy.port) as storage:
        assert driver_of(storage).ends_promptly
        storage.add_run("s", input=0)
        yield storage, proxy


def driver_of(storage: Storage) -> Driver:
    async def driver(core: Core) -> Driver:
        return core.driver

    return operate(storage, driver)


def interrupt(then: Callable[[], object] | None = None, seconds: float = 0.3) -> threading.Thread:
    """Ctrl-C in a moment, when the main thread waits; and then something else."""
    main = threading.main_thread().ident
    assert main is not None

    def strike() -> None:
        time.sleep(seconds)
        signal.pthread_kill(main, signal.SIGINT)
        if then is not None:
            then()

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


@contextmanager
def interrupted_soon(then: Callable[[], object] | None = None) -> Generator[None]:
    began = time.monotonic()
    striking = interrupt(then)
    with pytest.raises(KeyboardInterrupt):
        yield
    assert time.monotonic() - began < TIMEOUT / 2
    striking.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def use_all_connections(storage: Storage) -> None:
    """More callers than connections: a lost one would make them wait for long."""
    began = time.monotonic()
    with ThreadPoolExecutor(3 * POOL_SIZE) as threads:
        for written in [threads.submit(storage.add_run, f"t{number}", input=0) for number in range(3 * POOL_SIZE)]:
            written.result()
    assert time.monotonic() - began < TIMEOUT / 2


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("work", ["read", "write"])
def test_a_server_that_says_nothing(way: Network, work: str) -> None:
    with opened(way) as (storage, proxy):
        use_all_connections(storage)
        for _ in range(POOL_SIZE + 1):
            proxy.stall()
            with interrupted_soon():
                if work == "read":
                    storage.runs("s", last=1)
                else:
                    storage.rename("s", "perhaps")
            proxy.heal()
        use_all_connections(storage)
        assert [run.input for run in storage.runs("s", last=5)] == [0]
        storage.verify("s")


def test_what_is_quick_ends_as_if_nothing_had_happened(way: Network) -> None:
    """A commit is on its way, and its answer comes after Ctrl-C."""
    with opened(way) as (storage, proxy):
        assert storage.rename("s", "before").name == "before"  # its head is known then
        connections = proxy.connections
        proxy.stall()
        with interrupted_soon(proxy.heal):
            storage.rename("s", "after")
        session = storage.get_session("s")
        assert session is not None
        if driver_of(storage).capabilities.checks_body:
            assert session.name == "after"
        else:  # it reads before it writes; the read has ended, and no write was begun
            assert session.name == "before"
        assert proxy.connections == connections  # none was given up
        assert "unknown_answers" not in storage.stats()
        storage.verify("s")


def test_a_second_ctrl_c_waits_for_nothing(way: Network) -> None:
    with opened(way) as (storage, proxy):
        proxy.stall()
        main = threading.main_thread().ident
        assert main is not None
        with interrupted_soon(lambda: signal.pthread_kill(main, signal.SIGINT)):
            storage.rename("s", "perhaps")
        proxy.heal()
        use_all_connections(storage)


def test_a_connection_that_is_not_made(way: Network) -> None:
    """The server accepts it, and says nothing. What comes of it later is closed."""
    with CuttingProxy(way.host, way.port) as proxy, way.connect("127.0.0.1", proxy.port) as storage:
        proxy.stall()
        for _ in range(POOL_SIZE + 1):
            with interrupted_soon():
                storage.add_run("s", input=0)
        proxy.heal()
        wait_until(lambda: proxy.connections == 0)
        use_all_connections(storage)
        assert storage.get_session("s") is None
        assert proxy.connections <= POOL_SIZE


def test_a_pool_that_others_use(way: Network) -> None:
    with opened(way) as (storage, proxy):
        proxy.stall()
        with ThreadPoolExecutor(POOL_SIZE) as threads:
            waiting = [threads.submit(storage.add_run, f"t{number}", input=0) for number in range(POOL_SIZE)]
            wait_until(lambda: proxy.connections == POOL_SIZE)
            with interrupted_soon():
                storage.rename("s", "never")
            proxy.heal()
            assert [one.result().input for one in waiting] == [0] * POOL_SIZE
        session = storage.get_session("s")
        assert session is not None
        assert session.name is None
        use_all_connections(storage)


def test_one_who_follows(way: Network) -> None:
    with opened(way) as (storage, _):
        following = storage.follow("s", after=1)
        with interrupted_soon():
            list(following)
        storage.add_run("s", input=1)
        use_all_connections(storage)


def test_the_operation_is_in_the_main_thread(way: Network) -> None:
    with opened(way) as (storage, _):

        async def look(core: Core) -> str:
            await core.driver.load("s", 1, core.deadline())
            return threading.current_thread().name

        assert operate(storage, look) == threading.main_thread().name
