"""PostgreSQL's errors as ours, by their SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html)."""

from __future__ import annotations

import psycopg

from ...errors import DeadlineError, ReadOnlyError, StorageError, StorageFullError, StorageUnavailableError, Written

TEMPORARY = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "55P03",  # lock not available
}
UNPREPARED = {"26000", "42P05"}
"""A prepared statement is missing, or is there already: a pooler has changed the connection behind our back."""

READ_ONLY_TRANSACTION = "25006"


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or has led to a server that is going down or only follows another one."""
    code = error.sqlstate or ""
    if code in (READ_ONLY_TRANSACTION, *UNPREPARED) or code[:2] == "08" or code[:4] == "57P0":
        return True
    return not code and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def translate(error: psycopg.Error, what: str, where: str, *, written: Written = "no") -> StorageError:
    """An error of a statement; `written` is what is known of a write whose connection was lost.

    What PostgreSQL itself refuses, it has undone.
    """
    code = error.sqlstate or ""
    text = f"{what} failed on {where}: {str(error).strip().splitlines()[0] if str(error).strip() else code}."
    if code == READ_ONLY_TRANSACTION:
        return ReadOnlyError(text, hint="The server only follows another one; name the primary.")
    if code in UNPREPARED:
        return StorageUnavailableError(text, hint="A pooler stands in between: use prepare=False.")
    if is_lost(error):
        return StorageUnavailableError(text, written=written)
    if code in TEMPORARY:
        return StorageUnavailableError(text)
    if code == "57014":
        return DeadlineError(text)
    if code == "53100":
        return StorageFullError(text)
    if code == "42501":
        return ReadOnlyError(text, hint="GRANT what is missing, or use another database user.")
    if code in ("42P01", "42703", "3F000"):
        return StorageError(text, hint="The tables are not there as expected: run `sessile migrate`.")
    if code == "25P02":
        return StorageError(text, hint="An earlier statement of the transaction failed: roll it back.")
    return StorageError(text)
