"""The driver behind `DynamoDbStorage`, written once over a port that blocks or suspends."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, ClassVar, TypeVar

from ...errors import CorruptDataError, NewerVersionError, ReadOnlyError, StorageError, StorageUnavailableError
from ...storage.driver import Capabilities, Deadline, Driver
from ...storage.ids import uuid7
from ...storage.matching import bytes_of, follows, listing, matches, page_of, place_of
from ...storage.retrying import back_off
from ...storage.rows import LOADED_BYTES, Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from ...storage.withholding import damage_of
from . import items, lists
from .errors import ConditionFailedError, TableInUseError, TableMissingError
from .items import CHUNKS, DATA, HEAD, LOG, Item, key, plain, text
from .ports import Answer, Port
from .rows import Rows
from .table import AGENTS, agents_of, attribute_of, definition, index_for, lacking

T = TypeVar("T")

FEW_RUNS = 500
"""Up to how many runs are read by the index items of the session; more of them are read in the order of the log."""

LOOKS = 6
"""How often a session is loaded until its log is taken for damaged."""

CHUNKS_AT_ONCE = 10
"""How many chunks one request puts. It may have 16 MB, and clients write a character as up to 12 bytes of JSON."""

LARGE_AT_ONCE = 4
"""How many commits that lie in chunks are read at once, where a page ends by its bytes."""

READ_AT_ONCE = 100
"""How many commits are read by their numbers, where a page ends by its bytes."""

LAST = 10**20 - 1
"""Where an open span ends."""

_SAME_HEAD = "incarnation = :incarnation"
_UNCLAIMED = "attribute_exists(sk) AND attribute_not_exists(swept)"
_LOADING, _APPENDING = "Loading a session", "Appending to a session"


class DynamoDbDriver(Driver):
    """The driver behind `DynamoDbStorage`. Session and log change in one transaction."""

    name: ClassVar[str] = "dynamodb"
    capabilities = Capabilities(
        exact_order=False, commits_per_append=32, max_record_bytes=384 * 1024, rewrites=True, bounded_pages=True
    )

    def __init__(self, port: Port, table: str, *, auto_migrate: bool) -> None:
        self.suspends = port.suspends
        self.port = port
        self.table = table
        self.auto_migrate = auto_migrate
        self.stats = port.stats
        self.rows = Rows(port, table)
        self._agents = AGENTS
        self._replicas: list[str] = []

    # ------------------------------------------------------------ the table

    async def setup(self, deadline: Deadline) -> None:
        if await self._is_there(deadline):
            return
        if not self.auto_migrate:
            raise StorageError(
                f"There is no {self.port.where}. To create it: {json.dumps(definition(self.table))}",
                hint="Let somebody who may create tables run `sessile migrate`.",
            )
        await self.migrate(deadline)

    async def migrate(self, deadline: Deadline, *, finish: bool = False, dry_run: bool = False) -> list[str]:
        if await self._is_there(deadline):
            return []
        request = definition(self.table)
        if not dry_run:
            await self._create(request, deadline)
        return [json.dumps(request)]

    async def _create(self, request: Answer, deadline: Deadline) -> None:
        what = "Creating the table"
        try:
            await self.port.write(what, "create_table", request, deadline)
        except TableInUseError:
            pass  # another process was faster
        except ReadOnlyError as error:
            error.message += f" The request was: {json.dumps(request)}"
            raise
        while not await self._is_there(deadline):
            deadline.check(what, written="unknown")
            await self.port.pause(back_off(4, deadline))

    async def _is_there(self, deadline: Deadline) -> bool:
        """Whether the table can be used; False if it is not there. While it is being created, this waits.

        Raises `StorageError` if it lacks what is needed.
        """
        what = "Looking at the table"
        while True:
            try:
                answer = await self.port.read(what, "describe_table", {"TableName": self.table}, deadline)
            except TableMissingError:
                return False
            if missing := lacking(answer["Table"]):
                raise StorageError(
                    f"The {self.port.where} is not one of Sessile's. It lacks: {'; '.join(missing)}.",
                    hint="Choose another name, or add what is missing.",
                )
            if answer["Table"]["TableStatus"] != "CREATING":
                replicas: list[Answer] = answer["Table"].get("Replicas") or []
                self._replicas = [replica["RegionName"] for replica in replicas]
                self._agents = agents_of(answer["Table"])
                return True
            deadline.check(what)
            await self.port.pause(back_off(4, deadline))

    def warnings(self) -> Sequence[str]:
        if not self._replicas:
            return ()
        return (
            f"The table has replicas in {', '.join(self._replicas)}: commits to one session from two regions at once "
            "overwrite each other. Write each session in one region only.",
        )

    async def now(self, deadline: Deadline) -> int:
        """As the answers so far are dated, to the second: that to `setup` is one."""
        return self.port.clock.now()

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        """A query is no transaction: what one commit changes may be seen in part. Then this looks again."""
        for attempt in range(1, LOOKS + 1):
            found = await self._head_and_log(session_id, newest, deadline)
            if not found:
                return None
            head = items.head_row(found[0])
            log = await self._newest(head, newest, found[1:], deadline, gaps=attempt == LOOKS)
            if log is not None or head.hidden:
                # A hidden head may be that of a session whose log is being removed.
                span = Span(limit=newest, newest_first=True, max_bytes=LOADED_BYTES)
                rows = await self._page(head.session_id, head.incarnation, log or [], span, deadline)
                return Loaded(head, rows[::-1], self.port.clock.now())
            await self.port.pause(back_off(attempt, deadline))
        raise CorruptDataError(f"The newest commits of session {session_id!r} are not in its log.")

    async def _head_and_log(self, session_id: str, newest: int, deadline: Deadline) -> list[Item]:
        """The head and the newest items of the log, the newest first."""
        if newest == 0:
            item = await self.rows.get(_LOADING, key(session_id, HEAD), deadline)
            return [] if item is None else [item]
        limits = (f"{LOG}#", HEAD)
        found = await self.rows.query(
            _LOADING, session_id, limits, deadline, limit=newest + 1, backwards=True, max_bytes=LOADED_BYTES
        )
        return found if found and plain(found[0]["sk"]) == HEAD else []

    async def _newest(
        self, head: HeadRow, newest: int, seen: list[Item], deadline: Deadline, *, gaps: bool
    ) -> list[Item] | None:
        """The items of the head's newest commits, the newest first, until they have the bytes of a load.

        None if they are not all there; with `gaps`, if the newest of all is not.

        Among those seen with the head there may be newer ones than the head, and what another incarnation has left
        that was not removed to the end; then they are read by their keys.
        """
        first = max(1, head.revision - newest + 1)
        wanted = [items.log_key(head.incarnation, seq) for seq in range(head.revision, first - 1, -1)] if newest else []
        if _are(seen, wanted):
            return seen
        limits = (wanted[-1], wanted[0])
        found = await self.rows.query(
            _LOADING, head.session_id, limits, deadline, backwards=True, max_bytes=LOADED_BYTES
        )
        return found if _are(found, wanted) or (gaps and _are(found[:1], wanted[:1])) else None

    async def append(self, write: Append, deadline: Deadline) -> bool:
        what, attempt = _APPENDING, uuid7()
        before, together = items.append_items(write, attempt)
        head: Answer = {"TableName": self.table, "Item": items.head_item(write.head, attribute_of(self._agents))}
        if write.expected == 0:
            head["ConditionExpression"] = "attribute_not_exists(session_id)"
        else:
            head["ConditionExpression"] = f"{_SAME_HEAD} AND revision = :expected"
            head["ExpressionAttributeValues"] = {
                ":incarnation": text(write.incarnation),
                ":expected": items.number(write.expected),
            }
        puts = [{"Put": {"TableName": self.table, "Item": item}} for item in together]
        where = write.session_id, write.incarnation
        return await self._write_with_chunks(what, *where, attempt, before, [{"Put": head}, *puts], deadline)

    async def _write_with_chunks(
        self,
        what: str,
        session_id: str,
        incarnation: str,
        attempt: str,
        chunks: list[Item],
        actions: list[Answer],
        deadline: Deadline,
    ) -> bool:
        """Put the chunks, if there are any, then do the actions, which make them a part of the log.

        A claim is there as long as they are not: only while it is may they become so, or be removed by `sweep`.
        """
        if not chunks:
            return await self.rows.transact(what, actions, deadline)
        claim = items.claim_item(session_id, incarnation, attempt, self.port.clock.now())
        place = key(session_id, plain(claim["sk"]))
        await self.port.write(what, "put_item", {"TableName": self.table, "Item": claim}, deadline)
        await self.rows.write_all(what, [{"PutRequest": {"Item": item}} for item in chunks], CHUNKS_AT_ONCE, deadline)
        remove = {"TableName": self.table, "Key": place, "ConditionExpression": _UNCLAIMED}
        if await self.rows.transact(what, [*actions, {"Delete": remove}], deadline):
            return True
        puts = (action["Put"]["Item"] for action in actions if "Put" in action)
        large = next(item for item in puts if "chunks" in item)
        if await self.rows.get(what, key(session_id, plain(large["sk"])), deadline) == large:
            return True  # by an earlier attempt, whose answer was lost
        await self.rows.delete_all(what, [*chunks, place], deadline)
        return False

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        what = "Reading a session's log"
        last = LAST if span.last is None else span.last
        if span.first > last or span.limit <= 0:
            return []
        if span.key is not None:
            found = await self._of_key(what, session_id, incarnation, span, span.key, deadline)
        elif span.runs is not None and span.runs[1] - span.runs[0] < FEW_RUNS:
            found = await self._of_few_runs(what, session_id, incarnation, span, deadline)
        else:
            limits = (items.log_key(incarnation, max(span.first, 0)), items.log_key(incarnation, last))
            found = await self.rows.query(
                what,
                session_id,
                limits,
                deadline,
                limit=span.limit,
                backwards=span.newest_first,
                runs=span.runs,
                max_bytes=span.max_bytes,
            )
        return await self._page(session_id, incarnation, found, span, deadline)

    async def _page(
        self, session_id: str, incarnation: str, log: list[Item], span: Span, deadline: Deadline
    ) -> list[CommitRow]:
        """The commits of items of the log, a few at a time where the bytes of the page are bounded."""
        if span.max_bytes is None:
            return await self._rows(session_id, incarnation, log, deadline)
        rows: list[CommitRow] = []
        left = span.max_bytes
        while log and left > 0:
            count = next((n for n, item in enumerate(log) if "body" not in item), len(log)) or LARGE_AT_ONCE
            some, log = log[:count], log[count:]
            rows += await self._rows(session_id, incarnation, some, deadline)
            left = span.max_bytes - sum(bytes_of(row.body) for row in rows)
        return page_of(rows, span)

    async def _of_few_runs(
        self, what: str, session_id: str, incarnation: str, span: Span, deadline: Deadline
    ) -> list[Item]:
        """The commits of some runs, by the index items that were written with them."""
        assert span.runs is not None, "asked for by the caller"
        first_run, last_run = max(span.runs[0], 1), span.runs[1]
        if first_run > last_run:
            return []
        limits = (items.index_key(incarnation, first_run, 0), items.index_key(incarnation, last_run, LAST))
        seqs = [items.seq_of(item) for item in await self.rows.query(what, session_id, limits, deadline)]
        last = LAST if span.last is None else span.last
        seqs = sorted((seq for seq in seqs if span.first <= seq <= last), reverse=span.newest_first)[: span.limit]
        found: list[Item] = []
        left = span.max_bytes
        while seqs and (left is None or left > 0):
            some, seqs = (seqs, []) if left is None else (seqs[:READ_AT_ONCE], seqs[READ_AT_ONCE:])
            read = await self._of_seqs(what, session_id, incarnation, some, deadline)
            left = None if left is None else left - items.bytes_in(read)
            found += read
        return found

    async def _of_key(
        self, what: str, session_id: str, incarnation: str, span: Span, name: str, deadline: Deadline
    ) -> list[Item]:
        """The commits of a key, by the index items that were written with them."""
        limits = items.key_limits(incarnation, name, max(span.first, 0), LAST if span.last is None else span.last)
        found = await self.rows.query(
            what, session_id, limits, deadline, limit=span.limit, backwards=span.newest_first, runs=span.runs
        )
        rows = await self._of_seqs(what, session_id, incarnation, [items.seq_of(item) for item in found], deadline)
        return [item for item in rows if plain(item.get("key")) == name]  # it may have been rewritten just now

    async def _of_seqs(
        self, what: str, session_id: str, incarnation: str, seqs: Sequence[int], deadline: Deadline
    ) -> list[Item]:
        """The commits of these numbers, in their order."""
        keys = [key(session_id, items.log_key(incarnation, seq)) for seq in seqs]
        found = {items.seq_of(item): item for item in await self.rows.get_all(what, keys, deadline)}
        return [found[seq] for seq in seqs if seq in found]

    async def _rows(self, session_id: str, incarnation: str, log: list[Item], deadline: Deadline) -> list[CommitRow]:
        """The commits of items of the log, with what lies in chunks."""
        large = [item for item in log if "body" not in item]
        work = (partial(self._assembled, session_id, incarnation, item, deadline) for item in large)
        try:
            assembled = {row.seq: row for row in await self.port.gather(work)}
            return [assembled.get(items.seq_of(item)) or items.commit_row(item, plain(item["body"])) for item in log]
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptDataError(f"A commit of session {session_id!r} is damaged: {damage_of(error)}.") from error

    async def _assembled(self, session_id: str, incarnation: str, item: Item, deadline: Deadline) -> CommitRow:
        """The commit of an item with its body in chunks."""
        while "body" not in item:
            start = items.prefix(CHUNKS, incarnation, plain(item["chunks"]))
            chunks = await self.rows.query("Reading a commit", session_id, items.within(start), deadline)
            if len(chunks) == plain(item["pieces"]):
                return items.commit_row(item, "".join(plain(chunk["body"]) for chunk in chunks))
            there = await self.rows.get(_LOADING, key(session_id, plain(item["sk"])), deadline)
            if there is None:
                raise StorageUnavailableError(f"Session {session_id!r} was deleted while it was read.")
            if there == item:
                raise CorruptDataError(f"Commit {items.seq_of(item)} of session {session_id!r} lacks pieces.")
            item = there  # it was rewritten meanwhile
        return items.commit_row(item, plain(item["body"]))

    async def _gather(self, work: Iterable[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
        """At the same time."""
        return await self.port.gather(work)

    async def rewrite(
        self, session_id: str, incarnation: str, commits: Sequence[CommitRow], deadline: Deadline
    ) -> bool:
        """A transaction for each commit, as long as the session is there; pieces of large bodies before it."""
        what = "Rewriting commits"
        there = await self._of_seqs(what, session_id, incarnation, [row.seq for row in commits], deadline)
        if len(there) < len(commits) or not all(map(items.is_commit, there, commits)):
            return False
        if await self._incarnation(what, session_id, deadline) != incarnation:
            return False
        work = (
            partial(self._rewrite, what, session_id, incarnation, item, row, deadline)
            for item, row in zip(there, commits, strict=True)
        )
        return all(await self.port.gather(work))

    async def _incarnation(self, what: str, session_id: str, deadline: Deadline) -> str | None:
        head = await self.rows.get(what, key(session_id, HEAD), deadline)
        return None if head is None else plain(head["incarnation"])

    async def _rewrite(
        self, what: str, session_id: str, incarnation: str, before: Item, row: CommitRow, deadline: Deadline
    ) -> bool:
        """Put one commit in place of what was there, with the item of its key. Old pieces go afterwards.

        Under a claim of their own, so that `sweep` removes them if this is interrupted.
        """
        attempt = uuid7()
        chunks, (item, *keys) = items.rewritten_items(session_id, incarnation, row, attempt)
        actions = [self._same_head(session_id, incarnation), self._in_place_of(before, item)]
        actions += [{"Put": {"TableName": self.table, "Item": each}} for each in keys]
        old_key = plain(before.get("key"))
        if old_key not in (None, row.key):
            old = key(session_id, items.commit_key(incarnation, old_key, row.seq))
            actions.append({"Delete": {"TableName": self.table, "Key": old}})
        left: list[Item] = []
        if "chunks" in before:
            claim = items.claim_item(session_id, incarnation, plain(before["chunks"]), self.port.clock.now())
            actions.append({"Put": {"TableName": self.table, "Item": claim}})
            start = items.prefix(CHUNKS, incarnation, plain(before["chunks"]))
            left = [*await self.rows.query(what, session_id, items.within(start), deadline, only_keys=True), claim]
        done = await self._write_with_chunks(what, session_id, incarnation, attempt, chunks, actions, deadline)
        if done and left:
            await self.rows.delete_all(what, left, deadline)
        return done

    def _same_head(self, session_id: str, incarnation: str) -> Answer:
        """The part of a transaction that has it done only while the session is there."""
        check = {
            "TableName": self.table,
            "Key": key(session_id, HEAD),
            "ConditionExpression": _SAME_HEAD,
            "ExpressionAttributeValues": {":incarnation": text(incarnation)},
        }
        return {"ConditionCheck": check}

    def _in_place_of(self, before: Item, item: Item) -> Answer:
        """The part of a transaction that puts a commit in place of another content of the same commit.

        That of the same pieces, or of none: who rewrites at the same time must not leave pieces that nobody removes.
        """
        put: Answer = {"TableName": self.table, "Item": item, "ExpressionAttributeValues": {}}
        put["ConditionExpression"] = "commit_id = :id AND attribute_not_exists(chunks)"
        if "chunks" in before:
            put["ConditionExpression"] = "commit_id = :id AND chunks = :chunks"
            put["ExpressionAttributeValues"][":chunks"] = before["chunks"]
        put["ExpressionAttributeValues"][":id"] = item["commit_id"]
        return {"Put": put}

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        what = "Deleting a session"
        await self._clear(what, session_id, incarnation, deadline)
        await self._remove_head(what, session_id, text(incarnation), deadline)
        await self._clear(what, session_id, incarnation, deadline)  # what others wrote while the head was still there

    async def discard(self, session_id: str, deadline: Deadline) -> bool:
        """All items of that id, the head last; where the head still says of which incarnation, only those of it."""
        what = "Deleting a session"
        head = await self.rows.get(what, key(session_id, HEAD), deadline)
        if head is None:
            return False
        incarnation = items.plain(head.get("incarnation"))
        if isinstance(incarnation, str):
            await self.delete(session_id, incarnation, deadline)
            return True
        await self._clear(what, session_id, None, deadline)
        await self._remove_head(what, session_id, head.get("incarnation"), deadline)
        return True

    async def _remove_head(self, what: str, session_id: str, incarnation: Answer | None, deadline: Deadline) -> None:
        """Remove a head while it says this of its incarnation; None: while it says nothing of that."""
        request: Answer = {
            "TableName": self.table,
            "Key": key(session_id, HEAD),
            "ConditionExpression": "attribute_not_exists(incarnation)" if incarnation is None else _SAME_HEAD,
        }
        if incarnation is not None:
            request["ExpressionAttributeValues"] = {":incarnation": incarnation}
        with suppress(ConditionFailedError):  # it is not there, or another one is
            await self.port.write(what, "delete_item", request, deadline)

    async def _clear(self, what: str, session_id: str, incarnation: str | None, deadline: Deadline) -> None:
        """Remove all but the head, of any incarnation if it is None; the newest commit first: before its chunks go."""
        limits = (items.AREAS[0], items.within(f"{items.AREAS[-1]}#")[1])
        found = await self.rows.query(what, session_id, limits, deadline, backwards=True, only_keys=True)
        below = [item for item in found if incarnation is None or items.is_below(item, incarnation)]
        await self.rows.delete_all(what, below, deadline)

    async def sweep(self, before: int, deadline: Deadline) -> None:
        """Remove the chunks of large commits that were begun before that moment, and never became a part of a log."""
        what = "Sweeping"
        request: Answer = {
            "TableName": self.table,
            "IndexName": "all_updated",
            "KeyConditionExpression": "all_key = :partition AND updated_key < :before",
            "ExpressionAttributeValues": {":before": text(items.moment_key(before))},
        }
        start = None
        while True:
            answer = await self.rows.page(what, request, items.UNCLAIMED, start, deadline)
            for found in answer["Items"]:
                await self._remove_unclaimed(what, found, deadline)
            start = answer.get("LastEvaluatedKey")
            if start is None:
                return

    async def _remove_unclaimed(self, what: str, found: Item, deadline: Deadline) -> None:
        """Mark a claim, after which its transaction cannot succeed any more; remove its chunks, then itself.

        A claim that was sent twice may have arrived once more after the transaction; then its chunks stay.
        """
        session_id, claim = plain(found["session_id"]), plain(found["sk"])
        place = key(session_id, claim)
        marked = {
            "TableName": self.table,
            "Item": {**place, **{name: found[name] for name in ("all_key", "updated_key")}, "swept": {"BOOL": True}},
            "ConditionExpression": "attribute_exists(sk)",
        }
        try:
            await self.port.write(what, "put_item", marked, deadline)
        except ConditionFailedError:
            return  # the commit is in the log by now
        chunks = items.within(items.chunks_of(claim))
        pieces = await self.rows.query(what, session_id, chunks, deadline, only_keys=True)
        for (commit, chunks), of_commit in groupby(pieces, items.commit_of):
            item = await self.rows.get(what, commit, deadline)
            if item is None or plain(item.get("chunks")) != chunks:
                await self.rows.delete_all(what, [*of_commit], deadline)
        await self.rows.delete_all(what, [place], deadline)

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        item = await self.rows.get("Reading a record", _record(session_id, incarnation, key), deadline)
        return None if item is None else plain(item["value"])

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        what = "Writing a record"
        place = _record(session_id, incarnation, key)
        if value is None:
            await self.port.write(what, "delete_item", {"TableName": self.table, "Key": place}, deadline)
            return True
        put = {"TableName": self.table, "Item": {**place, "value": {"B": value}}}
        return await self.rows.transact(what, [self._same_head(session_id, incarnation), {"Put": put}], deadline)

    async def get_records(self, names: Sequence[RecordName], deadline: Deadline) -> list[bytes | None]:
        """A batch for each hundred."""
        places = [_record(*name) for name in names]
        wanted = {(plain(place["session_id"]), plain(place["sk"])): place for place in places}
        found = await self.rows.get_all("Reading records", [*wanted.values()], deadline)
        values = {(plain(item["session_id"]), plain(item["sk"])): plain(item["value"]) for item in found}
        return [values.get((plain(place["session_id"]), plain(place["sk"]))) for place in places]

    async def record_keys(
        self, session_id: str, incarnation: str, prefix: str, deadline: Deadline, *, after: str = "", limit: int = 500
    ) -> list[str]:
        start = items.prefix(DATA, incarnation)
        limits = f"{start}{max(prefix, after)}", items.after_all(f"{start}{prefix}")
        found = await self.rows.query(
            "Reading the keys of records", session_id, limits, deadline, limit=limit + 1, only_keys=True
        )
        keys = [plain(item["sk"]).removeprefix(start) for item in found]
        return [each for each in keys if each.startswith(prefix) and each > after][:limit]

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> Listing:
        """Indexes lag a little behind the heads; what they bring is looked up, so that only true rows are listed."""
        what = "Listing sessions"
        place = index_for(query, self._agents)
        request = lists.conditions(self.table, place, query)
        if request is None:
            return Listing([])
        request["Limit"] = lists.page_size(query)

        async def read(partition: str, start: Item | None) -> tuple[list[Item], Item | None]:
            answer = await self.rows.page(what, request, partition, start, deadline)
            return answer["Items"], answer.get("LastEvaluatedKey")

        walk = lists.Walk(place, query, read, self.port.gather)
        found: dict[str, HeadRow] = {}
        unreadable: dict[str, StorageError] = {}
        count = min(query.limit, lists.PAGE)
        while len(found) < query.limit and (ids := await walk.take(count)):
            for item in await self.rows.get_all(what, [key(session_id, HEAD) for session_id in set(ids)], deadline):
                try:
                    head = items.head_row(item)
                    if matches(head, query) and follows(head, query):
                        found[head.session_id] = head
                except (CorruptDataError, NewerVersionError) as error:
                    if items.may_be_of(item, query.user_id):
                        unreadable[plain(item["session_id"])] = error
            count = lists.PAGE
        rows = sorted(found.values(), key=lambda head: place_of(head, query), reverse=not query.ascending)
        return listing(rows[: query.limit], query, unreadable)

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        """By the index alone where it has what is asked for; then also what cannot be read is counted."""
        place = index_for(query, self._agents)
        request = lists.conditions(self.table, place, replace(query, after=None))
        if request is None:
            return 0
        if not lists.is_served(place, query):
            return await super().count(query, deadline)
        request["Select"] = "COUNT"
        return sum(await self.port.gather(partial(self._count, request, each, deadline) for each in place.partitions))

    async def _count(self, request: Answer, partition: str, deadline: Deadline) -> int:
        total, start = 0, None
        while True:
            answer = await self.rows.page("Counting sessions", request, partition, start, deadline)
            total += answer["Count"]
            start = answer.get("LastEvaluatedKey")
            if start is None:
                return total

    # ------------------------------------------------------------ life

    async def close(self) -> None:
        await self.port.close()

    def after_fork(self) -> None:
        self.port.after_fork()


def _record(session_id: str, incarnation: str, name: str) -> Item:
    return key(session_id, f"{items.prefix(DATA, incarnation)}{name}")


def _are(log: list[Item], keys: list[str]) -> bool:
    """Whether these items of a log are those of the keys, or the first of them, which have the bytes of a load."""
    there = [plain(item["sk"]) for item in log]
    return there == keys or (there == keys[: len(there)] and items.bytes_in(log) >= LOADED_BYTES)
