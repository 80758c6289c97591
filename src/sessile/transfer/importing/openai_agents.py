"""Sessions of the OpenAI Agents SDK: of its SQLite sessions, plain and with branches, and those over SQLAlchemy.

Its rows know no runs: a turn begins where a user speaks after somebody else. What `EncryptedSession` has written is
read with its key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from ...errors import InvalidInputError, missing_dependency
from ...records import Usage
from .building import count
from .conversations import Conversation, Conversations, Skip, Turn
from .databases import Row, Tables, decoded, mapping
from .items import Timed, branched, turn_of
from .sources import shown, tables_of

SESSIONS, MESSAGES, STRUCTURE, USAGE = "agent_sessions", "agent_messages", "message_structure", "turn_usage"
MAIN = "main"
"""The branch that a session begins with."""

Opened = Callable[[dict[str, Any]], dict[str, Any]]


def is_openai_agents(columns: dict[str, dict[str, str]]) -> bool:
    """Whether these are tables of the OpenAI Agents SDK."""
    return "message_data" in columns.get(MESSAGES, {})


def conversations(source: str, skip: Skip, key: str | None) -> Conversations:
    """The sessions of a database. `key` is the one that `EncryptedSession` was given."""
    with closing(tables_of(source)) as tables:
        columns, zone = tables.columns(), ZoneInfo(tables.zone())
        if not is_openai_agents(columns):
            raise InvalidInputError(f"{shown(source)} has no table {MESSAGES!r} of the OpenAI Agents SDK.")
        for row in tables.rows(SESSIONS, ["created_at", "session_id"]):
            session_id = str(row["session_id"])
            items = _items(tables, session_id, skip, key, zone)
            if not items and next(tables.rows(MESSAGES, ["id"], {"session_id": session_id}), None):
                continue  # all of it was left out
            paths = _paths(tables, columns, session_id, items)
            turns = branched(paths, turn_of)
            _add_usage(tables, columns, session_id, turns)
            yield Conversation(
                source=session_id, session_id=session_id, created_us=moment(row["created_at"], zone), turns=turns
            )


def _items(tables: Tables, session_id: str, skip: Skip, key: str | None, zone: tzinfo) -> dict[int, Timed]:
    """The items of a session by the numbers of their rows."""
    found: dict[int, Timed] = {}
    opened = None if key is None else _opener(key, session_id)
    for row in tables.rows(MESSAGES, ["id"], {"session_id": session_id}):
        item = mapping(decoded(row["message_data"]))
        where = f"{session_id}, row {row['id']}"
        if item.get("__enc__") == 1:
            if opened is None:
                skip(where, "it is encrypted, and no key was given")
                continue
            item = opened(item)
            if not item:
                skip(where, "the key does not open it")
                continue
        if not item:
            skip(where, "it is no item")
            continue
        found[int(row["id"])] = (item, moment(row["created_at"], zone), f"{session_id}/{row['id']}")
    return found


def _opener(key: str, session_id: str) -> Opened:
    """What opens the items of a session: Fernet, with a key that HKDF derives from the one that was given."""
    try:
        from cryptography.fernet import Fernet, InvalidToken
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise missing_dependency("cryptography", "encryption", "Reading encrypted sessions") from error
    given = key.encode()
    with suppress(ValueError):
        raw = base64.urlsafe_b64decode(key)
        given = raw if len(raw) == 32 else given
    derived = HKDF(SHA256(), 32, session_id.encode(), b"agents.session-store.hkdf.v1").derive(given)
    fernet = Fernet(base64.urlsafe_b64encode(derived))

    def opened(item: dict[str, Any]) -> dict[str, Any]:
        try:
            return mapping(json.loads(fernet.decrypt(str(item.get("payload")).encode())))
        except (InvalidToken, ValueError):
            return {}

    return opened


def _paths(tables: Tables, columns: Any, session_id: str, items: dict[int, Timed]) -> list[list[Timed]]:
    """The ways through the session: of each branch its items in their order; the main one last."""
    if STRUCTURE not in columns:
        return [list(items.values())]
    branches: dict[str, list[Row]] = {}
    for row in tables.rows(STRUCTURE, ["sequence_number", "id"], {"session_id": session_id}):
        branches.setdefault(str(row["branch_id"]), []).append(row)
    if not branches:
        return [list(items.values())]
    ordered = sorted(branches, key=lambda name: (name == MAIN, branches[name][-1]["id"]))
    return [[items[number] for row in branches[name] if (number := row["message_id"]) in items] for name in ordered]


def _add_usage(tables: Tables, columns: Any, session_id: str, turns: list[Turn]) -> None:
    """What turns have used, where that was kept: by branch and place in it."""
    if USAGE not in columns or STRUCTURE not in columns:
        return
    begun: dict[tuple[str, int], str] = {}
    for row in tables.rows(STRUCTURE, ["sequence_number", "id"], {"session_id": session_id}):
        place = (str(row["branch_id"]), count(row["user_turn_number"]))
        begun.setdefault(place, f"{session_id}/{row['message_id']}")
    by_id = {turn.run_id: turn for turn in turns}
    for row in _usage_rows(tables, session_id):
        turn = by_id.get(begun.get((str(row["branch_id"]), count(row["user_turn_number"])), ""))
        if turn is not None and turn.usage is None:
            details = mapping(decoded(row.get("input_tokens_details")))
            turn.usage = Usage(
                count(row["requests"]),
                count(row["input_tokens"]),
                count(row["output_tokens"]),
                count(details.get("cached_tokens")),
                count(details.get("cache_write_tokens")),
            )


def _usage_rows(tables: Tables, session_id: str) -> Iterator[Row]:
    return tables.rows(USAGE, ["id"], {"session_id": session_id})


def moment(value: Any, zone: tzinfo = UTC) -> int:
    """A column of time as microseconds UTC: in that zone where it says none; 0 for what is none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return 0
    if not isinstance(value, datetime):
        return 0
    aware = value if value.tzinfo is not None else value.replace(tzinfo=zone)
    return round(aware.timestamp() * 1_000_000)
