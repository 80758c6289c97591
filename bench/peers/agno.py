"""agno 3.x: `SqliteDb`, `PostgresDb`, `RedisDb` and `DynamoDb`, called as `Agent.run` calls it.

One run reads (or takes from its cache) the session with all its runs, builds the history from the last 3 of
them, and stores the session row and the run row: two commits. The functions are the Agent's own. The
documentation names `cache_session=True` for faster access to sessions; the database itself can also read
the last runs only (`runs_limit`), which `Agent.run` does not use.
"""

from __future__ import annotations

import os
import time
from typing import Any
from uuid import uuid4

os.environ.setdefault("AGNO_TELEMETRY", "false")

from agno.agent import Agent
from agno.agent._run import persist_run_in_session
from agno.agent._storage import read_or_create_session, update_session_metrics
from agno.db.base import SessionType
from agno.db.sqlite import SqliteDb
from agno.metrics import RunMetrics
from agno.models.message import Message
from agno.run.agent import RunInput, RunOutput
from agno.run.base import RunStatus
from agno.session import AgentSession
from sqlalchemy import text

from ..payload import Exchange, exchange
from .harness import Place, Variant, main


def output(session_id: str, turn: Exchange) -> RunOutput:
    """What the Agent has at the end of a run without tools."""
    metrics = RunMetrics(
        input_tokens=turn.input_tokens,
        output_tokens=turn.output_tokens,
        total_tokens=turn.input_tokens + turn.output_tokens,
        duration=0.8,
        time_to_first_token=0.2,
    )
    return RunOutput(
        run_id=str(uuid4()),
        agent_id="bench",
        session_id=session_id,
        input=RunInput(input_content=turn.user),
        content=turn.answer,
        model="benchmark",
        session_state={},
        messages=[Message(role="user", content=turn.user), Message(role="assistant", content=turn.answer)],
        metrics=metrics,
        status=RunStatus.completed,
    )


class Default(Variant):
    note = "the session's row and the run's row are two separate commits; stores texts twice"
    cache = False

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.db = self.open()
        self.agents: dict[str, Agent] = {}

    def open(self) -> Any:
        if self.url is None:
            return SqliteDb(db_file=str(self.path))
        if self.url.startswith("redis:"):
            from agno.db.redis import RedisDb

            return RedisDb(db_url=self.url)

        if self.tables:
            import boto3
            from agno.db.dynamo import DynamoDb

            client = boto3.client("dynamodb", region_name="us-east-1", endpoint_url=self.url)
            names = {name: f"{self.tables}{name}" for name in ("session_table", "runs_table")}
            return DynamoDb(client, **names)
        from agno.db.postgres import PostgresDb

        return PostgresDb(db_url=self.url.replace("postgresql:", "postgresql+psycopg:"))

    def agent(self, session_id: str) -> Agent:
        """An Agent caches one session, so each session has its own."""
        if session_id not in self.agents:
            self.agents[session_id] = Agent(
                id="bench",
                db=self.db,
                add_history_to_context=True,
                num_history_runs=3,
                cache_session=self.cache,
                telemetry=False,
            )
        return self.agents[session_id]

    def fill(self, session_id: str, runs: int) -> None:
        agent = self.agent(session_id)
        session = read_or_create_session(agent, session_id=session_id)
        persist_run_in_session(agent, output(session_id, exchange(1)), session)
        for index in range(1, runs):
            self.db.upsert_run(output(session_id, exchange(index + 1)), session_id, run_index=index)

    def turn(self, session_id: str, turn: Exchange) -> float:
        agent, run = self.agent(session_id), output(session_id, turn)
        start = time.perf_counter()
        session = read_or_create_session(agent, session_id=session_id)
        history = session.get_messages(last_n_runs=3)
        persist_run_in_session(agent, run, session)
        seconds = time.perf_counter() - start
        assert len(history) == 6
        return seconds

    def scalar(self, sql: str) -> object:
        if self.url is not None and self.url.startswith("redis:"):
            return self.db.redis_client.config_get(sql)[sql]
        with self.db.Session() as session:
            return session.execute(text(sql)).scalar()

    def close(self) -> None:
        self.db.close()


class Cached(Default):
    name = "cache_session=True"
    note = "keeps the whole session in memory and reads nothing: does not see the turns of other processes"
    cache = True


class RunsLimit(Default):
    name = "get_session(runs_limit=3)"
    note = "a call of the database; Agent.run itself does not use it"

    def turn(self, session_id: str, turn: Exchange) -> float:
        run = output(session_id, turn)
        start = time.perf_counter()
        session = self.db.get_session(session_id, SessionType.AGENT, runs_limit=3)
        assert isinstance(session, AgentSession)
        history = session.get_messages(last_n_runs=3)
        update_session_metrics(self.agent(session_id), session, run)
        self.db.upsert_session(session)
        self.db.upsert_run(run, session_id)
        seconds = time.perf_counter() - start
        assert len(history) == 6
        return seconds


if __name__ == "__main__":
    main(["agno", "sqlalchemy"], [Default, Cached, RunsLimit])
