"""MongoDB: the floor by hand with PyMongo, and what a turn writes. PyMongo and the standard library only.

The floor has one collection, the head of a session beside its runs. Loading is one `find` of head and last runs.
Appending is what a stand-alone server can do without transactions, in one command too: insert the run, whose unique key
decides who is next, and then compare and set the head. Nothing is checked, and there is no index for lists.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import bson
from pymongo import AsyncMongoClient, MongoClient, UpdateOne, WriteConcern
from tests.servers import ServerMissingError

from .floor import Encoder
from .payload import Exchange
from .sizes import Written

HEAD = 2**62
"""The `seq` of heads, so that they come first."""

DATABASE = "sessile_bench"
FLOOR = "floor"
DURABLE = WriteConcern("majority", j=True)

Document = dict[str, Any]


class MongoDbServer:
    """The server that is named by `TEST_MONGODB_URL`, with a database that is gone afterwards."""

    def __init__(self) -> None:
        if "TEST_MONGODB_URL" not in os.environ:
            raise ServerMissingError(
                "Name a server in TEST_MONGODB_URL: FerretDB 1, on which the tests run, looks at every document of a "
                "collection for each load. tests/servers/documentdb/run.sh starts one that does not."
            )
        self.url = urlsplit(os.environ["TEST_MONGODB_URL"])._replace(path=f"/{DATABASE}").geturl()

    def __enter__(self) -> Self:
        self._drop()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._drop()

    def _drop(self) -> None:
        with MongoClient[Document](self.url) as client:
            client.drop_database(DATABASE)


class MongoDbEncoder(Encoder):
    """What the blocking and the asynchronous floor share: documents, commands and JSON."""

    @staticmethod
    def document(session_id: str, seq: int, body: str, revision: int = 0) -> Document:
        return {
            "_id": f"{session_id}/{seq}",
            "session_id": session_id,
            "seq": seq,
            "revision": revision,
            "body": body,
        }

    def loaded(self, found: Sequence[Document]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The head and the runs of a load, oldest first."""
        head, *runs = (self.value(document["body"]) for document in found)
        return head, runs[::-1]

    def writes(self, session_id: str, head: dict[str, Any], turn: Exchange) -> list[UpdateOne]:
        """A run that follows that head, and the head after it. The first fails if there is such a document already."""
        revision = head["revision"] + 1
        body, after = self.encode(session_id, head, revision, turn)
        run = self.document(session_id, revision, body)
        key = {"_id": run.pop("_id"), "revision": {"$lt": 0}}
        expected = {"_id": f"{session_id}/{HEAD}", "revision": revision - 1}
        return [
            UpdateOne(key, {"$setOnInsert": run}, upsert=True),
            UpdateOne(expected, {"$set": {"revision": revision, "body": after}}),
        ]


class MongoDbFloor(MongoDbEncoder):
    """A blocking client, whose pool has so many connections."""

    def __init__(self, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> None:
        super().__init__(*padding)
        self.client: MongoClient[Document] = MongoClient(url, maxPoolSize=connections)
        self.documents = self.client.get_default_database().get_collection(FLOOR, write_concern=DURABLE)
        self.documents.create_index([("session_id", 1), ("seq", -1)])

    def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """Load head and last 3 runs, append one run; before that look at the head again if `reads` is 2."""
        head, runs = self.loaded(self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(self.read(session_id, 0))
        done = self.documents.bulk_write(self.writes(session_id, head, turn))
        assert (done.upserted_count, done.matched_count) == (1, 1)

    def read(self, session_id: str, last: int) -> list[Document]:
        found = self.documents.find({"session_id": session_id, "seq": {"$gt": 0}}, {"body": 1}).sort("seq", -1)
        return found.limit(1 + last).batch_size(2 + last).to_list()

    def fill(self, session_id: str, runs: int) -> None:
        """Create a session with that many runs."""
        bodies, head = self.session(session_id, runs)
        documents = [self.document(session_id, seq, body) for seq, body in enumerate(bodies, 1)]
        self.documents.insert_many([*documents, self.document(session_id, HEAD, head, runs)])

    def close(self) -> None:
        self.client.close()


class AsyncMongoDbFloor(MongoDbEncoder):
    """An asynchronous client of one event loop, whose pool has so many connections."""

    @classmethod
    async def open(cls, url: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> Self:
        self = cls(*padding)
        self.client: AsyncMongoClient[Document] = AsyncMongoClient(url, maxPoolSize=connections)
        self.documents = self.client.get_default_database().get_collection(FLOOR, write_concern=DURABLE)
        return self

    async def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """As `MongoDbFloor.turn`."""
        head, runs = self.loaded(await self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(await self.read(session_id, 0))
        done = await self.documents.bulk_write(self.writes(session_id, head, turn))
        assert (done.upserted_count, done.matched_count) == (1, 1)

    async def read(self, session_id: str, last: int) -> list[Document]:
        found = self.documents.find({"session_id": session_id, "seq": {"$gt": 0}}, {"body": 1}).sort("seq", -1)
        return await found.limit(1 + last).batch_size(2 + last).to_list()

    async def close(self) -> None:
        await self.client.close()


class MongoDbInspector:
    """Looks at the documents of a database, by a client of its own."""

    def __init__(self, url: str) -> None:
        self.client: MongoClient[Document] = MongoClient(url)
        self.database = self.client.get_default_database()

    def session(self, session_id: str) -> dict[str, tuple[int, int]]:
        """Documents of a session and their bytes of BSON: those of its log, and its head."""
        parts: dict[str, list[int]] = {"log": [], "head": []}
        for name in self.database.list_collection_names():
            for document in self.database[name].find({"session_id": session_id}):
                parts["head" if document["seq"] == HEAD else "log"].append(len(bson.encode(document)))
        return {part: (len(sizes), sum(sizes)) for part, sizes in parts.items()}

    def total(self) -> int:
        """Bytes of all documents."""
        names = self.database.list_collection_names()
        return sum(len(bson.encode(document)) for name in names for document in self.database[name].find())

    def written(self, turn: Callable[[], object], turns: int = 9) -> Written:
        """The server tells neither commits nor its log."""
        before = self.total()
        for _ in range(turns):
            turn()
        return Written((self.total() - before) / turns, None, None)

    def settle(self) -> None:
        """Nothing is left to be done after filling."""

    def close(self) -> None:
        self.client.close()
