"""Runs and messages as tables, for spreadsheets, DuckDB, pandas and the like: CSV, JSON Lines, Parquet.

Every row has every column, and each column one type, whatever is in it: what is free-form (inputs, outputs, metadata,
messages that are not ours) is JSON text. Costs are dollars, always with a point; times are UTC.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from itertools import islice
from pathlib import PurePath
from typing import Any, BinaryIO, Literal, Unpack

from ..errors import InvalidInputError, missing_dependency
from ..records import Message, Run, Session
from ..storage import Storage
from ..storage.checks import check_choice
from ..transcripts import said_in
from .filters import SessionChoice
from .told import Exported, Redaction, redacted, runs_told, sessions_told, text_of, with_children
from .writing import written

Form = Literal["csv", "jsonl", "parquet"]
FORMS = ("csv", "jsonl", "parquet")

GROUP = 5000
"""How many rows make a group of a Parquet file: so many are in memory at once."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""

Column = Literal["text", "int", "float", "dollars", "time"]

RUNS: dict[str, Column] = {
    "session_id": "text", "run": "int", "run_id": "text", "parent_run_id": "text", "kind": "text", "agent": "text",
    "user_id": "text", "session_name": "text", "status": "text", "started_at": "time", "ended_at": "time",
    "seconds": "float", "input": "text", "output": "text", "error_type": "text", "error": "text", "requests": "int",
    "input_tokens": "int", "output_tokens": "int", "cache_read_tokens": "int", "cache_write_tokens": "int",
    "tool_calls": "int", "cost": "dollars", "score": "float", "label": "text", "comment": "text", "metadata": "text",
}  # fmt: skip
"""The columns of a table of runs. Usage is the run's own, without the runs below it: so sums are right."""

MESSAGES: dict[str, Column] = {
    "session_id": "text", "run": "int", "run_id": "text", "agent": "text", "user_id": "text", "seq": "int",
    "place": "int", "time": "time", "who": "text", "text": "text", "tool": "text", "tool_call_id": "text",
    "returned": "text", "format": "text",
}  # fmt: skip
"""The columns of a table of messages: a row for each part that somebody has said."""


def export_runs(
    storage: Storage,
    to: str | os.PathLike[str] | BinaryIO,
    *,
    form: Form | None = None,
    redact: Redaction | None = None,
    session_ids: Sequence[str] | None = None,
    **choice: Unpack[SessionChoice],
) -> Exported:
    """Write a table of runs (`RUNS` has its columns): those of the current branches, with the runs below them.

    Args:
        storage: where the sessions are.
        to: a path, which has the file when it is whole; or a stream of bytes.
        form: `csv`, `jsonl` or `parquet`. Default: as the path ends.
        redact: is given each text of inputs, outputs, errors, comments, names, metadata; returns what is written.
        session_ids: only these sessions.
        **choice: which sessions; see `SessionChoice`.

    Raises:
        InvalidInputError: an argument is wrong.
        MissingDependencyError: Parquet needs `pyarrow` (`pip install "sessile[parquet]"`).
        SessionNotFoundError: one of `session_ids` is not there.
        StorageError: the database failed; a file that was to be written is not there.
    """
    done = Exported()
    rows = (
        _run_row(session, run, redact)
        for session in sessions_told(storage, session_ids, choice, done)
        for top in runs_told(storage, session, done)
        for run in with_children(top)
    )
    return _write(to, form, RUNS, rows, done)


def export_messages(
    storage: Storage,
    to: str | os.PathLike[str] | BinaryIO,
    *,
    form: Form | None = None,
    redact: Redaction | None = None,
    session_ids: Sequence[str] | None = None,
    **choice: Unpack[SessionChoice],
) -> Exported:
    """Write a table of what was said (`MESSAGES` has its columns). Arguments and errors as of `export_runs`."""
    done = Exported()
    rows = (
        row
        for session in sessions_told(storage, session_ids, choice, done)
        for top in runs_told(storage, session, done)
        for run in with_children(top)
        for message in run.messages
        for row in _message_rows(session, message, redact)
    )
    return _write(to, form, MESSAGES, rows, done)


