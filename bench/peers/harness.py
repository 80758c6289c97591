"""What every peer's script shares: it fills sessions, runs turns next to the floor, and prints JSON.

A peer is measured as its own agent uses it: the calls on its storage that one turn of its runner makes,
with the same texts and token counts as ours, and nothing of its model loop. Scripts run as `python -m
bench.peers.<name>` in the peer's environment; only the standard library and the peer are imported.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..file_floor import FileFloor
from ..floor import Floor
from ..measure import Stats, timed
from ..payload import Exchange, exchange
from ..sizes import Inspector, SqliteInspector, synchronous

SECONDS_PER_CELL = 4.0
"""A cell of the table stops after this much measuring (but never before `LEAST` turns)."""
LEAST = 5
PROBED = 100


class Place(ABC):
    """An empty database for one variant and for the floor beside it."""

    durability: tuple[str, ...]
    """Queries whose answers say how durable a connection commits."""

    @abstractmethod
    def floor(self) -> Any:
        """The floor, opened."""

    @abstractmethod
    def inspector(self) -> Inspector:
        """Looks into the peer's tables."""

    def in_words(self, answers: Sequence[str]) -> str:
        """The answers to `durability`."""
        return "/".join(answers)

    def settle(self) -> None:
        """Called when all sessions are filled and everybody has closed the database."""

    @abstractmethod
    def copy(self, name: str) -> Place:
        """A database with the same content."""

    @abstractmethod
    def remove(self) -> None:
        """Called at the end."""


class SqliteFile(Place):
    """Two files of one folder."""

    durability = ("PRAGMA journal_mode", "PRAGMA synchronous")

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / "peer.db"

    def floor(self) -> Floor:
        return Floor(self.folder / "floor.db")

    def inspector(self) -> Inspector:
        return SqliteInspector(self.path)

    def in_words(self, answers: Sequence[str]) -> str:
        return synchronous(dict(zip(self.durability, answers, strict=True)).__getitem__)

    def copy(self, name: str) -> SqliteFile:
        return SqliteFile(shutil.copytree(self.folder, self.folder.parent / name))

    def remove(self) -> None:
        shutil.rmtree(self.folder)


class JsonFolder(SqliteFile):
    """A folder for files of JSON, and the floor's log in another one."""

    durability = ()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.path = folder / "peer"

    def floor(self) -> Any:
        return FileFloor(self.folder / "floor", 3000)

    def in_words(self, answers: Sequence[str]) -> str:
        return "fsync=off"  # none of them calls it

    def copy(self, name: str) -> JsonFolder:
        return JsonFolder(shutil.copytree(self.folder, self.folder.parent / name))


class PostgresDatabase(Place):
    """A database of a PostgreSQL server."""

    durability = ("SHOW fsync", "SHOW synchronous_commit")

    def __init__(self, server: str, name: str, template: str | None = None) -> None:
        import psycopg

        self.address = server
        self.server = psycopg.connect(server, autocommit=True)
        self.name = name
        self.url = urlsplit(server)._replace(path=f"/{name}").geturl()
        if template is not None:
            self.server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        else:
            self.server.execute(f'CREATE DATABASE "{name}"')
            self.server.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')  # for filling; not copied

    def floor(self) -> Any:
        from ..postgres import PostgresFloor

        return PostgresFloor(self.url)

    def inspector(self) -> Inspector:
        from ..postgres import PostgresInspector

        return PostgresInspector(self.url)

    def in_words(self, answers: Sequence[str]) -> str:
        return "fsync={}, synchronous_commit={}".format(*answers)

    def settle(self) -> None:
        from ..postgres import PostgresInspector

        inspector = PostgresInspector(self.url)
        inspector.settle()
        inspector.close()

    def copy(self, name: str) -> PostgresDatabase:
        return PostgresDatabase(self.address, name, self.name)

    def remove(self) -> None:
        self.server.execute(f'DROP DATABASE "{self.name}" WITH (FORCE)')
        self.server.close()


