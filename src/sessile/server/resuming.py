"""What a server does by itself: runs whose process is gone go on, in one of the servers; leases decide in which."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import suppress

from pydantic_ai import DeferredToolResults

from ..errors import NotResumableError, SessileError, SessionBusyError
from ..insight.catching_up import Pace
from ..insight.index import update_beside
from ..records import ANY_USER, Run
from .auth import Caller
from .problems import Problem
from .running import begun, resumed
from .serving import Server, View, said_in, view_for
from .streams import will_go_on

logger = logging.getLogger("sessile.server")

PAGE = 100

STEP = 20
"""How many runs are entered in the index in one transaction: some 10 ms."""

REST = 0.02
"""Seconds between two of them while runs are in progress; more runs are entered then than one process can serve."""


async def resume_interrupted(server: Server, every: float) -> None:
    """Look again and again, about so often (seconds), until it is cancelled."""
    refused: set[tuple[str, int, int]] = set()
    while True:
        await asyncio.sleep(every * (0.5 + random.random()))
        try:
            await _look(server, refused)
        except SessileError as error:
            logger.warning("Interrupted runs could not be looked for: %s", error)


async def keep_index(server: Server, every: float) -> None:
    """Bring the index up to date again and again, so that nobody who asks has to wait for it.

    While runs are in progress that is done in small steps with rests between: the runs' own commits wait for a step
    where the database has one writer at a time, and the event loop for its turn with the interpreter.
    """
    pace = Pace(STEP, lambda: time.sleep(REST) if server.slots.taken else None)
    while True:
        try:
            server.indexed_until = await asyncio.to_thread(update_beside, server.index(), pace)
            server.index_error = None
        except SessileError as error:
            server.index_error = f"{type(error).__name__}: {error}"
            logger.warning("The index could not be brought up to date: %s", error)
        await asyncio.sleep(every * (0.75 + random.random() / 2))


async def _look(server: Server, refused: set[tuple[str, int, int]]) -> None:
    cursor = None
    while not server.stopping:
        page = await server.storage.asessions(user_id=ANY_USER, status="interrupted", limit=PAGE, cursor=cursor)
        for session in page:
            if session.agent not in server.served:
                continue
            session_id, user = said_in(session.session_id, session.user_id)
            view = view_for(server, Caller(user, administrator=user is None))
            for number in session.open_runs:
                await _resume(view, session_id, number, refused)
        cursor = page.next_cursor
        if cursor is None:
            return


async def _resume(view: View, session_id: str, number: int, refused: set[tuple[str, int, int]]) -> None:
    with suppress(SessileError, Problem):
        run: Run = await view.storage.aget_run(session_id, number, user_id=view.reads)
        key = (view.stored_id(session_id), number, run.epoch)
        if key in refused or not will_go_on(view.server, run) or view.server.stopping:
            return
        telling, task = await resumed(view, run.agent or "", session_id, run, DeferredToolResults())
        try:
            await begun(telling, task)
        except (NotResumableError, SessionBusyError, Problem):
            raise  # another server was faster, or there is no place for it now
        except Exception as error:  # whatever code of the application raises before it goes on
            if isinstance(error, SessileError) and error.retryable:
                raise
            refused.add(key)
            logger.warning("Run %d of session %r does not go on: %s", number, session_id, type(error).__name__)
            return
        view.server.metrics.resumed += 1
        logger.info("Run %d of session %r goes on here.", number, session_id)
