"""A storage on the server under test, and its collection by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from tests.mongodb.helpers import Documents

from sessile import MongoDbStorage


@pytest.fixture
def documents(mongodb_url: str) -> Iterator[Documents]:
    """The collection of the sessions, by hand."""
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        yield client.get_default_database()["sessile_sessions"]


@pytest.fixture
def storage(mongodb_url: str) -> Iterator[MongoDbStorage]:
    with MongoDbStorage(mongodb_url) as storage:
        storage.setup()
        yield storage
