"""agno 1.8: `JsonStorage`, as its Agent calls it: one file a session, read and written whole in each run."""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import uuid4

os.environ.setdefault("AGNO_TELEMETRY", "false")

from agno.media import AudioResponse as _  # noqa: F401 (the module must be there before agno.run is)
from agno.models.message import Message
from agno.run.response import RunResponse
from agno.storage.json import JsonStorage
from agno.storage.session.agent import AgentSession

from ..payload import Exchange, exchange
from .harness import Place, Variant, main


def response(session_id: str, turn: Exchange) -> dict[str, Any]:
    """What the Agent keeps of a run without tools."""
    return RunResponse(
        run_id=str(uuid4()),
        agent_id="bench",
        session_id=session_id,
        content=turn.answer,
        model="benchmark",
        messages=[Message(role="user", content=turn.user), Message(role="assistant", content=turn.answer)],
        metrics={"input_tokens": [turn.input_tokens], "output_tokens": [turn.output_tokens]},
    ).to_dict()


class Json(Variant):
    note = "reads and writes the whole session in each run, in place, without lock and fsync"
    largest = 1000

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.storage = JsonStorage(dir_path=str(self.path), mode="agent")

    def fill(self, session_id: str, runs: int) -> None:
        done = [response(session_id, exchange(number)) for number in range(1, runs + 1)]
        self.storage.upsert(AgentSession(session_id=session_id, agent_id="bench", memory={"runs": done}))

    def turn(self, session_id: str, turn: Exchange) -> float:
        start = time.perf_counter()
        session = self.storage.read(session_id)
        assert session is not None
        runs = session.memory["runs"]
        history = [message for run in runs[-3:] for message in run["messages"]]
        runs.append(response(session_id, turn))
        self.storage.upsert(session)
        seconds = time.perf_counter() - start
        assert len(history) == 6
        return seconds

    def scalar(self, sql: str) -> object:
        raise NotImplementedError("there is no SQL")


if __name__ == "__main__":
    main(["agno"], [Json])
