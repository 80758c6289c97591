"""The log of a conversation of Pydantic AI's store: its entries, whose messages they are, and how they are linked."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false
# (What is taken apart here is JSON of another library's, of which no type is known.)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..storage.extending import Entry, Session
from .stored import reads_stored

FORMAT = "pydantic-ai/2"
ENTRIES = "pydantic-ai.entries"


@dataclass
class Logged:
    """One entry of the store.

    Attributes:
        id, parent: the entry's, and that of the one before it; of messages that others have added, made up.
        message: the message as JSON.
        run: the number of the run that it is in.
        is_last: whether it is the last message of its run.
    """

    id: str
    parent: str | None
    message: Any
    run: int
    is_last: bool = False


@reads_stored
def logged(entries: Sequence[Entry], head: Session, *, whole: bool) -> list[Logged]:
    """What entries of the log hold, in its order.

    Messages that others have added to the current branch follow each other and what was there, if `whole`: these are
    all entries.
    """
    found: list[Logged] = []
    last: str | None = None
    for _, group in groupby(entries, key=lambda entry: entry.seq):
        commit = list(group)
        said = [one for one in commit if one.kind == "message" and one.parent_run_id is None and one.run]
        if not said:
            continue
        links = next((one.data for one in commit if one.kind == ENTRIES), None)
        number = said[0].run or 0
        here = head.on_path(number)
        if links is not None:
            own = said[links["copied"] :]
            linked = zip(links["entries"], own, strict=False)
            made = [Logged(entry_id, parent, one.data, number) for (entry_id, parent), one in linked]
        elif whole and here and number not in head.open_runs and said[0].format == FORMAT:
            made = list[Logged]()
            for place, one in enumerate(said):
                before = made[-1].id if made else last
                made.append(Logged(f"sessile:{head.incarnation}:{one.seq}:{place}", before, one.data, number))
        else:
            continue
        if made:
            if found and found[-1].run == number:
                found[-1].is_last = False
            made[-1].is_last = True
            found += made
            last = made[-1].id if here else last
    return found


@reads_stored
def line_of(found: Sequence[Logged], head_id: str | None) -> list[Logged]:
    """The entries that lead to one, oldest first, as far as they are there; to the newest if `head_id` is None."""
    by_id = {one.id: one for one in found}
    if head_id is None:
        head_id = found[-1].id if found else None
    line: list[Logged] = []
    while head_id is not None and head_id in by_id:
        line.append(by_id.pop(head_id))
        head_id = line[-1].parent
    if any(one.id == head_id for one in line):
        raise ValueError("entries follow each other in a circle")
    line.reverse()
    return line


def words_of(messages: Sequence[Any]) -> tuple[str | None, str | None]:
    """What was asked first, and what was answered last, in words."""
    asked = [_text(one, "user-prompt") for one in messages if one.get("kind") == "request"]
    said = [_text(one, "text") for one in messages if one.get("kind") == "response"]
    return next(filter(None, asked), None), next(filter(None, reversed(said)), None)


def _text(message: Any, kind: str) -> str:
    parts = [part.get("content") for part in message.get("parts") or () if part.get("part_kind") == kind]
    said = [word for part in parts for word in (part if isinstance(part, list) else [part])]  # a list: with pictures
    return "\n".join(word for word in said if isinstance(word, str))
