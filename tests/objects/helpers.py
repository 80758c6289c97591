"""What the tests of object stores have in common."""

from __future__ import annotations

from typing import Any

from sessile import ANY_USER, GcsStorage, S3Storage
from sessile.drivers.objects.driver import ObjectDriver
from sessile.storage import Storage
from sessile.storage.core import Core
from sessile.storage.driver import Deadline
from sessile.storage.extending import operate
from sessile.storage.faces import step


def driver_of(storage: Storage) -> ObjectDriver:
    """The driver of the synchronous face."""

    async def find(core: Core) -> ObjectDriver:
        assert isinstance(core.driver, ObjectDriver)
        return core.driver

    return operate(storage, find)


def call(storage: Storage, method: str, *args: Any) -> Any:
    """Call a method of the driver."""
    return step(getattr(driver_of(storage), method)(*args, Deadline(30.0)))


def objects(storage: S3Storage | GcsStorage | Storage, below: str = "") -> list[str]:
    """The names of all objects of a storage, in their order."""
    names: list[str] = []
    port = driver_of(storage).port
    while page := step(port.list("Looking", below, Deadline(30.0), names[-1] if names else None)):
        names.extend(each.name for each in page)
    return names


def add(storage: Storage, session_id: str, count: int, **fields: Any) -> None:
    """Add runs; each says its own number."""
    head = storage.get_session(session_id, user_id=ANY_USER)
    before = 0 if head is None else head.run_count
    for number in range(before + 1, before + count + 1):
        storage.add_run(session_id, input=number, format="test/1", messages=[{"text": str(number)}], **fields)
