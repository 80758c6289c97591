"""Who reaches what over HTTP: every route of the API's own description, asked by everybody.

A route that is not described here is a failure, so that none is forgotten.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient
from tests.server.conftest import AUTH, Pace, agents, headers

from sessile import SqliteStorage
from sessile.server import Limits, create_app
from sessile.server.app import ROUTERS
from sessile.server.experiments import session_of
from sessile.server.openai.responses import response_id
from sessile.server.routes.common import Known
from sessile.storage.users import space_of

SECRET = "zanzibar"
"""A word that stands in what ada has said, and nowhere else."""

OPEN = {("get", "/health"), ("get", "/ready")}
"""What needs no user."""

Request = dict[str, Any]

SESSION = "/sessions/{session_id}"
RUN = f"{SESSION}/runs/{{number}}"
DIGEST = "0" * 64

ROUTES: dict[tuple[str, str], Request] = {
    ("get", "/health"): {},
    ("get", "/ready"): {},
    ("get", "/agents"): {},
    ("post", "/agents/{agent}/runs"): {"json": {"input": "Hello", "session_id": "s1"}},
    ("get", "/sessions"): {},
    ("get", SESSION): {},
    ("patch", SESSION): {"json": {"name": "Another"}},
    ("delete", SESSION): {},
    ("get", f"{SESSION}/state"): {},
    ("patch", f"{SESSION}/state"): {"json": {"patch": {"a": 1}}},
    ("get", f"{SESSION}/runs"): {},
    ("get", RUN): {},
    ("get", f"{RUN}/value"): {"params": {"pointer": "/input"}},
    ("get", f"{RUN}/events"): {},
    ("post", f"{RUN}/cancel"): {},
    ("post", f"{RUN}/resume"): {"json": {"approvals": {"call-1": True}}},
    ("post", f"{RUN}/ratings"): {"json": {"score": 1}},
    ("get", f"{RUN}/entries"): {},
    ("get", f"{RUN}/state"): {},
    ("get", f"{RUN}/steps"): {},
    ("post", f"{RUN}/decisions"): {"json": {"approvals": {"call-1": True}}},
    ("post", f"{RUN}/erase"): {"json": {}},
    ("get", f"{SESSION}/entries"): {},
    ("post", f"{SESSION}/claim"): {"json": {"user_id": "ada"}},
    ("get", f"{SESSION}/files"): {},
    ("post", f"{SESSION}/files"): {"json": {"name": "plan.md", "text": "Another"}},
    ("get", f"{SESSION}/files/content"): {"params": {"name": "plan.md"}},
    ("delete", f"{SESSION}/files/content"): {"params": {"name": "plan.md"}},
    ("get", "/memories"): {"params": {"user_id": "ada", "find": "zanzibar"}},
    ("post", "/memories"): {"params": {"user_id": "ada"}, "json": {"memory": "Likes coffee."}},
    ("patch", "/memories/{memory_id}"): {"params": {"user_id": "ada"}, "json": {"memory": "Likes coffee."}},
    ("delete", "/memories/{memory_id}"): {"params": {"user_id": "ada"}},
    ("get", "/me"): {},
    ("get", "/choices/{field}"): {},
    ("get", "/dataset"): {},
    ("get", "/experiments"): {},
    ("post", "/experiments"): {"json": {"agent": "support", "cases": {"limit": 1}}},
    ("get", "/experiments/{experiment}"): {},
    ("get", "/experiments/{experiment}/events"): {},
    ("get", "/status"): {},
    ("get", "/doctor"): {},
    ("get", f"{SESSION}/messages"): {},
    ("get", f"{SESSION}/media/{{digest}}"): {},
    ("get", f"{SESSION}/branches"): {},
    ("post", f"{SESSION}/fork"): {"json": {}},
    ("post", f"{SESSION}/rewind"): {"json": {"at": 0}},
    ("post", f"{SESSION}/events"): {"json": {"name": "ok"}},
    ("get", "/runs"): {},
    ("get", "/search"): {"params": {"text": "zanzibar"}},
    ("get", "/usage"): {"params": {"by": "session"}},
    ("get", "/examples"): {},
    ("get", "/waiting"): {},
    ("get", "/approvals"): {},
    ("delete", "/approvals/{grant_id}"): {},
    ("get", f"{SESSION}/approvals"): {},
    ("delete", f"{SESSION}/approvals/{{grant_id}}"): {},
    ("get", "/changes"): {"params": {"once": "true"}},
    ("get", "/metrics"): {},
    ("post", "/protocols/{protocol}/{agent}"): {
        "json": {
            "threadId": "s1",
            "runId": "r1",
            "messages": [{"id": "m1", "role": "user", "content": "Hello"}],
            "state": None,
            "tools": [],
            "context": [],
            "forwardedProps": None,
        }
    },
    ("get", "/v1/models"): {},
    ("get", "/v1/responses/{response_id}"): {},
    ("post", "/v1/responses/{response_id}/cancel"): {},
    ("post", "/v1/responses"): {"json": {"model": "support", "input": "Hello", "conversation": "s1"}},
    ("post", "/v1/chat/completions"): {
        "json": {"model": "support", "messages": [{"role": "user", "content": "Hello"}]},
        "headers": {"X-Session-Id": "s1"},
    },
}

NOT_FOR_USERS = {
    ("get", "/metrics"),
    ("get", "/status"),
    ("get", "/doctor"),
    ("post", f"{SESSION}/claim"),
    *((method, path) for method, path in ROUTES if path.startswith("/experiments")),
}
"""What only administrators have."""

MEANS_ANOTHER = {
    ("post", "/agents/{agent}/runs"),
    ("post", "/protocols/{protocol}/{agent}"),
    ("post", "/v1/responses"),
    ("post", "/v1/chat/completions"),
}
"""What makes a session where the user has none of that id: the user's own."""


