"""Whether the server lives, whether it can serve, and what it counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from ...errors import SessileError
from ...records import ANY_USER, MICROSECOND, JsonObject
from ..problems import Problem
from ..serving import Server
from .common import PROBLEMS, Known, Seen, answer

READY_SECONDS = 5.0

OPEN = frozenset({"/health", "/ready"})
"""What is answered without a user."""

metrics_router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["health"])


def health_router(server: Server) -> APIRouter:
    """The routes that need no user."""
    router = APIRouter(responses={503: PROBLEMS[503]}, tags=["health"])

    async def health() -> Response:
        """The process answers."""
        return answer({"status": "ok"})

    async def ready() -> Response:
        """The database answers, and the server takes requests; how far the index is behind, where it is kept up."""
        if server.stopping:
            raise Problem(503, "stopping", "The server is about to end.", retryable=True)
        began = time.monotonic()
        try:
            async with asyncio.timeout(READY_SECONDS):
                await server.storage.asessions(user_id=ANY_USER, limit=1)
        except (SessileError, TimeoutError):
            raise Problem(503, "no-database", "The database cannot be reached.", retryable=True) from None
        shown: JsonObject = {"status": "ready", "database_seconds": round(time.monotonic() - began, 4)}
        if server.indexed_until is not None:
            shown["index_seconds"] = max(0.0, time.time() - server.indexed_until / MICROSECOND)
        return answer(shown)

    _add(router, "/health", health, "Whether the process lives")
    _add(router, "/ready", ready, "Whether it can serve")
    return router


def _add(router: APIRouter, path: str, endpoint: Callable[[], Awaitable[Response]], summary: str) -> None:
    router.add_api_route(path, endpoint, methods=["GET"], response_model=dict[str, str | float], summary=summary)


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="What the server counts, for Prometheus",
)
async def metrics(view: Seen) -> Response:
    """For administrators."""
    if not view.is_administrator:
        raise Problem(404, "not-found", "Not Found")
    server = view.server
    now = {
        "sessile_runs_at_work": server.slots.taken,
        "sessile_runs_waiting": server.slots.waiting,
        "sessile_streams": server.streams,
    }
    return PlainTextResponse(server.metrics.text(now, server.storage.stats()))
