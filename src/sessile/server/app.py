"""`create_app`: agents, teams and workflows over HTTP, as an application of its own or a part of another one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from .._version import __version__
from ..errors import InvalidInputError, SessileError
from ..storage.checks import check_seconds
from ..storage.storage import Storage
from . import problems, protocols
from .auth import Auth, Jwt, Tokens, caller_of, everybody
from .dashboard import dashboard_router
from .guard import LOOPBACK, Guard
from .limits import Limits
from .openai import chat, responses
from .problems import Problem
from .resuming import keep_index, resume_interrupted
from .routes import approvals, experiments, files, inside, listing, looking, memories, runs, sessions, status
from .routes.common import Known
from .routes.health import OPEN, health_router, metrics_router
from .schemas import schemas_of
from .serving import Served, Server, served_by_name, view_for
from .work import cancelled

ROUTERS: Sequence[APIRouter] = (
    runs.router,
    listing.router,
    sessions.router,
    inside.router,
    files.router,
    memories.router,
    approvals.router,
    looking.lists,
    looking.router,
    experiments.router,
    status.router,
    metrics_router,
    responses.router,
    chat.router,
    protocols.router,
)
"""The routes that need a user."""

SEEN = Response(status_code=204)
"""What finding out who asks has given; nobody is sent it."""


def create_app(
    agents: Sequence[Served] = (),
    *,
    storage: Storage | None = None,
    auth: Auth | None = None,
    hosts: Collection[str] | None = None,
    cors: Collection[str] = (),
    limits: Limits | None = None,
    index: str | None = None,
    index_every: float | None = 5.0,
    resume_every: float | None = 5.0,
    dashboard: bool = True,
) -> FastAPI:
    """An ASGI application that runs agents, teams and workflows, and shows the sessions of their storage.

    ```python
    app = create_app([support], storage=storage, auth=Tokens({"a long random token": "ada"}))
    ```

    It can be mounted below any path of another application: `main.mount("/agents", app)`; pass
    `lifespan=lifespan_of(app)` to that one, so that runs are interrupted in order when it ends.

    Args:
        agents: what is served, each with a name of its own. None: only sessions are shown.
        storage: where the sessions are. Default: the storage of the agents, which is one object for all.
        auth: a dependency of FastAPI's that says who sends a request: a `Caller`, a user's id, or None (401). `Tokens`
            and `Jwt` are two. Without one, everything is shown to whoever asks: only from this machine, under the
            names of `localhost`, and not for pages of other sites.
        hosts: the names (without ports) by which the server may be asked for. Default: any with `auth`, else those of
            this machine.
        cors: origins whose pages may ask, `https://app.example.com`. Default: none.
        limits: how much the server takes on.
        index: the URL of the SQL database of the index. Default: beside the log.
        index_every: seconds after which the index is brought up to date again, in the background, where there can be
            one. None: by who asks.
        resume_every: seconds between two looks for runs whose process is gone, and which go on here if their steps are
            stored; None: never.
        dashboard: whether browsers get the dashboard at the address of the application itself.

    Raises:
        InvalidInputError: an argument is wrong, or what is served has several storages, or no names.
    """
    whole, served = served_by_name(agents, storage)
    for seconds, what in ((resume_every, "resume_every"), (index_every, "index_every")):
        if seconds is not None:
            check_seconds(seconds, what)
    if "*" in cors:
        raise InvalidInputError("cors names origins one by one.")
    server = Server(whole, served, limits or Limits(), index)
    if index is not None:
        server.index()
    see = APIRoute("/", _seen_by(server, auth or everybody), methods=["GET"])
    app = _application(server, see, index_every, resume_every)
    app.state.authenticate = see.get_route_handler() if _has_dependencies(auth) else _asking(server, auth or everybody)
    for router in ROUTERS:
        assert all(isinstance(route, Known) for route in router.routes), "each asks first who it is"
    for router in (*ROUTERS, health_router(server), *([dashboard_router()] if dashboard else [])):
        app.router.routes.extend(router.routes)  # `include_router` would look for a route twice, in each router anew
    _add_handlers(app)
    if hosts is None and auth is None:
        hosts = LOOPBACK
    if cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(cors),
            allow_methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type", "idempotency-key", "last-event-id", "x-sessile"],
            expose_headers=["content-location", "location", "x-request-id"],
        )
    app.add_middleware(Guard, server=server, hosts=hosts, same_origin=auth is None)
    return app


def _application(server: Server, see: APIRoute, index_every: float | None, resume_every: float | None) -> FastAPI:
    app = FastAPI(
        title="Sessile",
        version=__version__,
        description="Runs agents, teams and workflows, and shows their sessions.",
        docs_url=None,
        redoc_url=None,
        lifespan=lambda _: _life(server, index_every, resume_every),
    )
    app.state.sessile = server
    described = app.openapi

    def openapi() -> dict[str, Any]:
        """The API's description, with what says who asks, and what the things served take, answer and keep."""
        if app.openapi_schema is not None:
            return app.openapi_schema
        document = described()
        _describe_auth(document, see)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name, thing in server.served.items():
            key = re.sub(r"[^A-Za-z0-9._-]", "_", name)
            for what, schema in schemas_of(thing).items():
                if schema is not None:  # its $refs are its own
                    schemas[f"{what.title()}.{key}"] = {"$id": f"urn:sessile:{what}:{key}", **schema}
        return document

    app.openapi = openapi
    return app


