"""Clients that no one wishes for: huge headers, huge bodies, half a request, readers that do not read."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

pytest.importorskip("fastapi")

import uvicorn
from fastapi import FastAPI
from tests.campaigns import TORTURE
from tests.server.conftest import TOKENS

IDLE = 2000 if TORTURE else 100
AUTH = f"Authorization: Bearer {TOKENS['ada']}\r\n"


@pytest.fixture
def port(app: FastAPI) -> Iterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()


def connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def read_all(connection: socket.socket) -> bytes:
    pieces: list[bytes] = []
    with suppress(ConnectionError, TimeoutError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


def lives(port: int) -> bool:
    with connected(port) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b'{"status":"ok"}' in read_all(connection)


def test_a_header_of_a_megabyte(port: int) -> None:
    with connected(port) as connection:
        with suppress(ConnectionError):
            connection.sendall(
                b"GET /sessions HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 1_000_000 + b"\r\n\r\n"
            )
        assert b" 200 " not in read_all(connection)[:20]
    assert lives(port)


def test_a_body_of_a_gigabyte_is_not_read(port: int) -> None:
    """It is refused by its length, and by what has come of it where it says none."""
    begin = f"POST /agents/support/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{AUTH}"
    with connected(port) as connection:
        connection.sendall(f"{begin}Content-Length: 1000000000\r\n\r\n{{".encode())
        assert b" 413 " in connection.recv(65536)[:20]
    sent = 0
    with connected(port) as connection:
        connection.sendall(f"{begin}Transfer-Encoding: chunked\r\n\r\n".encode())
        piece = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        with suppress(ConnectionError, TimeoutError):
            while sent < 1000:
                connection.sendall(piece)
                sent += 1
        assert sent < 100
    assert lives(port)


def test_requests_that_are_never_finished_hold_nobody_up(port: int) -> None:
    opened = [connected(port) for _ in range(100)]
    try:
        for place, one in enumerate(opened):
            begin = "POST /agents/support/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            half = [begin, f"{begin}{AUTH}Content-Length: 100\r\n\r\n{{", ""]
            one.sendall(half[place % 3].encode())
        began = time.monotonic()
        assert lives(port)
        assert time.monotonic() - began < 20
    finally:
        for one in opened:
            one.close()
    assert lives(port)


def test_readers_that_do_not_read_hold_up_no_run(port: int, app: FastAPI) -> None:
    """And who goes away in the middle of a stream leaves nothing behind."""
    body = json.dumps({"input": "Go", "session_id": "s1", "stream": True}).encode()
    request = (
        f"POST /agents/slow/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{AUTH}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    opened = [connected(port) for _ in range(5)]
    for one in opened:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        one.sendall(request + body)
    opened[0].close()
    until = time.monotonic() + 60
    asked = f"GET /sessions/s1/runs HTTP/1.1\r\nHost: localhost\r\n{AUTH}Connection: close\r\n\r\n".encode()
    shown = b""
    while shown.count(b'"status":"completed"') < 5 and time.monotonic() < until:
        with connected(port) as connection:
            connection.sendall(asked)
            shown = read_all(connection)
        time.sleep(0.1)
    assert shown.count(b'"status":"completed"') == 5
    for one in opened:
        one.close()
    while app.state.sessile.streams and time.monotonic() < until:
        time.sleep(0.1)
    assert app.state.sessile.streams == 0


def test_idle_streams_cost_little_and_leave_nothing(port: int, app: FastAPI) -> None:
    """One look at the database serves all of them; and those who go away are forgotten."""
    server = app.state.sessile
    request = f"GET /changes?session_id=s1 HTTP/1.1\r\nHost: localhost\r\n{AUTH}\r\n".encode()
    opened = [connected(port) for _ in range(IDLE)]
    try:
        for one in opened:
            one.sendall(request)
        for one in opened:
            assert b" 200 " in one.recv(4096)
        assert lives(port)
        assert server.streams == IDLE
        asked = 0
        inner = server.storage.achanged_sessions

        async def counted(*given: object, **more: object) -> object:
            nonlocal asked
            asked += 1
            return await inner(*given, **more)

        server.storage.achanged_sessions = counted
        began = time.monotonic()
        while asked < 3:
            time.sleep(0.1)
        assert asked <= time.monotonic() - began + 3
    finally:
        for one in opened:
            one.close()
    until = time.monotonic() + 60
    while (server.streams or server.changes._readers) and time.monotonic() < until:
        time.sleep(0.1)
    assert server.streams == 0
    assert not server.changes._readers
