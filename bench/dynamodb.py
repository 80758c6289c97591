"""DynamoDB: the floor by hand with botocore and aiobotocore, what a turn really writes, and what it is billed.

The floor has one table without indexes; loading is one consistent query, from the end of the session, that brings the
head and the last runs. Appending is one transaction that compares and sets the head and puts the run. Its clients are
set up as Sessile's are: requests are not validated before they are sent, and never repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Self

import botocore.session
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.config import Config
from tests.servers.dynamodb import REGION, Meter, client_of

from sessile import DynamoDbStorage
from sessile.storage.storage import Storage

from .floor import Encoder
from .payload import Exchange, exchange
from .sizes import Written
from .tables import Table, verdict

TABLE, FLOOR_TABLE = "sessile", "floor"
HEAD = "~head"
LAST = f"{10**20 - 1}"
BATCH = 25
METERED_TURNS = 5
GROWTH_LIMIT = 1.0
OPTIONS: dict[str, Any] = {"retries": {"total_max_attempts": 1, "mode": "standard"}, "parameter_validation": False}

Item = dict[str, dict[str, Any]]


def storage(endpoint: str, connections: int) -> Storage:
    """With as many connections as the floor."""
    return DynamoDbStorage(TABLE, region=REGION, endpoint=endpoint, pool_size=connections)


def create(client: Any) -> None:
    """The floor's table, if it is not there."""
    key = {"session_id": "HASH", "sk": "RANGE"}
    if FLOOR_TABLE not in client.list_tables()["TableNames"]:
        client.create_table(
            TableName=FLOOR_TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in key],
            KeySchema=[{"AttributeName": name, "KeyType": kind} for name, kind in key.items()],
        )


class DynamoDbEncoder(Encoder):
    """What the blocking and the asynchronous floor share: requests and JSON."""

    def load_request(self, session_id: str, last: int) -> dict[str, Any]:
        """Of `query`, for the head and the last runs."""
        return {
            "TableName": FLOOR_TABLE,
            "KeyConditionExpression": "session_id = :id",
            "ExpressionAttributeValues": {":id": {"S": session_id}},
            "ConsistentRead": True,
            "ScanIndexForward": False,
            "Limit": last + 1,
        }

    def loaded(self, items: Sequence[Item]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The head and the runs of a load, oldest first."""
        head, *runs = (json.loads(item["body"]["S"]) for item in items)
        return head, runs[::-1]

    def append_request(self, session_id: str, head: dict[str, Any], turn: Exchange) -> dict[str, Any]:
        """Of `transact_write_items`, for a run that follows that head."""
        before = head["revision"]
        body, after = self.encode(session_id, head, before + 1, turn)
        compare_and_set = {
            "TableName": FLOOR_TABLE,
            "Item": head_item(session_id, before + 1, after),
            "ConditionExpression": "revision = :expected",
            "ExpressionAttributeValues": {":expected": {"N": str(before)}},
        }
        put = {"TableName": FLOOR_TABLE, "Item": log_item(session_id, before + 1, body)}
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

    def __init__(self, endpoint: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> None:
        super().__init__(*padding)
        config = Config(max_pool_connections=connections, **OPTIONS)
        session = botocore.session.get_session()
        self.client = session.create_client("dynamodb", region_name=REGION, endpoint_url=endpoint, config=config)
        create(self.client)

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
        puts = [{"PutRequest": {"Item": item}} for item in [*items, head_item(session_id, runs, head)]]
        for start in range(0, len(puts), BATCH):
            answer = self.client.batch_write_item(RequestItems={FLOOR_TABLE: puts[start : start + BATCH]})
            assert not answer.get("UnprocessedItems")

    def close(self) -> None:
        self.client.close()


class AsyncDynamoDbFloor(DynamoDbEncoder):
    """An asynchronous client of one event loop."""

    @classmethod
    async def open(cls, endpoint: str, padding: tuple[int, int] = (0, 0), connections: int = 1) -> Self:
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
    """Looks into the tables beside those who write to them; answers as `sizes.Inspector` does."""

    def __init__(self, endpoint: str) -> None:
        self.client = client_of(endpoint)

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
        for table in self.client.list_tables()["TableNames"]:
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
        """Nothing: the client is that of all tests."""


def item_size(item: Item) -> int:
    """The bytes of names and values; numbers count with their digits."""
    return sum(len(name) + len(str(next(iter(value.values()))).encode()) for name, value in item.items())


# ---------------------------------------------------------------- capacity units


def capacity(
    endpoint: str,
    sizes: Sequence[int],
    fill: Callable[[Storage, dict[str, int]], None],
    agents_turn: Callable[[Storage, str, Exchange], None],
) -> Table:
    """What turns on sessions of a user and an owner are billed: capacity units, as the emulator counts them."""
    table = Table(
        "Capacity units of an agent's turn on DynamoDB (read, write; the most of 5)",
        ["runs in session", "floor: read", "write", "Sessile: read", "write", "wanted"],
    )
    floor, client = DynamoDbFloor(endpoint), client_of(endpoint)
    figures: list[tuple[float, float]] = []
    with Meter(floor.client) as theirs, Meter(client) as ours, DynamoDbStorage(TABLE, client=client) as sessions:
        for size in sizes:
            name, turn = f"metered-{size}", exchange(size + 1)
            floor.fill(name, size)
            fill(sessions, {name: size})
            bare = _most(theirs, partial(floor.turn, name, turn))
            figures.append(_most(ours, partial(agents_turn, sessions, name, turn)))
            table.rows.append([f"{size:,}", *_cells(bare), *_cells(figures[-1]), ""])
    growth = max(last / first for first, last in zip(figures[0], figures[-1], strict=True))
    wanted = f"<= {GROWTH_LIMIT:g} {verdict(growth, GROWTH_LIMIT)}"
    table.rows.append([f"{sizes[-1]:,} / {sizes[0]:,}", "", "", "", f"{growth:.2f}", wanted])
    floor.close()
    return table


def _most(meter: Meter, turn: Callable[[], object]) -> tuple[float, float]:
    costs: list[tuple[float, float]] = []
    for _ in range(METERED_TURNS):
        meter.reset()
        turn()
        costs.append((meter.read, meter.write))
    return max(read for read, _ in costs), max(write for _, write in costs)


def _cells(figures: tuple[float, float]) -> list[str]:
    return [f"{units:g}" for units in figures]
