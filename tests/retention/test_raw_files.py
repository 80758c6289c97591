"""What was erased is in no file of a server, once that has been told to compact: the bytes on its disk are searched.

What the servers keep beside their data for a while (logs for recovery, replicas) docs/retention.md says.
"""

from __future__ import annotations

import re
import sqlite3
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

import psycopg
import pymongo
import pytest
from tests.campaigns import TORTURE
from tests.retention.helpers import SECRET, talk
from tests.servers.fixtures import Address, connect_mysql
from tests.servers.mariadb import MySqlFamilyServer
from tests.servers.mongodb import FerretServer
from tests.servers.objects import ObjectServer, SeaweedS3
from tests.servers.process import Server
from tests.servers.redis import RedisServer

import sessile
from sessile import ANY_USER
from sessile.retention import Policy, erase_user, retain

Look = Callable[[Any, str, bool], bytes]
"""The bytes that are on the disk: of a server, for a URL; after it has compacted, where that is said."""


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def of_postgres(server: Any, url: str, compacted: bool) -> bytes:
    """The files of all tables, of what they keep aside, and of their indexes."""
    with psycopg.connect(url, autocommit=True) as connection:
        if compacted:
            connection.execute("VACUUM FULL")
        connection.execute("CHECKPOINT")
        found = connection.execute(
            "SELECT pg_read_binary_file(pg_relation_filepath(c.oid)) FROM pg_class c JOIN pg_namespace n"
            " ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'i', 't') AND n.nspname !~ '^(pg_catalog|information)'"
        )
        return b"".join(bytes(content) for (content,) in found)


def of_mysql(server: MySqlFamilyServer, url: str, compacted: bool) -> bytes:
    with closing(connect_mysql(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        for (name,) in list(cursor.fetchall()):
            if compacted:
                cursor.execute(f"OPTIMIZE TABLE `{name}`")
            cursor.execute(f"FLUSH TABLES `{name}` FOR EXPORT")  # all of its pages are written
            cursor.execute("UNLOCK TABLES")
    return on_disk(server.data / urlsplit(url).path[1:])


def of_redis(server: RedisServer, url: str, compacted: bool) -> bytes:
    """The append-only file and a dump; neither compressed, so that it can be searched."""
    with server.connect() as client:
        client.config_set("rdbcompression", "no")
        if compacted:
            client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
        client.save()
        client.config_set("rdbcompression", "yes")
    return on_disk(server.folder / "data")


def of_ferretdb(server: FerretServer, url: str, compacted: bool) -> bytes:
    with pymongo.MongoClient[dict[str, Any]](url) as client:
        database = client.get_default_database()
        for name in database.list_collection_names() if compacted else ():
            database.command("compact", name, force=True)
    return of_postgres(server, server.database.url, False)


def of_objects(server: ObjectServer, url: str, compacted: bool) -> bytes:
    """All objects below the URL's prefix, and their names: what the service gives to any client."""
    bucket, _, prefix = url.partition("://")[2].partition("?")[0].partition("/")
    names: list[str] = []
    while True:
        after = {"start-after": names[-1]} if names else {}
        asked = urlencode({"list-type": "2", "prefix": prefix, **after})
        found = ElementTree.fromstring(_get(f"{server.endpoint}/{bucket}?{asked}"))
        page = [element.text or "" for element in found.iter() if element.tag.rpartition("}")[2] == "Key"]
        names += page
        if not page:
            break
    content = [_get(f"{server.endpoint}/{bucket}/{quote(name)}") for name in names]
    return b"\n".join([*content, *(name.encode() for name in names)])


def of_seaweedfs(server: SeaweedS3, url: str, compacted: bool) -> bytes:
    """Its volumes and its table of names; those of buckets that are gone are among them."""
    disk, before = on_disk(server.folder / "data"), b""
    while compacted and disk != before:  # it deletes what was replaced by and by
        time.sleep(2)
        server.vacuum()
        disk, before = on_disk(server.folder / "data"), disk
    disk = b"".join(_unpacked(disk))
    assert compacted or SECRET.encode() in disk, "what is looked for can be found"
    return of_objects(server, url, compacted) + disk


def _unpacked(content: bytes) -> Iterator[bytes]:
    """The content itself, and whatever in it is packed."""
    yield content
    for found in re.finditer(re.escape(b"\x1f\x8b\x08"), content):
        with suppress(zlib.error):
            yield zlib.decompressobj(31).decompress(content[found.start() :])


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address) as answer:
        return bytes(answer.read())


def of_dynoxide(server: Server, url: str, compacted: bool) -> bytes:
    with closing(sqlite3.connect(server.folder / "data.db")) as connection:
        if compacted:
            connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return b"".join(path.read_bytes() for path in server.folder.glob("data.db*"))


MORE: dict[str, tuple[str, str, Look]] = {
    "mysql": ("mysql", "mysql_itself_url", of_mysql),
    "seaweedfs": ("seaweedfs", "seaweedfs_url", of_seaweedfs),
}

LOOK: dict[str, tuple[str, str, Look]] = {
    "postgres": ("postgres", "postgres_url", of_postgres),
    "mariadb": ("mariadb", "mysql_url", of_mysql),
    "redis": ("redis_server", "redis_url", of_redis),
    "valkey": ("valkey_server", "valkey_url", of_redis),
    "ferretdb": ("mongodb", "mongodb_url", of_ferretdb),
    "dynoxide": ("dynamodb", "dynamodb_url", of_dynoxide),
    "s3": ("s3", "s3_url", of_objects),
    "gcs": ("gcs", "gcs_url", of_objects),
    **(MORE if TORTURE else {}),
}


@pytest.mark.parametrize("name", LOOK)
def test_nothing_of_a_user_is_in_the_files(name: str, request: pytest.FixtureRequest) -> None:
    """Of ada all is erased, of bob the oldest runs and one more, and what has expired is swept.

    What is bob's otherwise is there still.
    """
    fixture, url_fixture, look = LOOK[name]
    server, url = request.getfixturevalue(fixture), str(request.getfixturevalue(url_fixture))
    if isinstance(server, Address) and name != "postgres":
        pytest.skip("The disk of a server that somebody else runs is not to be seen.")
    with sessile.open(url) as storage:
        indexed = name in ("postgres", "mariadb", "mysql")
        talk(storage, "ada", SECRET)
        talk(storage, "bob", "penguin")
        storage.create_session("old", name="narwhal", metadata={"word": "narwhal"}, ttl=0.001)
        if indexed:
            assert storage.index().search(SECRET, user_id=ANY_USER)
        before = look(server, url, False)
        assert before.count(SECRET.encode()) > 5, "what is looked for can be found"
        assert b"penguin said 1" in before
        assert b"narwhal" in before
        while storage.get_session("old") is not None:
            time.sleep(0.01)
        assert storage.sweep() == 1
        assert erase_user(storage, "ada").complete
        if storage.capabilities.rewrites:
            retain(storage, [Policy(runs=2, user_id="bob")])
            storage.erase_run("bob", 3, user_id="bob")
        if indexed:
            storage.index().compact()
        after = look(server, url, True)
        storage.verify("bob", user_id="bob")
    assert SECRET.encode() not in after
    assert b"narwhal" not in after
    assert b"penguin said 4" in after
    for number in (1, 2, 3):
        assert (f"penguin said {number}".encode() in after) is not storage.capabilities.rewrites
