"""What an application does with Agno, without a model of a provider: `python agno_work.py WHAT …`."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from agno.agent import Agent
from agno.db.base import SessionType
from agno.db.in_memory import InMemoryDb
from agno.db.sqlite import SqliteDb
from agno.models.base import Model
from agno.models.message import Message
from agno.models.response import ModelResponse
from agno.run.agent import RunOutput
from agno.run.base import RunStatus
from agno.session import AgentSession

import sessile
from sessile.integrations.agno import SessileDb


class Offline(Model):
    """Says how many messages it has been sent."""

    def invoke(self, messages: list[Message], assistant_message: Message, **given: Any) -> ModelResponse:
        said = len([one for one in messages if one.role in ("user", "assistant")])
        return ModelResponse(role="assistant", content=f"{said} messages")

    async def ainvoke(self, *args: Any, **given: Any) -> ModelResponse:
        return self.invoke(*args, **given)

    def invoke_stream(self, *args: Any, **given: Any) -> Iterator[ModelResponse]:
        yield self.invoke(*args, **given)

    async def ainvoke_stream(self, *args: Any, **given: Any) -> Any:
        yield self.invoke(*args, **given)

    def _parse_provider_response(self, response: Any, **given: Any) -> ModelResponse:
        return response

    def _parse_provider_response_delta(self, response: Any) -> ModelResponse:
        return response


def talk(db: Any, session_id: str, prompts: list[str]) -> list[str]:
    """Runs of an agent, one after the other."""
    agent = Agent(name="guide", model=Offline(id="offline"), db=db, add_history_to_context=True, telemetry=False)
    return [agent.run(prompt, session_id=session_id, user_id="ada").content for prompt in prompts]


def made_run(run_id: str, session_id: str = "s1", **given: Any) -> RunOutput:
    said = [Message(role="user", content=f"ask {run_id}"), Message(role="assistant", content=f"say {run_id}")]
    given = {"status": RunStatus.completed, **given}
    return RunOutput(
        run_id=run_id, session_id=session_id, agent_id="a", content=f"say {run_id}", messages=said, **given
    )


def together(db: Any, writers: int, runs: int, name: str) -> None:
    """Many writers of runs at once on one session; each run that was written is told."""
    db.upsert_session(AgentSession(session_id="many", agent_id="a", user_id="ada"))

    telling = threading.Lock()

    def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            db.upsert_run(made_run(said, "many", status=RunStatus.running), "many", "ada")
            db.upsert_run(made_run(said, "many"), "many", "ada")
            with telling:
                print(said, flush=True)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def running(db: Any, writers: int, runs: int, name: str) -> None:
    """Many runs of an agent at once, each writer's in a session of its own; each that has ended is told."""
    telling = threading.Lock()

    def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            talk(db, f"{name}-{writer}", [said])
            with telling:
                print(said, flush=True)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def went_on(db: Any) -> dict[str, list[str]]:
    """What was asked in all sessions, by session, after each has gone on."""
    found: dict[str, list[str]] = {}
    for one in db.get_sessions(SessionType.AGENT, user_id="ada", include_runs=False):
        talk(db, one.session_id, ["On."])
        session = db.get_session(one.session_id, SessionType.AGENT)
        found[one.session_id] = [str(run.input.input_content) for run in session.runs]
    return found


def kept(db: Any) -> list[str]:
    """The runs of that session, each of which is whole."""
    session = db.get_session("many")
    for run in session.runs:
        assert [one.content for one in run.messages] == [f"ask {run.run_id}", f"say {run.run_id}"]
    return sorted(run.run_id for run in session.runs if run.status == RunStatus.completed)


