"""Routes that are asked most: they read their requests themselves, where nothing is wrong with them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, TypeVar, cast, get_args, get_origin, get_type_hints

from fastapi import HTTPException, Request
from fastapi.params import Depends
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from ...storage.faces import step
from ..serving import View, view_of
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
    return request.headers.get("content-type") == "application/json" and not _is_traced(request)


def _is_traced(request: Request) -> bool:
    return bool(request.scope.get("fastapi.telemetry"))


# ---------------------------------------------------------------- what is asked for by the address alone


class Listed(Known):
    """A route that lists, whose requests mostly give few of the many parameters that it could be asked with.

    As for `Direct`: where all that is given are parameters of the function itself, and right, it is called with them;
    what else there is to say, FastAPI finds out and says.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which first asks who it is: `app.state.authenticate`."""
        handler, parameters = APIRoute.get_route_handler(self), Parameters.of(self.endpoint)

        async def listed(request: Request) -> Response:
            await request.app.state.authenticate(request)
            given = None if _is_traced(request) else parameters.read(request)
            if given is None:
                return await handler(request)
            return await self.endpoint(**given)

        return listed


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a route's function takes out of an address.

    Attributes:
        views: names of the parameters that are what the caller sees.
        readers: by the names of the others, how each is read, and whether it may be given several times.
        unasked: what its dependencies are where nothing is given that they take.
    """

    views: tuple[str, ...]
    readers: dict[str, tuple[TypeAdapter[Any], bool]]
    unasked: dict[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """Those of a function whose dependencies do nothing but put together what they are given."""
        views: list[str] = []
        readers: dict[str, tuple[TypeAdapter[Any], bool]] = {}
        unasked: dict[str, Any] = {}
        for name, hint, default in _parameters(function):
            depends = _dependency_of(hint)
            if depends is view_of:
                views.append(name)
            elif depends is not None:
                unasked[name] = _unasked(depends)
            else:
                readers[name] = (TypeAdapter(hint), _is_list(hint))
                if default is not inspect.Parameter.empty:
                    unasked[name] = default
        return cls(tuple(views), readers, unasked)

    def read(self, request: Request) -> dict[str, Any] | None:
        """What the function is called with; None: there is more to it."""
        asked, given = request.query_params, dict(self.unasked)
        for name in asked:
            if name not in self.readers:
                return None
            reader, is_list = self.readers[name]
            values = asked.getlist(name)
            if "" in values or (len(values) > 1 and not is_list):
                return None
            try:
                given[name] = reader.validate_python(values if is_list else values[0])
            except ValidationError:
                return None
        if any(name not in given for name in self.readers):
            return None
        for name in self.views:
            given[name] = request.state.view
        return given


def _parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    hints = get_type_hints(function, include_extras=True)
    return [(name, hints[name], one.default) for name, one in inspect.signature(function).parameters.items()]


def _dependency_of(hint: Any) -> Callable[..., Any] | None:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((mark.dependency for mark in marks if isinstance(mark, Depends)), None)


def _unasked(function: Callable[..., Any]) -> Any:
    """What a dependency is where nothing is given that it takes; it cannot be changed, for all requests share it."""
    given = {
        name: default if (depends := _dependency_of(hint)) is None else _unasked(depends)
        for name, hint, default in _parameters(function)
    }
    made: Any = step(function(**given))
    return MappingProxyType(cast("dict[str, Any]", made)) if isinstance(made, dict) else made


def _is_list(hint: Any) -> bool:
    """Whether a parameter may be given several times."""
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return any(get_origin(one) is list for one in (inner, *get_args(inner)))
