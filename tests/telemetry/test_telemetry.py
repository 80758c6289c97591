"""What a storage tells OpenTelemetry when it is asked to, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.test import TestModel

from sessile import ANY_USER, Agent, SqliteStorage, Usage
from sessile.errors import SessileError
from sessile.insight import Index
from sessile.telemetry import SessionSpans, instrument, observe_usage, run_attributes, to_otel, usage


@dataclass
class Heard:
    """What has come out."""

    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    logs: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)

    def __post_init__(self) -> None:
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SessionSpans())  # type: ignore[arg-type] (as the SDK calls it)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.loggers = LoggerProvider()
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))
        self.meters = MeterProvider(metric_readers=[self.reader])

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]

    def metrics(self) -> dict[str, Any]:
        data: Any = self.reader.get_metrics_data()
        return {m.name: m.data for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def storage(tmp_path: Path, heard: Heard) -> Iterator[SqliteStorage]:
    with SqliteStorage(tmp_path / "s.db", synchronous="NORMAL") as storage:
        instrument(
            storage,
            tracer_provider=heard.tracers,
            meter_provider=heard.meters,
            logger_provider=heard.loggers,
        )
        yield storage


def test_each_operation_is_a_span_and_is_measured(storage: SqliteStorage, heard: Heard) -> None:
    storage.add_run("s", input="secret", output="words", user_id="ada")
    storage.runs("s", user_id="ada")
    (append,) = heard.named("append sessile")
    assert append.attributes is not None
    assert {**append.attributes} == {
        "db.system.name": "sqlite",
        "db.operation.name": "append",
        "sessile.session.id": "s",
        "gen_ai.conversation.id": "s",
    }
    assert heard.named("load sessile")
    assert "secret" not in "".join(span.to_json() for span in heard.spans.get_finished_spans())
    points = heard.metrics()["db.client.operation.duration"].data_points
    assert {point.attributes["db.operation.name"] for point in points} >= {"append", "load"}
    assert all(point.sum > 0 for point in points)


def test_an_error_is_named_without_its_text(storage: SqliteStorage, heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database " * 100)
    with SqliteStorage(tmp_path / "text") as broken:
        instrument(broken, tracer_provider=heard.tracers)
        with pytest.raises(SessileError):
            broken.sessions()
    failed = [
        span for span in heard.spans.get_finished_spans() if not span.status.is_ok and span.status.is_unset is False
    ]
    assert failed
    for span in failed:
        assert span.attributes is not None
        assert str(span.attributes["error.type"]).endswith("Error")
        assert not span.events
        assert span.status.description is None


async def test_spans_of_a_run_say_whose_it_is(storage: SqliteStorage, heard: Heard) -> None:
    from pydantic_ai.models.instrumented import InstrumentedModel

    def look() -> str:
        return "there"

    settings = InstrumentationSettings(tracer_provider=heard.tracers, meter_provider=heard.meters)
    model = InstrumentedModel(TestModel(), settings)
    agent = Agent(model, name="support", storage=storage, tools=[look])
    result = await agent.arun("hello", session_id="s", user_id="ada")
    chats = [span for span in heard.spans.get_finished_spans() if span.name.startswith("chat")]
    assert len(chats) == 2
    for span in chats:
        assert span.attributes is not None
        assert span.attributes["sessile.session.id"] == span.attributes["gen_ai.conversation.id"] == "s"
        assert span.attributes["sessile.run.id"] == result.run_id
        assert (span.attributes["user.id"], span.attributes["sessile.agent.name"]) == ("ada", "support")
    heard.spans.clear()
    storage.sessions(user_id="ada")
    assert all("sessile.run.id" not in (span.attributes or {}) for span in heard.spans.get_finished_spans())


def test_feedback_is_an_event(storage: SqliteStorage, heard: Heard) -> None:
    run = storage.add_run("s", input="a", output="b")
    storage.rate("s", 1, score=0.5, label="fair", comment="So so.", source="judge")
    storage.rate("s", 1, score=True)
    first, second = [one.log_record for one in heard.logs.get_finished_logs()]
    assert first.event_name == second.event_name == "gen_ai.evaluation.result"
    assert dict(first.attributes or {}) == {
        "gen_ai.evaluation.name": "judge",
        "gen_ai.evaluation.score.value": 0.5,
        "gen_ai.evaluation.score.label": "fair",
        "gen_ai.evaluation.explanation": "So so.",
        "gen_ai.conversation.id": "s",
        "sessile.session.id": "s",
        "sessile.run.id": run.run_id,
    }
    assert "gen_ai.evaluation.explanation" not in (second.attributes or {})


def test_what_the_storage_counts_is_a_metric(storage: SqliteStorage, heard: Heard) -> None:
    storage.add_run("s", input="a")
    storage._core.driver.stats.count("retries", 3)  # type: ignore[union-attr] (it has one)
    points = heard.metrics()["sessile.storage.events"].data_points
    assert {point.attributes["sessile.event"]: point.value for point in points} == storage.stats() == {"retries": 3}


async def test_asynchronous_callers(storage: SqliteStorage, heard: Heard) -> None:
    await storage.aadd_run("s", input="a")
    await storage.arate("s", 1, score=1)
    assert len(heard.named("append sessile")) == 2
    assert len(heard.logs.get_finished_logs()) == 1


def test_messages_in_the_form_of_the_conventions(storage: SqliteStorage) -> None:
    def look(order: int) -> str:
        return "there"

    Agent(TestModel(), name="support", storage=storage, tools=[look]).run("Where?", session_id="s")
    messages = to_otel(storage.messages("s"))
    assert [one["role"] for one in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[0]["parts"] == [{"type": "text", "content": "Where?"}]
    assert (messages[1]["parts"][0]["type"], messages[1]["parts"][0]["name"]) == ("tool_call", "look")
    assert "there" not in json.dumps(to_otel(storage.messages("s"), include_content=False))
    attributes = run_attributes("s", storage.get_run("s", 1))
    assert attributes["gen_ai.agent.name"] == "support"
    assert len(json.loads(attributes["gen_ai.input.messages"])) == 3
    assert len(json.loads(attributes["gen_ai.output.messages"])) == 1
    failed = storage.add_run("t", status="failed", error={"type": "E", "message": "m"}, usage=Usage(1, 5, 0))
    shown = run_attributes("t", failed)
    assert (shown["error.type"], shown["gen_ai.usage.input_tokens"], shown["gen_ai.output.messages"]) == ("E", 5, "[]")


def test_what_was_used_are_metrics(storage: SqliteStorage, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "TOGETHER", 0.0)
    storage.add_run("s", agent="a", usage=Usage(1, 10, 5, cost=Decimal("0.25")))
    with Index(storage) as index:
        observe_usage(index, by="agent", meter_provider=heard.meters)
        storage.add_run("s", agent="b", usage=Usage(2, 1, 1), status="failed", error={"type": "E"})
        found = {
            name.removeprefix("sessile.usage."): {point.attributes["agent"]: point.value for point in data.data_points}
            for name, data in heard.metrics().items()
            if name.startswith("sessile.usage.")
        }
        assert found["runs"] == {"a": 1, "b": 1}
        assert found["errors"] == {"a": 0, "b": 1}
        assert found["input_tokens"] == {"a": 10, "b": 1}
        assert found["cost_dollars"] == {"a": 0.25, "b": 0.0}
        assert found["unpriced_requests"] == {"a": 0, "b": 2}
        prometheus = index.usage(user_id=ANY_USER, by="agent").prometheus()
        named = {line.split("{")[0] for line in prometheus.splitlines() if "{" in line}
        assert named == {f"sessile_{name}" for name in found}


def test_a_group_that_is_none_is_refused_before_it_is_read(storage: SqliteStorage, heard: Heard) -> None:
    with Index(storage) as index, pytest.raises(SessileError, match="by must be one of"):
        observe_usage(index, by="colour", meter_provider=heard.meters)  # type: ignore[arg-type] (as untyped code may)
