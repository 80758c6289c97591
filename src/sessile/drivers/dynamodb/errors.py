"""DynamoDB's errors as ours.

Source: docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
"""

from __future__ import annotations

from typing import Any, cast

from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
)

from ...errors import ReadOnlyError, StorageError, StorageUnavailableError, Written
from ...storage.withholding import reason_of

FAILURES = (ClientError, BotoCoreError)
"""What the client raises."""

THROTTLED = {
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflict",
    "TransactionConflictException",
}
"""Refused for the moment: nothing was done. Those without `Exception` are reasons of a cancelled transaction."""

FAILED_INSIDE = {"InternalFailure", "InternalServerError", "ServiceUnavailable", "TransactionInProgressException"}
"""The write may have happened, or may still happen."""

NOT_CONNECTED = {"ClientConnectorError", "NewConnectionError", "gaierror"}
"""What aiohttp, urllib3 and Python call an address that cannot be connected to."""

DENIED = {"AccessDenied", "AccessDeniedException"}

CREDENTIALS = {
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
}


class ConditionFailedError(Exception):
    """A condition of a write does not hold: nothing was written, and that is no failure of the database."""


class AnswerCutError(HTTPClientError):
    """The connection ended in the middle of an answer."""

    fmt = "the connection was closed in the middle of the answer"


def check_whole(response_dict: dict[str, Any], **_: Any) -> None:
    """Raise `AnswerCutError` if an answer is not whole. For the event `before-parse` of a client of botocore's.

    botocore itself compares nothing: it takes a head that ended with its connection for a whole one, what it cannot
    decode for an empty answer, and so an item that did not arrive for one that is not there.
    """
    body, length = response_dict["body"], response_dict["headers"].get("content-length")
    if not body if length is None else length != str(len(body)):
        raise AnswerCutError


class ForeignAnswerError(HTTPClientError):
    """Something between us and DynamoDB has answered."""

    fmt = "the answer is not one of DynamoDB's: {start!r}"


def check_json(response_dict: dict[str, Any], **_: Any) -> None:
    """Raise `ForeignAnswerError` if an answer without an error is not JSON, such as the page of a proxy.

    For the event `before-parse`. botocore would take it for an empty answer: for a write that was done, or for an item
    that is not there.
    """
    start = bytes(response_dict["body"][:80])
    if response_dict["status_code"] < 300 and not start.lstrip().startswith(b"{"):
        raise ForeignAnswerError(start=start.decode(errors="replace"))


class TableMissingError(StorageError):
    """There is no such table."""


class TableInUseError(StorageError):
    """The table is being created, or is there already."""


def translate(error: Exception, what: str, where: str, written: Written) -> StorageError:
    """An error of the client; `written` is what is known of a write whose answer was lost.

    Raises `ConditionFailedError` if the error only says that.
    """
    if isinstance(error, ClientError):
        return _refused(error, what, where, written)
    text = f"{what} failed on {where}: {reason_of(error)}."
    if isinstance(error, (NoCredentialsError, PartialCredentialsError, NoRegionError)):
        return StorageError(text, hint="Name a region, and give credentials as for any program that uses AWS.")
    if isinstance(error, HTTPClientError) and isinstance(_cause_of(error), AttributeError):
        return StorageUnavailableError(  # aiobotocore does not ask whether its client was closed
            f"{what} failed on {where}: the client seems to be closed ({reason_of(error)}).",
            hint="Make a storage with a client that is open.",
            retryable=False,
            written=written,
        )
    if _was_never_sent(error):
        return StorageUnavailableError(text)
    if isinstance(error, (HTTPClientError, EndpointConnectionError)):
        return StorageUnavailableError(text, written=written)
    return StorageError(text, written=written)


def _was_never_sent(error: Exception) -> bool:
    """Whether there was no connection that a request could have gone through.

    aiobotocore says `EndpointConnectionError` of connections that broke later, too; what it was made of tells.
    """
    if isinstance(error, EndpointConnectionError):
        return any(kind.__name__ in NOT_CONNECTED for kind in type(_cause_of(error)).__mro__)
    return isinstance(error, ConnectTimeoutError)


def _cause_of(error: BotoCoreError) -> object:
    """What an error of the client's was made of, if it says so."""
    return cast("dict[str, Any]", error.kwargs).get("error")


def _refused(error: ClientError, what: str, where: str, written: Written) -> StorageError:
    """What DynamoDB itself answers; except for failures inside of it, nothing was done."""
    response = cast("dict[str, Any]", error.response)
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    if code == "TransactionCanceledException":
        code, message = _reason(response, message)
    if code in ("ConditionalCheckFailedException", "ConditionalCheckFailed"):
        raise ConditionFailedError from error
    text = f"{what} failed on {where}: {code}: {reason_of(message) or 'no reason given'}"
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    if code in THROTTLED:
        return StorageUnavailableError(text, hint="Try again later; a table on demand grows with its load.")
    if code in FAILED_INSIDE or status >= 500:
        return StorageUnavailableError(text, written=written)
    if code in DENIED:
        return ReadOnlyError(text, hint="Grant the missing permission; docs/dynamodb.md lists them.")
    if code in CREDENTIALS:
        return StorageError(text, hint="Give other credentials.")
    if code == "ResourceNotFoundException":
        return TableMissingError(text, hint="Check the table's name and region, or let `sessile migrate` create it.")
    return TableInUseError(text) if code == "ResourceInUseException" else StorageError(text)


def _reason(response: dict[str, Any], message: str) -> tuple[str, str]:
    """Why a transaction was cancelled: a failed condition before all else, because it does not pass by itself."""
    reasons: list[dict[str, Any]] = response.get("CancellationReasons") or []
    given = [(reason.get("Code", "None"), reason.get("Message", "")) for reason in reasons]
    given = [reason for reason in given if reason[0] != "None"] or [("TransactionCanceledException", message)]
    return min(given, key=lambda reason: ("ConditionalCheck" not in reason[0], reason[0] in THROTTLED))
