"""Runs of Agno as entries: what a run has said as its messages, all else of it beside them, and back."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..storage.extending import Core, Entry, Session, Usage, all_entries
from .stored import reads_stored

FORMAT = "openai-agno"
"""Agno's messages have the form of OpenAI's chat completions, with more beside it."""

RUN, DELETED = "agno.run", "agno.deleted"


@dataclass
class Stored:
    """One run as it is stored last."""

    number: int
    run_id: str
    said: dict[str, Any]
    messages: list[dict[str, Any]]

    @reads_stored
    def whole(self) -> dict[str, Any]:
        """The run as Agno gave it."""
        run = dict(self.said)
        if "messages" in run:
            rest = iter(self.messages)
            run["messages"] = [one if one is not None else next(rest) for one in run["messages"]]
        if not all(isinstance(run.get(name) or 0, int | float) for name in ("run_index", "created_at")):
            raise ValueError("its place is no number")
        return run


def parts_of(run: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The run without its own messages, places kept for them, and these messages."""
    if not isinstance(run.get("messages"), list):
        return run, []
    own = [one for one in run["messages"] if _is_own(one)]
    places = [None if _is_own(one) else one for one in run["messages"]]
    return {**run, "messages": places}, own


def _is_own(message: Any) -> bool:
    """Whether a message is the run's own, and no part of a history or of instructions that were sent along."""
    if not isinstance(message, dict) or message.get("from_history"):
        return False
    return message.get("role") in ("user", "assistant", "model", "tool")


@reads_stored
def runs_in(entries: Sequence[Entry]) -> dict[str, Stored]:
    """By their ids, the runs of these entries (in the order of the log) as they were stored last."""
    found: dict[str, Stored] = {}
    current: tuple[int, Stored] | None = None
    for entry in entries:
        if "$erased" in entry.data:
            continue
        if entry.kind == RUN:
            stored = Stored(entry.run or 0, entry.data["run_id"], entry.data["run"], [])
            found[stored.run_id] = stored
            current = (entry.seq, stored)
        elif entry.kind == DELETED:
            found.pop(entry.data["run_id"], None)
        elif entry.kind == "message" and current is not None and current[0] == entry.seq:
            current[1].messages.append(entry.data)
    return found


async def all_runs(core: Core, session: Session) -> list[dict[str, Any]]:
    """All runs of a session, in the order in which they began."""
    entries = await all_entries(core, session)
    return [one.whole() for one in sorted(runs_in(entries).values(), key=lambda one: one.number)]


def plain(value: Any) -> Any:
    """The value as JSON; what has no form there becomes text."""
    return json.loads(json.dumps(value, default=str))


def usage_of(run: dict[str, Any]) -> Usage:
    """What a run has used, as its metrics say."""
    said = run.get("metrics")
    if not isinstance(said, dict):
        return Usage()
    return Usage(
        requests=sum(
            1 for one in run.get("messages") or () if isinstance(one, dict) and one.get("role") == "assistant"
        ),
        input_tokens=int(said.get("input_tokens") or 0),
        output_tokens=int(said.get("output_tokens") or 0),
        cache_read_tokens=int(said.get("cache_read_tokens") or 0),
        cache_write_tokens=int(said.get("cache_write_tokens") or 0),
        cost=said.get("cost"),
    )


def outcome_of(run: dict[str, Any]) -> dict[str, Any]:
    """Status, output and error of a run, as a run of Sessile's has them."""
    status = str(run.get("status") or "COMPLETED").upper()
    content = run.get("content")
    if status == "ERROR":
        return {"status": "failed", "error": {"type": "AgnoError", "message": str(content or "")}}
    if status == "COMPLETED":
        return {"status": "completed", "output": content}
    return {"status": "cancelled"}


def input_of(run: dict[str, Any]) -> Any:
    """What a run was asked."""
    given = run.get("input")
    return given.get("input_content", given) if isinstance(given, dict) else given
