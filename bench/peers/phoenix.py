"""Fills Phoenix with sessions, through the address at which it takes traces; runs in Phoenix's own environment.

`python phoenix.py URL SESSIONS RUNS`: so many sessions of one run each, a span of an agent with that of its model below
it, and a session of very many runs, each of which asks a model, calls a tool and asks the model again: what the
dashboard is measured with, as OpenInference's attributes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

SECOND = 10**9
APART = 30 * SECOND
"""From one session, or run, to the next: ten thousand lie in the seven days that Phoenix shows at first."""


def of_model(kind: str, session: str, asked: str, answered: str) -> dict[str, Any]:
    """The attributes of a span that asks something and is answered."""
    said = {"session.id": session, "user.id": "ada", "openinference.span.kind": kind}
    said |= {"input.value": asked, "output.value": answered}
    if kind == "LLM":
        said |= {"llm.model_name": "m1", "llm.token_count.prompt": 900, "llm.token_count.completion": 300}
        for place, role, text in (("input", "user", asked), ("output", "assistant", answered)):
            message = f"llm.{place}_messages.0.message"
            said |= {f"{message}.role": role, f"{message}.content": text}
    return said


def run(tracer: Tracer, began: int, session: str, asked: str, answered: str, *, tool: str | None) -> None:
    """One run as spans."""
    whole = tracer.start_span("support", start_time=began, attributes=of_model("AGENT", session, asked, answered))
    with trace.use_span(whole):
        steps = [("m1", of_model("LLM", session, asked, "track" if tool else answered))]
        if tool is not None:
            steps.append(("track", of_model("TOOL", session, tool, json.dumps({"status": "on its way"}))))
            steps.append(("m1", of_model("LLM", session, asked, answered)))
        for number, (name, attributes) in enumerate(steps):
            start = began + number * SECOND
            tracer.start_span(name, start_time=start, attributes=attributes).end(start + SECOND)
    whole.end(began + 4 * SECOND)


def main(url: str, sessions: int, runs: int, answers: list[str]) -> None:
    """Send all of it, and wait until it has been taken."""
    provider = TracerProvider(resource=Resource({"openinference.project.name": "bench"}))
    exporter = OTLPSpanExporter(f"{url}/v1/traces", timeout=120)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=200_000, max_export_batch_size=400))
    tracer, now = provider.get_tracer("bench"), time.time_ns() - 60 * SECOND
    for number in range(1, runs + 1):
        asked = f"Where is order {number}? I have waited for it since last week."
        answer = answers[number % len(answers)].replace("{number}", str(number))
        run(tracer, now - (runs - number) * APART, "long", asked, answer, tool=json.dumps({"order": number}))
        if number % 500 == 0:
            provider.force_flush(600_000)
    for number in range(sessions):
        run(
            tracer,
            now - number * APART,
            f"s{number}",
            f"Question {number}",
            f"The answer to question {number}.",
            tool=None,
        )
        if number % 1000 == 0:
            provider.force_flush(600_000)
    provider.force_flush(600_000)
    provider.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), json.load(sys.stdin))