class RedisDatabase(Place):
    """A database of a Redis server, by its number."""

    durability = ("appendonly", "appendfsync")

    def __init__(self, server: str, template: RedisDatabase | None = None) -> None:
        import redis

        for number in range(1, 16):
            self.url = urlsplit(server)._replace(path=f"/{number}").geturl()
            self.client = redis.Redis.from_url(self.url)
            if self.client.dbsize() == 0:
                break
        else:
            raise RuntimeError("All databases of the server are in use.")
        for key in template.client.scan_iter(count=1000) if template else ():
            template.client.copy(key, key, destination_db=number)

    def floor(self) -> Any:
        from ..redis import RedisFloor

        return RedisFloor(self.url)

    def inspector(self) -> Any:
        from ..redis import RedisInspector

        return RedisInspector(self.url)

    def in_words(self, answers: Sequence[str]) -> str:
        return "appendonly={}, appendfsync={}".format(*answers)

    def settle(self) -> None:
        inspector = self.inspector()
        inspector.settle()
        inspector.close()

    def copy(self, name: str) -> RedisDatabase:
        return RedisDatabase(self.url, self)

    def remove(self) -> None:
        self.client.flushdb()
        self.client.close()


class DynamoDbTables(Place):
    """Tables of a server that speaks DynamoDB's protocol, whose names begin alike."""

    durability = ()

    def __init__(self, server: str, name: str, template: DynamoDbTables | None = None) -> None:
        from ..dynamodb import put_all

        self.url = server
        self.name = name
        self.client = self.inspector().client
        for table in template.inspector().tables() if template else ():
            copied = table.replace(template.name, name, 1)
            described = self.client.describe_table(TableName=table)["Table"]
            self.client.create_table(**_definition(described) | {"TableName": copied})
            for page in self.client.get_paginator("scan").paginate(TableName=table):
                put_all(self.client, copied, page["Items"])

    def floor(self) -> Any:
        from ..dynamodb import DynamoDbFloor

        return DynamoDbFloor(self.url, table=f"{self.name}.floor")

    def inspector(self) -> Any:
        from ..dynamodb import DynamoDbInspector

        return DynamoDbInspector(self.url, f"{self.name}.")

    def in_words(self, answers: Sequence[str]) -> str:
        return "as durable as the emulator"

    def copy(self, name: str) -> DynamoDbTables:
        return DynamoDbTables(self.url, name, self)

    def remove(self) -> None:
        for table in self.inspector().tables():
            self.client.delete_table(TableName=table)


def _definition(described: dict[str, Any]) -> dict[str, Any]:
    """The request that creates a table like one that is described."""
    wanted = {"AttributeDefinitions", "KeySchema"}
    request = {name: value for name, value in described.items() if name in wanted} | {"BillingMode": "PAY_PER_REQUEST"}
    indexes = [
        {name: index[name] for name in ("IndexName", "KeySchema", "Projection")}
        for index in described.get("GlobalSecondaryIndexes", ())
    ]
    return request | ({"GlobalSecondaryIndexes": indexes} if indexes else {})


class Variant(ABC):
    """One way to configure a peer, over SQLite, PostgreSQL, Redis or DynamoDB.

    Attributes:
        name: what is shown; the default configuration is called `default`.
        note: in which way it stores or reads less than Sessile's turn, or another remark; may be empty.
        stores_less: its turn keeps less of what happened than Sessile's.
        largest: the longest session that is measured, where more would take minutes.
        filled_as: variants of the same word store the same for a turn, and are measured on copies of one database.
        url: where its database on a server is, or None.
        tables: what the names of its tables begin with, on DynamoDB.
        path: where its SQLite file is, else.
    """

    name: str = "default"
    note: str = ""
    stores_less: bool = False
    largest: int | None = None
    filled_as: str = "default"

    def __init__(self, place: Place) -> None:
        self.url = place.url if isinstance(place, (PostgresDatabase, RedisDatabase, DynamoDbTables)) else None
        self.tables = f"{place.name}." if isinstance(place, DynamoDbTables) else None
        self.path = place.path if isinstance(place, SqliteFile) else None

    @abstractmethod
    def fill(self, session_id: str, runs: int) -> None:
        """Create a session of that many runs; not measured, may use bulk calls that leave the same rows."""

    @abstractmethod
    def turn(self, session_id: str, turn: Exchange) -> float:
        """The storage calls of one turn; returns the seconds that they took."""

    @abstractmethod
    def scalar(self, sql: str) -> object:
        """The first column of the first row of a query, by a connection that the peer itself uses."""

    def close(self) -> None:
        """Close what was opened."""


