"""Looking into sessions over HTTP: pages around any run, what lies inside a run, lists by what runs have."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("fastapi")

from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient
from tests.server.conftest import AUTH, frames, headers
from tests.teams.handing import desk, over, told

import sessile
from sessile import Storage
from sessile.server import create_app
from sessile.server.pages import Around, chosen


def run(client: TestClient, agent: str = "support", given: Any = "Hello", **body: Any) -> Any:
    answer = client.post(f"/agents/{agent}/runs", json={"input": given, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def numbers(page: Any) -> list[int]:
    return [one["number"] for one in page["items"]]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), max_size=4),
    which=st.sampled_from(["newest", "before", "after", "around"]),
    number=st.integers(1, 30),
    limit=st.integers(1, 8),
)
def test_a_page_has_what_a_list_of_all_numbers_would_give(
    sizes: list[tuple[int, int]], which: Any, number: int, limit: int
) -> None:
    path: list[tuple[int, int]] = []
    next_free = 1
    for size, gap in sizes:
        path.append((next_free + gap, next_free + gap + size - 1))
        next_free = path[-1][1] + 1
    whole = [one for first, last in path for one in range(first, last + 1)]
    found = chosen(path, Around(which, number), limit)
    if which == "newest":
        assert found == whole[-limit:]
    elif which == "before":
        assert found == [one for one in whole if one < number][-limit:]
    elif which == "after":
        assert found == [one for one in whole if one > number][:limit]
    else:
        assert len(found) == min(limit, len(whole))
        assert number not in whole or number in found
        assert found == [one for one in whole if found[0] <= one <= found[-1]] if found else not whole


def test_a_session_is_opened_at_any_run_and_read_both_ways(ada: TestClient, storage: Storage) -> None:
    own = storage.for_user("ada")
    for number in range(1, 31):
        own.add_run("s1", input=f"question {number}", output="x" * 10)
    page = ada.get("/sessions/s1/runs", params={"around": 12, "last": 5}).json()
    assert numbers(page) == [10, 11, 12, 13, 14]
    assert (page["before"], page["after"], page["first"], page["last"], page["count"]) == (10, 14, 1, 30, 30)
    older = ada.get("/sessions/s1/runs", params={"before": page["before"], "last": 100}).json()
    newer = ada.get("/sessions/s1/runs", params={"after": page["after"], "last": 100}).json()
    assert numbers(older) + numbers(page) + numbers(newer) == list(range(1, 31))
    assert (older["before"], newer["after"]) == (None, None)
    own.rewind("s1", at=5)
    own.add_run("s1", input="another way", output="y")
    assert numbers(ada.get("/sessions/s1/runs", params={"last": 3}).json()) == [4, 5, 31]
    left = ada.get("/sessions/s1/runs", params={"tip": 30, "around": 29, "last": 3}).json()
    assert (numbers(left), left["count"]) == ([28, 29, 30], 30)
    assert ada.get("/sessions/s1/runs", params={"tip": 99}).status_code == 404
    assert ada.get("/sessions/s1/runs", params={"before": 3, "after": 2}).status_code == 422


def test_large_runs_make_smaller_pages_without_gaps(ask: Callable[..., TestClient], storage: Storage) -> None:
    ada, own = ask("ada"), storage.for_user("ada")
    object.__setattr__(storage.settings, "max_read_bytes", 30_000)
    for _ in range(12):
        own.add_run("s1", input="q", output="x" * 8000)
    found: list[int] = []
    after: int | None = 1
    while after is not None:
        page = ada.get("/sessions/s1/runs", params={"after": after, "last": 10}).json()
        assert 0 < len(page["items"]) < 10
        found += numbers(page)
        after = page["after"]
    assert found == list(range(2, 13))
    assert 4 in numbers(ada.get("/sessions/s1/runs", params={"around": 4, "last": 10}).json())


def test_what_lies_inside_a_run(ada: TestClient, storage: Storage) -> None:
    run(ada, session_id="s1")
    storage.for_user("ada").add_run("s1", input="Order", output="Done", state={"order": {"id": 7}})
    states = ada.get("/sessions/s1/runs/2/state").json()
    assert (states["before"], states["after"]) == ({}, {"order": {"id": 7}})
    assert states["changes"]
    ada.patch("/sessions/s1/state", json={"patch": {"late": True}})
    assert ada.get("/sessions/s1/runs/1/state").json()["after"] == {}
    whole = ada.get("/sessions/s1/entries").json()
    first = ada.get("/sessions/s1/entries", params={"limit": 1}).json()
    assert first["next_after"] == 1
    rest = ada.get("/sessions/s1/entries", params={"after": first["next_after"]}).json()
    assert first["items"] + rest["items"] == whole["items"]
    assert {"run.started", "message", "run.ended", "state.patched"} <= {one["kind"] for one in whole["items"]}
    own = ada.get("/sessions/s1/runs/2/entries").json()["items"]
    assert {one["run"] for one in own} == {2}
    assert ada.get("/sessions/s1/runs/9/entries").status_code == 404
    assert ada.get("/sessions/s1/runs/9/state").status_code == 404


def test_the_steps_of_a_workflow(ada: TestClient, storage: Storage) -> None:
    waiting = run(ada, "waiting", "news", session_id="w1")
    assert waiting["pending"] == ada.get("/sessions/w1/runs/1/value", params={"pointer": "/pending"}).json()
    ada.post("/sessions/w1/events", json={"name": "ok", "value": "yes"})
    assert "run.ended" in ada.get("/sessions/w1/runs/1/events").text
    steps = ada.get("/sessions/w1/runs/1/steps").json()
    assert all(step["status"] == "finished" and step["duration"] is not None for step in steps)


def test_any_value_of_a_run_is_had_whole(ada: TestClient) -> None:
    run(ada, session_id="s1", given="word " * 10_000)
    shown = ada.get("/sessions/s1/runs/1").json()
    assert shown["input"]["$cut"]["length"] == 50_000
    for pointer in ("/input", "/messages/0/data/parts/0/content"):
        assert ada.get("/sessions/s1/runs/1/value", params={"pointer": pointer}).json() == "word " * 10_000
    paused = run(ada, "asking", session_id="s2")
    call = ada.get("/sessions/s2/runs/1/value", params={"pointer": "/pending/0/tool_call_id"}).json()
    assert call == paused["pending"][0]["tool_call_id"]
    assert ada.get("/sessions/s2/runs/1/value", params={"pointer": "/nothing"}).status_code == 404


def test_sessions_are_listed_by_what_their_runs_have(ada: TestClient, storage: Storage) -> None:
    own = storage.for_user("ada")
    for number in range(12):
        own.add_run(f"s{number}", input=f"question {number}", output="a", agent="support")
        if number % 2:
            own.rate(f"s{number}", 1, score=1.0, label="good")
        own.add_run(f"s{number}", input="again", output="b", agent="support")
        if number % 4 == 1:
            own.rate(f"s{number}", 2, score=0.9)
    found: list[str] = []
    cursor = None
    while True:
        params = {"min_score": 0.5, "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = ada.get("/sessions", params=params).json()
        found += [one["session_id"] for one in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(found) == sorted(f"s{number}" for number in range(12) if number % 2)
    assert ada.get("/sessions", params={"min_score": 0.5, "order": "created"}).status_code == 422
    own.set_metadata("s3", {"tenant": "acme"})
    both = ada.get("/sessions", params={"min_score": 0.5, "metadata": "tenant=acme"}).json()["items"]
    assert [one["session_id"] for one in both] == ["s3"]
    hits = ada.get("/search", params={"text": "question", "min_score": 0.5, "metadata": "tenant=acme"}).json()["items"]
    assert [one["session_id"] for one in hits] == ["s3"]


def test_a_list_tells_what_the_last_run_was_about(ada: TestClient, storage: Storage) -> None:
    own = storage.for_user("ada")
    run(ada, session_id="s1", given="Where is my parcel?")
    ada.post("/sessions/s1/runs/1/ratings", json={"score": 0.5, "comment": "so so"})
    own.create_session("empty", metadata={"tenant": "acme", "vip": True})
    last = {one["session_id"]: one["last"] for one in ada.get("/sessions", params={"details": True}).json()["items"]}
    assert last["empty"] is None
    assert last["s1"]["input"] == "Where is my parcel?"
    assert last["s1"]["ratings"] == {"user": {"score": 0.5, "label": None}}
    assert last["s1"]["duration"] >= 0
    for wanted, there in (("tenant=acme", 1), ("tenant", 1), ("vip=true", 1), ('vip="true"', 0), ("tenant=other", 0)):
        assert len(ada.get("/sessions", params={"metadata": wanted}).json()["items"]) == there, wanted


def test_runs_by_all_filters_and_usage_with_percentiles(ada: TestClient) -> None:
    run(ada, session_id="s1")
    ada.post("/agents/broken/runs", json={"input": "x", "session_id": "s2"})
    assert [one["session_id"] for one in ada.get("/runs", params={"failed": True}).json()["items"]] == ["s2"]
    assert len(ada.get("/runs", params={"rated": False, "kind": "agent", "max_duration": 60}).json()["items"]) == 2
    ada.post("/sessions/s1/runs/1/ratings", json={"score": 1})
    assert [one["session_id"] for one in ada.get("/runs", params={"rated": False}).json()["items"]] == ["s2"]
    table = ada.get("/usage", params={"by": ["hour", "agent"], "zone": "Asia/Kolkata"}).json()
    assert {row["agent"]: (row["runs"], row["errors"]) for row in table["rows"]} == {
        "support": (1, 0),
        "broken": (1, 1),
    }
    assert table["total"]["p95"] >= 0
    hits = ada.get("/search", params={"text": "hello", "session_id": "s1"}).json()["items"]
    snippet = hits[0]["snippets"][0]
    start, end = snippet["marks"][0]
    assert snippet["text"][start:end].lower() == "hello"


def test_texts_of_errors_are_for_administrators(ask: Callable[..., TestClient]) -> None:
    ada, root = ask("ada"), ask("root")
    ada.post("/agents/broken/runs", json={"input": "x", "session_id": "s1"})
    stored = root.get("/sessions").json()["items"][0]["session_id"]
    address = f"/sessions/{quote(stored, safe='')}/entries"
    assert "hunter2" in root.get(address).text
    search = {"text": "refused password"}
    assert "hunter2" in root.get("/search", params=search).text
    for text in (
        ada.get("/sessions/s1/entries").text,
        ada.get("/sessions/s1/runs/1/entries").text,
        ada.get("/sessions/s1/runs/1/value", params={"pointer": ""}).text,
        ada.get("/search", params=search).text,
    ):
        assert "hunter2" not in text
        assert '"s1"' in text or "ConnectionError" in text


def test_choices_are_typed_ahead(ask: Callable[..., TestClient]) -> None:
    ada, root = ask("ada"), ask("root")
    for agent in ("support", "slow"):
        run(ada, agent)
    run(root, user_id="bob")
    assert ada.get("/choices/agent").json() == ["slow", "support"]
    assert ada.get("/choices/agent", params={"prefix": "su"}).json() == ["support"]
    assert root.get("/choices/user").json() == ["ada", "bob"]
    assert root.get("/choices/user", params={"prefix": "b"}).json() == ["bob"]
    assert ada.get("/choices/user").json() == ["ada"]
    assert root.get("/choices/tool").json() == []
    assert root.get("/choices/nothing").status_code == 422


def test_a_turn_is_made_again_after_an_earlier_run(ada: TestClient) -> None:
    for _ in range(3):
        run(ada, session_id="s1")
    again = run(ada, session_id="s1", given="Otherwise", after=1)
    assert again["number"] == 4
    assert numbers(ada.get("/sessions/s1/runs").json()) == [1, 4]


def test_decisions_are_written_down_without_the_agent(ada: TestClient) -> None:
    run(ada, "asking", "Refund", session_id="s1")
    body = {"approvals": {"call-1": {"approved": True, "args": {"amount": 9}}}}
    waits = ada.post("/sessions/s1/runs/1/decisions", json=body)
    assert (waits.status_code, waits.json()["is_decided"]) == (201, True)
    assert ada.get("/waiting").json()["items"][0]["is_decided"] is True
    resumed = ada.post("/sessions/s1/runs/1/resume", json={}).json()
    assert resumed["output"] == "Done: 9 refunded"
    assert ada.post("/sessions/s1/runs/1/decisions", json=body).status_code == 409


def test_a_session_is_given_erased_and_let_expire(ask: Callable[..., TestClient], storage: Storage) -> None:
    root, ada = ask("root"), ask("ada")
    storage.add_run("n1", input="secret zanzibar", output="x")
    given = root.post("/sessions/n1/claim", json={"user_id": "ada"})
    assert (given.status_code, given.json()["user_id"]) == (200, "ada")
    assert root.post("/sessions/n1/claim", json={"user_id": "bob"}).status_code == 404
    assert root.post("/sessions/n1/claim", json={"user_id": "ada"}).json() == given.json()
    assert ada.get("/sessions/n1/runs/1").json()["input"] == "secret zanzibar"
    assert run(ada, session_id="n1", given="And now?")["number"] == 2
    assert [one["session_id"] for one in ada.get("/sessions").json()["items"]] == ["n1"]
    assert ask("bob").get("/sessions/n1").status_code == 404
    run(ada, session_id="s1", given="zanzibar")
    assert ada.post("/sessions/s1/runs/1/erase", json={}).status_code == 200
    assert "zanzibar" not in ada.get("/sessions/s1/entries").text
    assert ada.patch("/sessions/s1", json={"ttl": 60}).json()["ttl"] == 60.0
    assert ada.patch("/sessions/s1", json={"ttl": None}).json()["ttl"] is None


def test_the_state_of_the_server(ask: Callable[..., TestClient]) -> None:
    root, ada = ask("root"), ask("ada")
    run(ada, session_id="s1")
    status = root.get("/status").json()
    assert status["agents"][:2] == ["support", "slow"]
    assert status["index"]["error"] is None
    assert isinstance(status["storage"]["warnings"], list)
    found = root.get("/doctor").json()
    assert (found["sound"], found["wrong"]) == (1, {})
    assert ada.get("/me").json()["administrator"] is False
    assert root.get("/me").json() == {**ada.get("/me").json(), "user_id": "root", "administrator": True}


def test_stored_runs_run_again_with_progress_and_a_report_that_stays(ask: Callable[..., TestClient]) -> None:
    root, ada = ask("root"), ask("ada")
    for number in range(3):
        run(ada, session_id=f"s{number}", given=f"Question {number}")
    body = {"agent": "support", "evaluators": [{"kind": "exact"}], "experiment": "try", "cases": {"user_id": "ada"}}
    begun = root.post("/experiments", json=body)
    assert begun.status_code == 202, begun.text
    watched = root.get(f"{begun.headers['Location']}/events").text
    assert watched.rstrip().splitlines()[-2] == "event: ended", watched
    shown = root.get("/experiments/try").json()
    assert (shown["status"], shown["done"], shown["total"]) == ("completed", 3, 3)
    assert [case["input"] for case in shown["report"]["cases"]] == [f"Question {number}" for number in range(3)]
    assert all(case["new"]["verdicts"]["Exact"]["score"] == 1 for case in shown["report"]["cases"])
    root.app.state.sessile.experiments.clear()  # type: ignore[attr-defined] (as another process sees it)
    assert root.get("/experiments/try").json()["report"] == shown["report"]
    assert [one["name"] for one in root.get("/experiments").json()["items"]] == ["try"]
    assert root.post("/experiments", json={**body, "evaluators": [{"kind": "judge"}]}).status_code == 422
    data = ada.get("/dataset", params={"agent": "support"})
    assert [case["inputs"] for case in data.json()["cases"]] == [f"Question {number}" for number in range(3)]
    assert ada.get("/dataset", params={"format": "yaml"}).headers["content-type"].startswith("application/yaml")


def test_who_asks_is_known_before_a_body_is_read(ask: Callable[..., TestClient]) -> None:
    nobody = ask(None)
    for path, body in (("/agents/support/runs", b"{not json"), ("/sessions/s1/fork", b'{"at": "x"}')):
        answer = nobody.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 401, answer.text
    assert nobody.get("/sessions", params={"limit": "x"}).status_code == 401
    broken = ask("ada").post("/agents/support/runs", content=b"{no", headers={"Content-Type": "application/json"})
    assert (broken.status_code, json.loads(broken.text)["type"][-12:]) == (400, "invalid-json")


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, "9" * 5_000], ids=["deep", "long"])
def test_json_that_cannot_be_read_is_told_apart(ask: Callable[..., TestClient], value: str) -> None:
    body = f'{{"input": {value}}}'
    answer = ask("ada").post("/agents/support/runs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert json.loads(answer.text)["type"].endswith("invalid-json")
    assert "nested" in json.loads(answer.text)["hint"]


def test_the_index_is_kept_up_in_the_background(storage: Storage) -> None:
    """Where there can be one; elsewhere the server serves what needs none, and says what is missing."""
    storage.add_run("s1", input="zanzibar", output="x")
    app = create_app([], storage=storage, index_every=0.1)
    with TestClient(app, base_url="http://localhost") as client:
        until = time.monotonic() + 60
        while "index_seconds" not in client.get("/ready").json() and time.monotonic() < until:
            time.sleep(0.05)
        assert client.get("/ready").json()["index_seconds"] < 120
        assert client.get("/status").json()["index"]["in_background"] is True
    assert app.state.sessile.indexed_until > 0


def test_without_an_index_all_else_is_served(tmp_path: Path) -> None:
    with sessile.open(f"json:///{tmp_path}/sessions") as files:
        files.add_run("s1", input="x", output="y")
        with TestClient(create_app([], storage=files), base_url="http://localhost") as client:
            assert client.get("/sessions").json()["items"][0]["session_id"] == "s1"
            assert client.get("/search", params={"text": "x"}).status_code == 501
            assert client.get("/status").json()["index"]["in_background"] is False


def test_who_has_answered_in_a_team_that_hands_over(storage: Storage) -> None:
    team = desk(storage=storage)
    app = create_app([team], auth=AUTH)
    with TestClient(app, headers=headers("ada")) as ada:
        body = {"input": told(front=[[("say", "One moment."), over("billing", "money")]]), "session_id": "s"}
        had = frames(ada.post("/agents/desk/runs", json={**body, "stream": True}).text)
        again = ada.post("/agents/desk/runs", json={"input": "More", "session_id": "s"}).json()
        session, (first, second) = ada.get("/sessions/s").json(), ada.get("/sessions/s/runs").json()["items"]
        later = frames(ada.get("/sessions/s/runs/1/events").text)
    ended = [json.loads(one["data"]) for one in had if one["event"] == "member.ended"]
    assert [(one["member"], one["output"]) for one in ended] == [
        ("front", {"to": "billing", "reason": "money"}),
        ("billing", "billing answers. "),
    ]
    assert again["output"] == "billing answers."
    assert (session["lead"], first["answered_by"], second["answered_by"]) == ("billing", "billing", "billing")
    handed = [(one["agent"], one["answers"], one["handoff"]) for one in first["children"]]
    assert handed == [("front", True, {"to": "billing", "reason": "money"}), ("billing", True, None)]
    for told_of in (had, later):  # what each says to the user; the answer is in the end of the run
        said = [json.loads(one["data"])["text"] for one in told_of if one["event"] == "text"]
        assert "".join(said) == "One moment. billing answers. "
        assert json.loads(told_of[-1]["data"])["output"] == "billing answers. "