def _run_row(session: Session, run: Run, redact: Redaction | None) -> list[Any]:
    usage, rating = run.own_usage, run.rating()
    error = run.error or {}
    told = redacted(
        [session.name, run.input, run.output, error.get("message"), rating and rating.comment, run.metadata], redact
    )
    name, input, output, message, comment, metadata = map(text_of, told)
    ended = run.ended_at
    return [
        session.session_id, run.number, run.run_id, run.parent_run_id, session.kind, run.agent, session.user_id, name,
        run.status, run.started_at, ended, None if ended is None else (ended - run.started_at).total_seconds(), input,
        output, text_of(error.get("type")), message, usage.requests, usage.input_tokens, usage.output_tokens,
        usage.cache_read_tokens, usage.cache_write_tokens, usage.tool_calls, usage.cost, rating and rating.score,
        rating and rating.label, comment, metadata,
    ]  # fmt: skip


def _message_rows(session: Session, message: Message, redact: Redaction | None) -> Iterator[list[Any]]:
    for place, said in enumerate(said_in(message)):
        yield [
            session.session_id, message.run, message.run_id, message.agent, session.user_id, message.seq, place,
            message.time, said.who, redacted(said.text, redact), said.tool, said.call, str(said.returned).lower(),
            message.format,
        ]  # fmt: skip


# ---------------------------------------------------------------- forms


def _write(
    to: str | os.PathLike[str] | BinaryIO,
    form: Form | None,
    columns: dict[str, Column],
    rows: Iterable[list[Any]],
    done: Exported,
) -> Exported:
    if form is not None:
        check_choice(form, "form", FORMS)
    chosen = form or _form_of(to)
    writers = {"csv": _write_csv, "jsonl": _write_jsonl, "parquet": _write_parquet}
    with written(to) as stream:
        done.rows = writers[chosen](stream, columns, rows)
    return done


def _form_of(to: str | os.PathLike[str] | BinaryIO) -> str:
    suffixes = PurePath(to).suffixes if isinstance(to, (str, os.PathLike)) else []
    found = [suffix[1:] for suffix in suffixes if suffix[1:] in FORMS]
    if not found:
        raise InvalidInputError(f"form must be one of {', '.join(FORMS)}, where no file's name tells it.")
    return found[-1]


def _write_csv(stream: BinaryIO, columns: dict[str, Column], rows: Iterable[list[Any]]) -> int:
    """CSV as RFC 4180 has it. Cells that a spreadsheet would run begin with an apostrophe."""
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", errors="backslashreplace")
    writer = csv.writer(text)
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        count += 1
    text.flush()
    text.detach()
    return count


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (Decimal, float)):
        return _number(value)
    text = str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text


def _number(value: Decimal | float) -> str:
    """A number with a point, so that readers which look at the first rows only do not take a column for integers."""
    text = format(value, "f") if isinstance(value, Decimal) else repr(value)
    return text if "." in text or "e" in text else f"{text}.0"


def _write_jsonl(stream: BinaryIO, columns: dict[str, Column], rows: Iterable[list[Any]]) -> int:
    count = 0
    for row in rows:
        fields = ",".join(f"{json.dumps(name)}:{_json(value)}" for name, value in zip(columns, row, strict=True))
        stream.write(f"{{{fields}}}\n".encode(errors="backslashreplace"))
        count += 1
    return count


def _json(value: Any) -> str:
    if isinstance(value, datetime):
        return f'"{value.isoformat()}"'
    if isinstance(value, (Decimal, float)):
        return _number(value)
    return json.dumps(value, ensure_ascii=False)


def _write_parquet(stream: BinaryIO, columns: dict[str, Column], rows: Iterable[list[Any]]) -> int:
    try:
        pyarrow: Any = import_module("pyarrow")
        parquet: Any = import_module("pyarrow.parquet")
    except ImportError as error:
        raise missing_dependency("pyarrow", "parquet", "Parquet files") from error
    types = {
        "text": pyarrow.string(),
        "int": pyarrow.int64(),
        "float": pyarrow.float64(),
        "dollars": pyarrow.decimal128(38, 9),
        "time": pyarrow.timestamp("us", tz="UTC"),
    }
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
    count, left = 0, iter(rows)
    with parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        while group := list(islice(left, GROUP)):
            arrays = [[_storable(row[place]) for row in group] for place in range(len(columns))]
            writer.write_table(pyarrow.table(dict(zip(columns, arrays, strict=True)), schema=schema))
            count += len(group)
    return count


def _storable(value: Any) -> Any:
    """Text without lone surrogates, which Arrow's strings cannot hold; all else as it is."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
