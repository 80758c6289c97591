"""The driver behind `DynamoDbStorage`, written once over a port that blocks or suspends."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ClassVar

from ...errors import CorruptDataError, ReadOnlyError, StorageError, StorageUnavailableError
from ...storage.driver import Append, Capabilities, CommitRow, Deadline, Driver, HeadRow, ListQuery, Loaded, Span
from ...storage.ids import uuid7
from ...storage.matching import matches, place_of
from . import items, lists
from .errors import ConditionFailedError, TableInUseError, TableMissingError
from .items import CHUNKS, DATA, HEAD, LOG, Item, key, plain, text
from .ports import Answer, Port, back_off
from .table import definition, index_for, lacking

FEW_RUNS = 500
"""Up to how many runs are read by the index items of the session; more of them are read in the order of the log."""

LOOKS = 6
"""How often a session is loaded until its log is taken for damaged."""

BATCH = 25
"""How many items one request may delete."""

CHUNKS_AT_ONCE = 10
"""How many chunks one request puts. It may have 16 MB, and clients write a character as up to 12 bytes of JSON."""

LAST = 10**20 - 1
"""Where an open span ends."""

_SAME_HEAD = "incarnation = :incarnation"
_UNCLAIMED = "attribute_exists(sk) AND attribute_not_exists(swept)"
_LOADING, _APPENDING = "Loading a session", "Appending to a session"


class DynamoDbDriver(Driver):
    """The driver behind `DynamoDbStorage`. Head and log change in one transaction."""

    name: ClassVar[str] = "dynamodb"
    capabilities = Capabilities(exact_order=False, commits_per_append=40, max_record_bytes=384 * 1024)

    def __init__(self, port: Port, table: str, *, auto_migrate: bool) -> None:
        self.suspends = port.suspends
        self.port = port
        self.table = table
        self.auto_migrate = auto_migrate
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

    # ------------------------------------------------------------ the log

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        """A query is no transaction: what one commit changes may be seen in part. Then this looks again."""
        for attempt in range(1, LOOKS + 1):
            found = await self._head_and_log(session_id, newest, deadline)
            if not found:
                return None
            items.check_layout(found[0])
            head = items.head_row(found[0])
            log = await self._newest(head, newest, found[1:], deadline)
            if log is not None or head.hidden:
                # A hidden head may be that of a session whose log is being removed.
                rows = await self._rows(head.session_id, head.incarnation, log or [], deadline)
                return Loaded(head, rows, time.time_ns() // 1000)
            await self.port.pause(back_off(attempt, deadline))
        raise CorruptDataError(f"The newest commits of session {session_id!r} are not in its log.")

    async def _head_and_log(self, session_id: str, newest: int, deadline: Deadline) -> list[Item]:
        """The head and the newest items of the log, the newest first."""
        if newest == 0:
            item = await self._get(_LOADING, key(session_id, HEAD), deadline)
            return [] if item is None else [item]
        limits = (f"{LOG}#", HEAD)
        found = await self._query(_LOADING, session_id, limits, deadline, limit=newest + 1, backwards=True)
        return found if found and plain(found[0]["sk"]) == HEAD else []

    async def _newest(self, head: HeadRow, newest: int, seen: list[Item], deadline: Deadline) -> list[Item] | None:
        """The items of the head's newest commits, oldest first; None if they are not all there.

        Among those seen with the head there may be newer ones than the head, and what another incarnation has left
        that was not removed to the end; then they are read by their keys.
        """
        first = max(1, head.revision - newest + 1)
        wanted = [items.log_key(head.incarnation, seq) for seq in range(first, head.revision + 1)] if newest else []
        if [plain(item["sk"]) for item in reversed(seen)] == wanted:
            return seen[::-1]
        found = await self._query(_LOADING, head.session_id, (wanted[0], wanted[-1]), deadline)
        return found if [plain(item["sk"]) for item in found] == wanted else None

    async def append(self, write: Append, deadline: Deadline) -> bool:
        what, attempt = _APPENDING, uuid7()
        before, together = items.append_items(write, attempt)
        head: Answer = {"TableName": self.table, "Item": items.head_item(write.head)}
        if write.expected == 0:
            head["ConditionExpression"] = "attribute_not_exists(session_id)"
        else:
            head["ConditionExpression"] = f"{_SAME_HEAD} AND revision = :expected"
            head["ExpressionAttributeValues"] = {
                ":incarnation": text(write.incarnation),
                ":expected": items.number(write.expected),
            }
        puts = [{"Put": {"TableName": self.table, "Item": item}} for item in together]
        if before:
            return await self._append_large(write, attempt, before, [{"Put": head}, *puts], deadline)
        return await self._transact(what, [{"Put": head}, *puts], deadline)

    async def _append_large(
        self, write: Append, attempt: str, chunks: list[Item], actions: list[Answer], deadline: Deadline
    ) -> bool:
        """Put the chunks, then do the actions, which make them a part of the log.

        A claim is there as long as they are not: only while it is may they become so, or be removed by `sweep`.
        """
        what = _APPENDING
        claim = items.claim_item(write.session_id, write.incarnation, attempt, time.time_ns() // 1000)
        place = key(write.session_id, plain(claim["sk"]))
        await self.port.write(what, "put_item", {"TableName": self.table, "Item": claim}, deadline)
        await self._write_all(what, [{"PutRequest": {"Item": item}} for item in chunks], CHUNKS_AT_ONCE, deadline)
        remove = {"TableName": self.table, "Key": place, "ConditionExpression": _UNCLAIMED}
        if await self._transact(what, [*actions, {"Delete": remove}], deadline):
            return True
        large = next(action["Put"]["Item"] for action in actions if "chunks" in action["Put"]["Item"])
        if await self._get(what, key(write.session_id, plain(large["sk"])), deadline) == large:
            return True  # by an earlier attempt, whose answer was lost
        await self._delete_all(what, [*chunks, place], deadline)
        return False

    async def _transact(self, what: str, actions: list[Answer], deadline: Deadline) -> bool:
        """Do all or nothing; False if a condition does not hold.

        The token makes DynamoDB do it once, however often the request is sent. Each call has one of its own: under
        that of a commit's id a commit that was drafted anew would be refused as another request, and for ten minutes
        one to a session that was deleted meanwhile would be answered as if it were done.
        """
        request = {"TransactItems": actions, "ClientRequestToken": uuid7()}
        try:
            await self.port.write(what, "transact_write_items", request, deadline)
        except ConditionFailedError:
            return False
        return True

    async def entries(self, session_id: str, incarnation: str, span: Span, deadline: Deadline) -> list[CommitRow]:
        what = "Reading a session's log"
        last = LAST if span.last is None else span.last
        if span.first > last or span.limit <= 0:
            return []
        if span.runs is not None and span.runs[1] - span.runs[0] < FEW_RUNS:
            found = await self._of_few_runs(what, session_id, incarnation, span, deadline)
        else:
            limits = (items.log_key(incarnation, max(span.first, 0)), items.log_key(incarnation, last))
            found = await self._query(
                what, session_id, limits, deadline, limit=span.limit, backwards=span.newest_first, runs=span.runs
            )
        return await self._rows(session_id, incarnation, found, deadline)

    async def _of_few_runs(
        self, what: str, session_id: str, incarnation: str, span: Span, deadline: Deadline
    ) -> list[Item]:
        """The commits of some runs, by the index items that were written with them."""
        assert span.runs is not None, "asked for by the caller"
        first_run, last_run = max(span.runs[0], 1), span.runs[1]
        if first_run > last_run:
            return []
        limits = (items.index_key(incarnation, first_run, 0), items.index_key(incarnation, last_run, LAST))
        seqs = [items.seq_of(item) for item in await self._query(what, session_id, limits, deadline)]
        last = LAST if span.last is None else span.last
        seqs = sorted((seq for seq in seqs if span.first <= seq <= last), reverse=span.newest_first)[: span.limit]
        keys = [key(session_id, items.log_key(incarnation, seq)) for seq in seqs]
        found = await self._get_all(what, keys, deadline)
        return sorted(found, key=items.seq_of, reverse=span.newest_first)

    async def _rows(self, session_id: str, incarnation: str, log: list[Item], deadline: Deadline) -> list[CommitRow]:
        """The commits of items of the log, with what lies in chunks."""
        bodies = await self.port.gather(partial(self._body, session_id, incarnation, item, deadline) for item in log)
        return [items.commit_row(item, body) for item, body in zip(log, bodies, strict=True)]

    async def _body(self, session_id: str, incarnation: str, item: Item, deadline: Deadline) -> str:
        if "body" in item:
            return plain(item["body"])
        start = items.prefix(CHUNKS, incarnation, plain(item["chunks"]))
        chunks = await self._query("Reading a commit", session_id, items.within(start), deadline)
        if len(chunks) != plain(item["pieces"]):
            if await self._get(_LOADING, key(session_id, plain(item["sk"])), deadline) is None:
                raise StorageUnavailableError(f"Session {session_id!r} was deleted while it was read.")
            raise CorruptDataError(f"Commit {items.seq_of(item)} of session {session_id!r} lacks pieces.")
        return "".join(plain(chunk["body"]) for chunk in chunks)

    async def delete(self, session_id: str, incarnation: str, deadline: Deadline) -> None:
        what = "Deleting a session"
        await self._clear(what, session_id, incarnation, deadline)
        request = {
            "TableName": self.table,
            "Key": key(session_id, HEAD),
            "ConditionExpression": _SAME_HEAD,
            "ExpressionAttributeValues": {":incarnation": text(incarnation)},
        }
        with suppress(ConditionFailedError):  # it is not there, or another one is
            await self.port.write(what, "delete_item", request, deadline)
        await self._clear(what, session_id, incarnation, deadline)  # what others wrote while the head was still there

    async def _clear(self, what: str, session_id: str, incarnation: str, deadline: Deadline) -> None:
        """Remove all but the head, the newest commit first: before its chunks go."""
        limits = (items.AREAS[0], items.within(f"{items.AREAS[-1]}#")[1])
        found = await self._query(what, session_id, limits, deadline, backwards=True, only_keys=True)
        await self._delete_all(what, [item for item in found if items.is_below(item, incarnation)], deadline)

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
            answer = await self._page(what, request, items.UNCLAIMED, start, deadline)
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
        pieces = await self._query(what, session_id, chunks, deadline, only_keys=True)
        if pieces and not await self._is_in_log(what, pieces[0], deadline):
            await self._delete_all(what, pieces, deadline)
        await self._delete_all(what, [place], deadline)

    async def _is_in_log(self, what: str, chunk: Item, deadline: Deadline) -> bool:
        """Whether the commit that a chunk was written for is a part of the log."""
        commit, chunks = items.commit_of(chunk)
        item = await self._get(what, commit, deadline)
        return item is not None and plain(item.get("chunks")) == chunks

    # ------------------------------------------------------------ records

    async def get_record(self, session_id: str, incarnation: str, key: str, deadline: Deadline) -> bytes | None:
        item = await self._get("Reading a record", _record(session_id, incarnation, key), deadline)
        return None if item is None else plain(item["value"])

    async def put_record(
        self, session_id: str, incarnation: str, key: str, value: bytes | None, deadline: Deadline
    ) -> bool:
        what = "Writing a record"
        place = _record(session_id, incarnation, key)
        if value is None:
            await self.port.write(what, "delete_item", {"TableName": self.table, "Key": place}, deadline)
            return True
        check = {
            "TableName": self.table,
            "Key": items.key(session_id, HEAD),
            "ConditionExpression": _SAME_HEAD,
            "ExpressionAttributeValues": {":incarnation": text(incarnation)},
        }
        put = {"TableName": self.table, "Item": {**place, "value": {"B": value}}}
        return await self._transact(what, [{"ConditionCheck": check}, {"Put": put}], deadline)

    # ------------------------------------------------------------ lists

    async def list(self, query: ListQuery, deadline: Deadline) -> list[HeadRow]:
        """Indexes lag a little behind the heads; what they bring is looked up, so that only true rows are listed."""
        what = "Listing sessions"
        place = index_for(query)
        request = lists.conditions(self.table, place, query)
        if request is None:
            return []
        request["Limit"] = lists.page_size(query)

        async def read(partition: str, start: Item | None) -> tuple[list[Item], Item | None]:
            answer = await self._page(what, request, partition, start, deadline)
            return answer["Items"], answer.get("LastEvaluatedKey")

        walk = lists.Walk(place, read, self.port.gather)
        found: dict[str, HeadRow] = {}
        count = min(query.limit, lists.PAGE)
        while len(found) < query.limit and (ids := await walk.take(count)):
            for item in await self._get_all(what, [key(session_id, HEAD) for session_id in set(ids)], deadline):
                head = items.head_row(item)
                if matches(head, query) and (query.after is None or place_of(head, query) < query.after):
                    found[head.session_id] = head
            count = lists.PAGE
        return sorted(found.values(), key=lambda head: place_of(head, query), reverse=True)[: query.limit]

    async def count(self, query: ListQuery, deadline: Deadline) -> int:
        """By the index alone where it has what is asked for."""
        place = index_for(query)
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
            answer = await self._page("Counting sessions", request, partition, start, deadline)
            total += answer["Count"]
            start = answer.get("LastEvaluatedKey")
            if start is None:
                return total

    async def _page(self, what: str, request: Answer, partition: str, start: Item | None, deadline: Deadline) -> Answer:
        values = {**request["ExpressionAttributeValues"], ":partition": text(partition)}
        request = {**request, "ExpressionAttributeValues": values}
        if start is not None:
            request["ExclusiveStartKey"] = start
        return await self.port.read(what, "query", request, deadline)

    # ------------------------------------------------------------ many items

    async def _query(
        self,
        what: str,
        session_id: str,
        limits: tuple[str, str],
        deadline: Deadline,
        *,
        limit: int | None = None,
        backwards: bool = False,
        runs: tuple[int, int] | None = None,
        only_keys: bool = False,
    ) -> list[Item]:
        """A session's items between two sort keys, read consistently, pages followed to the end or the limit."""
        values = {":id": text(session_id), ":first": text(limits[0]), ":last": text(limits[1])}
        request: Answer = {
            "TableName": self.table,
            "KeyConditionExpression": "session_id = :id AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
            "ScanIndexForward": not backwards,
        }
        if runs is not None:
            request["FilterExpression"] = "#run BETWEEN :first_run AND :last_run"
            request["ExpressionAttributeNames"] = {"#run": "run"}
            values[":first_run"], values[":last_run"] = items.number(max(runs[0], 1)), items.number(runs[1])
        elif limit is not None:
            request["Limit"] = limit
        if only_keys:
            request["ProjectionExpression"] = "session_id, sk"
        found: list[Item] = []
        while True:
            answer = await self.port.read(what, "query", request, deadline)
            found.extend(answer["Items"])
            if "LastEvaluatedKey" not in answer or (limit is not None and len(found) >= limit):
                return found[:limit]
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def _get(self, what: str, place: Item, deadline: Deadline) -> Item | None:
        """The item of a key, read consistently."""
        request = {"TableName": self.table, "Key": place, "ConsistentRead": True}
        return (await self.port.read(what, "get_item", request, deadline)).get("Item")

    async def _get_all(self, what: str, keys: Sequence[Item], deadline: Deadline) -> list[Item]:
        """The items of some keys that are there, in any order, read consistently."""
        found: list[Item] = []
        waiting, attempt = list(keys), 0
        while waiting:
            asked, waiting = waiting[: lists.PAGE], waiting[lists.PAGE :]
            request = {"RequestItems": {self.table: {"Keys": asked, "ConsistentRead": True}}}
            answer = await self.port.read(what, "batch_get_item", request, deadline)
            found.extend(answer["Responses"].get(self.table, []))
            left = answer.get("UnprocessedKeys", {}).get(self.table, {}).get("Keys", [])
            attempt = await self._after_batch(what, attempt if left else 0, deadline, left=len(left))
            waiting = [*left, *waiting]
        return found

    async def _write_all(self, what: str, requests: Sequence[Answer], at_once: int, deadline: Deadline) -> None:
        """Put or delete items that nobody else writes, in any order."""
        waiting, attempt = list(requests), 0
        while waiting:
            sent, waiting = waiting[:at_once], waiting[at_once:]
            answer = await self.port.write(what, "batch_write_item", {"RequestItems": {self.table: sent}}, deadline)
            left = answer.get("UnprocessedItems", {}).get(self.table, [])
            attempt = await self._after_batch(what, attempt, deadline, left=len(left))
            waiting = [*left, *waiting]

    async def _delete_all(self, what: str, found: Sequence[Item], deadline: Deadline) -> None:
        keys = [{"session_id": item["session_id"], "sk": item["sk"]} for item in found]
        await self._write_all(what, [{"DeleteRequest": {"Key": each}} for each in keys], BATCH, deadline)

    async def _after_batch(self, what: str, attempt: int, deadline: Deadline, *, left: int) -> int:
        """Wait a moment if a batch was done in part only; returns how often that has happened in a row."""
        if not left:
            return 0
        deadline.check(what, written="unknown")
        await self.port.pause(back_off(attempt + 1, deadline))
        return attempt + 1

    # ------------------------------------------------------------ life

    async def close(self) -> None:
        await self.port.close()

    def after_fork(self) -> None:
        self.port.after_fork()


def _record(session_id: str, incarnation: str, name: str) -> Item:
    return key(session_id, f"{items.prefix(DATA, incarnation)}{name}")
