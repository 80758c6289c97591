"""What routes have in common: addresses, bodies, responses."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Header, Path, Query, Request
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict
from starlette.responses import Response

from ...storage.encoding import encode_body
from ..guard import id_of
from ..problems import MEDIA_TYPE, Problem, ProblemOut
from ..serving import View, view_of

LARGEST = 2**53

SessionId = Annotated[
    str, Path(description="The session's id; a slash in it is written %2F.", min_length=1), AfterValidator(id_of)
]
RunNumber = Annotated[int, Path(description="The run's number in its session.", ge=1, le=LARGEST)]
Limit = Annotated[int, Query(description="At most so many.", ge=1, le=100)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before, with the same filters.")]
OfUser = Annotated[str | None, Query(description="For administrators: only of this user.", min_length=1)]
Seen = Annotated[View, Depends(view_of)]
LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="The `id` of the last event that has arrived.")
]


async def noted(request: Request, session_id: SessionId) -> str:
    """The session's id, which the access log has, too."""
    request.state.session_id = session_id
    return session_id


Session = Annotated[str, Depends(noted)]


class Known(APIRoute):
    """A route whose caller is known before anything else of the request is looked at, its body least of all."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which first asks who it is: `app.state.authenticate`."""
        handler = super().get_route_handler()

        async def known(request: Request) -> Response:
            await request.app.state.authenticate(request)
            return await handler(request)

        return known


class Body(BaseModel):
    """A body, which has no other members than those that it names, and no values of other types."""

    model_config = ConfigDict(extra="forbid", strict=True)


def administrators(view: View) -> None:
    """Refuse those who are none, as if the address were not there."""
    if not view.is_administrator:
        raise Problem(404, "not-found", "Not Found")


def answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response of JSON."""
    return Response(encode_body(content), status, headers, "application/json")


def address_of(request: Request, session_id: str, number: int) -> str:
    """The address of a run, below which its events can be read."""
    return f"{request.scope.get('root_path', '')}/sessions/{quote(session_id, safe='')}/runs/{number}"


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut, "description": text, "content": {MEDIA_TYPE: {}}}
    for status, text in (
        (400, "The body is not JSON."),
        (401, "Nobody is known to have sent the request."),
        (403, "The request is not one that is allowed."),
        (404, "It is not there, or is another user's."),
        (409, "Something else stands in the way."),
        (413, "Too large."),
        (415, "Not JSON."),
        (421, "The server does not answer to this host."),
        (422, "The request is not right."),
        (429, "Too many runs are in progress."),
        (500, "The server has failed."),
        (501, "This database, or this server, cannot do that."),
        (502, "The run has failed."),
        (503, "The database cannot be reached, or the server ends."),
        (507, "There is no space left."),
    )
}
"""What every route may answer."""

EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string"},
        "data": {"type": "string"},
        "retry": {"type": "integer", "minimum": 0},
    },
}
"""One of the events of a stream."""

STREAM: dict[str, Any] = {
    "description": "Server-sent events.",
    "content": {"text/event-stream": {"schema": EVENT}},
}
