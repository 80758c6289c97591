"""Routes that are asked most: they read their requests themselves, where nothing is wrong with them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, TypeVar

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.responses import Response

from ..serving import View
from .common import Body, Known

B = TypeVar("B", bound=Body)

Called = Callable[[Request, View, B], Awaitable[Response | None]]
"""Answers a request with its body; None: something else of it is not right."""


class Direct(Known):
    """A route with a body of JSON, whose requests mostly need nothing of what FastAPI does for them.

    To find out for each of them what its function takes costs as much as all else that the server does. Whatever is
    not as it should be is left to FastAPI, which reads the same body again and says what is wrong: it alone decides
    what is refused, and its description of the route is made of the same function.
    """

    body: ClassVar[type[Body]]
    called: ClassVar[Any]

    @classmethod
    def of(cls, body: type[B], called: Called[B]) -> type[Direct]:
        """The class of a route that reads such a body."""
        return type(f"Direct{body.__name__}", (cls,), {"body": body, "called": staticmethod(called)})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which first asks who it is: `app.state.authenticate`."""
        handler = APIRoute.get_route_handler(self)

        async def direct(request: Request) -> Response:
            await request.app.state.authenticate(request)
            if _is_plain(request) and (body := await self._read(request)) is not None:
                done = await self.called(request, request.state.view, body)
                if done is not None:
                    return done
            return await handler(request)

        return direct

    async def _read(self, request: Request) -> Body | None:
        try:
            content = await request.body()
        except Exception as error:  # too large, or the client has gone: nothing is left to be read again
            raise HTTPException(400, "There was an error parsing the body") from error
        try:
            return self.body.model_validate_json(content)
        except ValidationError:
            return None


def _is_plain(request: Request) -> bool:
    """Whether it says that it is JSON, and nobody traces what FastAPI does with it."""
    return request.headers.get("content-type") == "application/json" and not request.scope.get("fastapi.telemetry")
