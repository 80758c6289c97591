"""What OpenTelemetry hears of one run: spans of the storage, which say whose run it is, and feedback as an event.

python telemetry.py           needs `pip install opentelemetry-sdk`
"""

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sessile import Agent, SqliteStorage
from sessile.agents.offline import OfflineModel
from sessile.telemetry import SessionSpans, instrument

spans, events = InMemorySpanExporter(), InMemoryLogRecordExporter()
tracers, loggers = TracerProvider(), LoggerProvider()
tracers.add_span_processor(SessionSpans())
tracers.add_span_processor(SimpleSpanProcessor(spans))
loggers.add_log_record_processor(SimpleLogRecordProcessor(events))

storage = instrument(SqliteStorage("support.db"), tracer_provider=tracers, logger_provider=loggers)
agent = Agent(OfflineModel(introduce=False), name="support", storage=storage)
result = agent.run("My name is Ada.", session_id="s1", user_id="ada")
storage.rate("s1", result.run_id, score=True, comment="Kind.", user_id="ada")

for span in spans.get_finished_spans():
    print(span.name, dict(span.attributes or {}))
for event in events.get_finished_logs():
    print(event.log_record.event_name, dict(event.log_record.attributes or {}))
storage.close()
