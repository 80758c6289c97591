"""`MongoDbStorage` and the driver behind it.

**How an append is atomic without a transaction.** A commit is one document, whose `_id` is made of the session's id,
its incarnation and `seq`: who inserts it has claimed this revision, and the insert is the moment at which the append
happens. Then the head is replaced, which also shows whether the session still lives. Both are statements of one
command, which the server runs in order, up to the first that fails: one round trip, but not one transaction. What is
left when the server ends in between, or the process where it had to send them one by one:

* *before the claim*: parts of a large commit that no claim names. `sweep` removes them.
* *between claim and head*: the commit is in the log, the head lags. The core rolls it forward over the log on every
  look; lists show the old head until the session is looked at again (`Driver.catch_up`), or written to.
* *after the head, before the answer*: the core finds its own commit id in the log.

**Creating** a session inserts its first commit, and then the head, of which there is one for each session id: this
insert decides who makes the session. A process that ends in between leaves a commit of an incarnation that nobody ever
hears of; `sweep` removes it, as does who loses the race itself.

**Deleting** marks the head (`gone`), removes everything else, and then the head. A head that is marked is no head any
more: `load` does not see it, an append to it is lost, and who makes a session of that id ends the deletion first. An
append claims before it looks at the head, and the mark comes before the log is removed, so that

* an append that found the head unmarked was in the log before the removal began, and is removed with it;
* one that claims later finds the mark, no head, or a head of another incarnation: it takes its claim back, and has
  lost. If its process ends before that, the claim stays: of an incarnation that is gone, which no read ever asks for.
  It is removed with the session that then has this id.

Records are written in the same way: first the record, then a look at the head, and back if it is not there. One that a
process which ends in between leaves behind is removed by `sweep`.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import urlunsplit

from pymongo import AsyncMongoClient, InsertOne, MongoClient, UpdateOne

from ...errors import InvalidInputError, StorageError
from ...records import MICROSECOND
from ...storage.driver import Capabilities, Deadline, Driver
from ...storage.faces import background
from ...storage.matching import newest_of, page_of
from ...storage.rows import LOADED_BYTES, Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from ...storage.storage import Storage
from ...storage.urls import split_server_url, take_settings
from .documents import (
    HEAD,
    PART,
    RECORD,
    Document,
    alive,
    commit_document,
    head_change,
    head_document,
    head_key,
    head_of,
    incarnation_of,
    list_order,
    list_query,
    listing_of,
    record_key,
    record_name,
    span_query,
)
from .following import Changes
from .parts import LargeCommits, Parts, enough_at, is_large
from .port import Client, Port, Target, Write
from .rewriting import Rewriting
from .schema import Schema

R = TypeVar("R")

POLL_SECONDS = 0.5
"""How long a follower waits between looks where the server announces nothing."""

LEFTOVER = 3600 * MICROSECOND
"""Age in microseconds from which on a document of an incarnation that has no head has been left by a crash."""

RACE_SECONDS = 0.01
"""How long to wait for what another one is doing to a head, or for the majority to have it."""

SWEEP_PAGE = 500

_PREFIX = re.compile("[A-Za-z0-9_-]{0,32}")


class MongoDbStorage(Storage):
    """Sessions in a MongoDB database: a stand-alone server, a replica set or a sharded cluster, 4.4 or later.

    Args:
        database: a URL, `mongodb://host/database` or `mongodb+srv://…`; or a client of PyMongo's (`MongoClient` for
            synchronous callers, `AsyncMongoClient` for asynchronous ones), which is left open. The database is the one
            that the URL or the client names, else `sessile`.
        prefix: what the names of the two collections begin with.
        large_commits: what becomes of a commit that is larger than a document of MongoDB's: `"split"`: it is written in
            parts. `"refuse"`: `TooLargeError`, before anything is sent.
        auto_migrate: False: never create indexes except by `migrate`.
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        database: str | Client = "mongodb://localhost:27017",
        *,
        prefix: str = "sessile_",
        large_commits: LargeCommits = "split",
        auto_migrate: bool = True,
        **options: Any,
    ) -> None:
        _check(prefix, large_commits)
        target = Target(database, sessions=f"{prefix}sessions", schema=f"{prefix}schema")

        def make(port: Port) -> MongoDbDriver:
            return MongoDbDriver(port, large_commits=large_commits, auto_migrate=auto_migrate)

        if isinstance(database, AsyncMongoClient):
            driver = make(Port(target, suspends=True, borrowed=database))
            super().__init__(None, async_driver=lambda: driver, **options)
        elif isinstance(database, MongoClient):
            super().__init__(make(Port(target, suspends=False, borrowed=database)), **options)
        else:
            super().__init__(
                make(Port(target, suspends=False)),
                async_driver=lambda: make(Port(target, suspends=True)),
                **options,
            )

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`mongodb://user@host/database`, with MongoDB's own options, `prefix` and `large_commits`."""
        ours, address = take_settings(url, ("prefix", "large_commits"))
        parts = split_server_url(address)
        # PyMongo wants a slash before the options.
        return cls(urlunsplit(parts._replace(path=parts.path or "/")), **{**ours, **options})


