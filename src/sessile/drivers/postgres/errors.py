"""PostgreSQL's errors as ours, by their SQLSTATE (postgresql.org/docs/current/errcodes-appendix.html)."""

from __future__ import annotations

import psycopg

from ... import errors as ours
from ...storage.withholding import reason_of
from ..sql.damage import TAKEN

TEMPORARY = {
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "55P03",  # lock not available
}
DUPLICATE = "23505"
PLAIN = {
    "57014": ours.DeadlineError,
    "53100": ours.StorageFullError,
    "XX001": ours.CorruptDataError,
    "XX002": ours.CorruptDataError,
}
UNPREPARED = {"26000", "42P05"}
"""A prepared statement is missing, or is there already: a pooler has changed the connection behind our back."""

READ_ONLY_TRANSACTION = "25006"
READ_ONLY_HINT = (
    "The server only follows another one, or lets transactions only read (default_transaction_read_only); "
    "name the primary."
)


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or has led to a server that is going down or only follows another one."""
    code = error.sqlstate or ""
    if code in (READ_ONLY_TRANSACTION, *UNPREPARED) or code[:2] == "08" or code[:4] == "57P0":
        return True
    return not code and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def translate(error: psycopg.Error, what: str, where: str, *, written: ours.Written = "no") -> ours.StorageError:
    """An error of a statement; `written` is what is known of a write whose connection was lost.

    What PostgreSQL itself refuses, it has undone.
    """
    code = error.sqlstate or ""
    text = f"{what} failed on {where}: {reason_of(error) if str(error).strip() else code}."
    if code == READ_ONLY_TRANSACTION:
        return ours.ReadOnlyError(text, hint=READ_ONLY_HINT)
    if code in UNPREPARED:
        return ours.StorageUnavailableError(text, hint="A pooler stands in between: use prepare=False.")
    if is_lost(error):
        return ours.StorageUnavailableError(text, written=written)
    if code in TEMPORARY:
        return ours.StorageUnavailableError(text)
    if code in PLAIN:
        return PLAIN[code](text)
    if code[:2] == "23" or code == "P0001":  # integrity constraints; RAISE in a trigger
        return ours.CorruptDataError(text, hint=TAKEN) if code == DUPLICATE else ours.ConstraintError(text)
    if code == "42501":
        return ours.ReadOnlyError(text, hint="GRANT what is missing, or use another database user.")
    if code in ("42P01", "42703", "3F000"):
        return ours.StorageError(text, hint="The tables are not there as expected: run `sessile migrate`.")
    if code == "25P02":
        return ours.StorageError(text, hint="An earlier statement of the transaction failed: roll it back.")
    return ours.StorageError(text)
