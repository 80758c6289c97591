"""The API is what its own description says: requests made of it get answers that it names, and no server error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import BaseModel
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient
from tests.campaigns import TORTURE
from tests.server.conftest import Pace, agents, headers

from sessile import Agent, Context, MemoryStorage, SqliteStorage, Workflow
from sessile.agents.offline import OfflineModel
from sessile.server import Limits, create_app

EXAMPLES = 300 if TORTURE else 6


def app_with_sessions(path: Path) -> Any:
    storage = SqliteStorage(path)
    pace = Pace()
    pace.seconds = 0
    served = [one for one in agents(storage, pace) if one.name in ("support", "asking", "waiting")]
    app = create_app(served, resume_every=None, limits=Limits(stop_seconds=0.1))
    with TestClient(app, base_url="http://localhost", headers=headers(None)) as client:
        for session_id in ("0", "s1", "a/b"):
            body = {"input": "Hello", "session_id": session_id}
            assert client.post("/agents/support/runs", json=body).status_code == 200
    return app


CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
REFUSALS = (501, 502)
"""What is no failure of the server: what it cannot do, and runs that fail."""


def test_the_description_is_kept(tmp_path: Path) -> None:
    app = app_with_sessions(tmp_path / "sessions.db")
    with TestClient(app):
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})
        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:
            fuzz(operation)
    assert len(operations) >= 35


def test_what_agents_answer_is_described(tmp_path: Path) -> None:
    class Forecast(BaseModel):
        degrees: int

    agent = Agent(OfflineModel(), name="weather today", storage=MemoryStorage(), output_type=Forecast)
    schemas = create_app([agent]).openapi()["components"]["schemas"]
    assert "degrees" in str(schemas["Output.weather_today"])
    assert "media_type" in str(schemas["Input.weather_today"])


def test_what_workflows_take_answer_and_keep_is_described() -> None:
    async def report(ctx: Context, topic: str, pages: int = 3) -> list[str]:
        return [topic] * pages

    flow = Workflow(report, name="report", storage=MemoryStorage(), state={"seen": 0})
    schemas = create_app([flow], storage=MemoryStorage()).openapi()["components"]["schemas"]
    assert schemas["Input.report"]["properties"]["topic"]["type"] == "string"
    assert schemas["Input.report"]["required"] == ["topic"]
    assert schemas["Output.report"]["items"] == {"type": "string"}
    assert schemas["State.report"]["properties"] == {"seen": {"type": "integer", "default": 0}}


def fuzz(operation: Any) -> None:
    """Ask one operation with whatever its description allows."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=not TORTURE,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: Any) -> None:
        if case.path == "/changes":
            case.query = {**(case.query or {}), "once": "true"}  # the other form has no end
        answer = case.call(headers={**headers(None), "Host": "localhost"})
        if answer.headers.get("content-type", [""])[0] == "application/problem+json":
            assert set(answer.json()) >= {"type", "title", "status", "detail", "hint", "retryable", "written"}
        case.validate_response(answer, checks=CHECKS[1:] if answer.status_code in REFUSALS else CHECKS)

    check()
