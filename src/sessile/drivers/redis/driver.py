"""The driver behind `RedisStorage`, written once over a port that blocks or suspends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

from redis import exceptions as theirs

from ...errors import CorruptDataError, NewerVersionError, ReadOnlyError, StorageError
from ...storage.driver import Capabilities, Deadline, Driver
from ...storage.faces import background
from ...storage.rows import FEW, LOADED_BYTES, Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from ...storage.withholding import damage_of
from .durability import Durability, durability
from .index import Index
from .keys import STORED, STORED_WITHOUT_BODY, Keys, SessionKeys, commit_fields, commit_row, head_fields, head_row
from .listener import Listener
from .listing import Lists
from .moving import Moving
from .ports import Command, Port
from .rewriting import Rewriting
from .scripts import APPEND, DELETE, DISCARD, ENTRIES, LOAD, PUT_RECORD, SETUP

R = TypeVar("R")

LAYOUT = 2
"""The version of the layout of the keys. In the first one the agent was called owner, and sessions without a user had
no list of their own."""

OLDEST = (6, 2)
"""The first version of Redis that has everything that the scripts use (ZADD GT, XADD NOMKSTREAM)."""

GRACE_MS = 60_000
"""How much longer than the session says the server keeps an expired one, in milliseconds. Absent it is at once: the
core compares times. Until then a sweep counts it, and a commit on its way may still prolong it."""

POLL_SECONDS = 0.5
"""How long a follower waits between looks where announcements do not come through."""


class RedisDriver(Driver):
    """A session is a hash, a stream and up to three more keys in one slot; a commit is one script.

    Args:
        port: the way to the server or cluster.
        keys: the names of keys.
        listen: makes what wakes followers; None: they poll.
    """

    name: ClassVar[str] = "redis"

    def __init__(self, port: Port, keys: Keys, *, listen: Callable[[], Listener] | None = None) -> None:
        self.suspends = port.suspends
        self.ends_promptly = port.ends_promptly
        self.port = port
        self.keys = keys
        self.capabilities = Capabilities(
            durable=False,  # until the server has said so, in `setup`
            exact_order=port.one_server,
            commits_per_append=500,
            max_record_bytes=1024 * 1024,
            push=listen is not None,
            rewrites=True,
            bounded_pages=True,
        )
        self.stats = port.stats
        self.durability: Durability | None = None
        """What the server keeps on disk; None before `setup`."""
        self._index = Index(port, keys)
        self._lists = Lists(port, keys, self._index)
        self._rewriting = Rewriting(port)
        self._listen = listen
        self._listener: Listener | None = None

    # ------------------------------------------------------------ setup

    async def setup(self, deadline: Deadline) -> None:
        servers = await self._servers(deadline)
        for server in servers:
            self._check_server(server)
        try:
            layout = await self._layout(deadline)
        except ReadOnlyError:
            layout = LAYOUT  # nothing is there yet, and nothing can be written
        if layout < LAYOUT:
            await Moving(self.port, self.keys).move(deadline)
            layout = await self._layout(deadline, moved=str(layout))
        if layout > LAYOUT:
            raise NewerVersionError(f"{self.port.where} has keys of layout {layout}; this program knows {LAYOUT}.")
        self.durability = durability(servers, await self._fsyncs(deadline) if servers else ())
        self.capabilities = replace(self.capabilities, durable=self.durability.log)

    async def _layout(self, deadline: Deadline, *, moved: str = "") -> int:
        """The version of the layout that is there: this program's if there was none, or it was the one `moved` from."""
        call = ([self.keys.schema], [str(LAYOUT).encode(), moved.encode()])
        (answer,) = await self.port.run("Preparing the database", SETUP, [call], deadline, writes=True)
        try:
            return int(answer)
        except ValueError as error:
            raise CorruptDataError(f"The key {self.keys.schema!r} holds no version: {damage_of(error)}.") from error

    async def now(self, deadline: Deadline) -> int:
        # With a key, which tells a cluster whom to ask.
        commands: list[Command] = [(b"EXISTS", self.keys.schema), (b"TIME",)]
        _, (seconds, micros) = await self.port.read("Asking for the time", commands, deadline)
        return int(seconds) * 1_000_000 + int(micros)

    async def _servers(self, deadline: Deadline) -> list[Any]:
        """What the servers say of themselves; nothing where this user may not ask."""
        try:
            return list(await self.port.info(deadline))
        except StorageError as error:
            if error.retryable or not isinstance(error.__cause__, theirs.NoPermissionError):
                raise
            return []

    def _check_server(self, server: Any) -> None:
        version = tuple(int(part) for part in server.get("redis_version", "7.0").split(".")[:2])
        if version < OLDEST:
            raise StorageError(
                f"{self.port.where} is Redis {server['redis_version']}; Redis 6.2 or Valkey 7.2 is needed, or later."
            )
        if self.port.one_server and server.get("cluster_enabled") == "1":
            raise StorageError(
                f"{self.port.where} is a node of a cluster.",
                hint="Use ?cluster=true in the URL, or give the storage a RedisCluster.",
            )

    async def _fsyncs(self, deadline: Deadline) -> Sequence[str]:
        """The setting `appendfsync` of each server; none where it may not be read."""
        try:
            return await self.port.settings("appendfsync", deadline)
        except StorageError as error:
            if error.retryable:
                raise
            return ()

    def warnings(self) -> Sequence[str]:
        return () if self.durability is None else self.durability.warnings

    # ------------------------------------------------------------ reading

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        (seconds, micros), values, *logs = await self._loaded(self.keys.session(session_id), newest, deadline)
        head = head_row(values)
        if head is None:
            return None
        rows = [commit_row(entry) for log in logs for entry in reversed(log)]
        if newest and (not rows or rows[-1].seq != head.revision):
            raise CorruptDataError(
                f"The log of session {session_id!r} does not reach to its head.",
                hint="Was it evicted? maxmemory-policy must be noeviction.",
            )
        return Loaded(head, rows, int(seconds) * 1_000_000 + int(micros))

    async def _loaded(self, keys: SessionKeys, newest: int, deadline: Deadline) -> list[Any]:
        """The time, the stored head, and the newest entries of the log.

        More than a few by a script, which sees when they have bytes enough, and takes a multiple of the time.
        """
        what = "Loading a session"
        if newest > FEW:
            args = [b"%d" % newest, b"%d" % LOADED_BYTES, *STORED]
            (found,) = await self.port.run(what, LOAD, [((keys.head, keys.log), args)], deadline)
            return found
        commands: list[Command] = [(b"TIME",), (b"HMGET", keys.head, *STORED)]
        if newest:
            commands.append((b"XREVRANGE", keys.log, b"+", b"-", b"COUNT", b"%d" % newest))
        return await self.port.read(what, commands, deadline)

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        plain = span.runs is None and span.key is None and span.max_bytes is None
        find = self._of_span if plain else self._by_script
        found = await find(self.keys.session(session_id), incarnation, span, deadline)
        return [commit_row(entry) for entry in found or ()]

    async def _of_span(self, keys: SessionKeys, incarnation: str, span: Span, deadline: Deadline) -> Any:
        low, high = b"%d-0" % span.first, b"+" if span.last is None else b"%d-0" % span.last
        command = (b"XREVRANGE", keys.log, high, low) if span.newest_first else (b"XRANGE", keys.log, low, high)
        command = (*command, b"COUNT", b"%d" % span.limit)
        return await self._if_there("Reading a session's log", keys, incarnation, command, deadline)

    async def _by_script(self, keys: SessionKeys, incarnation: str, span: Span, deadline: Deadline) -> Any:
        args = [incarnation, span.first, "" if span.last is None else span.last, span.limit, int(span.newest_first)]
        args += ("", "") if span.runs is None else (max(1, span.runs[0]), span.runs[1])
        args += (span.key or "", "" if span.max_bytes is None else span.max_bytes)
        call = ([keys.head, keys.log, keys.runs, keys.keys], [str(arg).encode() for arg in args])
        (found,) = await self.port.run("Reading a session's log", ENTRIES, [call], deadline)
        return found

    async def _head(self, session_id: str, deadline: Deadline) -> HeadRow | None:
        """The head without its body; None if there is none."""
        (head,) = await self._index.heads([session_id], deadline, STORED_WITHOUT_BODY)
        if isinstance(head, CorruptDataError):
            raise head
        return head

    async def _if_there(
        self, what: str, keys: SessionKeys, incarnation: str, command: Command, deadline: Deadline
    ) -> Any:
        """The answer to a command on a session, None if there is none of this incarnation."""
        commands = [(b"HGET", keys.head, b"incarnation"), command]
        there, answer = await self.port.read(what, commands, deadline)
        return answer if there == incarnation.encode() else None

    async def _of_several(
        self, what: str, sessions: Sequence[tuple[SessionKeys, str, Command]], deadline: Deadline
    ) -> list[Any]:
        """As `_if_there`, for many sessions in one round trip (to each node of a cluster).

        Of each the incarnation is read before and after, because others write in between; none comes twice.
        """
        commands: list[Command] = []
        for keys, _, command in sessions:
            look = (b"HGET", keys.head, b"incarnation")
            commands += (look, command, look)
        answers = await self.port.send(what, commands, deadline)
        found = zip(answers[::3], answers[1::3], answers[2::3], sessions, strict=True)
        return [
            answer if before == after == wanted.encode() else None for before, answer, after, (_, wanted, _) in found
        ]

    async def newest(
        self, sessions: Sequence[tuple[str, str]], count: int, deadline: Deadline
    ) -> list[list[CommitRow]]:
        several: list[tuple[SessionKeys, str, Command]] = []
        for session_id, incarnation in sessions:
            keys = self.keys.session(session_id)
            several.append((keys, incarnation, (b"XREVRANGE", keys.log, b"+", b"-", b"COUNT", b"%d" % count)))
        found = await self._of_several("Reading the newest commits", several, deadline)
        return [[commit_row(entry) for entry in reversed(entries or ())] for entries in found]

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        return await self._lists.page(query, deadline)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        return await self._lists.count(query, deadline)

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        keys = self.keys.session(session_id)
        command = (b"HGET", keys.records, key.encode())
        return await self._if_there("Reading a record", keys, incarnation, command, deadline)

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        several: list[tuple[SessionKeys, str, Command]] = []
        for name in names:
            keys = self.keys.session(name.session_id)
            several.append((keys, name.incarnation, (b"HGET", keys.records, name.key.encode())))
        return await self._of_several("Reading records", several, deadline)

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        keys = self.keys.session(session_id)
        command = (b"HKEYS", keys.records)
        found = await self._if_there("Reading the keys of records", keys, incarnation, command, deadline)
        names = sorted(name.decode() for name in found or ())
        return [name for name in names if name.startswith(prefix) and name > after][:limit]

    # ------------------------------------------------------------ writing

    async def append(self, write: Append, deadline: Deadline) -> bool:
        elsewhere = not self.port.one_server
        if elsewhere and write.expected == 0:
            await self._enter_first(write.head, deadline)
        call = self._append_call(write)
        (won,) = await self.port.run("Appending to a session", APPEND, [call], deadline, writes=True)
        if won and elsewhere:
            await self._enter(write.head, deadline)
        return won == 1

    def _append_call(self, write: Append) -> tuple[list[bytes], list[bytes]]:
        keys = self.keys.session(write.session_id)
        lists, scores = self._index.together(write.head)
        present, absent = head_fields(write.head)
        gone_at = "" if write.head.expires_at is None else write.head.expires_at // 1000 + GRACE_MS
        channel = keys.channel if self.port.one_server else b""
        args = [write.session_id, write.incarnation, write.expected, gone_at, GRACE_MS]
        args = [*(str(arg).encode() for arg in args), channel, str(len(write.commits)).encode()]
        for row in write.commits:
            args += commit_fields(row)
        args += (str(len(present) // 2).encode(), *present, str(len(absent)).encode(), *absent, *scores)
        return [*keys, *lists], args

    async def _enter_first(self, head: HeadRow, deadline: Deadline) -> None:
        try:
            await self._index.enter([head], deadline)
        except StorageError as error:
            error.written = "no"  # of the session, nothing is
            raise

    async def _enter(self, head: HeadRow, deadline: Deadline) -> None:
        """Refresh the lists after a commit, which stands whether this succeeds or not."""
        try:
            await self._index.enter([head], deadline)
        except StorageError:
            return  # the session is listed where it was, until a list meets it

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        head = await self._head(session_id, deadline)
        if head is None or head.incarnation != incarnation:
            return
        keys = list[bytes](self.keys.session(session_id))
        if self.port.one_server:
            keys += (self.keys.places, *self.keys.listing(head.agent, head.user_id))
        call = (keys, [session_id.encode(), incarnation.encode()])
        (done,) = await self.port.run("Deleting a session", DELETE, [call], deadline, writes=True)
        if done and not self.port.one_server:
            try:
                await self._index.forget([session_id], deadline)
            except StorageError:
                return  # it is gone; a list that meets its entry takes that out

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        """All keys that a session of that id would have, whatever they hold, and its entries in lists."""
        call = (self.keys.session(session_id), list[bytes]())
        (removed,) = await self.port.run("Deleting a session", DISCARD, [call], deadline, writes=True)
        try:
            await self._index.forget([session_id], deadline)
        except StorageError as error:
            error.written = "yes" if removed else error.written
            raise
        return removed > 0

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        if not commits:
            head = await self._head(session_id, deadline)
            return head is not None and head.incarnation == incarnation
        return await self._rewriting.rewrite(self.keys.session(session_id), incarnation, commits, deadline)

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        keys = self.keys.session(session_id)
        args = [incarnation.encode(), key.encode(), *([] if value is None else [value])]
        call = ([keys.head, keys.records], args)
        (found,) = await self.port.run("Writing a record", PUT_RECORD, [call], deadline, writes=True)
        return value is None or found == 1

    # ------------------------------------------------------------ following

    async def wait(self, session_id: str, incarnation: str, revision: int, deadline: Deadline) -> None:
        channel = self.keys.session(session_id).channel
        registered = await self._on_loop(self._register(channel, deadline))
        if registered is None:
            await self.pause(min(POLL_SECONDS, deadline.remaining()))
            return
        listener, event = registered
        seconds = 0.0
        try:
            # What was committed before the subscription is seen here, and what is committed after it is announced.
            head = await self._head(session_id, deadline)
            if head is not None and head.incarnation == incarnation and head.revision <= revision:
                seconds = deadline.remaining()
        finally:
            await self._on_loop(listener.wait(channel, event, seconds))

    async def _register(self, channel: bytes, deadline: Deadline) -> tuple[Listener, asyncio.Event] | None:
        """The event of the next announcement, and who sets it; None if announcements do not come through."""
        if self._listen is None:
            return None
        if self._listener is None:
            self._listener = self._listen()
        listener = self._listener
        try:
            return listener, await listener.register(channel, deadline)
        except (StorageError, theirs.RedisError, TimeoutError):
            return None

    async def _on_loop(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Await on the driver's own event loop; a blocking driver uses the lasting one in the background."""
        return await coroutine if self.suspends else background.run(coroutine)

    async def close(self) -> None:
        await self.port.close()
        listener, self._listener, self._listen = self._listener, None, None
        if listener is not None:
            await self._on_loop(listener.close())

    def after_fork(self) -> None:
        self.port.after_fork()
        self._listener = None
