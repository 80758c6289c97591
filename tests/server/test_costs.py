"""What requests do not pay for: waiting for small pieces, threads for what needs none, descriptions made anew."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from typing import Annotated

import pytest

pytest.importorskip("fastapi")

import fastapi.dependencies.utils
from fastapi import FastAPI, Header
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from sessile import MemoryStorage
from sessile.server import create_app
from sessile.server.app import ROUTERS
from sessile.server.uvicorned import Served, listening, with_room


def test_a_server_on_an_open_socket_lets_no_piece_of_an_answer_wait() -> None:
    """Uvicorn takes such a socket for another kind, whose connections hold small pieces back, 40 ms each time."""

    async def held_back() -> list[int]:
        with listening("127.0.0.1", 0) as (own, address):
            served = Served(create_app(storage=MemoryStorage()), fd=own.fileno())
            serving = asyncio.create_task(served.serve())
            name = own.getsockname()
            reader, writer = await asyncio.open_connection(*name)
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" in await reader.readline(), address
            kept = [one.transport.get_extra_info("socket") for one in served.server_state.connections]  # type: ignore[union-attr]
            options = [one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in kept]
            writer.close()
            served.should_exit = True
            await serving
            return options

    assert asyncio.run(held_back()) == [1]


def faults_of(work: Callable[[], object]) -> int:
    """How often the system had to find memory meanwhile."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def deeper(calls: int, work: Callable[[], int]) -> int:
    return work() if calls == 0 else deeper(calls - 1, work)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="CPython's stack")
def test_no_call_asks_the_system_for_memory_however_deep_the_server_was_called() -> None:
    def often() -> None:
        for _ in range(100):
            deeper(1, lambda: 0)

    def served() -> int:
        often()
        return faults_of(often)

    depths = range(150)
    assert max(deeper(depth, served) for depth in depths) >= 100  # somewhere a chunk ends, and each call pays for it
    assert max(deeper(depth, lambda: with_room(served)) for depth in depths) < 50


def called(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from called(one)


def test_no_route_is_called_in_a_thread() -> None:
    """FastAPI calls what is no coroutine in a thread, one after the other."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            for one in called(route.dependant):
                assert iscoroutinefunction(one.call), (route.path, one.call)


def test_requests_find_their_descriptions_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async def who(x_user: Annotated[str, Header()]) -> str:
        return x_user

    app = create_app(storage=MemoryStorage(), auth=who)
    client = TestClient(app, headers={"X-User": "ada"})
    assert client.get("/sessions").status_code == client.get("/me").status_code == 200

    def made_anew(**given: object) -> None:
        raise AssertionError(given)

    monkeypatch.setattr(fastapi.dependencies.utils, "get_dependant", made_anew)
    assert client.get("/sessions?model=m").json()["items"] == []
    assert client.get("/me").json()["user_id"] == "ada"


def test_the_document_says_what_authentication_takes() -> None:
    async def who(x_user: Annotated[str, Header()]) -> str:
        return x_user

    app: FastAPI = create_app(storage=MemoryStorage(), auth=who)
    paths = app.openapi()["paths"]
    assert app.openapi()["paths"] is paths
    for path, methods in paths.items():
        for operation in methods.values():
            names = [one["name"] for one in operation.get("parameters", ())]
            assert names.count("x-user") == (path not in {"/health", "/ready"}), path
