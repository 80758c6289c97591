"""What clients are shown: records as JSON, and large values cut, with their length, their hash and where they begin."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from ..agents.messages.stored import dump_output
from ..errors import UnknownFormatError
from ..insight import FoundRun, Hit
from ..jsons import record_json, session_json, usage_json
from ..live.result import RunResult
from ..records import Entry, JsonObject, Message, Run, Session, Waiting
from ..storage.encoding import encode
from ..storage.forms import reviews_of
from ..storage.lists import asked_of
from ..storage.vocabulary import Pending, RunDecided
from ..workflows.run.values import load

MOST_BYTES = 20_000
"""Values over this are cut."""

HEAD = 2_000
"""Characters that are shown of a value that is cut."""

LINE = 200
"""Characters of a run's input and output in a list of sessions."""

_INSIDE = ("incarnation", "segments", "hidden", "more", "open_runs", "summary")
"""What of a session is nobody's business but the log's."""

_OPEN = frozenset({"parts", "messages", "children"})
"""Lists that are never cut as a whole, only what they hold."""


def cut(value: Any, key: str = "") -> Any:
    """A value with those in it that are over 20 KB as `{"$cut": {"length": …, "sha256": …, "head": …}}`."""
    return _cut(value, key)[0]


def _cut(value: Any, key: str) -> tuple[Any, int]:
    if isinstance(value, str):
        size = len(value)
        if size * 4 > MOST_BYTES and (whole := value.encode("utf-8", "surrogatepass")) and len(whole) > MOST_BYTES:
            return _marked(value, whole), HEAD
        return value, size
    if isinstance(value, dict):
        members = {name: _cut(item, name) for name, item in cast(JsonObject, value).items()}
        shown: Any = {name: item for name, (item, _) in members.items()}
        size = sum(size + len(name) + 4 for name, (_, size) in members.items())
    elif isinstance(value, list):
        items = [_cut(item, "") for item in cast("list[Any]", value)]
        shown, size = [item for item, _ in items], sum(size + 1 for _, size in items)
    else:
        return value, 8
    if size > MOST_BYTES and key not in _OPEN:
        text = encode(value)
        return _marked(text, text.encode("utf-8", "surrogatepass")), HEAD
    return shown, size


def _marked(text: str, whole: bytes) -> JsonObject:
    digest = hashlib.sha256(whole).hexdigest()
    return {"$cut": {"length": len(whole), "sha256": digest, "head": text[:HEAD]}}


# ---------------------------------------------------------------- runs


def outcome_of_result(result: RunResult[Any], agent: str) -> JsonObject:
    """What has come of a run that was driven here to its end."""
    return {
        "session_id": result.session_id,
        "run_id": result.run_id,
        "number": result.number,
        "agent": agent,
        "status": result.status,
        "output": dump_output(result.output),
        "pending": [],
        "error": None,
        "usage": usage_json(result.usage),
    }


def outcome_of_run(session_id: str, run: Run, *, whole_errors: bool) -> JsonObject:
    """What has come of a run, or what it waits for, as the log has it."""
    return {
        "session_id": session_id,
        "run_id": run.run_id,
        "number": run.number,
        "agent": run.agent,
        "status": run.status,
        "output": output_of(run),
        "pending": asked_of(Pending.of(run.pending)) if run.pending is not None else [],
        "error": error_of(run.error, whole=whole_errors),
        "usage": usage_json(run.usage),
    }


def output_of(run: Run) -> Any:
    """A run's output as plain JSON; of a workflow without the names of its types."""
    if run.durability != "workflow" or run.status != "completed":
        return run.output
    try:
        return dump_output(load(run.output))
    except UnknownFormatError:
        return run.output


def error_of(error: JsonObject | None, *, whole: bool) -> JsonObject | None:
    """A run's error: to administrators as it is, to others only its type."""
    if error is None or whole:
        return error
    return {"type": error.get("type", "Exception"), "message": ""}


def text_of(run: Run) -> str:
    """The text that a run has said so far, as its stream tells it, piece by piece."""
    if is_answer_alone(run):
        return run.output if isinstance(run.output, str) else ""
    return "".join(text for message in run.messages for text in _said(message))


def is_answer_alone(run: Run) -> bool:
    """Whether `text_of` is the answer alone, which is not what those were told who read along."""
    return run.agent is not None and (bool(run.children) or is_reviewed(run))


def is_reviewed(run: Run) -> bool:
    """Whether somebody looks, or has looked, at what the run answers before it is given."""
    if run.pending is not None and reviews_of(Pending.of(run.pending).requests):
        return True
    decided = (RunDecided.read(step) for step in run.steps)
    return any(one is not None and one.reviewed is not None for one in decided)


def _said(message: Message) -> list[str]:
    if message.data.get("kind") != "response":
        return []
    parts = cast("list[JsonObject]", message.data.get("parts") or [])
    return [part["content"] for part in parts if part.get("part_kind") == "text" and isinstance(part["content"], str)]


