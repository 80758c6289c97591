"""Agno: what one run asks of its database: the newest three runs, the run twice, the session's row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session import AgentSession

from sessile import SqliteStorage
from sessile.integrations.agno import SessileDb

from .pairs import Side, Took, main, timed

TEXT = "The capital of that country has been the same for a long time. " * 3


def run(number: int, status: RunStatus) -> RunOutput:
    """A run of a question and an answer."""
    said = [Message(role="user", content=f"Question {number}?"), Message(role="assistant", content=TEXT)]
    return RunOutput(run_id=f"r{number}", session_id="s1", agent_id="a", content=TEXT, messages=said, status=status)


class Theirs(Side):
    def __init__(self, path: Path) -> None:
        self.db: Any = self.open(path)
        self.number = 0
        self.session = AgentSession(session_id="s1", agent_id="a", user_id="ada", session_data={"session_state": {}})

    def open(self, path: Path) -> Any:
        return SqliteDb(db_file=str(path))

    def fill(self, turns: int) -> None:
        self.db.upsert_session(self.session)
        for number in range(turns):
            self.db.upsert_run(run(number, RunStatus.completed), "s1", "ada", run_index=number)
        self.number = turns

    def turn(self) -> Took:
        self.number += 1
        return timed(self.work)

    def work(self) -> None:
        self.db.get_session("s1", SessionType.AGENT, user_id="ada", runs_limit=3)
        for status in (RunStatus.running, RunStatus.completed):
            self.db.upsert_run(run(self.number, status), "s1", "ada", run_index=self.number)
        self.db.upsert_session(self.session)


class Ours(Theirs):
    def open(self, path: Path) -> Any:
        return SessileDb(SqliteStorage(path))


if __name__ == "__main__":
    main({"Agno, a run": (Theirs, Ours)})
