"""What goes wrong, as problems after RFC 9457: a stable type, what to do, and whether the write happened."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from typing import Any, Literal

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from .. import errors
from ..errors import SessileError
from ..storage.encoding import encode

logger = logging.getLogger("sessile.server")

PREFIX = "urn:sessile:problem:"
MEDIA_TYPE = "application/problem+json"

STATUSES: dict[type[SessileError], int] = {
    errors.TooLargeError: 413,
    errors.InvalidInputError: 422,
    errors.SessionNotFoundError: 404,
    errors.RunNotFoundError: 404,
    errors.MemoryNotFoundError: 404,
    errors.SessionFileNotFoundError: 404,
    errors.AlreadyExistsError: 409,
    errors.ConflictError: 409,
    errors.SessionBusyError: 409,
    errors.LeaseLostError: 409,
    errors.NotResumableError: 409,
    errors.WorkflowChangedError: 409,
    errors.RunCancelledError: 409,
    errors.UnknownFormatError: 409,
    errors.UnsupportedError: 501,
    errors.MissingDependencyError: 501,
    errors.StorageFullError: 507,
    errors.StorageUnavailableError: 503,
    errors.DeadlineError: 503,
    errors.ReadOnlyError: 503,
    errors.ClosedError: 503,
    errors.StepFailedError: 502,
    errors.MemberFailedError: 502,
}
"""The HTTP status of each kind of error; of one that is not named, that of the nearest class above, else 500."""

_UNSAID: dict[type[SessileError], str] = {
    errors.StorageFullError: "There is no space left where the sessions are kept.",
    errors.StorageUnavailableError: "The database cannot be reached, or is busy.",
    errors.DeadlineError: "The database did not answer in time.",
    errors.StorageError: "The database failed.",
    errors.StepFailedError: "A step of the workflow has failed.",
    errors.MemberFailedError: "A member of the team has failed.",
}
"""What is said instead of an error's own words, which name what clients have no business with."""


class ProblemOut(BaseModel):
    """What has gone wrong (RFC 9457)."""

    model_config = ConfigDict(title="Problem", extra="allow")

    type: str = Field(description="What kind of problem it is; stable.", examples=[f"{PREFIX}session-not-found"])
    title: str = Field(description="The same in words.")
    status: int = Field(description="The status of the response.")
    detail: str = Field(default="", description="What has happened this time.")
    hint: str = Field(default="", description="What to do now.")
    retryable: bool = Field(default=False, description="Whether the same request may succeed when it is made again.")
    written: Literal["no", "yes", "unknown"] = Field(default="no", description="Whether anything was written.")


class Problem(Exception):
    """A response that is a problem.

    Args:
        status: of the response.
        kind: the end of its type, words with hyphens.
        detail: what has happened.
        hint: what to do now.
        headers: further headers.
        more: further members of the problem.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str = "",
        *,
        hint: str = "",
        retryable: bool = False,
        written: errors.Written = "no",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail or kind)
        self.status, self.headers = status, headers or {}
        self.content: dict[str, Any] = {
            "type": PREFIX + kind,
            "title": kind.replace("-", " ").capitalize(),
            "status": status,
            "detail": detail,
            "hint": hint,
            "retryable": retryable,
            "written": written,
            **more,
        }

    def response(self) -> Response:
        """It as a response."""
        return Response(encode(self.content), self.status, self.headers, MEDIA_TYPE)


def unauthenticated(detail: str = "This needs a user.") -> Problem:
    """Nobody is known to have sent the request."""
    hint = "Send the header Authorization: Bearer TOKEN."
    return Problem(401, "not-authenticated", detail, hint=hint, headers={"WWW-Authenticate": "Bearer"})


def problem_of(error: SessileError) -> Problem:
    """An error of the library as a problem; what it says of the database's insides is left out."""
    known = [one for one in type(error).__mro__ if one in STATUSES]
    status = STATUSES[known[0]] if known else 500
    unsaid = [_UNSAID[one] for one in type(error).__mro__ if one in _UNSAID]
    if unsaid:
        logger.warning("%s: %s", type(error).__name__, error)
    headers = {"Retry-After": "1"} if status == 503 or isinstance(error, errors.SessionBusyError) else {}
    return Problem(
        status,
        _kind_of(type(error)),
        unsaid[0] if unsaid else error.message,
        hint="" if unsaid else error.hint,
        retryable=error.retryable,
        written=error.written,
        headers=headers,
    )


def _kind_of(error: type[SessileError]) -> str:
    """`session-not-found` of `SessionNotFoundError`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__.removesuffix("Error")).lower()


def run_failed(session_id: str, run_id: str, number: int, error: str | None) -> Problem:
    """A run that has failed, and is stored as failed; what it raised is its owner's business, not the client's."""
    return Problem(
        502,
        "run-failed",
        "The run has failed, and is stored as failed.",
        hint="Look at the run; send the request again to have it run again.",
        written="yes",
        session_id=session_id,
        run_id=run_id,
        number=number,
        error=error,
    )


async def on_problem(request: Request, error: Exception) -> Response:
    """Answer with a problem."""
    assert isinstance(error, Problem)
    return error.response()


async def on_sessile_error(request: Request, error: Exception) -> Response:
    """Answer an error of the library."""
    assert isinstance(error, SessileError)
    return problem_of(error).response()


async def on_invalid(request: Request, error: Exception) -> Response:
    """Answer a request that does not fit the API's description."""
    assert isinstance(error, RequestValidationError)
    wrong = [{"in": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()]
    broken = any(one["type"] == "json_invalid" for one in error.errors())
    detail = "The body is not JSON." if broken else "; ".join(f"{one['in']}: {one['message']}" for one in wrong)
    kind, status = ("invalid-json", 400) if broken else ("invalid-request", 422)
    return Problem(status, kind, detail[:2000], hint="Correct the request.", wrong=wrong[:100]).response()


async def on_http(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses: addresses and methods that are not there."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # of a body that Python's reader of JSON gives up
        detail = "The body cannot be read as JSON."
        hint = "It may be nested some hundred deep; whole numbers may have 4,300 digits."
        return Problem(400, "invalid-json", detail, hint=hint).response()
    kind = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    return Problem(error.status_code, kind, str(error.detail), headers=headers).response()


def unexpected() -> Problem:
    """What nobody has expected, without a word of it."""
    return Problem(500, "internal", "The server has failed.", retryable=True, written="unknown")


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Answer what nobody has expected."""
    return unexpected().response()
