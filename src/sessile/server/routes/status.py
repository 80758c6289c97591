"""How the server and its database are, for administrators."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from ..._version import __version__
from ...records import MICROSECOND, JsonObject
from ...storage.examining import examine, warnings_of
from ..models import AnyOut, ExaminedOut
from ..serving import Server
from .common import PROBLEMS, Known, Seen, administrators, answer

router = APIRouter(route_class=Known, responses=PROBLEMS, tags=["health"])


@router.get("/status", response_model=AnyOut, summary="How the server and its database are")
async def status(view: Seen) -> Response:
    """For administrators: warnings, how far the index is behind, what the storage has counted, what is running."""
    administrators(view)
    server = view.server
    return answer(
        {
            "version": __version__,
            "seconds": round(time.time() - server.began, 1),
            "stopping": server.stopping,
            "storage": {
                "type": type(server.storage).__name__,
                "capabilities": asdict(server.storage.capabilities),
                "counts": server.storage.stats(),
                "warnings": await asyncio.to_thread(warnings_of, server.storage),
            },
            "index": index_shown(server),
            "runs": {"at_work": server.slots.taken, "waiting": server.slots.waiting, "resumed": server.metrics.resumed},
            "limits": asdict(server.limits),
            "streams": server.streams,
            "agents": list(server.served),
        }
    )


def index_shown(server: Server) -> JsonObject:
    """How far the index is behind, where it is brought up to date in the background."""
    until = server.indexed_until
    return {
        "seconds": None if until is None else max(0.0, round(time.time() - until / MICROSECOND, 3)),
        "in_background": server.keeps_index,
        "error": server.index_error,
    }


@router.get("/doctor", response_model=ExaminedOut, summary="Verify the newest sessions")
async def doctor(view: Seen, sessions: Annotated[int, Query(ge=0, le=1000, description="How many.")] = 20) -> Response:
    """For administrators: what may be lost with this database, and sessions that are not what their logs add up to."""
    administrators(view)
    found = await asyncio.to_thread(examine, view.server.storage, sessions)
    return answer({"warnings": found.warnings, "wrong": found.wrong, "sound": found.sound})
