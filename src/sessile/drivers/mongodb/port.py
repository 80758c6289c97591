"""The way to MongoDB: PyMongo's blocking or its asynchronous client, whose methods have the same names.

So everything is written once: what a method returns is awaited if the client is asynchronous, and is there if not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pymongo
from bson.errors import BSONError
from pymongo import AsyncMongoClient, InsertOne, MongoClient, ReadPreference, UpdateOne, WriteConcern
from pymongo.driver_info import DriverInfo
from pymongo.errors import ConfigurationError, DuplicateKeyError, PyMongoError
from pymongo.monitoring import ConnectionPoolListener
from pymongo.read_concern import ReadConcern

from ..._version import __version__
from ...errors import ClosedError, InvalidInputError, StorageError
from ...records import MICROSECOND
from ...storage.driver import Deadline
from ...storage.faces import OneLoop
from ...storage.stats import Stats
from ...storage.urls import WRONG_CALL
from .counting import PoolCounts, logger
from .documents import Document
from .errors import DUPLICATE_KEY, refusal, translate

DATABASE = "sessile"
"""The database, where the URL names none."""

CLOCK_SECONDS = 3600.0
"""How long the difference between the server's clock and this machine's is relied on."""

Client = MongoClient[Document] | AsyncMongoClient[Document]
Write = InsertOne[Document] | UpdateOne


class Target:
    """Where clients lead.

    Args:
        url: `mongodb://…` or `mongodb+srv://…`; or a client of the application's.
        sessions, schema: the names of the two collections.
    """

    def __init__(self, url: str | Client, *, sessions: str, schema: str) -> None:
        self.url = url
        self.sessions = sessions
        self.schema = schema
        if not isinstance(url, (str, MongoClient, AsyncMongoClient)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"This is neither an address of MongoDB's nor a client of PyMongo's: {type(url).__name__}."
            )
        client = self.client(MongoClient) if isinstance(url, str) else url
        try:
            database = client.get_default_database(DATABASE)
        except PyMongoError as error:
            raise InvalidInputError(f"This is not an address of MongoDB's: {error}.") from error
        if not client.write_concern.acknowledged:
            raise InvalidInputError("w=0 would not tell whether a commit was written.", hint="Use w=majority.")
        self.where = f"MongoDB at {_hosts(url)}/{database.name}"

    def client(
        self, kind: type[MongoClient[Document]] | type[AsyncMongoClient[Document]], *listeners: ConnectionPoolListener
    ) -> Client:
        """A client that connects when it is used. What is no address is refused now."""
        ours = DriverInfo("sessile", __version__)
        try:
            return kind(str(self.url), connect=False, driver=ours, event_listeners=listeners)
        except (ConfigurationError, OSError, *WRONG_CALL) as error:
            raise InvalidInputError(f"This is not an address of MongoDB's: {error}.") from error


class Port:
    """One client, of our own or the application's. Waits for the majority and the journal unless the URL has a `w`."""

    def __init__(self, target: Target, *, suspends: bool, borrowed: Client | None = None) -> None:
        self.target = target
        self.where = target.where
        self.suspends = suspends
        self.replicated = False
        """Whether the server is one of several: then it can tell what the majority has, and announce changes."""
        self.stats = Stats()
        self._borrowed = borrowed
        self._loop = OneLoop(self.where) if suspends and borrowed is not None else None
        self._closed = False
        self._learned: float | None = None
        self._ahead = 0
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = self._borrowed
        self._collections: dict[str, Any] = {}

    # ------------------------------------------------------------ the client

    @property
    def is_ours(self) -> bool:
        """Whether the client is our own, so that there may be another one."""
        return self._borrowed is None

    def client(self) -> Client:
        """The client, made at first use, and anew in a forked child."""
        with self._lock:
            if self._closed:
                raise ClosedError("This storage was closed.")
            if self._client is None:
                kind = AsyncMongoClient if self.suspends else MongoClient
                self._client = self.target.client(kind, PoolCounts(self.stats, self.where))
            return self._client

    def database(self) -> Any:
        """The database, for commands."""
        return self.client().get_default_database(DATABASE)

    def collection(self, name: str) -> Any:
        """A collection, read at the primary. Kept, because PyMongo takes its time to make one."""
        client = self.client()
        kept = self._collections.get(name)
        if kept is None:
            kept = self._collections[name] = self._collection(client, name)
        return kept

    def _collection(self, client: Client, name: str) -> Any:
        """Where commits wait for the majority, reads see what it has, if the server can tell.

        Where they do not, such reads could miss what this storage has just written.
        """
        write_concern = client.write_concern
        if "w" not in write_concern.document:  # then it would be the server's default, which may be less
            waits: dict[str, Any] = {"w": "majority", "j": True, **write_concern.document}
            write_concern = WriteConcern(**waits)
        majority = self.replicated and write_concern.document.get("w") == "majority"
        return client.get_default_database(DATABASE).get_collection(
            name,
            read_preference=ReadPreference.PRIMARY,
            write_concern=write_concern,
            read_concern=ReadConcern("majority" if majority else None),
        )

    async def close(self) -> None:
        """Close the client, unless it is the application's. Idempotent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._borrowed is None:
            await self._settled(client.close())

    def after_fork(self) -> None:
        """In a forked child: leave the parent's client alone, whose threads do not exist here."""
        self._inherited = self._client  # kept, because it complains when it goes without having been closed
        self._learned = None
        self._forget()

    # ------------------------------------------------------------ operations

    async def _settled(self, outcome: Any) -> Any:
        return await outcome if self.suspends else outcome

    async def run(self, what: str, action: Callable[[], Any], deadline: Deadline, *, write: bool) -> Any:
        """One operation of PyMongo's, by a deadline, with its errors as ours."""
        if self._loop is not None:
            self._loop.check()
        deadline.check(what)
        try:
            with pymongo.timeout(max(deadline.remaining(), 0.001)):  # 0 would be no limit
                return await self._settled(action())
        except (PyMongoError, BSONError) as error:
            raise translate(error, what, self.where, write=write) from error

    async def find(
        self,
        what: str,
        where: Document,
        deadline: Deadline,
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
        fields: Sequence[str] | None = None,
        collection: str | None = None,
        enough: Callable[[Document], bool] | None = None,
    ) -> list[Document]:
        """The documents that match, in one round trip as long as they fit into one answer (16 MB).

        With `enough` they end with the first one for which it holds, and no further answer is asked for.
        """

        def action() -> Any:
            found = self.collection(collection or self.target.sessions).find(where, fields)
            found = found.sort(list(sort)) if sort else found
            found = found.limit(limit).batch_size(limit + 1) if limit else found
            if enough is None:
                return found.to_list()
            return _until(found, enough) if self.suspends else _taken(found, enough)

        return await self.run(what, action, deadline, write=False)

    async def count(self, what: str, where: Document, deadline: Deadline) -> int:
        """How many documents match."""
        action = lambda: self.collection(self.target.sessions).count_documents(where)  # noqa: E731
        return await self.run(what, action, deadline, write=False)

    async def insert(self, what: str, document: Document, deadline: Deadline, *, collection: str | None = None) -> bool:
        """Insert a document; False if there is one of its `_id`."""
        action = lambda: self.collection(collection or self.target.sessions).insert_one(document)  # noqa: E731
        try:
            await self.run(what, action, deadline, write=True)
        except StorageError as error:
            if isinstance(error.__cause__, DuplicateKeyError):
                return False
            raise
        return True

    async def write_in_order(self, what: str, first: Write, second: Write, deadline: Deadline) -> tuple[bool, bool]:
        """Two writes in one round trip, the second only after the first; which of them was done.

        Not done are an insert where there is a document of its `_id`, and an update that matches nothing.
        """
        action = lambda: self.collection(self.target.sessions).bulk_write([first, second])  # noqa: E731
        try:
            done = await self.run(what, action, deadline, write=True)
        except StorageError as error:
            refused = refusal(error.__cause__)
            if refused is not None and refused.code == DUPLICATE_KEY:
                return refused.statement > 0, False
            if refused is not None and refused.statement > 0:
                error.written = "unknown"
            raise
        except KeyError as error:
            # FerretDB 1 leaves this out of the answer where a statement has failed, and PyMongo stumbles over that. To
            # call it a lost race is safe: whoever has lost one looks whether his commit is there nevertheless.
            if error.args != ("nModified",):
                raise
            return False, False
        return True, done.inserted_count + done.upserted_count + done.matched_count == 2

    async def update(self, what: str, where: Document, change: Document, deadline: Deadline) -> bool:
        """Change one document; False if none matches."""
        action = lambda: self.collection(self.target.sessions).update_one(where, change)  # noqa: E731
        return (await self.run(what, action, deadline, write=True)).matched_count == 1

    async def update_many(self, what: str, where: Document, change: Document, deadline: Deadline) -> None:
        """Change all documents that match in the same way."""
        action = lambda: self.collection(self.target.sessions).update_many(where, change)  # noqa: E731
        await self.run(what, action, deadline, write=True)

    async def update_all(self, what: str, changes: Sequence[UpdateOne], deadline: Deadline) -> int:
        """Change several documents, each for itself, in one round trip; how many were there."""
        action = lambda: self.collection(self.target.sessions).bulk_write(list(changes), ordered=False)  # noqa: E731
        return (await self.run(what, action, deadline, write=True)).matched_count

    async def put(self, what: str, document: Document, deadline: Deadline) -> None:
        """Insert a document, or replace the one of its `_id`."""
        key = {"session_id": {"$eq": document["session_id"]}, "_id": {"$eq": document["_id"]}}
        await self.upsert(
            what, lambda: self.collection(self.target.sessions).replace_one(key, document, upsert=True), deadline
        )

    async def upsert(self, what: str, action: Callable[[], Any], deadline: Deadline) -> None:
        """Run an upsert; once more if another one has inserted the document at the same moment."""
        try:
            await self.run(what, action, deadline, write=True)
        except StorageError as error:
            if not isinstance(error.__cause__, DuplicateKeyError):
                raise
            self.retried(what, "another one has inserted the document at the same moment")
            await self.run(what, action, deadline, write=True)

    def retried(self, what: str, why: str) -> None:
        """Note that something is tried again."""
        self.stats.count("retries")
        logger.info("%s is tried again on %s: %s", what, self.where, why)

    async def remove(self, what: str, where: Document, deadline: Deadline, *, collection: str | None = None) -> None:
        """Remove all documents that match."""
        action = lambda: self.collection(collection or self.target.sessions).delete_many(where)  # noqa: E731
        await self.run(what, action, deadline, write=True)

    async def command(self, what: str, command: Document, deadline: Deadline, *, write: bool) -> Document:
        """Run a command of the database."""
        return await self.run(what, lambda: self.database().command(command), deadline, write=write)

    # ------------------------------------------------------------ the server

    async def learn(self, deadline: Deadline) -> None:
        """Ask the server what it is and what time it is, unless that was done within the hour."""
        if self._learned is not None and time.monotonic() - self._learned < CLOCK_SECONDS:
            return
        before = _micros()
        said = await self.command("Greeting the server", {"hello": 1}, deadline, write=False)
        replicated = "setName" in said or said.get("msg") == "isdbgrid"
        if replicated != self.replicated:
            self.replicated = replicated
            self._collections = {}
        told = said.get("localTime")
        if isinstance(told, datetime):
            theirs = int(told.replace(tzinfo=UTC).timestamp() * 1000) * 1000
            self._ahead = theirs - (before + _micros()) // 2
        self._learned = time.monotonic()

    def now(self) -> int:
        """The server's clock, as exact as a round trip, in microseconds UTC."""
        return _micros() + self._ahead


def _micros() -> int:
    return time.time_ns() * MICROSECOND // 10**9


def _hosts(url: str | Client) -> str:
    """The hosts in words, without user and password."""
    if isinstance(url, str):
        return urlsplit(url).netloc.rpartition("@")[2]
    return ",".join(f"{host}:{port}" for host, port in sorted(url.nodes)) or "the client's servers"


__all__ = ["DATABASE", "Client", "Port", "Target", "Write"]


def _taken(found: Any, enough: Callable[[Document], bool]) -> list[Document]:
    """What a cursor brings, up to the first document for which `enough` holds."""
    documents: list[Document] = []
    with found:
        for document in found:
            documents.append(document)
            if enough(document):
                break
    return documents


async def _until(found: Any, enough: Callable[[Document], bool]) -> list[Document]:
    """As `_taken`, of an asynchronous cursor."""
    documents: list[Document] = []
    async with found:
        async for document in found:
            documents.append(document)
            if enough(document):
                break
    return documents
