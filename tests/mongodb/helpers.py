"""What tests of MongoDB share."""

from __future__ import annotations

from typing import Any

import pymongo

from sessile import ANY_USER, MongoDbStorage
from sessile.errors import StorageUnavailableError
from sessile.storage.extending import operate

FUTURE = 2**62
MIB = 1024 * 1024

Documents = pymongo.collection.Collection[dict[str, Any]]


def inputs(storage: MongoDbStorage, session_id: str = "s") -> list[Any]:
    return [run.input for run in storage.runs(session_id, user_id=ANY_USER)]


def driver_of(storage: MongoDbStorage) -> Any:
    """The driver of synchronous callers."""
    assert storage._core is not None
    return storage._core.driver


def call(storage: MongoDbStorage, name: str, *args: Any) -> Any:
    """Call the driver."""

    async def operation(core: Any) -> Any:
        await core.prepare(core.deadline())
        return await getattr(core.driver, name)(*args, core.deadline())

    return operate(storage, operation)


def kinds(documents: Documents) -> list[int]:
    """The `seq` of all documents."""
    return sorted(document["seq"] for document in documents.find({}, ["seq"]))


def wait_until_answered(storage: MongoDbStorage) -> None:
    """PyMongo looks for a lost server twice a second."""
    while True:
        try:
            storage.get_session("s")
            return
        except StorageUnavailableError:
            continue
