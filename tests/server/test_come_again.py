"""Requests and readers that come again, at a bad moment, or to another process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from starlette.testclient import TestClient
from tests.server.conftest import AUTH, SLOW_TEXT, Pace, agents, frames, headers

from sessile import Agent, Storage, Team
from sessile.agents.offline import OfflineModel
from sessile.server import Limits, create_app
from sessile.server.limits import Slots
from sessile.server.resuming import _look  # pyright: ignore[reportPrivateUsage]

NO_ROOM = Limits(runs=0, queue=0, stop_seconds=0.1)


@pytest.fixture
def full(storage: Storage, pace: Pace) -> FastAPI:
    """Another process of the same server, which has no room for any run."""
    return create_app(agents(storage, pace), auth=AUTH, limits=NO_ROOM, resume_every=None)


def tip(client: TestClient, session_id: str) -> int:
    return client.get(f"/sessions/{session_id}").json()["tip"]


def test_a_response_that_is_asked_for_again_stays_in_the_conversation(ada: TestClient) -> None:
    first = ada.post("/v1/responses", json={"model": "support", "input": "one", "conversation": "s"}).json()
    body = {"model": "support", "input": "two", "previous_response_id": first["id"]}
    both = [ada.post("/v1/responses", json=body, headers={"Idempotency-Key": "k"}).json() for _ in range(2)]
    assert both[0]["id"] == both[1]["id"]
    assert tip(ada, "s") == 2


def test_a_request_that_is_refused_leaves_the_conversation_as_it_is(ada: TestClient, full: FastAPI) -> None:
    ids = [
        ada.post("/v1/responses", json={"model": "support", "input": "hi", "conversation": "s"}).json()["id"]
        for _ in range(2)
    ]
    assert (
        ada.post("/v1/responses", json={"model": "support", "input": [], "previous_response_id": ids[0]}).status_code
        == 422
    )
    again = {"trigger": "regenerate-message", "id": "s"}
    again["messages"] = [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]
    with TestClient(full, headers=headers("ada")) as other:
        assert other.post("/protocols/vercel/support", json=again).status_code == 429
    assert tip(ada, "s") == 2


def test_a_chat_that_comes_again_runs_once(ada: TestClient) -> None:
    body = {"model": "support", "messages": [{"role": "user", "content": "hi"}]}
    both = [ada.post("/v1/chat/completions", json=body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert both[0].json()["id"] == both[1].json()["id"]
    assert both[0].headers["X-Session-Id"] == both[1].headers["X-Session-Id"]


def test_an_event_that_is_stored_is_said_to_be(ada: TestClient, full: FastAPI) -> None:
    ada.post("/agents/waiting/runs", json={"input": {"topic": "t"}, "session_id": "s"})
    with TestClient(full, headers=headers("ada")) as other:
        said = other.post("/sessions/s/events", json={"name": "ok", "value": "yes"})
    assert (said.status_code, said.json()["written"], said.json()["retryable"]) == (429, "yes", False)
    assert ada.post("/sessions/s/runs/1/resume", json={}).json()["output"] == "t: yes"


def test_a_run_that_went_on_elsewhere_is_read_to_its_end(ada: TestClient, storage: Storage, pace: Pace) -> None:
    ada.post("/agents/asking/runs", json={"input": "go", "session_id": "s", "stream": True})
    with TestClient(create_app(agents(storage, pace), auth=AUTH), headers=headers("ada")) as other:
        other.post("/sessions/s/runs/1/resume", json={"approvals": {"call-1": True}})
    assert '"completed"' in frames(ada.get("/sessions/s/runs/1/events").text)[-1]["data"]


def test_nothing_of_a_session_that_was_deleted_is_read_in_the_next_one(ada: TestClient) -> None:
    ada.post("/agents/support/runs", json={"input": "a secret", "session_id": "s", "stream": True})
    ada.delete("/sessions/s")
    new = ada.post("/agents/support/runs", json={"input": "hi", "session_id": "s"}).json()
    assert new["run_id"] in frames(ada.get("/sessions/s/runs/1/events").text)[-1]["data"]


def test_an_interrupted_run_that_finds_no_room_is_tried_again(
    ada: TestClient, app: FastAPI, full: FastAPI, pace: Pace
) -> None:
    pace.seconds = 1
    ada.post("/agents/slow/runs", json={"input": "hi", "session_id": "s", "background": True})
    assert ada.portal is not None
    ada.portal.call(app.state.sessile.work.stop, 0)
    refused: set[Any] = set()
    ada.portal.call(_look, full.state.sessile, refused)
    assert not refused


def test_a_place_is_not_given_to_who_has_just_given_up() -> None:
    async def work() -> tuple[list[Any], int]:
        slots, end = Slots(Limits(runs=1)), asyncio.Event()

        async def run(until: asyncio.Event | None = None) -> str:
            async with slots.taken_by("ada"):
                if until is not None:
                    await until.wait()
            return "done"

        first = asyncio.create_task(run(end))
        await asyncio.sleep(0)
        second = asyncio.create_task(run())
        await asyncio.sleep(0)
        end.set()
        second.cancel()
        return await asyncio.gather(first, second, return_exceptions=True), slots.taken

    (first, second), taken = asyncio.run(work())
    assert first == "done"
    assert isinstance(second, asyncio.CancelledError)
    assert taken == 0


def test_ids_that_no_header_can_have(ada: TestClient) -> None:
    body = {"threadId": "会話\r\nX: y", "runId": "r", "state": {}, "tools": [], "context": [], "forwardedProps": {}}
    said = ada.post(
        "/protocols/ag-ui/support", json={**body, "messages": [{"id": "1", "role": "user", "content": "hi"}]}
    )
    assert said.status_code == 200
    assert said.headers["X-Session-Id"] == "%E4%BC%9A%E8%A9%B1%0D%0AX:%20y"


def test_what_fails_unexpectedly_is_counted_and_guarded(
    ada: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyError("secret")

    monkeypatch.setattr("sessile.server.routes.runs.kind_of", fail)
    said = ada.get("/agents")
    assert (said.status_code, said.headers["X-Content-Type-Options"]) == (500, "nosniff")
    assert any(status == 500 for _, _, status in app.state.sessile.metrics.requests)


def test_clients_do_not_name_what_is_counted(ada: TestClient, app: FastAPI) -> None:
    ada.request("MADEUP", "/health")
    assert not any("MADEUP" in key for key in app.state.sessile.metrics.requests)


def test_a_file_that_is_none(ada: TestClient) -> None:
    said = ada.post("/agents/support/runs", json={"input": [{"media_type": "bad", "data": ""}]})
    assert said.status_code == 422


def test_a_reader_of_a_team_that_comes_again_elsewhere_has_its_answer(storage: Storage) -> None:
    async def lead(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        if any(isinstance(part, ToolReturnPart) for message in messages for part in message.parts):
            yield "The final answer of the team."
        else:
            yield "Let me ask. "
            yield {1: DeltaToolCall("delegate_task", '{"member": "one", "task": "t"}', tool_call_id="c")}

    def server() -> FastAPI:
        members = [Agent(OfflineModel(introduce=False), name=name) for name in ("one", "two")]
        return create_app([Team(members, FunctionModel(stream_function=lead), name="team", storage=storage)], auth=AUTH)

    with TestClient(server(), headers=headers("ada")) as one, TestClient(server(), headers=headers("ada")) as two:
        had = frames(one.post("/agents/team/runs", json={"input": "go", "session_id": "s", "stream": True}).text)[:3]
        rest = frames(two.get("/sessions/s/runs/1/events", headers={"Last-Event-ID": had[-1]["id"]}).text)
    text = ""
    for frame in [*had, *rest]:
        data = json.loads(frame["data"])
        text = text[: data["keep"]] if frame["event"] == "text.restarted" else text + data.get("text", "")
    assert text == "The final answer of the team."


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
def test_a_request_of_openai_that_is_at_work_is_joined(ada: TestClient, path: str, stream: bool) -> None:
    """A client whose connection was lost sends it again while the run goes on."""
    body: dict[str, Any] = {"model": "slow", "stream": stream, "input": "Go", "conversation": "s"}
    if path.endswith("completions"):
        body = {"model": "slow", "stream": stream, "messages": [{"role": "user", "content": "Go"}]}
    sent = {"Idempotency-Key": "k", "X-Session-Id": "s"}
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: ada.post(path, json=body, headers=sent), range(2)))
    assert [one.status_code for one in both] == [200, 200], both[1].text
    assert all(said_in(one, stream=stream) == SLOW_TEXT for one in both)
    assert ada.get("/sessions/s").json()["run_count"] == 1


def said_in(answer: Any, *, stream: bool) -> str:
    if stream:
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        events = [json.loads(line) for line in lines]
        chat = [choice["delta"].get("content") or "" for one in events for choice in one.get("choices", [])]
        return "".join([*chat, *(one["delta"] for one in events if one.get("type") == "response.output_text.delta")])
    data = answer.json()
    return data["choices"][0]["message"]["content"] if "choices" in data else data["output"][0]["content"][0]["text"]
