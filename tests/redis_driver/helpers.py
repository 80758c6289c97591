"""What the tests of Redis share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.servers.redis import redis_client

from sessile import ANY_USER
from sessile.storage import Storage
from sessile.storage.core import Core
from sessile.storage.driver import Listing, ListQuery
from sessile.storage.extending import operate
from sessile.testing.samples import append_of


def inputs(storage: Storage, session_id: str = "s") -> list[Any]:
    return [run.input for run in storage.runs(session_id, user_id=ANY_USER)]


def listed(storage: Storage, **query: Any) -> list[str]:
    return [head.session_id for head in storage.sessions(**{"user_id": ANY_USER, **query}).items]


def prefix_of(url: str) -> str:
    """The prefix in a URL of the fixtures."""
    return url.rpartition("=")[2]


def keys_of(url: str) -> set[str]:
    """The keys with the URL's prefix, without it."""
    prefix = prefix_of(url)
    with redis_client(url) as client:
        return {key.decode().removeprefix(prefix) for key in client.scan_iter(match=f"{prefix}*", count=1000)}


def driver_of(storage: Storage) -> Any:
    """The driver of synchronous callers."""
    assert storage._core is not None
    return storage._core.driver


def wait_until(condition: Callable[[], object]) -> None:
    while not condition():
        time.sleep(0.01)


def in_thread(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def call(storage: Storage, name: str, *args: Any) -> Any:
    """Call the driver."""

    async def operation(core: Core) -> Any:
        await core.prepare(core.deadline())
        return await getattr(core.driver, name)(*args, core.deadline())

    return operate(storage, operation)


def append(storage: Storage, *args: Any, **fields: Any) -> bool:
    """An append by the driver itself, at times of the test's choice."""
    return call(storage, "append", append_of(*args, **fields))


def page(storage: Storage, **query: Any) -> Listing:
    """A page as the driver lists it."""
    return call(storage, "list", ListQuery(**query))
