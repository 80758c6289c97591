"""SQLAlchemy's errors as ours: by SQLSTATE, or by the number that the database gives its own errors."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ... import errors as ours
from ...storage.driver import Deadline
from ...storage.withholding import reason_of
from ..sql.damage import TAKEN

Code = str | int
Kind = Literal[
    "temporary",
    "unclear",
    "read_only",
    "denied",
    "missing",
    "late",
    "full",
    "large",
    "corrupt",
    "spoiled",
    "taken",
    "constraint",
]

_POSTGRES: dict[Kind, set[Code]] = {  # SQLSTATE: postgresql.org/docs/current/errcodes-appendix.html
    "temporary": {"40001", "40P01", "53300", "55P03"},
    "unclear": {"40003"},
    "read_only": {"25006"},
    "denied": {"42501"},
    "missing": {"42P01", "42703", "3F000"},
    "late": {"57014"},
    "full": {"53100"},
    "corrupt": {"XX001", "XX002"},
    "spoiled": {"25P02"},
    "taken": {"23505"},
    "constraint": {"23000", "23001", "23502", "23503", "23514", "23P01", "P0001"},
}
_MYSQL: dict[Kind, set[Code]] = {  # dev.mysql.com/doc/mysql-errors/8.4/en, mariadb.com/kb/en/mariadb-error-codes
    "temporary": {1020, 1040, 1203, 1205, 1213, 3572},
    "read_only": {1290, 1792, 1836},
    "denied": {1044, 1142, 1143, 1227},
    "missing": {1049, 1054, 1146},
    "late": {1317, 1969, 3024},
    "full": {1021, 1114},
    "corrupt": {1034, 1194, 1712},
    "large": {1153},
    "taken": {1062},
    "constraint": {1048, 1364, 1451, 1452, 1644, 3819, 4025},
}
_SQLITE: dict[Kind, set[Code]] = {  # primary result codes: sqlite.org/rescode.html
    "temporary": {5, 6},
    "read_only": {8},
    "late": {9},
    "full": {13},
    "corrupt": {11, 26},
    "taken": {1555, 2067},  # of constraints those of keys: extended result codes
    "constraint": {19},
}
_SQL_SERVER: dict[Kind, set[Code]] = {  # sys.messages
    "temporary": {1205, 1222, 3960},
    "read_only": {3906},
    "denied": {229, 262},
    "missing": {207, 208},
    "full": {1105, 9002},
    "taken": {2601, 2627},
    "constraint": {515, 547},
}
_ORACLE: dict[Kind, set[Code]] = {  # ORA- numbers
    "temporary": {54, 60, 8177},
    "read_only": {16000},
    "denied": {1031},
    "missing": {904, 942},
    "late": {1013},
    "full": {1653, 1654, 1658},
    "taken": {1},
    "constraint": {1400, 2290, 2291, 2292},
}
KINDS = {
    "cockroachdb": _POSTGRES,
    "mariadb": _MYSQL,
    "mssql": _SQL_SERVER,
    "mysql": _MYSQL,
    "oracle": _ORACLE,
    "postgresql": _POSTGRES,
    "singlestoredb": _MYSQL,
    "sqlite": _SQLITE,
}

ALREADY_THERE: dict[str, set[Code]] = {
    "mariadb": {1050, 1054, 1060, 1061},
    "mysql": {1050, 1054, 1060, 1061},
    "oracle": {904, 955, 1430},
    "singlestoredb": {1050, 1054, 1060, 1061},
}
"""What databases that change tables outside of a transaction say of a change that another process has made.

A table, column or index of that name is there, or the column of the old name is not.
"""


@dataclass(slots=True)
class Attempt:
    """One attempt at an operation: how far it has come decides what an error means.

    Attributes:
        writes: whether it is a transaction to be committed.
        phase: of a transaction that fails while it is "working", nothing is written.
    """

    writes: bool
    phase: Literal["connecting", "working", "committing"] = field(default="connecting")


def codes_of(error: BaseException | None) -> set[Code]:
    """What the database itself calls an error of its client library's: each keeps that in a place of its own."""
    first: Any = error.args[0] if error is not None and error.args else None
    places: list[Any] = [
        getattr(error, "sqlstate", None),  # psycopg, asyncpg
        getattr(error, "pgcode", None),  # psycopg2
        getattr(error, "sqlite_errorcode", 0) & 0xFF,
        getattr(error, "sqlite_errorcode", None),
        getattr(first, "code", first),  # oracledb; PyMySQL, aiomysql, mysqlclient, singlestoredb
    ]
    if error is not None and isinstance(first, str) and len(error.args) == 2:
        # pyodbc: a SQLSTATE, and a text that ends with the server's own number.
        places += [int(number) for number in re.findall(r"\((\d+)\)", str(error.args[1]))[-1:]]
    return {code for code in places if isinstance(code, (str, int))}


