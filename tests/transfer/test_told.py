"""What others read: tables, conversations for fine-tuning, transcripts."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic_ai.models.test import TestModel

from sessile import ANY_USER, Agent, MemoryStorage, SqliteStorage, Usage
from sessile.agents.offline import OfflineModel
from sessile.errors import InvalidInputError, SessionNotFoundError
from sessile.telemetry import export_otel
from sessile.transfer import export_chat, export_messages, export_runs, export_transcripts

HOSTILE = '=cmd|"/c calc"!A1\n<script>alert(1)</script>\n# not a heading\u202e [x](javascript:1) \x1b[2J'


@pytest.fixture
def shop(source: SqliteStorage) -> SqliteStorage:
    """Runs with tools, prices, ratings, failures, and texts that would act."""
    agent = Agent(OfflineModel(), storage=source, name="helper")
    agent.run("Where is it?", session_id="a", user_id="ada")
    source.add_run("a", input="Hi", output="Hello", user_id="ada", usage=Usage(1, 10, 2, cost=Decimal("0.000021")))
    source.add_run("b", input=HOSTILE, output={"deep": [1, None, {"x": "é"}]}, metadata={"n": 1})
    source.add_run("b", status="failed", error={"type": "ValueError", "message": HOSTILE})
    source.rate("a", 2, score=0.9, comment="+1", user_id="ada")
    source.rate("b", 1, score=0.1)
    source.rename("b", "\u202eevil\n## name")
    return source


def asked(sql: str) -> list[Any]:
    return duckdb.connect().execute(sql).fetchall()


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_runs_as_csv(shop: SqliteStorage, tmp_path: Path) -> None:
    done = export_runs(shop, tmp_path / "runs.csv")
    rows = rows_of(tmp_path / "runs.csv")
    assert (done.sessions, done.rows, done.skipped) == (2, 4, {})
    assert [(row["session_id"], row["run"], row["status"]) for row in rows] == [
        ("a", "1", "completed"), ("a", "2", "completed"), ("b", "1", "completed"), ("b", "2", "failed"),
    ]  # fmt: skip
    assert (rows[1]["cost"], rows[1]["score"], rows[1]["comment"]) == ("0.000021", "0.9", "'+1")
    assert rows[2]["input"] == f"'{HOSTILE}"
    assert json.loads(rows[2]["output"]) == {"deep": [1, None, {"x": "é"}]}
    for row in rows:
        assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_readers_see_the_same_table(form: str, shop: SqliteStorage, tmp_path: Path) -> None:
    path = tmp_path / f"runs.{form}"
    assert export_runs(shop, path).rows == 4
    read = {"jsonl": "read_json", "parquet": "read_parquet", "csv": "read_csv"}[form]
    cost, score, error, started = asked(
        f"SELECT sum(cost), max(score), max(error_type), max(typeof(started_at)) FROM {read}('{path}')"
    )[0]
    assert (float(cost), score, error) == (0.000021, 0.9, "ValueError")
    assert started.startswith("TIMESTAMP")


def test_every_line_has_every_field(shop: SqliteStorage) -> None:
    stream = io.BytesIO()
    export_runs(shop, stream, form="jsonl")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len({tuple(line) for line in lines}) == 1
    assert lines[0]["score"] is None
    assert b'"seconds":0.' in stream.getvalue().splitlines()[1]


def test_messages(shop: SqliteStorage, tmp_path: Path) -> None:
    done = export_messages(shop, tmp_path / "messages.parquet", user_id="ada")
    rows = asked(f"SELECT who, text FROM read_parquet('{tmp_path}/messages.parquet')")
    assert len(rows) == done.rows
    assert ("user", "Where is it?") in rows


def test_redaction(shop: SqliteStorage) -> None:
    def hide(text: str) -> str:
        return text.replace("Hello", "[…]").replace("deep", "[…]")

    for export in (export_runs, export_messages):
        stream = io.BytesIO()
        export(shop, stream, form="jsonl", redact=hide)
        assert b"Hello" not in stream.getvalue()
    for more in (export_chat, export_transcripts):
        stream = io.BytesIO()
        more(shop, stream, redact=hide)
        assert b"Hello" not in stream.getvalue()
        assert stream.getvalue()


def test_what_cannot_be_written(shop: SqliteStorage, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="form must be one of csv, jsonl, parquet"):
        export_runs(shop, tmp_path / "runs.xlsx")
    with pytest.raises(SessionNotFoundError):
        export_runs(shop, tmp_path / "runs.csv", session_ids=["nobody"])
    with pytest.raises(InvalidInputError, match="form"):
        export_transcripts(shop, tmp_path / "x", form="pdf")  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*runs*"))


# ---------------------------------------------------------------- fine-tuning


def chat_of(storage: SqliteStorage, **options: Any) -> list[dict[str, Any]]:
    stream = io.BytesIO()
    export_chat(storage, stream, **options)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_conversations(source: SqliteStorage) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "order", "arguments": '{"number": 7}'}}
    messages = [
        {"role": "user", "content": "Where is 7?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "on its way"},
        {"role": "assistant", "content": "On its way."},
    ]
    source.add_run("a", input="Where is 7?", output="On its way.", messages=messages, format="openai")
    source.add_run("a", input="Thanks", output="No.")
    source.add_run("a", input="lost", status="failed", error={"type": "E", "message": "m"})
    (line,) = chat_of(source)
    assert [one["role"] for one in line["messages"]] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert line["messages"][1]["tool_calls"] == [call]
    parameters: dict[str, Any] = {"type": "object", "properties": {"number": {}}}
    assert line["tools"] == [{"type": "function", "function": {"name": "order", "parameters": parameters}}]
    given = [{"type": "function", "function": {"name": "order"}}]
    assert chat_of(source, tools=given)[0]["tools"] == given


def test_only_good_answers_are_learned_from(source: SqliteStorage) -> None:
    for session_id in ("good", "bad", "mixed"):
        source.add_run(session_id, input="1", output="first")
        source.add_run(session_id, input="2", output="second")
    source.rate("good", 1, score=1)
    source.rate("good", 2, score=0.8)
    source.rate("bad", 1, score=0.2)
    source.rate("mixed", 2, score=0.1, correction="better")
    lines = {line["messages"][0]["content"]: line for line in chat_of(source, min_score=0.5)}
    assert len(chat_of(source, min_score=0.5)) == 2
    weights = [[one.get("weight", 1) for one in line["messages"][1::2]] for line in chat_of(source, min_score=0.5)]
    assert weights == [[1, 1], [0, 1]]
    assert chat_of(source, min_score=0.5)[1]["messages"][3]["content"] == "better"
    assert set(lines) == {"1"}


# ---------------------------------------------------------------- transcripts


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_transcripts(form: Any, shop: SqliteStorage) -> None:
    stream = io.BytesIO()
    done = export_transcripts(shop, stream, form=form, user_id=ANY_USER)
    text = stream.getvalue().decode()
    assert (done.sessions, done.rows) == (2, 4)
    assert "Where is it?" in text.replace("\\", "")
    assert "<script>" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    if form == "markdown":
        assert "\n# not" not in text
        assert "](javascript" not in text
        assert text.count("\n# ") + text.startswith("# ") == 2
    else:
        assert "default-src 'none'" in text


def test_runs_as_opentelemetry_has_them(tmp_path: Path) -> None:
    with MemoryStorage() as storage:
        agent = Agent(TestModel(custom_output_text="Paris."), name="guide", storage=storage)
        agent.run("Where am I?", session_id="s1")
        storage.add_run("s2", input="x", messages=[{"of": "nobody"}], format="mine")
        done = export_otel(storage, tmp_path / "runs.jsonl", redact=lambda text: text.replace("Paris", "[city]"))
    assert (done.sessions, done.rows, list(done.skipped)) == (2, 1, ["s2 1"])
    line = json.loads((tmp_path / "runs.jsonl").read_text())
    attributes = line["attributes"]
    assert (line["name"], attributes["gen_ai.conversation.id"]) == ("invoke_agent guide", "s1")
    assert attributes["gen_ai.input.messages"][0]["role"] == "user"
    said = attributes["gen_ai.output.messages"][0]["parts"][0]
    assert (said["type"], said["content"]) == ("text", "[city].")


def test_long_messages() -> None:
    """What an event loop would do beside itself: here is none."""
    text = "word " * 60_000
    with MemoryStorage() as storage:
        Agent(TestModel(custom_output_text="Paris."), storage=storage).run(text, session_id="s")
        for export in (export_chat, export_otel):
            stream = io.BytesIO()
            assert export(storage, stream).rows == 1
            assert text in json.dumps(json.loads(stream.getvalue()))
