"""Sessions and runs of Agno's that another program has changed."""

from __future__ import annotations

from typing import Any

from agno.db.base import SessionType
from agno.models.message import Message
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session import AgentSession
from spoiled import SECRET, Calls, attack

from sessile import MemoryStorage
from sessile.integrations.agno import SessileDb


def run_of(run_id: str, name: str) -> RunOutput:
    said = [Message(role="user", content=SECRET), Message(role="assistant", content=SECRET)]
    return RunOutput(
        run_id=run_id, session_id=name, agent_id="a", content=SECRET, messages=said, status=RunStatus.completed
    )


def make(storage: MemoryStorage, name: str) -> None:
    db = SessileDb(storage)
    data = {"session_name": SECRET}
    db.upsert_session(AgentSession(session_id=name, agent_id="a", user_id="ada", session_data=data))
    for number in range(3):
        db.upsert_run(run_of(f"{name} {number}", name), name, "ada")


def calls(storage: MemoryStorage, name: str) -> Calls:
    db = SessileDb(storage)
    return {
        "session": lambda: db.get_session(name),
        "newest": lambda: db.get_session(name, SessionType.AGENT, "ada", runs_limit=1),
        "rows": lambda: db.get_session(name, deserialize=False),
        "run": lambda: db.get_run(f"{name} 1"),
        "runs": lambda: db.get_runs(name),
        "sorted": lambda: db.get_runs(sort_by="created_at", sort_order="asc"),
        "by name": lambda: db.get_sessions(session_name="x", sort_by="updated_at", sort_order="asc", deserialize=False),
        "rename": lambda: db.rename_session(name, SessionType.AGENT, SECRET),
        "session again": lambda: db.upsert_session(AgentSession(session_id=name, agent_id="a", user_id="ada")),
        "run again": lambda: db.upsert_run(run_of(f"{name} 1", name), name, "ada"),
        "cancel": lambda: db.cancel_pending_run(f"{name} 1", session_id=name, reason="x", expected_status="COMPLETED"),
        "delete run": lambda: db.delete_run(f"{name} 2"),
        "delete": lambda: db.delete_session(name),
    }


def others(storage: MemoryStorage) -> list[str]:
    db = SessileDb(storage)
    found = {one.session_id for one in db.get_sessions(sort_by="updated_at")}
    return sorted(found & {one.session_id for one in db.get_runs()})


def main(seeds: int) -> list[Any]:
    return attack(make, calls, others, seeds=seeds)
