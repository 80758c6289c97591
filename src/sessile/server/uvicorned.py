"""Serving an application with uvicorn, which ends in order: streams are told, runs have a moment to end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

from ..errors import InvalidInputError
from .app import stop_streams

R = TypeVar("R")

ROOM = 33_000
"""How many values the frame has that the event loop runs in: what follows it in its chunk of 512 KB is nearly half."""


def with_room(function: Callable[[], R]) -> R:
    """The result of `function`, called where Python's stack has room for calls some thousand deep.

    CPython keeps the frames of calls in chunks of 16 KB. Where the end of one lies among the calls that a request makes
    again and again, a chunk is mapped and given back by the system at each of them: some hundred times a request, half
    as much again as all the rest. Whether that is so depends on how deep the loop itself was called. The first call
    whose frame fits in no chunk has a larger one, with room behind.
    """

    def called() -> R:
        return function()

    called.__code__ = called.__code__.replace(co_stacksize=ROOM)
    return called()


class Served(uvicorn.Server):
    """Uvicorn's server of an application that `create_app` has made.

    It tells streams when it is asked to end, by a signal or by `should_exit`: it would wait for them. An open socket
    (`fd`) it hands over as what it is: uvicorn itself would take it for a Unix socket, and the small pieces of an
    answer would wait for each other (Nagle's algorithm), 40 ms each time.
    """

    def __init__(self, app: FastAPI, host: str = "127.0.0.1", port: int = 0, *, fd: int | None = None) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(app.state.sessile.limits.stop_seconds) + 1,
        )
        super().__init__(config)
        self._app = app
        self._open = None if fd is None else [socket.socket(fileno=os.dup(fd))]
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, in an event loop of its own, until it is asked to end."""
        with_room(lambda: super(Served, self).run(sockets))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until it is asked to end."""
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets or self._open)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, as soon as streams have."""
        if not self._app.state.sessile.stopping:
            stop_streams(self._app)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(stop_streams, self._app)
        super().handle_exit(sig, frame)


@contextmanager
def listening(host: str, port: int) -> Generator[tuple[socket.socket, str]]:
    """A socket that listens, and its address for a browser; raises `InvalidInputError` where the port is taken.

    Args:
        host: the address of a machine, such as 127.0.0.1.
        port: 0: a free one.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind((host, port))
        except OSError as error:
            hint = "Choose another one with --port; 0 takes a free one."
            raise InvalidInputError(f"Port {port} cannot be used: {error.strerror}.", hint=hint) from None
        own.listen(128)
        own.set_inheritable(True)
        yield own, f"http://{host}:{own.getsockname()[1]}/"


def serve_app(app: FastAPI, host: str, port: int, *, fd: int | None = None) -> None:
    """Serve it until the process is asked to end (SIGTERM, SIGINT).

    Args:
        app: what `create_app` has made.
        host, port: where to listen.
        fd: an open listening socket, which several processes may have, instead.
    """
    Served(app, host, port, fd=fd).run()
