"""DynamoDB: the floor by hand with botocore and aiobotocore, and what a turn really writes. Only they are imported.

The floor has one table without indexes; loading is one consistent query, from the end of the session, that brings the
head and the last runs. Appending is one transaction that compares and sets the head and puts the run. Its clients are
set up as Sessile's are: requests are not validated before they are sent, and never repeated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import botocore.session
from botocore.config import Config

from .floor import Encoder
from .payload import Exchange
from .sizes import Written

REGION = os.environ.get("AWS_REGION", "us-east-1")
FLOOR_TABLE = "floor"
HEAD = "~head"
BATCH = 25
OPTIONS: dict[str, Any] = {"retries": {"total_max_attempts": 1, "mode": "standard"}, "parameter_validation": False}

Item = dict[str, dict[str, Any]]


def connect(endpoint: str, connections: int = 10) -> Any:
    """A client of botocore's."""
    config = Config(max_pool_connections=connections, **OPTIONS)
    session = botocore.session.get_session()
    return session.create_client("dynamodb", region_name=REGION, endpoint_url=endpoint, config=config)


def create(client: Any, table: str) -> None:
    """A table of the floor's, if it is not there."""
    key = {"session_id": "HASH", "sk": "RANGE"}
    if table not in client.list_tables()["TableNames"]:
        client.create_table(
            TableName=table,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in key],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in key.items()],
        )


def put_all(client: Any, table: str, items: Sequence[Item]) -> None:
    """Put items in batches."""
    puts = [{"PutRequest": {"Item": item}} for item in items]
    for start in range(0, len(puts), BATCH):
        answer = client.batch_write_item(RequestItems={table: puts[start : start + BATCH]})
        assert not answer.get("UnprocessedItems")


