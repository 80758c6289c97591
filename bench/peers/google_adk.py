"""google-adk: `DatabaseSessionService` over aiosqlite and asyncpg, called as `Runner.run_async` calls it.

One run with a text answer makes three calls: `get_session`, `append_event` with the user's message and
`append_event` with the model's: two commits. By default all events are read; for long sessions the
documentation names `RunConfig(get_session_config=GetSessionConfig(num_recent_events=…))`; the last 3 runs
are 6 events.
"""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

from google.adk.events import Event
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.database_session_service import DatabaseSessionService
from google.adk.sessions.session import Session
from google.genai import types
from sqlalchemy import text

from ..payload import Exchange, exchange
from .harness import Place, Variant, main

APP, USER = "bench", "user"


def events(turn: Exchange) -> tuple[Event, Event]:
    """The user's and the model's event of one invocation."""
    invocation = f"e-{uuid4()}"
    request = Event(
        invocation_id=invocation,
        author="user",
        content=types.Content(role="user", parts=[types.Part(text=turn.user)]),
    )
    response = Event(
        invocation_id=invocation,
        author="agent",
        content=types.Content(role="model", parts=[types.Part(text=turn.answer)]),
        usage_metadata=types.GenerateContentResponseUsageMetadata(
            prompt_token_count=turn.input_tokens,
            candidates_token_count=turn.output_tokens,
            total_token_count=turn.input_tokens + turn.output_tokens,
        ),
        model_version="benchmark",
        turn_complete=True,
    )
    return request, response


class Default(Variant):
    note = "each event is a commit of its own, two per turn"
    config: GetSessionConfig | None = None

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.loop = asyncio.new_event_loop()
        url = f"sqlite+aiosqlite:///{self.path}"
        if self.url is not None:
            url = self.url.replace("postgresql:", "postgresql+asyncpg:")
        self.service = DatabaseSessionService(db_url=url)

    def fill(self, session_id: str, runs: int) -> None:
        self.loop.run_until_complete(self._fill(session_id, runs))

    async def _fill(self, session_id: str, runs: int) -> None:
        """Through the service for the first run; the service's own rows, in one commit, for the others."""
        session = await self.service.create_session(app_name=APP, user_id=USER, session_id=session_id)
        for event in events(exchange(1)):
            await self.service.append_event(session, event)
        storage_event = self.service._get_schema_classes().StorageEvent
        async with self.service.database_session_factory() as rows:
            for number in range(2, runs + 1):
                rows.add_all(storage_event.from_event(session, event) for event in events(exchange(number)))
            await rows.commit()

    def turn(self, session_id: str, turn: Exchange) -> float:
        return self.loop.run_until_complete(self._turn(session_id, turn))

    async def _turn(self, session_id: str, turn: Exchange) -> float:
        request, response = events(turn)
        start = time.perf_counter()
        session = await self.service.get_session(app_name=APP, user_id=USER, session_id=session_id, config=self.config)
        assert isinstance(session, Session)
        history = len(session.events)
        await self.service.append_event(session, request)
        await self.service.append_event(session, response)
        seconds = time.perf_counter() - start
        assert history >= 6
        return seconds

    def scalar(self, sql: str) -> object:
        return self.loop.run_until_complete(self._scalar(sql))

    async def _scalar(self, sql: str) -> object:
        async with self.service.db_engine.connect() as connection:
            return (await connection.execute(text(sql))).scalar()

    def close(self) -> None:
        self.loop.run_until_complete(self.service.close())


class Recent(Default):
    name = "num_recent_events=6"
    config = GetSessionConfig(num_recent_events=6)


if __name__ == "__main__":
    main(["google-adk", "sqlalchemy", "aiosqlite", "asyncpg"], [Default, Recent])