def is_lost(error: SQLAlchemyError) -> bool:
    """Whether the connection is gone, or of no use any more.

    psycopg's and asyncpg's errors have the server's code; without one the client itself has failed, as after half of an
    answer: "another command is already in progress". SQLAlchemy takes only a closed connection for a lost one.
    """
    if not isinstance(error, DBAPIError):
        return False
    of_the_client = (
        isinstance(error, (OperationalError, InterfaceError)) and getattr(error.orig, "sqlstate", "") is None
    )
    return error.connection_invalidated or of_the_client


def is_already_there(error: DBAPIError, dialect: str) -> bool:
    """Whether a change of the schema could not be made because it was made before."""
    return not codes_of(error.orig).isdisjoint(ALREADY_THERE.get(dialect, ()))


def translate(error: Exception, what: str, where: str, dialect: str, attempt: Attempt) -> ours.StorageError:
    """An error of an attempt; `written` is "unknown" only if the answer to a COMMIT was lost."""
    if isinstance(error, PoolTimeoutError):
        return ours.StorageUnavailableError(
            f"{what} on {where}: all connections of the pool were in use.",
            hint="Try again, or give the engine a larger pool_size.",
        )
    original = error.orig if isinstance(error, DBAPIError) else error
    text = f"{what} failed on {where}: {_first_line(original or error)}."
    kind = kind_of(codes_of(original), dialect)
    if attempt.phase == "connecting" and kind not in ("corrupt", "read_only"):
        return ours.StorageUnavailableError(
            f"Connecting to {where} failed: {_first_line(original or error)}.",
            hint="Check that the database is up and reachable, and the user and password.",
        )
    if "decode to UTF-8" in text:  # SQLite's client, of text that it cannot read
        kind = "corrupt"
    refused = kind is not None and kind != "unclear"
    unknown = attempt.phase == "committing" and not refused
    lost = isinstance(error, SQLAlchemyError) and is_lost(error)
    if kind is None and (lost or isinstance(error, OSError)):
        return ours.StorageUnavailableError(text, written="unknown" if unknown else "no")
    failed = _by_kind(kind, text)
    failed.written = "unknown" if unknown else "no"
    return failed


def late(what: str, where: str, deadline: Deadline, attempt: Attempt) -> ours.DeadlineError:
    """The error of an attempt that was given up at its deadline."""
    unknown = attempt.phase == "committing"
    return ours.DeadlineError(
        f"{what} on {where} did not end within {deadline.timeout:g} s.",
        written="unknown" if unknown else "no",
        retryable=not unknown,
    )


def kind_of(codes: set[Code], dialect: str) -> Kind | None:
    """What an error is about, as far as we know the database's codes."""
    return next((kind for kind, known in KINDS.get(dialect, {}).items() if not codes.isdisjoint(known)), None)


_PLAIN: dict[Kind | None, type[ours.StorageError]] = {
    "temporary": ours.StorageUnavailableError,
    "unclear": ours.StorageUnavailableError,
    "late": ours.DeadlineError,
    "full": ours.StorageFullError,
    "read_only": ours.ReadOnlyError,
    "corrupt": ours.CorruptDataError,
    "constraint": ours.ConstraintError,
}


def _by_kind(kind: Kind | None, text: str) -> ours.StorageError:
    if kind in _PLAIN:
        return _PLAIN[kind](text)
    match kind:
        case "denied":
            return ours.ReadOnlyError(text, hint="GRANT what is missing, or use another database user.")
        case "missing":
            return ours.StorageError(text, hint="The tables are not there as expected: run `sessile migrate`.")
        case "large":
            return ours.StorageError(text, hint="Raise max_allowed_packet, or make the storage with smaller limits.")
        case "taken":
            return ours.CorruptDataError(text, hint=TAKEN)
        case "spoiled":
            return ours.StorageError(text, hint="An earlier statement of the transaction failed: roll it back.")
        case _:
            return ours.StorageError(text)


def _first_line(error: BaseException) -> str:
    """What the database said, in one line."""
    said: Any = error.args[-1] if error.args else ""  # PyMySQL gives number and text
    return reason_of(said if isinstance(said, str) and said.strip() else error)
