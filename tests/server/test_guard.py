"""What stands before the routes: other hosts, other sites, large bodies, headers, limits."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import Depends, FastAPI
from starlette.testclient import TestClient
from tests.server.conftest import AUTH, Pace, agents, headers

from sessile import Agent, MemoryStorage, Storage
from sessile.agents.offline import OfflineModel
from sessile.errors import InvalidInputError
from sessile.server import Caller, Jwt, Limits, Tokens, create_app, lifespan_of


@pytest.fixture
def local(storage: Storage, pace: Pace) -> Iterator[TestClient]:
    """A server without authentication."""
    app = create_app(agents(storage, pace), resume_every=None, limits=Limits(body=10_000, stop_seconds=0.1))
    with TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False) as client:
        yield client


SAY = {"input": "Hello"}
OURS = {"X-Sessile": "1"}


def test_without_authentication_only_this_machine_is_served(local: TestClient) -> None:
    """A page whose name leads to this machine all of a sudden (DNS rebinding) asks for its own host."""
    assert local.get("/sessions").status_code == 200
    for host in ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", ""):
        assert local.get("/sessions", headers={"Host": host}).status_code == 421
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert local.get("/sessions", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({}, 403),
        ({**OURS, "Content-Type": "text/plain"}, 415),
        ({**OURS, "Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({**OURS, "Content-Type": ""}, 415),
        ({**OURS, "Origin": "https://evil.example"}, 403),
        ({**OURS, "Origin": "null"}, 403),
        ({**OURS, "Origin": "http://localhost:8000"}, 200),
        (OURS, 200),
    ],
)
def test_pages_of_other_sites_change_nothing(local: TestClient, more: dict[str, str], status: int) -> None:
    sent = {"Content-Type": "application/json", **more}
    answer = local.post("/agents/support/runs", content=json.dumps(SAY), headers=sent)
    assert answer.status_code == status
    assert len(local.get("/sessions").json()["items"]) == (status == 200)


@pytest.mark.parametrize("more", [{}, {"Authorization": "Basic YWRhOnBhc3M="}])
@pytest.mark.parametrize(
    "address", ["/sessions/s1/runs/1/cancel", "/sessions/a%2Fv1%2Fb/runs/1/cancel", "/v1/responses/resp_1_czE/cancel"]
)
def test_what_browsers_send_by_themselves_is_not_enough(storage: Storage, address: str, more: dict[str, str]) -> None:
    """A form of another site's page, with the user's cookie, or the password that a browser remembers."""

    async def by_cookie() -> str:
        return "ada"

    app = create_app(storage=storage, auth=by_cookie)
    with TestClient(app) as client:
        assert client.post(address, headers=more).json()["type"] == "urn:sessile:problem:missing-header"
        assert client.post(address, headers={**more, **OURS}).status_code == 404


def test_no_other_origin_may_read(local: TestClient) -> None:
    answer = local.get("/sessions", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in local.options("/agents/support/runs", headers=asked).headers


def test_an_origin_that_is_named_may_read(storage: Storage, pace: Pace) -> None:
    app = create_app(agents(storage, pace), auth=AUTH, cors=["https://app.example"], resume_every=None)
    with TestClient(app) as client:
        asked = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        answer = client.options("/agents/support/runs", headers=asked)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        other = client.get("/sessions", headers={"Origin": "https://evil.example", **headers("ada")})
        assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("address", ["/sessions", "/nowhere", "/health", "/sessions/none"])
def test_all_answers_are_closed_to_other_pages(local: TestClient, address: str) -> None:
    sent = local.get(address).headers
    assert sent["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in sent["content-security-policy"]
    assert sent["x-frame-options"] == "DENY"
    assert sent["cache-control"] == "no-store"


def test_a_large_body_is_refused(local: TestClient) -> None:
    large = json.dumps({"input": "x" * 20_000})
    sent = {"Content-Type": "application/json", **OURS}

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(large), 1000):
            yield large[start : start + 1000].encode()

    for content in (large, pieces()):  # with its length, and without
        answer = local.post("/agents/support/runs", content=content, headers=sent)
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:sessile:problem:too-large")
    assert local.get("/sessions").json()["items"] == []


@pytest.mark.parametrize("content", ["{", "[]", "null", '"text"', "\x00", '{"input": NaN}', "[" * 5000])
def test_a_broken_body_is_a_problem(local: TestClient, content: str) -> None:
    sent = {"Content-Type": "application/json", **OURS}
    answer = local.post("/agents/support/runs", content=content, headers=sent)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "ä ö", "?", "#", "a\nb", "sessions", "%"])
def test_any_id_has_an_address(local: TestClient, name: str) -> None:
    made = local.post("/agents/support/runs", json={**SAY, "session_id": name}, headers=OURS)
    assert made.status_code == 200
    shown = local.get(made.headers["content-location"])
    assert (shown.status_code, shown.json()["session_id"]) == (200, name)


def test_more_runs_than_there_is_room_for(storage: Storage, pace: Pace) -> None:
    limits = Limits(runs=3, runs_per_user=2, queue=1, queue_seconds=0.2, stop_seconds=0.1)
    app = create_app(agents(storage, pace), auth=AUTH, limits=limits, resume_every=None)
    pace.seconds = 0.2
    with TestClient(app) as client:

        def run(who: str) -> Any:
            body = {"input": "Go", "background": True}
            return client.post("/agents/slow/runs", json=body, headers=headers(who))

        assert [run("ada").status_code for _ in range(2)] == [202, 202]
        refused = run("ada")
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:sessile:problem:too-many-runs")
        assert int(refused.headers["retry-after"]) > 0
        assert run("bob").status_code == 202  # one user's limit is not another's
        assert run("bob").status_code == 429


def test_who_waits_in_the_queue_has_a_turn(storage: Storage, pace: Pace) -> None:
    limits = Limits(runs=1, queue=10, queue_seconds=30, stop_seconds=0.1)
    app = create_app(agents(storage, pace), auth=AUTH, limits=limits, resume_every=None)
    with TestClient(app) as client:
        found: list[int] = []

        def run() -> None:
            found.append(client.post("/agents/slow/runs", json=SAY, headers=headers("ada")).status_code)

        threads = [threading.Thread(target=run) for _ in range(4)]
        [one.start() for one in threads]
        [one.join() for one in threads]
        assert found == [200] * 4


def test_an_overloaded_server_sends_streams_away_with_a_time(storage: Storage, pace: Pace) -> None:
    """Browsers never come again after 429."""
    app = create_app(agents(storage, pace), auth=AUTH, limits=Limits(streams=0), resume_every=None)
    with TestClient(app) as client:
        answer = client.get("/changes", headers=headers("ada"))
        assert (answer.status_code, answer.text) == (200, "retry: 5000\n\n")


def test_requests_are_noted_with_session_and_run(local: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sessile.access"):
        made = local.post("/agents/support/runs", json={**SAY, "session_id": "s1"}, headers=OURS).json()
    [line] = [json.loads(one.message) for one in caplog.records if one.name == "sessile.access"]
    assert (line["session_id"], line["run_id"], line["status"]) == ("s1", made["run_id"], 200)
    assert "Hello" not in caplog.text


def test_what_is_counted(local: TestClient) -> None:
    local.post("/agents/support/runs", json=SAY, headers=OURS)
    local.get("/sessions/one-of-very-many")
    text = local.get("/metrics").text
    assert 'sessile_runs_total{agent="support",status="completed"} 1' in text
    assert "one-of-very-many" not in text
    assert 'route="/sessions/{session_id}",status="404"} 1' in text


def test_not_ready_without_its_database(local: TestClient, storage: Storage) -> None:
    assert local.get("/ready").json()["status"] == "ready"
    storage.close()
    assert local.get("/ready").status_code == 503
    assert local.get("/health").status_code == 200
    assert local.get("/sessions").status_code == 503


# ---------------------------------------------------------------- who asks


def test_signed_tokens() -> None:
    jwt = pytest.importorskip("jwt")
    key = "a secret of sixty-four bytes, which is what the longest hash takes to be safe"
    app = create_app(storage=MemoryStorage(), auth=Jwt(key, algorithms=["HS256"], audience="sessile"))
    far = 2**32
    good = {"sub": "ada", "aud": "sessile", "exp": far}

    def status(claims: dict[str, Any], key: str = key, algorithm: str = "HS256") -> int:
        token = jwt.encode(claims, key, algorithm=algorithm)
        with TestClient(app) as client:
            return client.get("/sessions", headers={"Authorization": f"Bearer {token}"}).status_code

    assert status(good) == 200
    assert status({**good, "exp": 1}) == 401
    assert status({**good, "aud": "another"}) == 401
    assert status({**good, "sub": ""}) == 401
    assert status({name: value for name, value in good.items() if name != "exp"}) == 401
    assert status({name: value for name, value in good.items() if name != "sub"}) == 401
    assert status(good, key="another secret of sixty-four bytes, which is what the longest hash takes here") == 401
    assert status(good, key="", algorithm="none") == 401
    assert status(good, algorithm="HS512") == 401


@pytest.mark.parametrize("algorithms", [[], ["none"], ["HS256", "RS256"], "HS256"])
def test_algorithms_are_named_and_fit(algorithms: Any) -> None:
    with pytest.raises(InvalidInputError):
        Jwt("key", algorithms=algorithms, audience="sessile")


def test_short_tokens_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        Tokens({"short": "ada"})


# ---------------------------------------------------------------- as a part of another application


def test_below_a_path_of_another_application() -> None:
    """Its own dependency says who asks, with dependencies of its own."""

    def session_cookie(cookie: str | None = None) -> str | None:
        return cookie

    async def user(name: str | None = Depends(session_cookie)) -> Caller | None:
        return None if name is None else Caller(name)

    storage = MemoryStorage()
    inner = create_app([Agent(OfflineModel(), name="support", storage=storage)], auth=user)
    main = FastAPI(lifespan=lifespan_of(inner))
    main.mount("/api/agents", inner)
    with TestClient(main) as client:
        assert client.get("/api/agents/sessions").status_code == 401
        made = client.post(
            "/api/agents/agents/support/runs?cookie=ada", json={**SAY, "session_id": "a/b"}, headers=OURS
        )
        assert made.headers["content-location"] == "/api/agents/sessions/a%2Fb/runs/1"
        assert client.get(f"{made.headers['content-location']}?cookie=ada").json()["output"]
        assert client.get(f"{made.headers['content-location']}?cookie=bob").status_code == 404


@pytest.mark.parametrize(
    "made",
    [
        lambda: create_app(),
        lambda: create_app([Agent(OfflineModel(), storage=MemoryStorage())]),
        lambda: create_app([Agent(OfflineModel(), name="one", storage=MemoryStorage())] * 2),
        lambda: create_app([Agent(OfflineModel(), name=name, storage=MemoryStorage()) for name in "ab"]),
        lambda: create_app(storage=MemoryStorage(), cors=["*"]),
    ],
)
def test_what_cannot_be_served_is_said_at_once(made: Any) -> None:
    with pytest.raises(InvalidInputError):
        made()


def test_sessions_alone() -> None:
    storage = MemoryStorage()
    storage.add_run("s1", input="Hello", output="Hi", user_id="ada")
    with TestClient(create_app(storage=storage), base_url="http://localhost") as client:
        assert client.get("/sessions/s1").json()["user_id"] == "ada"
        assert client.get("/agents").json() == []
        assert [one["session_id"] for one in client.get("/runs").json()["items"]] == ["s1"]
