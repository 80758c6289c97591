"""Streams of server-sent events, which only read: of a run in progress here, or of what of it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from starlette.responses import Response, StreamingResponse

from ..records import FINISHED, Run
from ..storage.encoding import encode
from .serving import Server, View, resumable
from .shown import error_of, is_answer_alone, outcome_of_run, text_of
from .work import Frame, Place, begun_frame, end_frame, text_frame

PING_SECONDS = 15.0
"""After so long without an event a stream sends a comment, by which proxies and clients see that it lives."""

POLL_SECONDS = 0.5
"""How often a stream looks for what other processes have committed."""

MOST_TAKEN = 20
"""A run that was taken over so often, by decisions too, does not go on by itself: it may be what kills processes."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
END = b"retry: 5000\n\n"


def will_go_on(server: Server, run: Run) -> bool:
    """Whether an interrupted run is taken over by itself by one of the servers."""
    served = server.served.get(run.agent or "")
    return run.status == "interrupted" and served is not None and resumable(served) and run.epoch < MOST_TAKEN


def is_final(server: Server, run: Run) -> bool:
    """Whether nothing more is to come of a run by itself."""
    return (
        run.status in FINISHED
        or run.status == "paused"
        or (run.status == "interrupted" and not will_go_on(server, run))
    )


async def run_frames(view: View, session_id: str, number: int, place: Place) -> AsyncIterator[Frame]:
    """The events of a run after a place, to its end: as it works here, or as it is stored."""
    key, revision = (view.stored_id(session_id), number), -1
    while not view.server.stopping:
        live = view.server.work.live.get(key)
        if live is not None and live.ended:
            run = await view.storage.aget_run(session_id, number, user_id=view.reads)
            if (run.run_id, run.epoch) != (live.run_id, live.epoch):  # it went on elsewhere, or is another session's
                view.server.work.forget(key, live)
                continue
        if live is not None:
            async for frame in live.read(place):
                place = frame.place
                yield _seen(view, session_id, frame)
            if live.outcome is not None:
                return
            view.server.work.forget(key, live)
            continue
        session = await view.storage.aget_session(session_id, user_id=view.reads)
        if session is None:
            return
        at_work = session.open_runs.get(number)
        if session.revision != revision or at_work is None or session.status != "running":
            revision = session.revision
            run = await view.storage.aget_run(session_id, number, user_id=view.reads)
            for frame in stored_frames(view, session_id, run, place):
                place = frame.place
                yield frame
            if is_final(view.server, run):
                return
        await _news(view, key)


def _seen(view: View, session_id: str, frame: Frame) -> Frame:
    """What this caller is told: somebody else, who knows the session by another id, may have begun the run."""
    if frame.outcome is not None:
        error = error_of(frame.outcome["error"], whole=view.is_administrator)
        return end_frame(frame.place, {**frame.outcome, "session_id": session_id, "error": error})
    if frame.begun is not None:
        return begun_frame(frame.place, {**frame.begun, "session_id": session_id})
    return frame


async def _news(view: View, key: tuple[str, int]) -> None:
    """Wait a moment, or until the server ends."""
    try:
        async with asyncio.timeout(POLL_SECONDS):
            await view.server.stopped.wait()
    except TimeoutError:
        return


def stored_frames(view: View, session_id: str, run: Run, place: Place) -> list[Frame]:
    """What is stored of a run after a place: the rest of its text, and its end."""
    frames: list[Frame] = []
    text, final, chars = text_of(run), is_final(view.server, run), place.chars
    if (place.epoch not in (0, run.epoch) and chars) or (
        final and chars and (chars > len(text) or is_answer_alone(run))
    ):
        frames.append(Frame(Place(run.epoch, 0, 0), "text.restarted", encode({"keep": 0})))
        chars = 0
    index = place.index if place.epoch == run.epoch else 0
    if len(text) > chars:
        frames.append(text_frame(Place(run.epoch, index, len(text)), text[chars:]))
        chars = len(text)
    if final:
        outcome = outcome_of_run(session_id, run, whole_errors=view.is_administrator)
        frames.append(end_frame(Place(run.epoch, index, chars, ended=True), outcome))
    return frames


# ---------------------------------------------------------------- responses


def streamed(server: Server, frames: AsyncIterator[Frame], headers: dict[str, str] | None = None) -> Response:
    """A response of server-sent events; an overloaded server ends it at once, and says when to come again."""
    headers = {**HEADERS, **(headers or {})}
    if server.streams >= server.limits.streams or server.stopping:
        return Response(END, 200, headers, "text/event-stream")
    return StreamingResponse(
        with_pings(server, (frame.bytes async for frame in frames)), 200, headers, "text/event-stream"
    )


async def with_pings(
    server: Server, pieces: AsyncGenerator[bytes], *, begin: bytes = b"retry: 1000\n\n"
) -> AsyncGenerator[bytes]:
    """Pieces as they come, and signs of life between; when the server is about to end, that is said."""
    server.streams += 1
    stopping = asyncio.ensure_future(server.stopped.wait())
    coming: asyncio.Future[bytes] | None = None
    try:
        if begin:
            yield begin
        while True:
            coming = coming or asyncio.ensure_future(anext(pieces))
            await asyncio.wait([coming, stopping], timeout=PING_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                done, coming = coming, None
                try:
                    piece = done.result()
                except StopAsyncIteration:
                    return
                yield piece
            elif stopping.done():
                yield b": the server ends; come again\nretry: 500\n\n"
                return
            else:
                yield b": ping\n\n"
    finally:
        server.streams -= 1
        stopping.cancel()
        if coming is not None:
            coming.cancel()
