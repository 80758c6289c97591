"""Sessions of Google's ADK: of `DatabaseSessionService` (its JSON schema) and of `SqliteSessionService`.

An invocation is a turn, dated by its events: the column beside them is local time in one release and UTC in another.
The state is the one that is stored, and not the sum of the events, because going back changes it, too. What a rewind
left is a branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ...agents.messages.adk import ADK
from ...errors import InvalidInputError
from ...records import JsonObject, Status, Usage
from .building import count
from .conversations import Conversation, Conversations, Skip, Turn
from .databases import Row, Tables, decoded, mapping, objects, seconds
from .pricing import cost_of, priced
from .sources import shown, tables_of


def is_google_adk(columns: dict[str, dict[str, str]]) -> bool:
    """Whether these are tables of ADK's."""
    return {"app_name", "invocation_id"} <= columns.get("events", {}).keys() and "state" in columns.get("sessions", {})


def conversations(source: str, skip: Skip, zone: str | None) -> Conversations:
    """The sessions of a database. `zone` is where it was written, for sessions without any event."""
    place = _zone(zone)
    with closing(tables_of(source)) as tables:
        columns = tables.columns()
        if not is_google_adk(columns):
            raise InvalidInputError(f"{shown(source)} has no sessions and events of ADK's.")
        if "event_data" not in columns["events"]:
            raise InvalidInputError(
                f"{shown(source)} has ADK's first schema, whose events are pickled Python.",
                hint="Convert it with `adk migrate session`, on a machine in the time zone that wrote it.",
            )
        seen: set[str] = set()
        for row in tables.rows("sessions", ["create_time", "app_name", "user_id", "id"]):
            yield _conversation(tables, row, seen, skip, place)


def _zone(name: str | None) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidInputError(f"There is no time zone {name!r}.") from None


def _conversation(tables: Tables, row: Row, seen: set[str], skip: Skip, zone: ZoneInfo) -> Conversation:
    app, user, session_id = str(row["app_name"]), str(row["user_id"]), str(row["id"])
    source = f"{app} {user} {session_id}"
    taken = session_id if session_id not in seen else f"{app}:{user}:{session_id}"
    seen.add(session_id)
    found = _Invocations(source, skip)
    for one in _events(tables, {"app_name": app, "user_id": user, "session_id": session_id}, source, skip):
        found.take(one)
    return Conversation(
        source=source,
        session_id=taken,
        user_id=user or None,
        agent=app,
        state=_state(tables, row, app, user),
        metadata={"app_name": app},
        created_us=found.turns[0].started_us if found.turns else _created(row["create_time"], zone),
        turns=found.turns,
        end=found.end,
    )


def _events(tables: Tables, where: dict[str, Any], source: str, skip: Skip) -> list[JsonObject]:
    """The events of a session in the order in which they happened."""
    events: list[JsonObject] = []
    for row in tables.rows("events", ["timestamp", "id"], where):
        event = mapping(decoded(row["event_data"]))
        if not event:
            skip(f"{source}, event {row['id']}", "it is no event")
            continue
        events.append({"id": row["id"], "invocation_id": row["invocation_id"], **event})
    return sorted(events, key=lambda event: seconds(event.get("timestamp")))


def _state(tables: Tables, row: Row, app: str, user: str) -> JsonObject | None:
    """The session's state with those of its user and its app, under the names that tools know them by."""
    state = mapping(decoded(row["state"]))
    for table, prefix, where in (
        ("app_states", "app:", {"app_name": app}),
        ("user_states", "user:", {"app_name": app, "user_id": user}),
    ):
        for one in tables.rows(table, [], where):
            state |= {f"{prefix}{name}": value for name, value in mapping(decoded(one["state"])).items()}
    return state or None


def _created(value: Any, zone: ZoneInfo) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return 0
    if isinstance(value, datetime):
        return round((value if value.tzinfo else value.replace(tzinfo=zone)).timestamp() * 1_000_000)
    return seconds(value)


class _Invocations:
    """The turns of a session, and where going back has left it."""

    def __init__(self, source: str, skip: Skip) -> None:
        self._source, self._skip = source, skip
        self._path: list[int] = []
        self._places: dict[str, int] = {}
        self.turns: list[Turn] = []

    @property
    def end(self) -> int | None:
        """The place of the turn that the session stands at, where it is not the last."""
        at = self._path[-1] if self._path else None
        return None if at is None or at == len(self.turns) - 1 else at

    def take(self, event: JsonObject) -> None:
        """The next event."""
        actions = mapping(event.get("actions"))
        back = actions.get("rewind_before_invocation_id")
        if back:
            place = self._places.get(str(back))
            if place in self._path:
                self._path = self._path[: self._path.index(place)]
            return
        if actions.get("compaction"):
            self._skip(f"{self._source}, event {event['id']}", "it is a summary of earlier events, which are here, too")
            return
        known = str(event["invocation_id"] or event["id"])
        if known not in self._places:
            self._places[known] = len(self.turns)
            before = self._path[-1] if self._path else -1
            after = None if before == len(self.turns) - 1 else before
            self.turns.append(Turn(run_id=known, format=ADK, after=after))
            self._path.append(len(self.turns) - 1)
        _add(self.turns[self._places[known]], event)


def _add(turn: Turn, event: JsonObject) -> None:
    when = seconds(event.get("timestamp"))
    turn.started_us = turn.started_us or when
    turn.ended_us = max(turn.ended_us, when)
    turn.messages.append(event)
    text, parts = _text(event), objects(mapping(event.get("content")).get("parts"))
    if event.get("author") == "user" and text is not None and turn.input is None:
        turn.input = text
    elif event.get("author") != "user":
        turn.agent = turn.agent or str(event.get("author") or "") or None
        turn.output = text
        turn.usage = _used(turn.usage, event, parts)
    status, error = _ended(turn.messages, event)
    turn.status, turn.error = status, error


def _ended(events: Sequence[JsonObject], event: JsonObject) -> tuple[Status, JsonObject | None]:
    """How the turn has ended, if this was its last event: a call that nothing came of is one of a tool that raised."""
    if event.get("error_code") or event.get("error_message"):
        problem = str(event.get("error_message") or event.get("error_code"))
        return "failed", {"type": str(event.get("error_code") or "AdkError"), "message": problem}
    parts = [part for one in events for part in objects(mapping(one.get("content")).get("parts"))]
    asked = [mapping(part.get("function_call")).get("id") for part in parts if part.get("function_call")]
    told = {mapping(part.get("function_response")).get("id") for part in parts if part.get("function_response")}
    if any(call not in told for call in asked):
        return "failed", {"type": "ToolError", "message": "A tool was called and has not answered."}
    return "completed", None


def _text(event: JsonObject) -> str | None:
    parts = objects(mapping(event.get("content")).get("parts"))
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str) and not part.get("thought")]
    return "".join(texts) or None


def _used(before: Usage | None, event: JsonObject, parts: Sequence[JsonObject]) -> Usage | None:
    told = mapping(event.get("usage_metadata"))
    tools = sum("function_response" in part for part in parts)
    if not told and not tools:
        return before
    answered = count(told.get("candidates_token_count")) + count(told.get("thoughts_token_count"))
    cached = count(told.get("cached_content_token_count"))
    used = Usage(int(bool(told)), count(told.get("prompt_token_count")), answered, cached, 0, tools)
    if told:
        priced(used, [cost_of(used, event.get("model_version"), None, seconds(event.get("timestamp")))])
    return used if before is None else before + used