def app_of(path: Path) -> Any:
    storage = SqliteStorage(path)
    pace = Pace()
    pace.seconds = 0
    return create_app(agents(storage, pace), auth=AUTH, limits=Limits(stop_seconds=0.1), resume_every=None)


@cache
def described() -> dict[tuple[str, str], Any]:
    """All operations of the API's description."""
    from sessile import MemoryStorage

    document = create_app(agents(MemoryStorage(), Pace()), auth=AUTH).openapi()
    return {(method, path): one for path, item in document["paths"].items() for method, one in item.items()}


def test_every_route_is_described_here() -> None:
    assert set(described()) == set(ROUTES)


def test_who_asks_is_known_before_bodies_are_read_everywhere() -> None:
    assert all(issubclass(router.route_class, Known) for router in ROUTERS)


class Asker:
    """Sends the request of a route as one caller, about ada's session or another one."""

    def __init__(self, client: TestClient, digest: str, memory: str) -> None:
        self.client, self.digest, self.memory = client, digest, memory

    def __call__(self, route: tuple[str, str], who: str | None, session: str = "s1", number: int = 1) -> Any:
        method, path = route
        session_id = f"{space_of('ada')}{session}" if who == "root" else session
        number = 2 if path.endswith(("/resume", "/decisions")) else number
        if path.endswith("/claim") and who == "root":
            session_id = "nobodys"
        if path == f"{SESSION}/events":
            session_id = session_id.replace("s1", "w1")
        address = path.format(
            agent="support",
            protocol="ag-ui",
            field="agent",
            experiment="e1",
            grant_id="g1",
            session_id=session_id,
            number=number,
            digest=self.digest,
            memory_id=self.memory if session == "s1" else "0" * 8,
            response_id=response_id(session_id, number),
        )
        request = dict(ROUTES[route])
        request["headers"] = {**headers(who), **request.get("headers", {})}
        return self.client.request(method, address, **request)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asker]:
    """For what changes nothing."""
    with serving(tmp_path_factory.mktemp("shared")) as asker:
        yield asker


@pytest.fixture
def asker(tmp_path: Path) -> Iterator[Asker]:
    with serving(tmp_path) as asker:
        yield asker


@contextmanager
def serving(tmp_path: Path) -> Iterator[Asker]:
    app = app_of(tmp_path / "sessions.db")
    with TestClient(app, raise_server_exceptions=False) as client:
        yield filled(app, client)


