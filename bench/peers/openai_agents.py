"""openai-agents: `SQLiteSession`, and `SQLAlchemySession` over asyncpg, called as `Runner.run` calls it.

One run with a text answer makes three calls: `get_items` before it, `add_items` with the input, `add_items`
with the output: two commits. By default the whole history is read; for long sessions the documentation
names `SessionSettings(limit=…)`, a number of items; the last 3 runs are 6 of them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from agents import SQLiteSession
from agents.memory import SessionSettings

from ..payload import Exchange, exchange
from .harness import Place, Variant, main


def items(turn: Exchange) -> tuple[dict[str, Any], dict[str, Any]]:
    """Input and output item as the runner stores them."""
    request = {"content": turn.user, "role": "user"}
    text: dict[str, Any] = {"annotations": [], "text": turn.answer, "type": "output_text", "logprobs": []}
    response: dict[str, Any] = {
        "id": f"msg_{turn.number:032x}",
        "content": [text],
        "role": "assistant",
        "status": "completed",
        "type": "message",
    }
    return request, response


class Default(Variant):
    note = "stores items only: no usage, no status, no runs"
    stores_less = True
    settings: SessionSettings | None = None

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.loop = asyncio.new_event_loop()
        self.sessions: dict[str, Any] = {}
        self.engine: Any = None
        if self.url is not None:
            from sqlalchemy.ext.asyncio import create_async_engine

            self.engine = create_async_engine(self.url.replace("postgresql:", "postgresql+asyncpg:"))

    def session(self, session_id: str) -> Any:
        if session_id not in self.sessions:
            self.sessions[session_id] = self.open(session_id)
        return self.sessions[session_id]

    def open(self, session_id: str) -> Any:
        if self.path is not None:
            return SQLiteSession(session_id, self.path, session_settings=self.settings)
        from agents.extensions.memory import SQLAlchemySession

        return SQLAlchemySession(
            session_id, engine=self.engine, create_tables=True, session_settings=self.settings or SessionSettings()
        )

    def fill(self, session_id: str, runs: int) -> None:
        history = [item for number in range(1, runs + 1) for item in items(exchange(number))]
        self.loop.run_until_complete(self.session(session_id).add_items(history))

    def turn(self, session_id: str, turn: Exchange) -> float:
        return self.loop.run_until_complete(self._turn(self.session(session_id), turn))

    async def _turn(self, session: Any, turn: Exchange) -> float:
        request, response = items(turn)
        start = time.perf_counter()
        history = await session.get_items()
        await session.add_items([request])
        await session.add_items([response])
        seconds = time.perf_counter() - start
        assert len(history) >= 6
        return seconds

    def scalar(self, sql: str) -> object:
        if self.engine is None:
            return next(iter(self.sessions.values()))._get_connection().execute(sql).fetchone()[0]
        return self.loop.run_until_complete(self._scalar(sql))

    async def _scalar(self, sql: str) -> object:
        from sqlalchemy import text

        async with self.engine.connect() as connection:
            return (await connection.execute(text(sql))).scalar()

    def close(self) -> None:
        if self.engine is None:
            for session in self.sessions.values():
                session.close()
        else:
            self.loop.run_until_complete(self.engine.dispose())
        self.sessions.clear()


class Limit(Default):
    name = "SessionSettings(limit=6)"
    settings = SessionSettings(limit=6)


if __name__ == "__main__":
    main(["openai-agents"], [Default, Limit])
