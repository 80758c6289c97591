"""What the tests of Redis share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from tests.servers.redis import redis_client

from sessile.storage import Storage


def inputs(storage: Storage, session_id: str = "s") -> list[Any]:
    return [run.input for run in storage.runs(session_id)]


def listed(storage: Storage, **query: Any) -> list[str]:
    return [head.session_id for head in storage.sessions(**query).items]


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
