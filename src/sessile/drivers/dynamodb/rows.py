"""Requests on the items of the table: pages, batches and transactions, followed to their ends."""

from __future__ import annotations

from collections.abc import Sequence

from ...storage.driver import Deadline
from ...storage.ids import uuid7
from ...storage.retrying import back_off
from .errors import ConditionFailedError
from .items import Item, bytes_in, number, text
from .ports import Answer, Port

DELETE_AT_ONCE = 25
"""How many items one request may delete."""

GET_AT_ONCE = 100
"""How many items one request may read by their keys."""


class Rows:
    """The items of one table. Reads are consistent."""

    def __init__(self, port: Port, name: str) -> None:
        self.port = port
        self.name = name

    async def query(
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
        max_bytes: int | None = None,
    ) -> list[Item]:
        """A session's items between two sort keys, read consistently, pages followed to the end or the limit.

        With `max_bytes` also no further than to the answer, of 1 MB at most, by which their bodies have so many.
        """
        values = {":id": text(session_id), ":first": text(limits[0]), ":last": text(limits[1])}
        request: Answer = {
            "TableName": self.name,
            "KeyConditionExpression": "session_id = :id AND sk BETWEEN :first AND :last",
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
            "ScanIndexForward": not backwards,
        }
        if runs is not None:
            request["FilterExpression"] = "#run BETWEEN :first_run AND :last_run"
            request["ExpressionAttributeNames"] = {"#run": "run"}
            values[":first_run"], values[":last_run"] = number(max(runs[0], 1)), number(runs[1])
        elif limit is not None:
            request["Limit"] = limit
        if only_keys:
            request["ProjectionExpression"] = "session_id, sk"
        found: list[Item] = []
        while True:
            answer = await self.port.read(what, "query", request, deadline)
            found.extend(answer["Items"])
            enough = limit is not None and len(found) >= limit
            if max_bytes is not None:
                max_bytes -= bytes_in(answer["Items"])
                enough = enough or max_bytes <= 0
            if "LastEvaluatedKey" not in answer or enough:
                return found[:limit]
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    async def get(self, what: str, place: Item, deadline: Deadline) -> Item | None:
        """The item of a key, read consistently."""
        request = {"TableName": self.name, "Key": place, "ConsistentRead": True}
        return (await self.port.read(what, "get_item", request, deadline)).get("Item")

    async def get_all(self, what: str, keys: Sequence[Item], deadline: Deadline) -> list[Item]:
        """The items of some keys that are there, in any order, read consistently."""
        found: list[Item] = []
        waiting, attempt = list(keys), 0
        while waiting:
            asked, waiting = waiting[:GET_AT_ONCE], waiting[GET_AT_ONCE:]
            request = {"RequestItems": {self.name: {"Keys": asked, "ConsistentRead": True}}}
            answer = await self.port.read(what, "batch_get_item", request, deadline)
            found.extend(answer["Responses"].get(self.name, []))
            left = answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", [])
            attempt = await self._after_batch(what, attempt if left else 0, deadline, left=len(left))
            waiting = [*left, *waiting]
        return found

    async def write_all(self, what: str, requests: Sequence[Answer], at_once: int, deadline: Deadline) -> None:
        """Put or delete items that nobody else writes, in any order."""
        waiting, attempt = list(requests), 0
        while waiting:
            sent, waiting = waiting[:at_once], waiting[at_once:]
            answer = await self.port.write(what, "batch_write_item", {"RequestItems": {self.name: sent}}, deadline)
            left = answer.get("UnprocessedItems", {}).get(self.name, [])
            attempt = await self._after_batch(what, attempt, deadline, left=len(left))
            waiting = [*left, *waiting]

    async def delete_all(self, what: str, found: Sequence[Item], deadline: Deadline) -> None:
        keys = [{"session_id": item["session_id"], "sk": item["sk"]} for item in found]
        await self.write_all(what, [{"DeleteRequest": {"Key": each}} for each in keys], DELETE_AT_ONCE, deadline)

    async def _after_batch(self, what: str, attempt: int, deadline: Deadline, *, left: int) -> int:
        """Wait a moment if a batch was done in part only; returns how often that has happened in a row."""
        if not left:
            return 0
        deadline.check(what, written="unknown")
        await self.port.pause(back_off(attempt + 1, deadline))
        return attempt + 1

    async def transact(self, what: str, actions: list[Answer], deadline: Deadline) -> bool:
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

    async def page(self, what: str, request: Answer, partition: str, start: Item | None, deadline: Deadline) -> Answer:
        values = {**request["ExpressionAttributeValues"], ":partition": text(partition)}
        request = {**request, "ExpressionAttributeValues": values}
        if start is not None:
            request["ExclusiveStartKey"] = start
        return await self.port.read(what, "query", request, deadline)
