"""Google ADK: what one turn asks of its session service: the newest 12 events, and four that are appended."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from google.adk.events.event import Event, EventActions
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

from sessile import SqliteStorage
from sessile.integrations.google_adk import SessileSessionService

from .pairs import Side, Took, main, timed

NAMES = {"app_name": "app", "user_id": "ada"}
TEXT = "The capital of that country has been the same for a long time. " * 3


def events(number: int) -> list[Event]:
    """A question, a call and its result, an answer."""
    call = types.Part(function_call=types.FunctionCall(id=f"c{number}", name="look_up", args={"what": "capital"}))
    back = types.Part(function_response=types.FunctionResponse(id=f"c{number}", name="look_up", response={"is": "x"}))
    said = [
        ("user", types.Part(text=f"Question {number}?")),
        ("bot", call),
        ("bot", back),
        ("bot", types.Part(text=TEXT)),
    ]
    return [
        Event(author=author, invocation_id=f"i{number}", content=types.Content(role="user", parts=[part]))
        for author, part in said
    ]


class Theirs(Side):
    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.service: Any = self.open(path)
        self.number = 0

    def open(self, path: Path) -> Any:
        return SqliteSessionService(str(path))

    def fill(self, turns: int) -> None:
        self.loop.run_until_complete(self._fill(turns))
        self.number = turns

    async def _fill(self, turns: int) -> None:
        session = await self.service.create_session(**NAMES, session_id="s1")
        for number in range(turns):
            for event in events(number):
                await self.service.append_event(session, event)

    def turn(self) -> Took:
        self.number += 1
        return timed(lambda: self.loop.run_until_complete(self.work()))

    async def work(self) -> None:
        config = GetSessionConfig(num_recent_events=12)
        session = await self.service.get_session(**NAMES, session_id="s1", config=config)
        for event in events(self.number):
            await self.service.append_event(session, event)


class Ours(Theirs):
    def open(self, path: Path) -> Any:
        return SessileSessionService(SqliteStorage(path))


class TheirsScoped(Theirs):
    async def work(self) -> None:
        session = await self.service.get_session(
            **NAMES, session_id="s1", config=GetSessionConfig(num_recent_events=12)
        )
        delta = {"n": self.number, "user:n": self.number, "app:n": self.number}
        event = events(self.number)[0]
        event.actions = EventActions(state_delta=delta)
        await self.service.append_event(session, event)


class OursScoped(TheirsScoped):
    def open(self, path: Path) -> Any:
        return SessileSessionService(SqliteStorage(path))


if __name__ == "__main__":
    main({"ADK, a turn": (Theirs, Ours), "ADK, an event that changes three states": (TheirsScoped, OursScoped)})
