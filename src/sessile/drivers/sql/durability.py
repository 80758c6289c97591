"""What settings of SQL databases let acknowledged commits be lost, as the databases say themselves."""

from __future__ import annotations

from collections.abc import Mapping

POSTGRES = (
    "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') "
    "UNION ALL SELECT 'unlogged', '{table}' FROM pg_class WHERE oid = '{table}'::regclass AND relpersistence = 'u'"
)
"""Names and values. The table of commits is to be put in as it stands in statements."""

MYSQL = (
    "SHOW GLOBAL VARIABLES WHERE Variable_name IN "
    "('innodb_flush_log_at_trx_commit', 'innodb_doublewrite', 'log_bin', 'sync_binlog')"
)
"""Names and values."""


def of_postgres(settings: Mapping[str, str]) -> list[str]:
    """Warnings for PostgreSQL (postgresql.org/docs/current/runtime-config-wal.html)."""
    found: list[str] = []
    if settings.get("fsync") == "off":
        found.append("fsync is off: a power cut may damage the whole database. Set it to on.")
    if settings.get("full_page_writes") == "off":
        found.append("full_page_writes is off: a power cut may damage the database. Set it to on.")
    if settings.get("synchronous_commit") == "off":
        found.append(
            "synchronous_commit is off: a crash of the server may take the commits of the last moments. Set it to on, "
            "for this user or in the URL: ?options=-csynchronous_commit%3Don."
        )
    if "unlogged" in settings:
        found.append(
            f"The table {settings['unlogged']} is unlogged: a crash of the server empties it. ALTER TABLE … SET LOGGED."
        )
    return found


def of_mysql(settings: Mapping[str, str]) -> list[str]:
    """Warnings for MySQL and MariaDB (dev.mysql.com/doc/refman/8.4/en/innodb-parameters.html)."""
    found: list[str] = []
    flush = settings.get("innodb_flush_log_at_trx_commit", "1")
    if flush not in ("1", "3"):  # 3 is MariaDB's, and safer
        found.append(
            f"innodb_flush_log_at_trx_commit is {flush}: a power cut may take the commits of the last second. "
            "Set it to 1."
        )
    if settings.get("innodb_doublewrite", "ON").upper() in ("OFF", "0"):
        found.append("innodb_doublewrite is off: a power cut may damage tables. Set it to ON.")
    if settings.get("log_bin", "OFF").upper() in ("ON", "1") and settings.get("sync_binlog", "1") != "1":
        found.append(
            f"sync_binlog is {settings['sync_binlog']} with a binary log: after a power cut the last commits may be "
            "missing, here or in replicas. Set it to 1."
        )
    return found


def of_sqlite(synchronous: int | str) -> list[str]:
    """Warnings for SQLite, by its pragma `synchronous` (sqlite.org/pragma.html#pragma_synchronous)."""
    if str(synchronous) in ("0", "OFF"):
        return ["synchronous is OFF: a power cut may damage the file. Use FULL."]
    if str(synchronous) in ("1", "NORMAL"):
        return ["synchronous is NORMAL: a power cut may take the last commits. Use FULL."]
    return []