class DynamoDbEncoder(Encoder):
    """What the blocking and the asynchronous floor share: requests and JSON."""

    table = FLOOR_TABLE

    def load_request(self, session_id: str, last: int) -> dict[str, Any]:
        """Of `query`, for the head and the last runs."""
        return {
            "TableName": self.table,
            "KeyConditionExpression": "session_id = :id",
            "ExpressionAttributeValues": {":id": {"S": session_id}},
            "ConsistentRead": True,
            "ScanIndexForward": False,
            "Limit": last + 1,
        }

    def loaded(self, items: Sequence[Item]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The head and the runs of a load, oldest first."""
        head, *runs = (self.value(item["body"]["S"]) for item in items)
        return head, runs[::-1]

    def append_request(self, session_id: str, head: dict[str, Any], turn: Exchange) -> dict[str, Any]:
        """Of `transact_write_items`, for a run that follows that head."""
        before = head["revision"]
        body, after = self.encode(session_id, head, before + 1, turn)
        compare_and_set = {
            "TableName": self.table,
            "Item": head_item(session_id, before + 1, after),
            "ConditionExpression": "revision = :expected",
            "ExpressionAttributeValues": {":expected": {"N": str(before)}},
        }
        put = {"TableName": self.table, "Item": log_item(session_id, before + 1, body)}
        return {"TransactItems": [{"Put": compare_and_set}, {"Put": put}]}


def head_item(session_id: str, revision: int, body: str) -> Item:
    """The head of the floor's."""
    return {
        "session_id": {"S": session_id},
        "sk": {"S": HEAD},
        "revision": {"N": str(revision)},
        "body": {"S": body},
    }


def log_item(session_id: str, seq: int, body: str) -> Item:
    """A run of the floor's."""
    return {"session_id": {"S": session_id}, "sk": {"S": f"{seq:020d}"}, "body": {"S": body}}


class DynamoDbFloor(DynamoDbEncoder):
    """A blocking client, which threads share."""

    def __init__(
        self, endpoint: str, padding: tuple[int, int] = (0, 0), connections: int = 1, table: str = FLOOR_TABLE
    ) -> None:
        super().__init__(*padding)
        self.table = table
        self.client = connect(endpoint, connections)
        create(self.client, table)

    def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """Load head and last 3 runs, append one run; before that look at the head again if `reads` is 2."""
        head, runs = self.loaded(self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(self.read(session_id, 0))
        self.client.transact_write_items(**self.append_request(session_id, head, turn))

    def read(self, session_id: str, last: int) -> list[Item]:
        return self.client.query(**self.load_request(session_id, last))["Items"]

    def fill(self, session_id: str, runs: int) -> None:
        """Create a session with that many runs."""
        bodies, head = self.session(session_id, runs)
        items = [log_item(session_id, seq, body) for seq, body in enumerate(bodies, 1)]
        put_all(self.client, self.table, [*items, head_item(session_id, runs, head)])

    def close(self) -> None:
        self.client.close()


class AsyncDynamoDbFloor(DynamoDbEncoder):
    """An asynchronous client of one event loop."""

    @classmethod
    async def open(cls, endpoint: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> Self:
        from aiobotocore.config import AioConfig  # not in the environments of other libraries
        from aiobotocore.session import get_session

        self = cls(*padding)
        config = AioConfig(max_pool_connections=connections, **OPTIONS)
        self.making = get_session().create_client("dynamodb", region_name=REGION, endpoint_url=endpoint, config=config)
        self.client = await self.making.__aenter__()
        return self

    async def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None:
        """As `DynamoDbFloor.turn`."""
        head, runs = self.loaded(await self.read(session_id, 3))
        assert len(runs) == 3
        if reads == 2:
            head, _ = self.loaded(await self.read(session_id, 0))
        await self.client.transact_write_items(**self.append_request(session_id, head, turn))

    async def read(self, session_id: str, last: int) -> list[Item]:
        return (await self.client.query(**self.load_request(session_id, last)))["Items"]

    async def close(self) -> None:
        await self.making.__aexit__(None, None, None)


class DynamoDbInspector:
    """Looks into the tables beside those who write to them; answers as `sizes.Inspector` does.

    `prefix`: only into tables whose names begin so.
    """

    def __init__(self, endpoint: str, prefix: str = "") -> None:
        self.client = connect(endpoint)
        self.prefix = prefix

    def tables(self) -> list[str]:
        """Their names."""
        pages = self.client.get_paginator("list_tables").paginate()
        return [name for page in pages for name in page["TableNames"] if name.startswith(self.prefix)]

    def session(self, session_id: str) -> dict[str, tuple[int, int]]:
        """Items and bytes of one session: of its heads, and of the rest."""
        result = {"heads": (0, 0), "log": (0, 0)}
        for item in self.items(session_id):
            place = "heads" if item["sk"]["S"] == HEAD else "log"
            count, size = result[place]
            result[place] = count + 1, size + item_size(item)
        return result

    def items(self, session_id: str | None = None) -> Iterator[Item]:
        """All items of a session, or of everybody's."""
        of_session = {
            "KeyConditionExpression": "session_id = :id",
            "ExpressionAttributeValues": {":id": {"S": session_id}},
        }
        for table in self.tables():
            pages = self.client.get_paginator("query" if session_id else "scan")
            for page in pages.paginate(TableName=table, ConsistentRead=True, **(of_session if session_id else {})):
                yield from page["Items"]

    def written(self, turn: Callable[[], object], turns: int = 4) -> Written:
        """The emulator's log is its own matter."""
        before = sum(map(item_size, self.items()))
        for _ in range(turns):
            turn()
        return Written((sum(map(item_size, self.items())) - before) / turns, None, None)

    def settle(self) -> None:
        """Nothing: there is nothing to wait for."""

    def close(self) -> None:
        self.client.close()


def item_size(item: Item) -> int:
    """The bytes of names and values; numbers count with their digits."""
    return sum(len(name) + len(str(next(iter(value.values()))).encode()) for name, value in item.items())