def _seen_by(server: Server, auth: Auth) -> Callable[..., Any]:
    """The dependency that finds out who sends a request, and what that caller sees."""

    async def see(request: Request, found: Annotated[Any, Depends(auth)]) -> Response:
        request.state.view = view_for(server, caller_of(found))
        return SEEN

    see.__annotations__ = {"request": Request, "found": Annotated[Any, Depends(auth)]}
    return see


def _has_dependencies(auth: Auth | None) -> bool:
    """Whether FastAPI has to find out what `auth` takes; the built-in ones take the request alone."""
    return not (auth is None or isinstance(auth, (Tokens, Jwt)))


def _asking(server: Server, auth: Auth) -> Callable[[Request], Coroutine[Any, Any, None]]:
    async def ask(request: Request) -> None:
        request.state.view = view_for(server, caller_of(await auth(request)))

    return ask


def _describe_auth(document: dict[str, Any], see: APIRoute) -> None:
    """Add to each operation what `auth` takes of a request.

    It is no dependency of the routes: they ask who it is before they read a body (`routes.common.Known`), and once.
    """
    alone = get_openapi(title="", version="", routes=[see])
    asked: dict[str, Any] = alone["paths"]["/"]["get"]
    known: dict[str, Any] = document.setdefault("components", {})
    for kind, named in alone.get("components", {}).items():
        known.setdefault(kind, {}).update(named)
    for path, methods in document["paths"].items():
        for operation in () if path in OPEN else methods.values():
            operation.setdefault("parameters", []).extend(asked.get("parameters", ()))
            if "security" in asked:
                operation["security"] = asked["security"]


def _add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(Problem, problems.on_problem)
    app.add_exception_handler(SessileError, problems.on_sessile_error)
    app.add_exception_handler(RequestValidationError, problems.on_invalid)
    app.add_exception_handler(HTTPException, problems.on_http)
    app.add_exception_handler(Exception, problems.on_unexpected)


# ---------------------------------------------------------------- life


@asynccontextmanager
async def _life(server: Server, index_every: float | None, resume_every: float | None) -> AsyncGenerator[None]:
    server.begin()
    own: list[asyncio.Task[None]] = []
    if resume_every is not None and server.served:
        own.append(asyncio.create_task(resume_interrupted(server, resume_every)))
    if index_every is not None and await asyncio.to_thread(server.has_index):
        server.keeps_index = True
        own.append(asyncio.create_task(keep_index(server, index_every)))
    try:
        yield
    finally:
        server.stop()
        await cancelled(own)
        if server.changes is not None:
            await server.changes.end()
        await server.work.stop(server.limits.stop_seconds)
        server.close()


def lifespan_of(*apps: FastAPI) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """The `lifespan=` of an application that mounts these: they begin and end with it."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for app in apps:
                await stack.enter_async_context(app.router.lifespan_context(app))
            yield

    return lifespan


def stop_streams(app: FastAPI) -> None:
    """Tell the clients of streams to come again, because the process is about to end; from its event loop."""
    server: Server = app.state.sessile
    server.stop()
    server.ending = asyncio.ensure_future(server.work.stop(server.limits.stop_seconds))
