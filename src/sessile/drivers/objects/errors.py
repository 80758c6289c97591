"""Errors of object stores as ours.

obstore has an exception for each kind of answer, and says in its text what HTTP status there was, if any.
"""

from __future__ import annotations

import re

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from ...errors import ReadOnlyError, StorageError, StorageUnavailableError, Written

FAILURES = (BaseError, FileNotFoundError, ValueError)
"""What the client raises. `ValueError` is for settings that it cannot use."""

REFUSED = (AlreadyExistsError, PreconditionError)
"""The condition of a write does not hold: nothing was written."""

_STATUS = re.compile(r"status code: (\d{3})")


def is_absent(error: Exception) -> bool:
    """Whether an error says that there is no such object, in a bucket that is there."""
    return isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error)


def is_broken(error: Exception) -> bool:
    """Whether there was no answer: the connection broke, or could not be made."""
    return (
        isinstance(error, BaseError)
        and isinstance(translate(error, "", "", "no"), StorageUnavailableError)
        and (_STATUS.search(str(error)) is None)
    )


def translate(error: Exception, what: str, where: str, written: Written) -> StorageError:
    """An error of the client; `written` is what is known of a write whose answer was lost."""
    lines = str(error).partition("\n\nDebug source")[0].split()
    text = f"{what} failed on {where}: {' '.join(lines)[:1000]}"
    if isinstance(error, PermissionDeniedError):
        return ReadOnlyError(text, hint="Grant the missing permission; docs/objects.md lists them.")
    if isinstance(error, UnauthenticatedError):
        return StorageError(text, hint="Give credentials as for any program that uses this service.")
    if isinstance(error, FileNotFoundError) or "NoSuchBucket" in text:
        return StorageError(text, hint="Make the bucket, or check its name and region.")
    if not isinstance(error, BaseError):
        return StorageError(text, hint="Check the settings of the storage.")
    found = _STATUS.search(text)
    if found is None:
        # No answer. A connection that was not made has not carried a request.
        sent = "kind: Connect," not in str(error)
        return StorageUnavailableError(text, written=written if sent else "no")
    status = int(found[1])
    if status == 429 or "SlowDown" in text:
        return StorageUnavailableError(text, hint="The service asks for fewer requests; try again later.")
    if status >= 500 or status == 408:
        return StorageUnavailableError(text, written=written)
    return StorageError(text)
