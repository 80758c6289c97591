"""The questions of an index as somebody would write them for SQLite, on the same tables.

Each twice: the bare statement, which brings rows; and all that a user of the index gets, written for this one question:
what is known of each run, its ratings and tools, whether its session is still there, and snippets out of the stored
messages. Neither looks whether the index is up to date, nor for what cannot be read.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from sessile.insight.facts import COUNTED
from sessile.tokens import term, user_term

AROUND = 60

RUN = """r.id, s.session_id, s.name, s.incarnation, r.number, r.run_id, r.parent_run_id, r.agent, r.user_id, r.model,
    r.status, r.error, r.started_at, r.ended_at, r.first_token, r.on_branch, r.requests, r.input_tokens,
    r.output_tokens, r.cache_read_tokens, r.cache_write_tokens, r.tool_calls, r.cost, r.unpriced, r.total_tokens,
    r.total_cost, r.total_unpriced"""

ALIVE = """CROSS JOIN sessile_index_sessions s ON s.id = r.session
    CROSS JOIN sessile_sessions h ON h.session_id = s.session_id AND h.incarnation = s.incarnation AND NOT h.hidden
    AND (h.expires_at IS NULL OR h.expires_at > 0)"""

SUMS = ", ".join(["COUNT(*)", "SUM(status = 'failed')", *(f"SUM({name})" for name in COUNTED)])


class Both(NamedTuple):
    """A question: the bare statement, and equal work."""

    bare: Callable[[], Any]
    equal: Callable[[], Any]


class ByHand:
    """The questions."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def _all(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    def _runs(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """The runs with their ratings and tools."""
        names = [one.strip().partition(".")[2] for one in RUN.split(",")]
        found = {row[0]: dict(zip(names, row, strict=True)) for row in rows}
        for run in found.values():
            run["ratings"], run["tools"] = {}, {}
        ids = ", ".join("?" * len(found))
        sql = f"SELECT run, source, score, label, by_whom, rated_at FROM sessile_index_ratings WHERE run IN ({ids})"
        for run, source, *rating in self._all(sql, list(found)):
            found[run]["ratings"][source] = rating
        for run, tool, calls in self._all(
            f"SELECT run, tool, calls FROM sessile_index_tools WHERE run IN ({ids})", list(found)
        ):
            found[run]["tools"][tool] = calls
        return list(found.values())

    def search(self, word: str, user: str | None = None) -> Both:
        """The newest 20 runs with a word, of all users or of one."""
        match = term(word) if user is None else f"{term(word)} AND {user_term(user)}"
        place = re.compile(rf"\b{word}\b", re.IGNORECASE)

        def equal() -> list[dict[str, Any]]:
            sql = f"""SELECT {RUN} FROM sessile_index_text t CROSS JOIN sessile_index_runs r ON r.id = t.rowid {ALIVE}
                WHERE sessile_index_text MATCH ? ORDER BY t.rowid DESC LIMIT 20"""
            runs = self._runs(self._all(sql, (match,)))
            for run in runs:
                run["snippets"] = self._snippets(run, place)
            return runs

        sql = "SELECT rowid FROM sessile_index_text WHERE sessile_index_text MATCH ? ORDER BY rowid DESC LIMIT 20"
        return Both(lambda: self._all(sql, (match,)), equal)

    def _snippets(self, run: dict[str, Any], place: re.Pattern[str]) -> list[tuple[str, str, int, int]]:
        """Where the word stands in a run, with some words around it."""
        sql = """SELECT body FROM sessile_commits INDEXED BY sessile_commits_run
            WHERE session_id = ? AND incarnation = ? AND run > 0 AND run = ? ORDER BY seq"""
        for (body,) in self._all(sql, (run["session_id"], run["incarnation"], run["number"])):
            for entry in json.loads(body)["entries"]:
                for where, text in _texts(entry):
                    if (found := place.search(text)) is not None:
                        begin = max(0, found.start() - AROUND)
                        return [(where, text[begin : found.end() + AROUND], found.start() - begin, found.end() - begin)]
        return []

    def runs(self, where: str) -> Both:
        """The newest 20 runs of which something holds."""
        bare = f"SELECT * FROM sessile_index_runs WHERE {where} AND number > 0 ORDER BY id DESC LIMIT 20"
        ids = f"SELECT id FROM sessile_index_runs WHERE {where} AND number > 0 AND parent_run_id IS NULL"
        sql = f"""SELECT {RUN} FROM ({ids} ORDER BY id DESC LIMIT 20) p
            CROSS JOIN sessile_index_runs r ON r.id = p.id {ALIVE} ORDER BY r.id DESC"""
        return Both(lambda: self._all(bare), lambda: self._runs(self._all(sql)))

    def budget(self, user: str) -> Both:
        """What a user has used: the cost alone, or all counts and how long runs took."""
        bare = "SELECT SUM(cost) FROM sessile_index_runs WHERE user_id = ?"
        of_user = "FROM sessile_index_runs WHERE user_id = ? AND number > 0"

        def equal() -> tuple[Any, ...]:
            (sums,) = self._all(f"SELECT {SUMS} {of_user}", (user,))
            took = self._all(f"SELECT duration, first_token {of_user} AND duration IS NOT NULL", (user,))
            first = [one for _, one in took if one is not None]
            return sums, _percentiles([one for one, _ in took]), _percentiles(first)

        return Both(lambda: self._all(bare, (user,)), equal)

    def days(self) -> Both:
        """What was used by day: cost and tokens, or all counts and how long runs took."""
        bare = "SELECT started_at / 86400000000, SUM(cost), SUM(input_tokens) FROM sessile_index_runs GROUP BY 1"
        day = "SELECT started_at / 86400000000"

        def equal() -> list[tuple[Any, ...]]:
            took: defaultdict[int, list[int]] = defaultdict(list)
            for when, duration in self._all(f"{day}, duration FROM sessile_index_runs WHERE duration IS NOT NULL"):
                took[when].append(duration)
            sums = self._all(f"{day}, {SUMS} FROM sessile_index_runs WHERE number > 0 GROUP BY 1")
            return [(*row, _percentiles(took[row[0]])) for row in sums]

        return Both(lambda: self._all(bare), equal)


def _texts(entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    data = entry["data"]
    for where in ("input", "output"):
        if isinstance(data.get(where), str):
            yield where, data[where]
    for part in data.get("parts", ()):
        if isinstance(part.get("content"), str):
            yield "input" if part["part_kind"] == "user-prompt" else "output", part["content"]


def _percentiles(values: list[int]) -> list[int]:
    values.sort()
    return [values[min(len(values) - 1, int(share * len(values)))] for share in (0.5, 0.95, 0.99)] if values else []
