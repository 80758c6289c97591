"""PyMongo's errors as ours, by their class and the server's code (mongodb.com/docs/manual/reference/error-codes)."""

from __future__ import annotations

from typing import NamedTuple

from bson.errors import BSONError
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    InvalidOperation,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
)

from ... import errors as ours
from ...storage.withholding import reason_of

NOT_PRIMARY = {10107, 13435, 13436}
"""The server takes no writes, and has done nothing."""

STEPPING_DOWN = {91, 189, 11600, 11602}
"""The server went down or stopped being the primary; what it was doing may have happened."""

TEMPORARY = {24, 46, 112, 262, 11601}
"""Locks, conflicting writes, interruptions."""

UNSURE = {1, 8}
"""Something went wrong within the server, or it knows no more than that."""

FULL = {14031, 292}
FORBIDDEN = {13, 8000}
AUTHENTICATION = {11, 18}
NOT_IMPLEMENTED = 238
INDEX_NOT_FOUND = 27


DUPLICATE_KEY = 11000


class Refusal(NamedTuple):
    """Which statement of a command the server has refused, counted from 0, by which code and in which words."""

    statement: int
    code: int
    text: str


def refusal(error: BaseException | None) -> Refusal | None:
    """The statement that ended a command of several; None if it was none, or an error of the whole command."""
    errors = (error.details or {}).get("writeErrors") if isinstance(error, BulkWriteError) else None
    return Refusal(errors[0]["index"], errors[0]["code"], errors[0].get("errmsg", "")) if errors else None


def code_of(error: PyMongoError | BSONError) -> int:
    """The server's code, 0 if the server has said nothing."""
    if isinstance(error, NotPrimaryError):
        return error.details.get("code", 0) if isinstance(error.details, dict) else 0
    refused = refusal(error)
    code = getattr(error, "code", None) if refused is None else refused.code
    return code if isinstance(code, int) else 0


def translate(error: PyMongoError | BSONError, what: str, where: str, *, write: bool) -> ours.StorageError:
    """An error of an operation; `write`: whether it would have changed anything.

    PyMongo repeats the first error where selecting a server for a second try has failed, so that an error of server
    selection means that nothing was sent.
    """
    text = f"{what} failed on {where}: {_reason(error)}."
    written: ours.Written = "unknown" if write else "no"
    if isinstance(error, ServerSelectionTimeoutError):
        return ours.StorageUnavailableError(text, hint="Check that the database is up and reachable.")
    if isinstance(error, WaitQueueTimeoutError):
        return ours.StorageUnavailableError(text, hint="Try again, or raise maxPoolSize in the URL.")
    if isinstance(error, PyMongoError) and error.timeout:
        return ours.DeadlineError(text, written=written)
    if isinstance(error, InvalidOperation):
        return ours.ClosedError("The client of this storage was closed.")
    if isinstance(error, OperationFailure):
        return _refused(error, text, written)
    if isinstance(error, ConnectionFailure):
        unchanged = code_of(error) in NOT_PRIMARY
        return ours.StorageUnavailableError(text, written="no" if unchanged else written)
    return ours.StorageError(text, written="no" if isinstance(error, BSONError) else written)


def _refused(error: OperationFailure, text: str, written: ours.Written) -> ours.StorageError:
    """What the server answered. An error of the write concern comes after the write, which may be undone yet."""
    code = code_of(error)
    if code in NOT_PRIMARY:
        return ours.StorageUnavailableError(text)
    details = error.details or {}
    late = "writeConcernError" in details or bool(details.get("writeConcernErrors"))
    unsure = late or error.has_error_label("RetryableWriteError")
    if code in STEPPING_DOWN or unsure:
        return ours.StorageUnavailableError(text, written=written)
    if code in TEMPORARY:
        return ours.StorageUnavailableError(text, written=written if code == 11601 else "no")
    if code in FULL:
        return ours.StorageFullError(text)
    if code in FORBIDDEN:
        return ours.ReadOnlyError(text, hint="Give the database user the role readWrite.")
    if code in AUTHENTICATION:
        return ours.StorageError(text, hint="Check user, password and authSource.")
    if code in UNSURE:
        return ours.StorageUnavailableError(text, written=written)
    if code == NOT_IMPLEMENTED:
        return ours.StorageError(text, hint="This server lacks what the operation needs.")
    return ours.StorageError(text)


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without the dump of the server's whole answer."""
    refused = refusal(error)
    text = str(error) if refused is None else refused.text
    return reason_of(text) or type(error).__name__