class MongoDbDriver(Driver):
    """The driver behind `MongoDbStorage`. See the module's text for what a crash may leave."""

    name: ClassVar[str] = "mongodb"

    capabilities = Capabilities(
        exact_order=False,
        transactional_head=False,
        max_record_bytes=8 * 1024 * 1024,
        push=True,
        rewrites=True,
        bounded_pages=True,
    )

    def __init__(self, port: Port, *, large_commits: LargeCommits, auto_migrate: bool) -> None:
        self.suspends = port.suspends
        self.port = port
        self.stats = port.stats
        self._parts = Parts(port, large_commits)
        self._rewriting = Rewriting(port, self._parts)
        self._schema = Schema(port, auto_migrate=auto_migrate)
        self._announced: Changes | None = None
        self._listening: Port | None = None

    # ------------------------------------------------------------ schema

    async def setup(self, deadline: Deadline) -> None:
        await self.port.learn(deadline)
        await self._schema.setup(deadline, self.pause)

    async def now(self, deadline: Deadline) -> int:
        await self.port.learn(deadline)
        return self.port.now()

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        return await self._schema.migrate(deadline, finish=finish, dry_run=dry_run)

    # ------------------------------------------------------------ reading

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        """One find, in descending order: the head is read first, and the log reaches at least to its revision.

        Commits of an incarnation that is gone may lie between those of the session: then another find leaves them out.
        """
        await self.port.learn(deadline)
        where: Document = {"session_id": {"$eq": session_id}, "seq": {"$gte": 1}}
        without: Document | None = None
        while True:
            found = await self._newest(where, newest + 1, deadline)
            head = found[0] if found and found[0]["seq"] == HEAD else None
            if head is None or head.get("gone"):
                return None
            incarnation = incarnation_of(head)
            documents = found[1:]
            if any(incarnation_of(document) != incarnation for document in documents):
                own = {**where, "incarnation": {"$eq": incarnation}, "seq": {"$gte": 1, "$lt": HEAD}}
                documents = await self._newest(own, newest, deadline)
                if not documents and head != without:  # it was deleted between the two
                    deadline.check("Loading a session")
                    without = head
                    continue
            rows = newest_of(await self._parts.rows(documents, deadline), newest)
            return Loaded(head_of(head), rows, self.port.now())

    async def _newest(self, where: Document, limit: int, deadline: Deadline) -> list[Document]:
        what, order, enough = "Loading a session", [("seq", -1)], enough_at(LOADED_BYTES)
        return await self.port.find(what, where, deadline, sort=order, limit=limit, enough=enough)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        where = span_query(session_id, incarnation, span)
        order = [("seq", -1 if span.newest_first else 1)]
        enough = None if span.max_bytes is None else enough_at(span.max_bytes)
        documents = await self.port.find(
            "Reading a session's log", where, deadline, sort=order, limit=span.limit, enough=enough
        )
        return page_of(await self._parts.rows(documents, deadline), span)

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        """Two finds: the revisions of the heads say which commits are the newest ones, but for those after a crash."""
        what = "Reading the newest commits"
        keys = [head_key(session_id) for session_id, _ in sessions]
        heads = await self._by_key(
            what, [session_id for session_id, _ in sessions], keys, ["incarnation", "revision"], deadline
        )
        spans: list[Document] = []
        for (session_id, incarnation), key in zip(sessions, keys, strict=True):
            head = heads.get(key)
            if alive(head, incarnation):
                assert head is not None, "alive"
                spans.append(span_query(session_id, incarnation, Span(first=head["revision"] - count + 1)))
        found = await self.port.find(what, {"$or": spans}, deadline) if spans else []
        logs: dict[tuple[str, str], list[Document]] = {}
        for document in sorted(found, key=lambda document: document["seq"]):
            logs.setdefault((document["session_id"], incarnation_of(document)), []).append(document)
        return [await self._parts.rows(logs.get(session, [])[-count:], deadline) for session in sessions]

    async def _by_key(
        self, what: str, session_ids: Sequence[str], keys: Sequence[str], fields: Sequence[str], deadline: Deadline
    ) -> dict[str, Document]:
        """Documents of several sessions by their `_id`s, in one find."""
        if not keys:
            return {}
        where: Document = {"session_id": {"$in": [*session_ids]}, "_id": {"$in": [*keys]}}
        found = await self.port.find(what, where, deadline, fields=fields)
        return {document["_id"]: document for document in found}

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        where, order = list_query(query), list_order(query)
        documents = await self.port.find("Listing sessions", where, deadline, sort=order, limit=query.limit)
        return listing_of(documents, query)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return await self.port.count("Counting sessions", list_query(query), deadline)

    # ------------------------------------------------------------ appending

    async def append(self, write: Append, deadline: Deadline) -> bool:
        """Claim and head are sent together: the server inserts the claim, and only then replaces the head."""
        self._parts.check(write)
        row = write.commits[0]
        claim = commit_document(write.session_id, write.incarnation, row, self.port.now())
        if is_large(row):
            claim = await self._parts.write(claim, deadline)
        both = _creation(claim, write) if write.expected == 0 else _advance(claim, write)
        claimed, done = await self.port.write_in_order("Appending to a session", *both, deadline)
        if not claimed:
            await self._parts.remove(claim, deadline)
            return write.expected == 0 and await self._create_again(claim, write, deadline)
        with _after_a_write():
            won = done or await (self._create if write.expected == 0 else self._advance)(write, deadline)
            if not won:
                await self._take_back(claim, deadline)
        return won

    async def _create_again(self, claim: Document, write: Append, deadline: Deadline) -> bool:
        """Create a session of which an earlier attempt may have left the claim."""
        key = {"session_id": {"$eq": write.session_id}, "_id": {"$eq": claim["_id"]}}
        there = await self.port.find("Creating a session", key, deadline, fields=["commit_id"])
        ours = bool(there) and there[0]["commit_id"] == claim["commit_id"]
        return ours and await self._create(write, deadline)

    async def _take_back(self, claim: Document, deadline: Deadline) -> None:
        """Remove the claim of an append that has lost, so that its place is free."""
        where = {"session_id": {"$eq": claim["session_id"]}, "_id": {"$eq": claim["_id"]}}
        await self.port.remove("Appending to a session", {**where, "commit_id": {"$eq": claim["commit_id"]}}, deadline)
        await self._parts.remove(claim, deadline)

    async def _create(self, write: Append, deadline: Deadline) -> bool:
        """Insert the head. Whoever is first has made the session."""
        while not await self.port.insert("Creating a session", head_document(write.head), deadline):
            found = await self._find_head(write.session_id, deadline)
            if found is not None and incarnation_of(found) == write.incarnation:
                return True  # an earlier attempt has arrived
            if found is not None and not found.get("gone"):
                return False
            if found is not None:
                await self._remove(write.session_id, incarnation_of(found), deadline)
            deadline.check("Creating a session", written="unknown")
            await self.pause(RACE_SECONDS)
        return True

    async def _advance(self, write: Append, deadline: Deadline) -> bool:
        """Replace the head that is at the expected revision, or lags after a crash; False if the session is gone."""
        at_least = write.expected
        while not await self._write_head(write.head, at_least, deadline):
            found = await self._find_head(write.session_id, deadline)
            if found is not None and found.get("gone"):
                await self._remove(write.session_id, incarnation_of(found), deadline)
            if found is None or not alive(found, write.incarnation):
                return False
            if found["revision"] >= write.head.revision:
                return True  # others have gone on from here
            at_least = min(found["revision"], write.expected)
            if not await self._has_log(write, at_least, deadline):
                return False
            deadline.check("Appending to a session", written="unknown")
            await self.pause(RACE_SECONDS)
        return True

    async def _has_log(self, write: Append, after: int, deadline: Deadline) -> bool:
        """Whether the log has all commits from a head that lags up to the expected revision."""
        if after == write.expected:
            return True
        span = Span(first=after + 1, last=write.expected)
        where = span_query(write.session_id, write.incarnation, span)
        return await self.port.count("Appending to a session", where, deadline) == write.expected - after

    async def _write_head(self, head: HeadRow, at_least: int, deadline: Deadline) -> bool:
        """Replace a head by a later one of its incarnation; False if there is none that is earlier, and lives."""
        return await self.port.update("Appending to a session", *head_change(head, at_least), deadline)

    async def _find_head(self, session_id: str, deadline: Deadline) -> Document | None:
        where = {"session_id": {"$eq": session_id}, "_id": {"$eq": head_key(session_id)}}
        fields = ["incarnation", "revision", "gone"]
        found = await self.port.find("Looking for a session's head", where, deadline, fields=fields)
        return found[0] if found else None

    async def catch_up(self, head: HeadRow, deadline: Deadline) -> None:
        await self._write_head(head, 0, deadline)

    # ------------------------------------------------------------ rewriting

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        there = alive(await self._find_head(session_id, deadline), incarnation)
        pause = partial(self.pause, RACE_SECONDS)
        return there and await self._rewriting.rewrite(session_id, incarnation, commits, deadline, pause)

    # ------------------------------------------------------------ deleting

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        head = _head_filter(session_id, incarnation)
        marked = await self.port.update("Deleting a session", head, {"$set": {"gone": True, "hidden": True}}, deadline)
        if marked:
            with _after_a_write():
                await self._remove(session_id, incarnation, deadline)
        else:
            where = {"session_id": {"$eq": session_id}, "incarnation": {"$eq": incarnation}, "seq": {"$lt": HEAD}}
            await self.port.remove("Deleting a session", where, deadline)

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        """All documents of that id, the head last; where the head still says of which incarnation, only those of it."""
        what, key = "Deleting a session", {"_id": {"$eq": head_key(session_id)}}
        found = await self.port.find(what, key, deadline, limit=1, fields=["incarnation"])
        if not found:
            return False
        incarnation = found[0].get("incarnation")
        if isinstance(incarnation, str):
            await self.delete(session_id, incarnation, deadline)
            return True
        await self.port.update(what, key, {"$set": {"gone": True, "hidden": True}}, deadline)
        with _after_a_write():
            await self.port.remove(what, {"session_id": {"$eq": session_id}, "seq": {"$lt": HEAD}}, deadline)
            await self.port.remove(what, {**key, "gone": True}, deadline)
        return True

    async def _remove(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """Remove a session whose head is marked, the head last, and what others of its id have left.

        As long as this head is there no other incarnation lives, but one may be in the making: only old leftovers go.
        """
        old = {"at": {"$lt": self.port.now() - LEFTOVER}}
        where = {
            "session_id": {"$eq": session_id},
            "seq": {"$lt": HEAD},
            "$or": [{"incarnation": {"$eq": incarnation}}, old],
        }
        await self.port.remove("Deleting a session", where, deadline)
        await self.port.remove("Deleting a session", _head_filter(session_id, incarnation), deadline)

    async def sweep(self, before: int, deadline: Deadline) -> None:
        """Remove first commits and records without a head, and parts without a claim; each is looked at only once."""
        swept = (await self._schema.numbers(deadline)).get("swept", 0)
        after: tuple[int, str] = (swept, "")
        while True:
            page = await self._born(after, before, deadline)
            for document in await self._orphans(page, deadline):
                where = {"session_id": {"$eq": document["session_id"]}, "_id": {"$eq": document["_id"]}}
                await self.port.remove("Sweeping", where, deadline)
            if len(page) < SWEEP_PAGE:
                break
            after = (page[-1]["born"], page[-1]["_id"])
        await self._schema.remember({"swept": before}, deadline)

    async def _born(self, after: tuple[int, str], before: int, deadline: Deadline) -> list[Document]:
        moment, key = after
        where: Document = {
            "born": {"$gte": moment, "$lt": before},
            "$or": [{"born": {"$gt": moment}}, {"_id": {"$gt": key}}],
        }
        fields = ["session_id", "incarnation", "seq", "born", "claim", "token"]
        order = [("born", 1), ("_id", 1)]
        return await self.port.find("Sweeping", where, deadline, sort=order, limit=SWEEP_PAGE, fields=fields)

    async def _orphans(self, page: list[Document], deadline: Deadline) -> list[Document]:
        """Those that what should refer to them does not."""
        keys = [document["claim"] if _is_part(document) else head_key(document["session_id"]) for document in page]
        fields = ["incarnation", "token"]
        found = await self.port.find("Sweeping", {"_id": {"$in": keys}}, deadline, fields=fields)
        there = {document["_id"]: document for document in found}
        return [document for document, key in zip(page, keys, strict=True) if not _refers(there.get(key), document)]

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        where = {"session_id": {"$eq": session_id}, "_id": {"$eq": record_key(session_id, incarnation, key)}}
        found = await self.port.find("Reading a record", where, deadline)
        return bytes(found[0]["value"]) if found else None

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        keys = [record_key(*name) for name in names]
        found = await self._by_key("Reading records", [name.session_id for name in names], keys, ["value"], deadline)
        return [bytes(found[key]["value"]) if key in found else None for key in keys]

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        where: Document = {
            "session_id": {"$eq": session_id},
            "seq": {"$eq": RECORD},
            "incarnation": {"$eq": incarnation},
        }
        documents = await self.port.find("Reading the keys of records", where, deadline, fields=["_id"])
        names = sorted(record_name(document) for document in documents)
        return [name for name in names if name.startswith(prefix) and name > after][:limit]

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        at = self.port.now()
        record = {
            "_id": record_key(session_id, incarnation, key),
            "session_id": session_id,
            "incarnation": incarnation,
            "seq": RECORD,
            "at": at,
            "born": at,
            "value": value,
        }
        if value is not None:
            await self.port.put("Writing a record", record, deadline)
            with _after_a_write():
                if alive(await self._find_head(session_id, deadline), incarnation):
                    return True
        where = {"session_id": {"$eq": session_id}, "_id": {"$eq": record["_id"]}}
        await self.port.remove("Removing a record", where, deadline)
        return value is None

    # ------------------------------------------------------------ following

    async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
        changes = self._changes()
        event = None if changes is None else await self._on_loop(changes.register(incarnation))
        if changes is None or event is None:
            await self.pause(min(POLL_SECONDS, deadline.remaining()))
            return
        seconds = 0.0
        try:
            # What was committed before the stream began is seen here.
            where = span_query(session_id, incarnation, Span(first=revision + 1))
            if not await self.port.find("Following a session", where, deadline, limit=1, fields=["seq"]):
                seconds = deadline.remaining()
        finally:
            await self._on_loop(changes.wait(incarnation, event, seconds))

    def _changes(self) -> Changes | None:
        """The announcements of commits; None where the server has none, or a blocking client of the application's."""
        if not self.port.replicated:
            return None
        if self._announced is None and self.suspends:
            self._announced = Changes(self.port)
        elif self._announced is None and self.port.is_ours:
            self._listening = Port(self.port.target, suspends=True)
            self._announced = Changes(self._listening)
        return self._announced

    async def _on_loop(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Await on the driver's own event loop; a blocking driver uses the lasting one in the background."""
        return await coroutine if self.suspends else background.run(coroutine)

    # ------------------------------------------------------------ life

    async def close(self) -> None:
        announced, self._announced = self._announced, None
        listening, self._listening = self._listening, None
        if announced is not None:
            await self._on_loop(announced.close())
        if listening is not None:
            await self._on_loop(listening.close())
        await self.port.close()

    def after_fork(self) -> None:
        self.port.after_fork()
        self._announced = self._listening = None


def _creation(claim: Document, write: Append) -> tuple[Write, Write]:
    return InsertOne(claim), InsertOne(head_document(write.head))


def _advance(claim: Document, write: Append) -> tuple[Write, Write]:
    """An insert and an update would be two commands and two round trips; as two updates they are one.

    The first never matches a document: where there is one of that `_id`, its upsert fails, and the second is not done.
    """
    key = {"_id": claim["_id"], "session_id": claim["session_id"]}
    rest = {name: value for name, value in claim.items() if name not in key}
    insert = UpdateOne({**key, "at": {"$lt": 0}}, {"$setOnInsert": rest}, upsert=True)
    return insert, UpdateOne(*head_change(write.head, write.expected))


@contextmanager
def _after_a_write() -> Generator[None]:
    """What fails now, be it a read or a server that cannot be reached, comes after a write that may count."""
    try:
        yield
    except StorageError as error:
        error.written = "unknown"
        raise


def _head_filter(session_id: str, incarnation: str) -> Document:
    return {
        "session_id": {"$eq": session_id},
        "_id": {"$eq": head_key(session_id)},
        "incarnation": {"$eq": incarnation},
    }


def _is_part(document: Document) -> bool:
    return document["seq"] == PART


def _refers(referrer: Document | None, document: Document) -> bool:
    """Whether a claim names a part, or a head has the incarnation of a commit."""
    name = "token" if _is_part(document) else "incarnation"
    return referrer is not None and referrer.get(name) == document[name]


def _check(prefix: Any, large_commits: Any) -> None:
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise InvalidInputError(f"prefix must be up to 32 letters, digits, - and _; it is {prefix!r}.")
    if large_commits not in ("split", "refuse"):
        raise InvalidInputError(f'large_commits must be "split" or "refuse"; it is {large_commits!r}.')


__all__ = ["MongoDbDriver", "MongoDbStorage"]