def filled(app: Any, client: TestClient) -> Asker:
    """What is asked about: sessions of ada's, with a word in all that she has said."""
    app.state.sessile.storage.create_session("nobodys")
    app.state.sessile.storage.add_run(session_of("e1"), output={"cases": []}, kind="experiment", agent="support")
    picture = "iVBORw0KGgo" + "A" * 100_001
    file = [f"My {SECRET} picture", {"media_type": "image/png", "data": picture}]
    for agent, given, session_id in (
        ("support", file, "s1"),
        ("asking", f"Refund {SECRET}", "s1"),
        ("waiting", SECRET, "w1"),
    ):
        body = {"input": given, "session_id": session_id}
        made = client.post(f"/agents/{agent}/runs", json=body, headers=headers("ada"))
        assert made.status_code == 200, made.text
    client.patch("/sessions/s1", json={"name": SECRET, "metadata": {"about": SECRET}}, headers=headers("ada"))
    client.patch("/sessions/s1/state", json={"patch": {"about": SECRET}}, headers=headers("ada"))
    client.post("/sessions/s1/files", json={"name": "plan.md", "text": SECRET}, headers=headers("ada"))
    kept = client.post("/memories", json={"memory": SECRET}, headers=headers("ada")).json()
    found = re.search(r'"\$blob":"([0-9a-f]{64})"', client.get("/sessions/s1/runs/1", headers=headers("ada")).text)
    assert found is not None
    return Asker(client, found[1], kept["memory_id"])


@pytest.mark.parametrize("route", sorted(ROUTES), ids=" ".join)
def test_nobody_reaches_anything(shared: Asker, route: tuple[str, str]) -> None:
    answer = shared(route, None)
    if route in OPEN:
        assert answer.status_code == 200
    else:
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        wrong = {**headers(None), "Authorization": "Bearer wrong-token-0123456789"}
        assert shared.client.get("/sessions", headers=wrong).status_code == 401
    assert SECRET not in answer.text


def unnamed(text: str) -> str:
    """An answer without what differs each time: ids, times, and the names of sessions that were asked for."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{22}|\d{4}-\d\d-\d\dT[\d:.+]+Z?|\b[sw]1\b|\bs2\b", "*", text)
    return re.sub(r'"(database_seconds|created|completed_at|created_at)":[\d.]+', "*", text)


@pytest.mark.parametrize("route", sorted(set(ROUTES) - OPEN), ids=" ".join)
def test_another_user_meets_a_session_that_is_not_there(request: pytest.FixtureRequest, route: tuple[str, str]) -> None:
    """What bob is told of ada's session is what he is told of one that nobody has."""
    asker: Asker = request.getfixturevalue("asker" if route in MEANS_ANOTHER else "shared")
    answer = asker(route, "bob")
    assert SECRET not in answer.text
    if route in NOT_FOR_USERS:
        assert answer.status_code == 404
    elif re.search(r"{(session|response|memory)_id}", route[1]):
        assert answer.status_code == 404
        nobodys = asker(route, "bob", session="s2")
        assert unnamed(answer.text).replace(asker.memory, "0" * 8) == unnamed(nobodys.text)
    else:
        assert answer.status_code in (200, 201)
    mine = asker.client.get("/sessions/s1", headers=headers("ada")).json()
    assert (mine["run_count"], mine["name"], mine["state"]) == (2, SECRET, {"about": SECRET})
    if route in MEANS_ANOTHER:
        assert asker.client.get("/sessions/s1", headers=headers("bob")).json()["run_count"] == 1


@pytest.mark.parametrize("who", ["ada", "root"])
@pytest.mark.parametrize("route", sorted(set(ROUTES) - OPEN), ids=" ".join)
def test_owner_and_administrator_reach_it(request: pytest.FixtureRequest, route: tuple[str, str], who: str) -> None:
    asker: Asker = request.getfixturevalue("shared" if route[0] == "get" else "asker")
    answer = asker(route, who)
    if route in NOT_FOR_USERS and who != "root":
        assert answer.status_code == 404
        return
    assert answer.status_code < 300, answer.text
    if (
        route[0] == "get"
        and route not in NOT_FOR_USERS
        and route[1]
        not in (
            "/agents",
            "/me",
            "/choices/{field}",
            f"{RUN}/state",
            f"{RUN}/steps",
            "/metrics",
            f"{SESSION}/branches",
            f"{SESSION}/files",
            "/approvals",
            f"{SESSION}/approvals",
            "/usage",
            "/v1/models",
            "/v1/responses/{response_id}",
        )
    ):
        assert SECRET in answer.text or route[1].endswith(("{digest}", "/events", "/examples"))
