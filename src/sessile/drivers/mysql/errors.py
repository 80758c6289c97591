"""MySQL's and MariaDB's errors as ours, by their numbers.

Sources: dev.mysql.com/doc/mysql-errors/8.0/en/, mariadb.com/docs/server/reference/error-codes.
"""

from __future__ import annotations

import pymysql

from ... import errors as ours
from ...storage.withholding import reason_of
from ..sql.damage import TAKEN

LOST = {
    0,  # PyMySQL: the connection is closed
    1053,  # server shutdown in progress
    1079,  # normal shutdown
    1152,  # aborted connection
    1158,  # network error while reading
    1159,
    1160,
    1161,
    1927,  # MariaDB: the connection was killed
    2003,  # cannot connect
    2006,  # the server has gone away
    2013,  # lost connection during a query
    2014,  # commands out of sync
    2055,
    4031,  # MySQL: disconnected for inactivity
}
TEMPORARY = {
    1020,  # MariaDB: the record has changed since it was read (innodb_snapshot_isolation)
    1040,  # too many connections
    1203,
    1205,  # lock wait timeout
    1213,  # deadlock
    1226,  # too many connections of this user
    1637,  # too many active transactions
    3101,  # MySQL: the group has refused the transaction, and it was rolled back
}
DUPLICATE = 1062
CONSTRAINTS = {
    1048,  # NULL where there must be none
    1364,  # no value for a column that was added
    1451,  # foreign keys
    1452,
    1644,  # SIGNAL in a trigger
    3819,  # MySQL: a check
    4025,  # MariaDB: a check
}
READ_ONLY_TRANSACTION = 1792
READ_ONLY = {1290, READ_ONLY_TRANSACTION, 1836}
FULL = {1021, 1114, 1041}
DENIED = {1044, 1045, 1142, 1143, 1227, 1370}
MISSING = {1049, 1054, 1146}
DONE = {
    1054,  # no column of that name: it has the new one
    1060,  # a column of that name is there
    1061,  # an index of that name is there
}
"""What says that a change of the schema was made before."""

INTERRUPTED = {1317, 1969, 3024}
UNCERTAIN = 1180
"""COMMIT itself has failed."""


class DuplicateError(ours.CorruptDataError):
    """A row of that key is there already."""

    default_hint = TAKEN


def number_of(error: pymysql.err.MySQLError) -> int:
    """The number of an error, 0 if it has none."""
    first = error.args[0] if error.args else 0
    return first if isinstance(first, int) else 0


def is_lost(error: pymysql.err.MySQLError) -> bool:
    """Whether the connection is gone, or leads to a server that only follows another one."""
    number = number_of(error)
    if number == 0:
        return isinstance(error, (pymysql.err.InterfaceError, pymysql.err.OperationalError))
    return number in LOST or number in READ_ONLY


def translate(
    error: pymysql.err.MySQLError, what: str, where: str, *, written: ours.Written = "no"
) -> ours.StorageError:
    """An error of a statement; `written` is what is known of a write whose connection was lost.

    What the server itself refuses, it has not done, and the transaction is rolled back. A COMMIT that was interrupted
    or has failed may have happened.
    """
    number = number_of(error)
    said = reason_of(str(error.args[-1] if error.args else ""))
    reason = said or "the connection is closed"  # of which PyMySQL says no more
    text = f"{what} failed on {where}: {reason} ({number})."
    if number in READ_ONLY:
        return ours.ReadOnlyError(
            text, hint="The server only follows another one, or was set read-only; name the primary."
        )
    if is_lost(error) or number == UNCERTAIN:
        return ours.StorageUnavailableError(text, written=written)
    if number in TEMPORARY:
        return ours.StorageUnavailableError(text)
    if number in INTERRUPTED:
        return ours.DeadlineError(text, written=written)
    if number in FULL:
        return ours.StorageFullError(text)
    if number in DENIED:
        return ours.ReadOnlyError(text, hint="GRANT what is missing, or use another database user.")
    if number in MISSING:
        return ours.StorageError(text, hint="The tables are not there as expected: run `sessile migrate`.")
    if number == DUPLICATE:
        return DuplicateError(text)
    if number in CONSTRAINTS:
        return ours.ConstraintError(text)
    return ours.StorageError(text)
