"""What was erased stands in no table and in no file of a table, once the tables are compacted."""

from __future__ import annotations

import psycopg

from sessile import PostgresStorage
from sessile.retention import Policy, erase_user, retain

SECRET = "walrus-7731"


def files_of(connection: psycopg.Connection, prefix: str) -> bytes:
    """The files of all tables, of what they keep aside, and of their indexes."""
    connection.execute("CHECKPOINT")
    rows = connection.execute(
        "SELECT pg_relation_filepath(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'i', 't') AND (c.relname LIKE %(p)s OR c.oid IN"
        " (SELECT reltoastrelid FROM pg_class WHERE relname LIKE %(p)s))",
        {"p": f"{prefix}%"},
    ).fetchall()
    read = "SELECT pg_read_binary_file(%s)"
    return b"".join(bytes(connection.execute(read, [path]).fetchone()[0]) for (path,) in rows)  # pyright: ignore[reportOptionalSubscript]


def test_nothing_is_left(postgres_url: str) -> None:
    with PostgresStorage(postgres_url, prefix="gone_") as storage:
        for number in range(1, 5):
            storage.add_run("s1", input=f"{SECRET} in {number}", output=SECRET, state={"w": SECRET}, user_id="ada")
            storage.add_run("s2", input=f"{SECRET} kept {number}", user_id="bob")
        storage.rename("s1", SECRET, user_id="ada")
        retain(storage, [Policy(runs=1, user_id="bob")])
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            assert f"{SECRET} in 1".encode() in files_of(connection, "gone_")
            report = erase_user(storage, "ada")
            assert report.complete
            assert "VACUUM FULL" in report.compaction
            for table in ("sessions", "commits", "records"):
                connection.execute(f"VACUUM FULL gone_{table}".encode())
            found = files_of(connection, "gone_")
    assert f"{SECRET} in".encode() not in found
    assert f"{SECRET} kept 1".encode() not in found
    assert f"{SECRET} kept 4".encode() in found