def answers(db: Any) -> list[Any]:
    """What a database answers to what Agno asks of it."""
    found: list[Any] = []

    def shown(value: Any) -> Any:
        if value is None or isinstance(value, (bool, str, int)):
            return value
        if isinstance(value, (list, tuple)):
            return [shown(one) for one in value]
        row = value if isinstance(value, dict) else value.to_dict()
        kept = ("session_id", "user_id", "agent_id", "session_data", "metadata", "run_id", "content", "status")
        made = {name: row.get(name) for name in kept if row.get(name) is not None}
        for name in ("runs", "messages"):
            if row.get(name):
                made[name] = [
                    one.get("run_id") or [one.get("role"), one.get("content")] if isinstance(one, dict) else one.run_id
                    for one in row[name]
                ]
        return made

    def session(session_id: str, user_id: str | None = "ada", **given: Any) -> AgentSession:
        return AgentSession(session_id=session_id, agent_id="a", user_id=user_id, **given)

    data = {"session_state": {"n": 1, "none": None}, "session_name": "First one"}
    found.append(db.get_session("s1", SessionType.AGENT))
    found.append(shown(db.upsert_session(session("s1", session_data=data, created_at=100))))
    found.append(shown(db.upsert_session(session("s1", "bob"))))
    found.append(shown(db.get_session("s1", SessionType.AGENT)))
    found.append(shown(db.get_session("s1", SessionType.AGENT, user_id="bob")))
    for number in range(6):
        db.upsert_run(made_run(f"r{number}"), "s1", "ada", run_index=number)
    db.upsert_run(made_run("member", parent_run_id="r5"), "s1", "ada", run_index=6)
    db.upsert_run(made_run("failed", status=RunStatus.error), "s1", "ada", run_index=7)
    changed = made_run("r1")
    changed.content = "changed"
    db.upsert_run(changed, "s1", "ada", run_index=99)
    for limit in (None, 2, 4, 100):
        found.append(shown(db.get_session("s1", SessionType.AGENT, runs_limit=limit)))
    found += [shown(db.get_run("r1")), shown(db.get_run("nothing")), shown(db.get_run("r2", deserialize=False))]
    found.append(shown(db.get_runs(session_id="s1", limit=3, page=2)))
    found.append(shown(db.get_runs(session_id="s1", status=RunStatus.error, deserialize=False)))
    found.append(shown(db.upsert_session(session("s1", session_data={"session_state": {"n": 2}}, created_at=100))))
    found.append(shown(db.get_session("s1", SessionType.AGENT)))
    found.append(shown(db.rename_session("s1", SessionType.AGENT, "Other", user_id="ada")))
    found.append(shown(db.rename_session("s1", SessionType.AGENT, "Mine", user_id="bob")))
    found.append(shown(db.rename_session("s1", SessionType.TEAM, "Team")))
    db.upsert_session(session("unowned", None, created_at=200))
    found.append(shown(db.upsert_session(session("unowned", "eve", created_at=200))))
    found.append(shown(db.upsert_session(session("unowned", "ada"))))
    db.upsert_session(session("s2", "bob", created_at=300, session_data={"session_name": "second"}))
    for given in (
        {},
        {"user_id": "ada"},
        {"session_name": "OTHER"},
        {"start_timestamp": 150},
        {"end_timestamp": 250},
        {"limit": 1, "page": 2},
        {"component_id": "a"},
        {"component_id": "b"},
    ):
        order = {"sort_by": "created_at", "sort_order": "asc"}
        found.append(shown(db.get_sessions(SessionType.AGENT, **order, **given)))
    listed, total = db.get_sessions(SessionType.AGENT, deserialize=False, include_runs=False, limit=2)
    found += [len(listed), total, [row.get("runs") for row in listed]]
    found.append(db.delete_run("r0"))
    found.append(db.delete_run("r0"))
    db.delete_runs(["r2", "nothing"])
    found.append(shown(db.get_session("s1", SessionType.AGENT)))
    found += [db.delete_session("s1", user_id="bob"), db.delete_session("s1", user_id="ada"), db.delete_session("s1")]
    found.append(db.get_session("s1", SessionType.AGENT))
    found.append(shown(db.get_run("r1")))
    db.delete_sessions(["unowned", "s2", "nothing"])
    found.append(shown(db.get_sessions(SessionType.AGENT)))
    return found


def refused(db: Any) -> list[bool]:
    """Whether runs of another user, and of a session that is not there, are refused, and a cancelled run is once."""
    db.upsert_session(AgentSession(session_id="s1", agent_id="a", user_id="ada"))
    found: list[bool] = []
    for session_id, user_id in (("s1", "bob"), ("nothing", "ada")):
        try:
            db.upsert_run(made_run("r"), session_id, user_id)
            found.append(False)
        except sessile.errors.SessionNotFoundError:
            found.append(True)
    found.append(db.get_session("s1").runs in (None, []))
    db.upsert_run(made_run("p", status=RunStatus.pending), "s1", "ada")
    found += [db.cancel_pending_run("p", session_id="s1", reason="no", user_id="ada") for _ in range(2)]
    return found


def cut_off(db: SessileDb) -> list[list[str]]:
    """The runs of a session whose first write is cut off between two of them, and of the same one written again."""

    class Broken(SessileDb):
        def upsert_run(self, run: Any, *args: Any, **given: Any) -> None:
            if run.run_id == "second":
                raise KeyboardInterrupt
            super().upsert_run(run, *args, **given)

    session = AgentSession(session_id="s1", agent_id="a", user_id="ada")
    session.runs = [made_run(name) for name in ("first", "second", "third")]
    found: list[list[str]] = []
    for one in (Broken(db.storage), db, db):
        with suppress(KeyboardInterrupt):
            one.upsert_session(session)
        found.append([run.run_id for run in db.get_session("s1").runs or []])
        db.upsert_session(AgentSession(session_id="s1", agent_id="a", user_id="ada"))  # a row alone takes nothing
    return found


def often(db: SessileDb) -> list[Any]:
    """A run that is written more often than one read brings, the last time by another object; who may claim what."""
    db.upsert_session(AgentSession(session_id="s1", agent_id="a"))
    for number in range(510):
        run = made_run("r")
        run.content, run.messages = f"{number}", [Message(role="user", content=f"{number}")] * (number % 3)
        db.upsert_run(run, "s1")
    found: list[Any] = [db.get_run("r").content, len(db.get_session("s1", runs_limit=2).runs)]
    other = SessileDb(db.storage)
    claimed = [one.upsert_session(AgentSession(session_id="s1", agent_id="a", user_id=user)) is not None
               for one, user in ((other, "ada"), (db, "bob"), (db, "ada"), (other, None))]  # fmt: skip
    db.storage.verify("agno:s1", user_id="ada")
    return [*found, claimed]


MANY: dict[str, Any] = {"together": together, "running": running}
FOUND: dict[str, Any] = {
    "kept": kept,
    "went_on": went_on,
    "answers": answers,
    "refused": refused,
    "cut_off": cut_off,
    "often": often,
}


def main(what: str, *arguments: str) -> None:
    url = os.environ["SESSILE_URL"]
    if what == "theirs":
        path = f"/tmp/{os.getpid()}.agno.db"
        db = InMemoryDb() if arguments[0] == "memory" else SqliteDb(db_file=path)
        print(json.dumps(answers(db)))
        if os.path.exists(path):
            os.remove(path)
        return
    with sessile.open(url) as storage:
        db = SessileDb(storage)
        if what == "talk":
            print(json.dumps(talk(db, arguments[0], list(arguments[1:]))))
        elif what in MANY:
            MANY[what](db, int(arguments[0]), int(arguments[1]), arguments[2])
        else:
            print(json.dumps(FOUND[what](db)))


if __name__ == "__main__":
    main(*sys.argv[1:])
