"""Settings with which a database loses what it has acknowledged are told."""

from __future__ import annotations

import pytest

from sessile.drivers.sql import durability

from .helpers import Database


def test_settings_that_lose_commits(database: Database) -> None:
    with database.open() as storage:
        assert storage.warnings() == []
    if database.is_postgres:
        name = database.address.rpartition("/")[2]
        schema_table = "sessile_commits"
        database.sql(f"ALTER DATABASE {name} SET synchronous_commit = off", f"ALTER TABLE {schema_table} SET UNLOGGED")
        expected = ["synchronous_commit is off", f"{schema_table}"]
    else:
        database.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        expected = ["innodb_flush_log_at_trx_commit is 2"]
    try:
        with database.open() as storage:
            warnings = storage.warnings()
    finally:
        if not database.is_postgres:
            database.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert len(warnings) == len(expected)
    for said, part in zip(warnings, expected, strict=True):
        assert part in said


@pytest.mark.parametrize(
    ("warnings", "number"),
    [
        (durability.of_postgres({"fsync": "off", "full_page_writes": "off", "synchronous_commit": "on"}), 2),
        (durability.of_postgres({"fsync": "on", "full_page_writes": "on", "synchronous_commit": "local"}), 0),
        (durability.of_mysql({"innodb_doublewrite": "OFF", "log_bin": "ON", "sync_binlog": "0"}), 2),
        (durability.of_mysql({"innodb_flush_log_at_trx_commit": "1", "log_bin": "OFF", "sync_binlog": "0"}), 0),
        (durability.of_sqlite("NORMAL"), 1),
        (durability.of_sqlite(0), 1),
        (durability.of_sqlite(2), 0),
    ],
)
def test_what_is_told_of_settings(warnings: list[str], number: int) -> None:
    assert len(warnings) == number
