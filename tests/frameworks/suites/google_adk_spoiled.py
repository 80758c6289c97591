"""Sessions of Google ADK that another program has changed; and whose metadata names another user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.input_validation_error import InputValidationError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types
from spoiled import SECRET, Calls, attack

from sessile import MemoryStorage
from sessile.integrations.google_adk import SessileArtifactService, SessileMemoryService, SessileSessionService


def event_of(number: int, **delta: Any) -> Event:
    content = types.Content(role="user", parts=[types.Part(text=SECRET)])
    actions = EventActions(state_delta={"said": SECRET, **delta})
    return Event(
        author="user" if number % 2 else "model", invocation_id=f"i{number // 2}", content=content, actions=actions
    )


async def made(storage: MemoryStorage, name: str, user: str, **delta: Any) -> None:
    service = SessileSessionService(storage)
    session = await service.create_session(app_name="app", user_id=user, session_id=name, state={"user:a": user})
    for number in range(4):
        await service.append_event(session, event_of(number, **delta))
    at = {"app_name": "app", "user_id": user, "session_id": name}
    for number in range(2):
        part = types.Part.from_bytes(data=f"{SECRET} {number}".encode(), mime_type="text/plain")
        await SessileArtifactService(storage).save_artifact(**at, filename="file", artifact=part)
    found = await service.get_session(**at)
    assert found is not None
    await SessileMemoryService(storage).add_session_to_memory(found)


def make(storage: MemoryStorage, name: str) -> None:
    asyncio.run(made(storage, name, "bob" if name == "sound" else "ada"))


def calls(storage: MemoryStorage, name: str) -> Calls:
    service, artifacts, memory = (
        kind(storage) for kind in (SessileSessionService, SessileArtifactService, SessileMemoryService)
    )
    at = {"app_name": "app", "user_id": "ada"}
    file = {**at, "session_id": name, "filename": "file"}
    words = types.Part(text=SECRET)

    def of(call: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: asyncio.run(call())

    async def append() -> None:
        session = await service.get_session(**at, session_id=name, config=GetSessionConfig(num_recent_events=1))
        if session is not None:
            await service.append_event(session, event_of(1, **{"app:b": 1}))

    return {
        "get": of(lambda: service.get_session(**at, session_id=name)),
        "newest": of(lambda: service.get_session(**at, session_id=name, config=GetSessionConfig(num_recent_events=2))),
        "since": of(lambda: service.get_session(**at, session_id=name, config=GetSessionConfig(after_timestamp=1.0))),
        "append": of(append),
        "again": of(lambda: service.create_session(**at, session_id=name)),
        "user": of(lambda: service.get_user_state(**at)),
        "list": of(lambda: service.list_sessions(**at)),
        "load": of(lambda: artifacts.load_artifact(**file)),
        "first": of(lambda: artifacts.load_artifact(**file, version=0)),
        "save": of(lambda: artifacts.save_artifact(**file, artifact=words)),
        "files": of(lambda: artifacts.list_artifact_keys(**at, session_id=name)),
        "versions": of(lambda: artifacts.list_artifact_versions(**file)),
        "version": of(lambda: artifacts.get_artifact_version(**file)),
        "remember": of(lambda: memory.add_events_to_memory(**at, session_id=name, events=[event_of(9)])),
        "search": of(lambda: memory.search_memory(**at, query=SECRET)),
        "forget": of(lambda: memory.delete_memory(**at, memory_id="nothing")),
        "delete": of(lambda: service.delete_session(**at, session_id=name)),
    }


def others(storage: MemoryStorage) -> list[str]:
    found = asyncio.run(SessileSessionService(storage).list_sessions(app_name="app"))
    return [one.id for one in found.sessions]


async def borrowed() -> list[Any]:
    """Metadata can be changed by whoever may change a session: whose state it is does not stand there."""
    wrong: list[Any] = []
    with MemoryStorage() as storage:
        await made(storage, "hers", "ada")
        await made(storage, "his", "bob", **{"user:secret": SECRET})
        stored = "adk:app:ada:hers"
        (change,) = [entry for entry in storage.entries(stored, user_id="ada") if entry.kind == "adk.begun"]
        key = f"adk:created:{change.data}"
        storage.set_metadata(stored, {"user_id": "bob", "session_id": "his", "pending": [key]}, user_id="ada")
        service = SessileSessionService(storage)
        session = await service.get_session(app_name="app", user_id="ada", session_id="hers")
        if session is None or SECRET in session.state.get("user:secret", "") or session.user_id != "ada":
            wrong.append(["borrowed", "state", repr(session)])
        for user in ("ada", None):
            listed = (await service.list_sessions(app_name="app", user_id=user)).sessions
            if any(one.user_id == "bob" and one.id != "his" for one in listed):
                wrong.append(["borrowed", "listed", user])
        if (await service.get_user_state(app_name="app", user_id="bob"))["a"] != "bob":
            wrong.append(["borrowed", "written"])
    return wrong


def main(seeds: int) -> list[Any]:
    return [
        *asyncio.run(borrowed()),
        *attack(make, calls, others, (AlreadyExistsError, InputValidationError, SessionNotFoundError), seeds=seeds),
    ]
