"""A run is answered alike whether the server reads the request itself or FastAPI does."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from sessile import Agent, MemoryStorage
from sessile.agents.offline import OfflineModel
from sessile.server import create_app
from sessile.server.auth import Caller
from sessile.server.routes.direct import Parameters

PLAIN = "application/json"
LEFT = "application/json; charset=utf-8"
"""What is read here, and what is left to FastAPI."""

BODIES: dict[str, bytes] = {
    "right": b'{"input": "Hello", "session_id": "s1"}',
    "metadata": b'{"input": ["Hello"], "session_id": "s1", "metadata": {"n": 12345678901234567890123, "x": 1e3}}',
    "the last of two": b'{"input": 1, "input": "Hello", "session_id": "s1"}',
    "half a character": b'{"input": "\\ud800", "session_id": "s1"}',
    "a number that is none": b'{"input": "Hello", "session_id": "s1", "metadata": {"n": NaN}}',
    "too deep": b'{"input": ' + b"[" * 500 + b"]" * 500 + b', "session_id": "s1"}',
    "a member that is none": b'{"input": "Hello", "inputs": "Hello"}',
    "another type": b'{"input": "Hello", "session_id": 1}',
    "a text for a number": b'{"input": "Hello", "session_id": "s1", "after": "0"}',
    "a number for a yes": b'{"input": "Hello", "session_id": "s1", "stream": 0}',
    "too small": b'{"input": "Hello", "session_id": "s1", "after": -1}',
    "no object": b'["Hello"]',
    "another encoding": '{"input": "Hello", "session_id": "s1"}'.encode("utf-16"),
    "no characters": b'{"input": "\xff"}',
    "broken": b'{"input": "Hello"',
    "empty": b"",
}


def served(seen: list[str]) -> FastAPI:
    async def who(request: Request) -> Caller:
        seen.append(request.url.path)
        return Caller("ada")

    agent = Agent(OfflineModel(), name="support", storage=MemoryStorage())
    return create_app([agent], auth=who)


def answer(kind: str, body: bytes, key: str | None = None) -> tuple[int, Any, list[str]]:
    """Status, answer without what differs from run to run, and whom it was asked about."""
    seen: list[str] = []
    headers = {"Content-Type": kind, "X-Sessile": "1", **({} if key is None else {"Idempotency-Key": key})}
    found = TestClient(served(seen)).post("/agents/support/runs", content=body, headers=headers)
    given = found.json()
    for name in ("run_id", "instance", "started_at", "ended_at", "duration"):
        given.pop(name, None)
    return found.status_code, given, seen


@pytest.mark.parametrize("name", BODIES)
def test_what_is_asked_is_read_alike(name: str) -> None:
    body = BODIES[name]
    ours, theirs = answer(PLAIN, body), answer(LEFT, body)
    assert ours == theirs
    assert ours[0] == (200 if name in ("right", "metadata", "the last of two") else ours[0])
    assert ours[2] == ["/agents/support/runs"], "who it is, is asked once"


@pytest.mark.parametrize("key", ["k" * 200, "k" * 201, ""])
def test_keys_are_read_alike(key: str) -> None:
    ours, theirs = (answer(kind, BODIES["right"], key) for kind in (PLAIN, LEFT))
    assert ours == theirs
    assert ours[0] == (200 if len(key) == 200 else 422)


def test_a_right_request_needs_nothing_of_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    async def solved(**given: Any) -> None:
        raise AssertionError("FastAPI was asked")

    agent = Agent(OfflineModel(), name="support", storage=MemoryStorage())
    client = TestClient(create_app([agent]), base_url="http://localhost", headers={"X-Sessile": "1"})
    monkeypatch.setattr("fastapi.routing.solve_dependencies", solved)
    assert client.post("/agents/support/runs", json={"input": "Hello"}).status_code == 200


QUERIES: dict[str, list[str]] = {
    "/sessions": [
        *("", "limit=20", "limit=0", "limit=x", "limit=+5", "limit=1_0", "limit=5.0", "limit=%205", "limit=5&limit=6"),
        *(
            "cursor=",
            "cursor=x",
            "agent=support",
            "agent=",
            "user_id=ada",
            "user_id=",
            "status=completed",
            "status=odd",
        ),
        *("since=2026-01-01T00:00:00Z", "since=2026-01-01T00:00:00", "since=soon", "order=created", "order=x"),
        *(
            "details=true",
            "details=2",
            "metadata=a=1&metadata=b",
            "metadata=",
            "unknown=1",
            "model=test",
            "limit",
            "=1",
        ),
        *("name_prefix=%F0%9F%98%80", "name_prefix=%FF", "name_prefix=%ED%A0%80", "name_prefix=a%00", "kind=agent"),
    ],
    "/search": [
        "",
        "text=hello",
        "text=",
        "text=%20",
        "text=hello&order=best&limit=1",
        "text=a&text=b",
        "text=a&kind=x",
    ],
    "/usage": ["", "by=day", "by=day&by=agent", "by=century", "by=", "zone=Nowhere", "by=day&agent=support"],
    "/runs": ["", "ascending=yes", "ascending=maybe", "limit=100", "limit=101", "status=completed&status=failed"],
    "/waiting": ["", "limit=1", "agent=support"],
    "/examples": ["", "like=hello&limit=2", "tokens=0", "tokens=100"],
}


def test_addresses_are_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    read, taken = Parameters.read, list[str]()

    def ours(self: Parameters, request: Request) -> dict[str, Any] | None:
        found = read(self, request)
        taken.extend([] if found is None else [str(request.url.query)])
        return found

    agent = Agent(OfflineModel(), name="support", storage=MemoryStorage())
    client = TestClient(create_app([agent], index_every=None), base_url="http://localhost", headers={"X-Sessile": "1"})
    with client:
        for number in range(3):
            body = {"input": f"Hello {number}", "session_id": f"s{number}", "metadata": {"a": number}}
            assert client.post("/agents/support/runs", json=body).status_code == 200
        for path, queries in QUERIES.items():
            for query in queries:
                monkeypatch.setattr(Parameters, "read", ours)
                here = client.get(f"{path}?{query}")
                monkeypatch.setattr(Parameters, "read", lambda self, request: None)
                there = client.get(f"{path}?{query}")
                both = [dict(one.json()) if isinstance(one.json(), dict) else one.json() for one in (here, there)]
                for one in both:
                    if isinstance(one, dict):
                        one.pop("complete_until", None)
                assert (here.status_code, both[0]) == (there.status_code, both[1]), (path, query)
    assert {"", "limit=20", "text=hello", "by=day&by=agent"} <= {*taken}, "FastAPI was asked where it need not be"
    assert not {"limit=x", "unknown=1", "model=test", "limit=5&limit=6"} & {*taken}


def test_each_route_is_looked_for_once() -> None:
    """Routers that are included look for a route once to find that they have it, and once more to call it."""
    assert all(isinstance(route, Route) for route in served([]).routes)
