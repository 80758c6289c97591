"""Runs over HTTP: as JSON, as streams, in the background, again, cancelled, decided about."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.server.conftest import SLOW_TEXT, Pace, frames

from sessile import ANY_USER, Storage


def run(client: TestClient, agent: str, given: Any, **more: Any) -> Any:
    headers = more.pop("headers", {})
    return client.post(f"/agents/{agent}/runs", json={"input": given, **more}, headers=headers)


def text_of(found: list[dict[str, str]]) -> str:
    """The text as a client puts it together."""
    text = ""
    for one in found:
        if one["event"] == "text":
            text += json.loads(one["data"])["text"]
        elif one["event"] == "text.restarted":
            text = text[: json.loads(one["data"])["keep"]]
    return text


def wait_for(client: TestClient, address: str, status: str) -> Any:
    for _ in range(500):
        shown = client.get(address).json()
        if shown["status"] == status:
            return shown
        time.sleep(0.02)
    raise AssertionError(shown)


def test_a_session_goes_on_over_requests(ada: TestClient) -> None:
    first = run(ada, "support", "My name is Ada.", session_id="s1").json()
    assert (first["session_id"], first["number"], first["status"]) == ("s1", 1, "completed")
    assert run(ada, "support", "What is my name?", session_id="s1").json()["output"] == "Your name is Ada."
    assert [one["number"] for one in ada.get("/sessions/s1/runs").json()["items"]] == [1, 2]


def test_the_session_is_made_where_none_is_named(ada: TestClient) -> None:
    answer = run(ada, "support", "Hello", metadata={"page": 3})
    shown = ada.get(answer.headers["content-location"]).json()
    assert shown["metadata"] == {"page": 3}
    assert shown["messages"][0]["data"]["parts"][0]["content"] == "Hello"


def test_a_stream_has_the_text_and_the_outcome(ada: TestClient) -> None:
    found = frames(run(ada, "slow", "Go", stream=True).text)
    assert found[0]["event"] == "run.started"
    assert text_of(found) == SLOW_TEXT
    assert json.loads(found[-1]["data"])["output"] == SLOW_TEXT
    assert len({one["id"] for one in found}) == len(found)


@pytest.mark.parametrize("by", ["Last-Event-ID", "after"])
def test_a_stream_is_read_on_from_any_place(ada: TestClient, by: str) -> None:
    """While it is remembered, and later from what is stored."""
    answer = run(ada, "slow", "Go", stream=True)
    whole, address = frames(answer.text), f"{answer.headers['content-location']}/events"
    for place in range(len(whole) - 1):
        last = whole[place]["id"]
        headers, query = ({by: last}, {}) if by == "Last-Event-ID" else ({}, {by: last})
        assert frames(ada.get(address, headers=headers, params=query).text) == whole[place + 1 :]
    assert ada.get(address, headers={"Last-Event-ID": whole[-1]["id"]}).status_code == 204


def test_what_is_stored_goes_on_where_the_process_left_off(ada: TestClient, app: FastAPI) -> None:
    answer = run(ada, "slow", "Go", stream=True)
    whole, address = frames(answer.text), f"{answer.headers['content-location']}/events"
    app.state.sessile.work.live.clear()  # as in another process
    for place in (0, 1, 7, len(whole) - 2):
        rest = frames(ada.get(address, headers={"Last-Event-ID": whole[place]["id"]}).text)
        assert text_of(whole[: place + 1]) + text_of(rest) == SLOW_TEXT
        assert rest[-1]["event"] == "run.ended"
    assert text_of(frames(ada.get(address).text)) == SLOW_TEXT


def test_a_reader_who_comes_late_reads_a_run_at_work(ada: TestClient) -> None:
    begun = run(ada, "slow", "Go", background=True)
    assert begun.status_code == 202
    assert text_of(frames(ada.get(begun.json()["events"]).text)) == SLOW_TEXT


def test_a_run_in_the_background_is_found_at_its_address(ada: TestClient) -> None:
    begun = run(ada, "slow", "Go", background=True)
    assert begun.headers["location"] == begun.json()["run"]
    assert wait_for(ada, begun.json()["run"], "completed")["output"] == SLOW_TEXT


def test_a_run_at_work_is_cancelled(ada: TestClient, pace: Pace) -> None:
    pace.seconds = 3600
    begun = run(ada, "slow", "Go", background=True).json()
    assert ada.post(f"{begun['run']}/cancel").json() == {"cancelled": True}
    assert wait_for(ada, begun["run"], "cancelled")["status"] == "cancelled"
    assert ada.post(f"{begun['run']}/cancel").json() == {"cancelled": False}


@pytest.mark.parametrize("session_id", [None, "s1"])
def test_the_same_key_is_the_same_run(ada: TestClient, pace: Pace, session_id: str | None) -> None:
    key = {"Idempotency-Key": "order-4711"}
    answers = [run(ada, "slow", "Go", session_id=session_id, headers=key).json() for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]
    assert pace.asked == 1
    other = run(ada, "slow", "Something else", session_id=session_id, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:sessile:problem:invalid-input")


def test_the_same_key_while_the_run_is_at_work(ada: TestClient, pace: Pace) -> None:
    key = {"Idempotency-Key": "order-4711"}
    begun = run(ada, "slow", "Go", background=True, headers=key).json()
    again = run(ada, "slow", "Go", headers=key).json()
    assert (again["run_id"], again["output"]) == (begun["run_id"], SLOW_TEXT)
    assert text_of(frames(run(ada, "slow", "Go", stream=True, headers=key).text)) == SLOW_TEXT
    assert pace.asked == 1


def test_keys_are_the_users_own(ask: Any) -> None:
    key = {"Idempotency-Key": "order-4711"}
    one, other = (run(ask(who), "support", "Hello", headers=key).json() for who in ("ada", "bob"))
    assert one["session_id"] != other["session_id"]


@pytest.mark.parametrize("how", [{}, {"stream": True}])
def test_a_run_that_fails_is_stored_and_tells_no_secrets(
    ada: TestClient, ask: Any, storage: Storage, how: dict[str, bool]
) -> None:
    answer = run(ada, "broken", "Go", session_id="s1", **how)
    shown = ada.get("/sessions/s1/runs/1")
    assert shown.json()["status"] == "failed"
    assert "hunter2" not in answer.text + shown.text + ada.get("/sessions/s1/runs/1/events").text
    if not how:
        assert (answer.status_code, answer.json()["type"]) == (502, "urn:sessile:problem:run-failed")
        assert (answer.json()["number"], answer.json()["written"]) == (1, "yes")
    [stored] = storage.sessions(user_id=ANY_USER)
    assert "hunter2" in ask("root").get(f"/sessions/{stored.session_id}/runs/1").text


def test_an_administrator_who_runs_for_a_user_tells_the_user_no_secrets(
    ada: TestClient, ask: Any, storage: Storage
) -> None:
    run(ada, "support", "Hello", session_id="s1")
    [stored] = storage.sessions(user_id=ANY_USER)
    told = run(ask("root"), "broken", "Go", session_id=stored.session_id, stream=True).text
    assert "hunter2" in told
    read = ada.get("/sessions/s1/runs/2/events").text
    assert stored.session_id in told
    assert stored.session_id not in read
    assert "hunter2" not in read


@pytest.mark.parametrize(
    ("decision", "output"),
    [(True, "Done: 5 refunded"), ({"approved": True, "args": {"amount": 7}}, "Done: 7 refunded"),
     ({"approved": False, "message": "Not today."}, "Done: Not today.")],
)  # fmt: skip
def test_a_call_is_decided_about(ada: TestClient, decision: Any, output: str) -> None:
    paused = run(ada, "asking", "Refund!", session_id="s1").json()
    assert (paused["status"], paused["pending"][0]["tool_name"]) == ("paused", "refund")
    assert [one["session_id"] for one in ada.get("/waiting").json()["items"]] == ["s1"]
    unfit = ada.post("/sessions/s1/runs/1/resume", json={"approvals": {"other": True}})
    assert unfit.status_code == 422
    done = ada.post("/sessions/s1/runs/1/resume", json={"approvals": {"call-1": decision}}).json()
    assert (done["status"], done["output"]) == ("completed", output)
    assert ada.get("/waiting").json()["items"] == []


@pytest.mark.parametrize("always", ["session", "user"])
def test_a_call_is_approved_for_good_and_that_is_taken_back(ada: TestClient, ask: Any, always: str) -> None:
    run(ada, "asking", "Refund!", session_id="s1")
    body = {"approvals": {"call-1": {"approved": True, "always": always, "ttl": 3600}}}
    assert ada.post("/sessions/s1/runs/1/resume", json=body).json()["status"] == "completed"
    [granted] = ada.get("/sessions/s1/approvals").json()
    assert (granted["tool"], granted["agent"], granted["by"], granted["expires_at"] is None) == (
        "refund", "asking", "ada", False)  # fmt: skip
    own = "/approvals" if always == "user" else "/sessions/s1/approvals"
    assert ada.get("/approvals").json() == ([granted] if always == "user" else [])
    assert run(ada, "asking", "Refund!", session_id="s1").json()["status"] == "completed"
    assert run(ask("bob"), "asking", "Refund!", session_id="s1").json()["status"] == "paused"
    assert ask("bob").delete(f"/approvals/{granted['grant_id']}").json() == {"revoked": False}
    assert ada.delete(f"{own}/{granted['grant_id']}").json() == {"revoked": True}
    assert run(ada, "asking", "Refund!", session_id="s1").json()["status"] == "paused"


def test_a_decision_that_is_written_down_has_a_time_limit(ada: TestClient) -> None:
    run(ada, "asking", "Refund!", session_id="s1")
    body = {"approvals": {"call-1": {"approved": True, "ttl": 0}}}
    assert ada.post("/sessions/s1/runs/1/decisions", json=body).status_code == 201
    assert ada.get("/waiting").json()["items"][0]["is_decided"] is False
    late = ada.post("/sessions/s1/runs/1/resume", json={})
    assert late.status_code == 409
    assert "holds no more" in late.text
    denied = {"approvals": {"call-1": {"approved": False, "always": "user"}}}
    assert ada.post("/sessions/s1/runs/1/decisions", json=denied).status_code == 422


def test_a_stream_goes_on_after_a_pause(ada: TestClient) -> None:
    before = frames(run(ada, "asking", "Refund!", session_id="s1", stream=True).text)
    assert json.loads(before[-1]["data"])["status"] == "paused"
    address, last = "/sessions/s1/runs/1/events", {"Last-Event-ID": before[-1]["id"]}
    assert ada.get(address, headers=last).status_code == 204
    ada.post("/sessions/s1/runs/1/resume", json={"approvals": {"call-1": True}, "background": True})
    after = frames(ada.get(address, headers=last).text)
    assert text_of(after) == "Done: 5 refunded"
    assert json.loads(after[-1]["data"])["status"] == "completed"


def test_a_workflow_waits_for_an_event(ada: TestClient) -> None:
    paused = run(ada, "waiting", {"topic": "Rain"}, session_id="w1").json()
    assert paused["status"] == "paused"
    sent = ada.post("/sessions/w1/events", json={"name": "ok", "value": "yes", "id": "event-1"})
    assert sent.status_code == 202
    assert wait_for(ada, "/sessions/w1/runs/1", "completed")["output"] == "Rain: yes"
    assert ada.post("/sessions/w1/events", json={"name": "ok", "value": "yes"}).status_code == 409


def test_a_workflow_is_called_as_it_must_be(ada: TestClient) -> None:
    assert run(ada, "waiting", {"subject": "Rain"}).status_code == 422


def test_a_team_answers(ada: TestClient) -> None:
    found = frames(run(ada, "team", 'call delegate_task {"member": "one", "task": "Hello"}', stream=True).text)
    kinds = {one["event"] for one in found}
    assert {"run.started", "member.started", "member.ended", "run.ended"} <= kinds
    ended = json.loads(found[-1]["data"])
    assert ended["status"] == "completed"


def test_a_file_goes_to_the_model_and_comes_back(ada: TestClient) -> None:
    picture = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    answer = run(ada, "support", ["Look:", {"media_type": "image/png", "data": picture}], session_id="s1")
    assert answer.status_code == 200
    assert "image/png" in ada.get("/sessions/s1/runs/1").text


@pytest.mark.parametrize(
    "given", ["", [], None, 3, {"url": "http://169.254.169.254/"}, [{"kind": "image-url", "url": "http://internal/"}],
              [{"media_type": "image/png", "data": "not base64!"}]],
)  # fmt: skip
def test_what_is_no_prompt_is_refused(ada: TestClient, given: Any) -> None:
    assert run(ada, "support", given).status_code == 422
    assert ada.get("/sessions").json()["items"] == []
