"""Stores a database of the current schema version, when it is released: `python -m tests.schemas [DATABASE …]`.

The files are kept for ever: tests start from each of them. Needs the servers of the tests.
"""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pymongo
from bson import json_util
from psycopg.sql import SQL, Identifier, Literal
from tests.servers.fixtures import connect_mysql
from tests.servers.mariadb import MariaDbServer
from tests.servers.mongodb import FerretServer
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer, redis_client

from sessile import MongoDbStorage, MySQLStorage, PostgresStorage, RedisStorage, SqlAlchemyStorage, SqliteStorage
from sessile.storage import Storage

from .content import fill

FOLDER = Path(__file__).parent
TABLES = ("sessions", "commits", "records")


def _store(database: str, version: int, lines: list[str], suffix: str = "sql") -> None:
    path = FOLDER / database / f"{version:03}.{suffix}"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path.relative_to(FOLDER.parent.parent))


def _store_sqlite(database: str, make: type[Storage], url: str, version_table: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.db"
        with make.from_url(f"{url}/{path}") as storage:
            fill(storage)
        connection = sqlite3.connect(path)
        version = connection.execute(f"SELECT version FROM {version_table}").fetchone()[0]
        _store(database, version, list(connection.iterdump()))
        connection.close()


def _changes(storage: Storage, version_table: str) -> list[str]:
    """What makes the tables, without the rows of the one that says which version they have."""
    rows = re.compile(rf"(DELETE FROM|INSERT INTO) [`\"]?{version_table}")
    return [f"{statement};" for statement in storage.migrate() if not rows.match(statement)]


def _store_postgres(database: str, make: type[Storage], scheme: str, version_table: str) -> None:
    with PostgresServer() as server:
        with make.from_url(server.url.replace("postgresql", scheme, 1)) as storage:
            lines = _changes(storage, version_table)
            fill(storage)
        with psycopg.connect(server.url) as connection:
            version = connection.execute(f"SELECT version FROM {version_table}".encode()).fetchall()[0][0]
            for table in (version_table, *(f"sessile_{name}" for name in TABLES)):
                lines.extend(_inserts(connection, table))
        _store(database, version, lines)


def _store_mysql(database: str, make: type[Storage], scheme: str, version_table: str) -> None:
    with MariaDbServer() as server:
        with make.from_url(server.url.replace("mysql", scheme, 1)) as storage:
            lines = _changes(storage, version_table)
            fill(storage)
        with connect_mysql(server.url) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT version FROM {version_table}")
            version = cursor.fetchall()[0][0]
            for table in (version_table, *(f"sessile_{name}" for name in TABLES)):
                cursor.execute(f"SELECT * FROM {table}")
                for row in cursor.fetchall():
                    values = cursor.mogrify(", ".join(["%s"] * len(row)), row)
                    lines.append(f"INSERT INTO {table} VALUES ({values});")
        _store(database, version, lines)


def _inserts(connection: psycopg.Connection[Any], table: str) -> list[str]:
    cursor = connection.execute(SQL("SELECT * FROM {}").format(Identifier(table)))
    names = [Identifier(column.name) for column in cursor.description or []]
    insert = SQL("INSERT INTO {} ({}) VALUES ({});")
    lines: list[str] = []
    for row in cursor.fetchall():
        values = [Literal(psycopg.types.json.Jsonb(value) if isinstance(value, dict) else value) for value in row]
        lines.append(
            insert.format(Identifier(table), SQL(", ").join(names), SQL(", ").join(values)).as_string(connection)
        )
    return lines


def _store_redis() -> None:
    with RedisServer() as server:
        with RedisStorage(server.url) as storage:
            fill(storage)
        with redis_client(server.url) as client:
            keys = {key.decode(): _redis_key(client, key) for key in sorted(client.scan_iter())}
    _store("redis", int(keys["sessile:schema"]["value"]), [json.dumps(keys, indent=1)], "json")


def _redis_key(client: Any, key: bytes) -> dict[str, Any]:
    """Type, value and expiry of a key; binary values as surrogates."""
    kind = client.type(key).decode()
    value: Any
    match kind:
        case "string":
            value = _text(client.get(key))
        case "hash":
            value = {_text(name): _text(field) for name, field in sorted(client.hgetall(key).items())}
        case "zset":
            value = [[_text(member), score] for member, score in client.zrange(key, 0, -1, withscores=True)]
        case _:
            entries = client.xrange(key)
            value = [[_text(name), [_text(word) for pair in entry.items() for word in pair]] for name, entry in entries]
    return {"type": kind, "value": value, "expires": client.pexpiretime(key)}


def _text(value: bytes) -> str:
    return value.decode(errors="surrogateescape")


def _store_mongodb() -> None:
    with FerretServer() as server:
        with MongoDbStorage(server.url) as storage:
            fill(storage)
        with pymongo.MongoClient[dict[str, Any]](server.url) as client:
            database = client.get_default_database()
            collections = {name: _collection(database[name]) for name in sorted(database.list_collection_names())}
    (state,) = (found for found in collections["sessile_schema"]["documents"] if found["_id"] == "schema")
    text = json_util.dumps(collections, indent=1, json_options=json_util.CANONICAL_JSON_OPTIONS)
    _store("mongodb", state["version"], [text], "json")


def _collection(collection: Any) -> dict[str, Any]:
    """Documents, and the keys of indexes by their names."""
    indexes = {name: index["key"] for name, index in collection.index_information().items() if name != "_id_"}
    return {"documents": list(collection.find().sort("_id")), "indexes": indexes}


_OWN, _ENGINES = "sessile_schema", "sessile_sqlalchemy_schema"

STORES: dict[str, Callable[[str], None]] = {
    "redis": lambda name: _store_redis(),
    "mongodb": lambda name: _store_mongodb(),
    "sqlite": lambda name: _store_sqlite(name, SqliteStorage, "sqlite://", _OWN),
    "postgres": lambda name: _store_postgres(name, PostgresStorage, "postgresql", _OWN),
    "mysql": lambda name: _store_mysql(name, MySQLStorage, "mysql", _OWN),
    "sqlalchemy_sqlite": lambda name: _store_sqlite(name, SqlAlchemyStorage, "sqlalchemy+sqlite://", _ENGINES),
    "sqlalchemy_postgres": lambda name: _store_postgres(
        name, SqlAlchemyStorage, "sqlalchemy+postgresql+psycopg", _ENGINES
    ),
    "sqlalchemy_mysql": lambda name: _store_mysql(name, SqlAlchemyStorage, "sqlalchemy+mysql+pymysql", _ENGINES),
}

if __name__ == "__main__":
    for database in sys.argv[1:] or STORES:
        STORES[database](database)
