"""Databases of every released schema version are brought up to date, and are then what a new one is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pytest
from bson import json_util
from tests.redis_driver.helpers import prefix_of
from tests.servers.fixtures import connect_mysql
from tests.servers.redis import RedisCluster, redis_client

import sessile
from sessile.storage import Storage
from sessile.storage.core import Core
from sessile.storage.driver import ListQuery
from sessile.storage.extending import operate

from . import programs
from .content import check

FOLDER = Path(__file__).parent


def stored(*databases: str) -> Any:
    """One test for each stored database: the driver's URL up to the address, and the file."""
    cases: list[Any] = []
    for database in databases:
        folder, _, scheme = database.partition(" ")
        paths = sorted(path for path in (FOLDER / folder).iterdir() if path.suffix in (".sql", ".json"))
        assert paths, f"there is no stored database of {folder}"
        cases += [pytest.param(scheme, path, id=f"{folder}-{path.stem}") for path in paths]
    return pytest.mark.parametrize(("scheme", "script"), cases)


@stored("sqlite sqlite", "sqlalchemy_sqlite sqlalchemy+sqlite")
def test_sqlite(scheme: str, script: Path, tmp_path: Path) -> None:
    paths = tmp_path / "old.db", tmp_path / "new.db"
    connection = sqlite3.connect(paths[0])
    connection.executescript(script.read_text(encoding="utf-8"))
    connection.close()
    with sessile.open(f"{scheme}:///{paths[0]}") as storage:
        storage.migrate(finish=True)
        check(storage)
    with sessile.open(f"{scheme}:///{paths[1]}") as storage:
        storage.setup()
    old, new = (sqlite_schema(path) for path in paths)
    assert old == new
    assert len(new) > 8


def sqlite_schema(path: Path) -> Any:
    """Columns, indexes and versions."""
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = {table: connection.execute(f"PRAGMA table_xinfo({table})").fetchall() for table in tables}
    indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index' ORDER BY name").fetchall()
    (version,) = (table for table in tables if table.endswith("schema"))
    versions = connection.execute(f"SELECT * FROM {version}").fetchall()
    connection.close()
    return {**columns, **dict(indexes), "versions": versions}