def pool(size: int, turns: int) -> list[str]:
    """Enough sessions that measuring makes them hardly longer."""
    return [f"s{number}" for number in range(math.ceil(turns / max(1, size // 5)))]


def fill(make: Callable[[Place], Variant], size: int, turns: int, place: Place) -> None:
    """Make the sessions of the peer and of the floor."""
    variant, floor = make(place), place.floor()
    for session_id in pool(size, turns):
        variant.fill(session_id, size)
        floor.fill(session_id, size)
    variant.close()
    floor.close()
    place.settle()


def measure(make: Callable[[Place], Variant], size: int, turns: int, place: Place) -> dict[str, Any]:
    """Warm up, then turns of the peer and of the floor in alternation, on sessions that are filled."""
    variant, floor, names = make(place), place.floor(), pool(size, turns)
    first = variant.turn(names[0], exchange(size + 1))
    for session_id in names[1:]:
        variant.turn(session_id, exchange(size + 1))
    peer_times: list[float] = []
    floor_times: list[float] = []
    stop = time.perf_counter() + SECONDS_PER_CELL
    for number in range(turns):
        session_id, turn = names[number % len(names)], exchange(size + 2 + number)
        floor_times.append(timed(lambda s=session_id, t=turn: floor.turn(s, t)))
        peer_times.append(variant.turn(session_id, turn))
        if time.perf_counter() > stop and number + 1 >= LEAST:
            break
    result = {
        "turn": Stats.of(peer_times).as_dict(),
        "floor": Stats.of(floor_times).as_dict(),
        "first": first,
        "durability": place.in_words([str(variant.scalar(sql)) for sql in place.durability]),
    }
    if size <= PROBED and place.durability:
        written = place.inspector().written(lambda: variant.turn(names[0], exchange(size + turns + 3)))
        result["written"] = asdict(written)
    variant.close()
    floor.close()
    return result


def new_place(options: argparse.Namespace, name: str) -> Place:
    """An empty database where the command line says."""
    name = f"filled-{name}"
    if options.redis:
        return RedisDatabase(options.redis)
    if options.dynamodb:
        return DynamoDbTables(options.dynamodb, name)
    if options.files:
        return JsonFolder(options.folder / name)
    return SqliteFile(options.folder / name) if options.folder else PostgresDatabase(options.postgres, name)


def main(packages: Sequence[str], variants: Sequence[type[Variant]]) -> None:
    """The command line of a peer's script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--folder", type=Path, help="for SQLite files")
    parser.add_argument("--redis", help="the URL of a server")
    parser.add_argument("--dynamodb", help="the endpoint of a server")
    parser.add_argument("--files", action="store_true", help="files of JSON in that folder")
    parser.add_argument("--postgres", help="the URL of a server, whose user may create databases")
    options = parser.parse_args()
    filled: dict[tuple[str, int], Place] = {}
    results: list[dict[str, Any]] = []
    for kind in variants:
        cells: dict[str, Any] = {}
        for size in map(int, options.sizes.split(",")):
            if kind.largest is not None and size > kind.largest:
                continue
            template = filled.get((kind.filled_as, size))
            if template is None:
                template = filled[kind.filled_as, size] = new_place(options, f"{kind.filled_as}-{size}")
                fill(kind, size, options.turns, template)
            place = template.copy(f"{kind.__name__}-{size}")
            cells[str(size)] = measure(kind, size, options.turns, place)
            place.remove()
        results.append({"name": kind.name, "note": kind.note, "stores_less": kind.stores_less, "cells": cells})
    for template in filled.values():
        template.remove()
    versions = {package: version(package) for package in packages}
    print(json.dumps({"versions": versions, "variants": results}), flush=True)
