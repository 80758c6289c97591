"""Statements about several sessions at once: what each row is to have depends on whose row it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ...storage.matching import filter_tokens
from ...storage.rows import Append, CommitRow, HeadRow
from ..sql.base import Parameters
from ..sql.batches import LOADED_CHARS, Load, Rows
from ..sql.statements import put_in
from .statements import SEPARATOR

CHANGED = tuple(name for name in HeadRow._fields if name not in ("session_id", "incarnation", "created_at"))
"""The columns of a head that an append may change, `filterable` beside them."""

COMPARED = frozenset(("session_id", "incarnation", "expected", "was_body", "was_updated_at"))
"""What each session's head is compared with."""


def filterable(metadata: str) -> str:
    """The tokens of all filters that this metadata matches, each followed by a space."""
    return "".join(f"{token} " for token in filter_tokens(metadata))


# ---------------------------------------------------------------- loading


def load_many(sql: str, loads: Sequence[Load]) -> tuple[str, Parameters]:
    """The statement that loads sessions with as many of their newest commits each, and its parameters."""
    newest = max(loads[0].newest, 1)
    numbers = " UNION ALL ".join(("SELECT 0 AS n", *(f"SELECT {number}" for number in range(1, newest))))
    names = [f"session_id_{number}" for number in range(len(loads))]
    parameters: dict[str, Any] = {name: load.session_id for name, load in zip(names, loads, strict=True)}
    words = {"numbers": numbers, "session_ids": ", ".join(f"%({name})s" for name in names)}
    return put_in(sql, words), {**parameters, "share": LOADED_CHARS // newest}


def loaded_many(rows: Rows, loads: Sequence[Load]) -> dict[str, Rows]:
    """By session, the rows that `load` would have brought; without those of which something was too large for it."""
    found: dict[str, Rows] = {load.session_id: [] for load in loads}
    revisions: dict[str, int] = {}
    newest = loads[0].newest
    for session_id, revision, small, body, commit, commit_body in rows:
        mine = found[session_id]
        if small is not None:
            mine.append((small, body))
            revisions[session_id] = revision
        if newest and commit_body is not None:
            mine.append((commit, commit_body))
    for session_id, revision in revisions.items():
        if len(found[session_id]) - 1 != min(newest, revision):  # the log is dense
            del found[session_id]
    return found


# ---------------------------------------------------------------- appending


def append_many(sql: Mapping[str, str], writes: Sequence[Append]) -> tuple[str, Parameters]:
    """The statements that write one commit of each of several sessions, and their parameters.

    They bring one row, with a number that has the bit of each session (the first one's is 1) that has won its race.
    """
    columns = _columns(writes)
    same = {name for name, values in columns.items() if _all_same(values)}
    parameters = {
        f"{name}_{number}": value
        for name, values in columns.items()
        for number, value in enumerate(values[:1] if name in same and name not in COMPARED else values)
    }
    words = {
        "expected": " OR ".join(_expected(number, write) for number, write in enumerate(writes)),
        "bits": " ".join(f"WHEN %(session_id_{number})s THEN {1 << number}" for number in range(len(writes))),
        "won": ", ".join(
            f"IF(@sessile_won & {1 << number}, %(session_id_{number})s, NULL)" for number in range(len(writes))
        ),
        "row": ", ".join(_each(f"log_{name}", len(writes), same) for name in CommitRow._fields),
        "changes": ", ".join(f"{name} = {_each(name, len(writes), same)}" for name in (*CHANGED, "filterable")),
    }
    names = ("hold_many", "log_many", "advance_many", "won")
    return SEPARATOR.join(put_in(sql[name], words) for name in names), parameters


def winners(rows: Rows, writes: Sequence[Append]) -> list[str]:
    """Whose bits are in what `append_many` has brought."""
    won = int(rows[0][0])
    return [write.session_id for number, write in enumerate(writes) if won >> number & 1]


def _columns(writes: Sequence[Append]) -> dict[str, list[Any]]:
    """What is to be written of each session, by column."""
    heads = [write.head for write in writes]
    columns: dict[str, list[Any]] = {
        name: list(values) for name, values in zip(HeadRow._fields, zip(*heads, strict=True), strict=True)
    }
    commits = zip(*(write.commits[0] for write in writes), strict=True)
    columns |= {f"log_{name}": list(values) for name, values in zip(CommitRow._fields, commits, strict=True)}
    columns["filterable"] = [filterable(head.metadata) for head in heads]
    columns["expected"] = [write.expected for write in writes]
    columns["was_body"] = [write.was_body for write in writes]
    columns["was_updated_at"] = [write.was_updated_at for write in writes]
    return columns


def _expected(number: int, write: Append) -> str:
    """Whether the head is the one that a commit is to follow."""
    known = [("session_id", "session_id"), ("incarnation", "incarnation"), ("revision", "expected")]
    if write.was_body is not None:
        known.append(("body", "was_body"))
    if write.was_updated_at is not None:
        known.append(("updated_at", "was_updated_at"))
    return f"({' AND '.join(f'{column} = %({name}_{number})s' for column, name in known)})"


def _all_same(values: list[Any]) -> bool:
    return values.count(values[0]) == len(values) and len(set(map(type, values))) == 1  # 1 is not true


def _each(name: str, count: int, same: Collection[str]) -> str:
    """The value of a column for the session of the row at hand; what is the same for all needs no looking up."""
    if name in same:
        return f"%({name}_0)s"
    cases = " ".join(f"WHEN %(session_id_{number})s THEN %({name}_{number})s" for number in range(count))
    return f"CASE session_id {cases} END"