def run_shown(
    session_id: str, run: Run, *, whole_errors: bool, messages: bool = True, whole: bool = False
) -> JsonObject:
    """A run, with the runs below it; `whole`: with nothing cut."""
    shorten = _as_it_is if whole else cut
    shown = record_json(run, without=("messages", "children", "steps", "pending", "given", "key", "output", "error"))
    shown["session_id"] = session_id
    shown["output"] = shorten(output_of(run))
    shown["error"] = error_of(run.error, whole=whole_errors)
    shown["input"], shown["metadata"] = shorten(run.input), shorten(run.metadata)
    shown["pending"] = shorten(asked_of(Pending.of(run.pending))) if run.pending is not None else []
    shown["messages"] = [message_shown(message, whole=whole) for message in run.messages] if messages else []
    shown["message_count"] = len(run.messages)
    shown["own_usage"], shown["answered_by"] = usage_json(run.own_usage), run.answered_by
    shown["children"] = [
        run_shown(session_id, child, whole_errors=whole_errors, messages=messages, whole=whole)
        for child in run.children
    ]
    return shown


def _as_it_is(value: Any) -> Any:
    return value


def message_shown(message: Message, *, whole: bool = False) -> JsonObject:
    """A message of a run."""
    return {**record_json(message, without=("data",)), "data": message.data if whole else cut(message.data)}


def entry_shown(entry: Entry, *, whole: bool, whole_errors: bool) -> JsonObject:
    """An entry of the log; an error in it as `error_of` shows it."""
    data = entry.data
    if isinstance(data, dict) and isinstance((error := cast(JsonObject, data).get("error")), dict):
        data = {**cast(JsonObject, data), "error": error_of(cast(JsonObject, error), whole=whole_errors)}
    return {**record_json(entry, without=("data",)), "data": data if whole else cut(data)}


def preview_of(run: Run) -> JsonObject:
    """A run in a line of a list: what it was about, what has come of it, what was said about it."""
    took = None if run.ended_us is None else max(0, run.ended_us - run.started_us) / 1e6
    newest = {rating.source: rating for rating in run.ratings}
    return {
        "number": run.number,
        "status": run.status,
        "input": _line(run.input),
        "output": _line(output_of(run)),
        "started_at": run.started_at.isoformat(timespec="microseconds"),
        "duration": took,
        "usage": usage_json(run.usage),
        "ratings": {source: {"score": one.score, "label": one.label} for source, one in newest.items()},
    }


def _line(value: Any) -> str | None:
    """The beginning of a value as one line of text."""
    if value is None:
        return None
    parts: list[Any] = cast("list[Any]", value) if isinstance(value, list) else [value]
    said = [one for one in parts if isinstance(one, str)]
    text = " ".join(said) if said else encode(value)
    return " ".join(text[: LINE * 4].split())[:LINE]


def session_shown(session: Session) -> JsonObject:
    """A session, without its runs."""
    shown = session_json(session)
    for inside in _INSIDE:
        shown.pop(inside, None)
    for name in ("state", "metadata"):
        if name in shown:  # lists have no states
            shown[name] = cut(shown[name])
    shown["waiting"] = session.waiting
    return shown


def waiting_shown(waiting: Waiting) -> JsonObject:
    """A run that waits for somebody."""
    return {
        "session_id": waiting.session.session_id,
        "session_name": waiting.session.name,
        "user_id": waiting.session.user_id,
        "number": waiting.run,
        "run_id": waiting.run_id,
        "agent": waiting.agent,
        "since": waiting.since.isoformat(timespec="microseconds"),
        "epoch": waiting.epoch,
        "asked": cut(waiting.asked),
        "decided": cut(waiting.decided),
        "is_decided": waiting.is_decided,
    }


def found_shown(run: FoundRun) -> JsonObject:
    """A run as the index has it."""
    shown = record_json(run, without=("row", "total_nano_dollars", "total_unpriced", "ratings"))
    shown["cost"] = None if run.cost is None else format(run.cost, "f")
    shown["duration"] = None if run.duration is None else run.duration.total_seconds()
    shown["ratings"] = {source: record_json(rating) for source, rating in run.ratings.items()}
    return shown


def hit_shown(hit: Hit, *, whole_errors: bool) -> JsonObject:
    """A run, or a session, in which something was found; texts of errors are for administrators."""
    return {
        "session_id": hit.session_id,
        "session_name": hit.session_name,
        "user_id": hit.user_id,
        "run": None if hit.run is None else found_shown(hit.run),
        "score": hit.score,
        "snippets": [
            {"where": one.where, "text": one.text, "marks": [list(mark) for mark in one.marks]}
            for one in hit.snippets
            if whole_errors or one.where != "error"
        ],
    }