@stored("postgres postgresql", "sqlalchemy_postgres sqlalchemy+postgresql+psycopg")
def test_postgres(scheme: str, script: Path, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("CREATE SCHEMA old; CREATE SCHEMA new; SET search_path TO old")
        connection.execute(script.read_text(encoding="utf-8").encode())
    url = postgres_url.replace("postgresql", scheme, 1)
    with sessile.open(url, schema="old") as storage:
        storage.migrate(finish=True)
        check(storage)
    with sessile.open(url, schema="new") as storage:
        storage.setup()
    with psycopg.connect(postgres_url) as connection:
        old, new = (postgres_schema(connection, schema) for schema in ("old", "new"))
    assert old == new
    assert len(new) > 30


def postgres_schema(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Columns, indexes and constraints as text, without the name of the schema."""
    rows = connection.execute(
        """
        SELECT format('%%s.%%s %%s %%s %%s %%s', table_name, column_name, data_type, is_nullable, column_default,
            collation_name) FROM information_schema.columns WHERE table_schema = %(schema)s
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = %(schema)s
        UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = %(schema)s::regnamespace
        """,
        {"schema": schema},
    )
    return sorted(row[0].replace(f"{schema}.", "") for row in rows)


@stored("mysql mysql", "sqlalchemy_mysql sqlalchemy+mysql+pymysql")
def test_mysql(scheme: str, script: Path, mysql_url: str) -> None:
    url = mysql_url.replace("mysql", scheme, 1)
    with connect_mysql(mysql_url) as connection, connection.cursor() as cursor:
        text = script.read_text(encoding="utf-8")
        cursor.execute("SELECT VERSION()")
        if "MariaDB" not in cursor.fetchall()[0][0]:
            text = text.replace("utf8mb4_nopad_bin", "utf8mb4_0900_bin")  # what our drivers take there
        for statement in text.split(";\n"):
            if statement.strip():
                cursor.execute(statement)
        with sessile.open(url) as storage:
            storage.migrate(finish=True)
            check(storage)
        with sessile.open(url, prefix="fresh_") as storage:
            storage.setup()
        old, new = (mysql_schema(cursor, prefix) for prefix in ("sessile_", "fresh_"))
    assert old == new
    assert len(new) == 4


def mysql_schema(cursor: Any, prefix: str) -> list[str]:
    """The statements that would make the tables, without their prefix."""
    cursor.execute("SHOW TABLES")
    tables = sorted(name for (name,) in cursor.fetchall() if name.startswith(prefix))
    texts: list[str] = []
    for table in tables:
        cursor.execute(f"SHOW CREATE TABLE {table}")
        texts.append(cursor.fetchall()[0][1].replace(prefix, ""))
    return texts


@stored("redis redis")
def test_redis(scheme: str, script: Path, redis_url: str) -> None:
    prefix = prefix_of(redis_url)
    with redis_client(redis_url) as client:
        restore_redis(client, prefix, script)
        with sessile.open(redis_url) as storage:
            check_agents(storage)
            check(storage)
        assert client.get(f"{prefix}schema") == b"2"
        assert not [key for key in client.scan_iter(match=f"{prefix}*") if b":owner:" in key or b"moving" in key]
        assert not client.hexists(f"{prefix}{{s%2F1}}:head", "owner")
    assert scheme in redis_url


@stored("redis redis")
def test_redis_cluster(scheme: str, script: Path, redis_cluster: RedisCluster, redis_cluster_url: str) -> None:
    with redis_cluster.connect() as client:
        restore_redis(client, prefix_of(redis_cluster_url), script)
    with sessile.open(redis_cluster_url) as storage:
        check_agents(storage)
        check(storage)
    assert scheme in redis_cluster_url


@stored("mongodb mongodb")
def test_mongodb(scheme: str, script: Path, mongodb_url: str) -> None:
    with pymongo.MongoClient[dict[str, Any]](mongodb_url) as client:
        database = client.get_default_database()
        for name, old_one in json_util.loads(script.read_text(encoding="utf-8")).items():
            database[name].insert_many(old_one["documents"])
            for index, key in old_one["indexes"].items():
                database[name].create_index([(field, int(direction)) for field, direction in key], name=index)
        with sessile.open(mongodb_url) as storage:
            check_agents(storage)
            check(storage)
        with sessile.open(f"{mongodb_url}?prefix=new_") as storage:
            storage.setup()
        old, new = (mongodb_schema(database, prefix) for prefix in ("sessile_", "new_"))
        assert old == new
        assert len(new) == 13
        assert database["sessile_sessions"].find_one({"owner": {"$exists": True}}) is None
    assert scheme in mongodb_url


def check_agents(storage: Storage) -> None:
    """Lists by the name that version 1 had another one for, and of sessions without a user, which had none."""
    assert listed(storage, agent="support") == listed(storage, agent="support", user_id="ada") == ["s/1"]
    assert listed(storage, agent="support", order="created") == ["s/1"]
    assert listed(storage, user_id=None) == listed(storage, user_id=None, order="created") == ["Σ\n'; --"]
    assert listed(storage, agent="support", user_id=None) == []


def listed(storage: Storage, **query: Any) -> list[str]:
    """The sessions of a list, as the driver has it."""

    async def operation(core: Core) -> list[str]:
        await core.prepare(core.deadline())
        page = await core.driver.list(ListQuery(**query), core.deadline())
        return [row.session_id for row in page.rows]

    return operate(storage, operation)


def mongodb_schema(database: Any, prefix: str) -> dict[str, Any]:
    """Indexes and versions."""
    numbers = database[f"{prefix}schema"].find_one({"_id": "schema"})
    indexes = database[f"{prefix}sessions"].index_information()
    return {**{name: index["key"] for name, index in indexes.items()}, "versions": numbers}


def restore_redis(client: Any, prefix: str, script: Path) -> None:
    """Write what a file of `python -m tests.schemas` has, under another prefix."""
    for name, stored_key in json.loads(script.read_text(encoding="utf-8")).items():
        key, value = f"{prefix}{name.removeprefix('sessile:')}", stored_key["value"]
        match stored_key["type"]:
            case "string":
                client.set(key, value)
            case "hash":
                fields = {field: text.encode(errors="surrogateescape") for field, text in value.items()}
                client.hset(key, mapping=fields)
            case "zset":
                client.zadd(key, {member: int(score) for member, score in value})
            case _:
                for entry, words in value:
                    client.xadd(key, dict(zip(words[::2], words[1::2], strict=True)), id=entry)
        if stored_key["expires"] > 0:
            client.pexpireat(key, stored_key["expires"])


@pytest.mark.parametrize("folder", sorted((FOLDER / "json").iterdir()), ids=lambda folder: f"json-{folder.name}")
def test_json(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "old")
    with sessile.open(f"json:///{tmp_path / 'old'}") as storage:
        check(storage)
        programs.check(storage)
