"""What looking into sessions costs: building the index, catching up, lists, searches and sums over many runs.

Beside each question stands the same one as a statement of SQLite's own, on the same tables, without a look whether the
index is up to date, and without reading the log.
"""

from __future__ import annotations

import random
import sqlite3
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sessile import ANY_USER, SqliteStorage
from sessile.insight import Index
from sessile.storage.core import Core
from sessile.storage.extending import operate
from sessile.storage.ids import new_incarnation
from sessile.storage.snapshots import Draft
from sessile.storage.vocabulary import MessageAdded, RunEnded, RunStarted, SessionCreated
from sessile.tokens import term, user_term

from .measure import Stats, interleave, ms, timed
from .tables import Table, verdict

RUNS, IN_SESSION, BYTES = 100_000, 10, 3_000
USERS, AGENTS = 200, 5
BUILD, CATCH_UP, SEARCH, USAGE = 3_000, 0.005, 0.020, 0.300
ROUNDS = 30


def words() -> list[str]:
    """A vocabulary; the first words are the common ones."""
    rng = random.Random(1)
    return ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9))) for _ in range(60_000)]


def fill(storage: SqliteStorage, runs: int) -> None:
    """Runs of 3 KB, in sessions of ten, of users and agents."""
    rng, known = random.Random(2), words()
    weights = [1 / (rank + 10) for rank in range(len(known))]
    text = rng.choices(known, weights, k=200_000)
    for number in range(runs // IN_SESSION):
        operate(storage, _session, f"s{number:06}", f"u{number % USERS}", f"a{number % AGENTS}", text, rng)


async def _session(core: Core, session_id: str, user: str, agent: str, text: list[str], rng: random.Random) -> None:
    await core.prepare(core.deadline())
    created = SessionCreated(
        session_id=session_id, kind="agent", agent=agent, user_id=user, incarnation=new_incarnation()
    )
    drafts = [Draft([created.entry()])]
    for number in range(1, IN_SESSION + 1):
        common = (f"{session_id}-{number}", number, None, agent)
        start = rng.randrange(len(text) - 600)
        question, answer = " ".join(text[start : start + 40]), " ".join(text[start + 40 : start + 470])
        usage = {"input_tokens": 900, "output_tokens": 300, "cost": "0.0021"}
        said = [
            {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": question}]},
            {
                "kind": "response",
                "model_name": f"m{number % 3}",
                "usage": usage,
                "parts": [{"part_kind": "text", "content": answer}],
            },
        ]
        counts = {"requests": 1, "input_tokens": 900, "output_tokens": 300, "cost": 2_100_000, "unpriced": 0}
        drafts.append(
            Draft(
                [
                    RunStarted(input=question).entry(*common),
                    *(MessageAdded(one).entry(*common, format="pydantic-ai/2") for one in said),
                    RunEnded(status="completed", output=answer, usage=counts).entry(*common),
                ],
                number,
            )
        )
    await core.append_batch(None, session_id, drafts, core.deadline())


def run(data: Path, runs: int = RUNS) -> Table:
    """Measure all of it on one file."""
    table = Table(
        f"Looking into {runs:,} runs of {BYTES // 1000} KB, in sessions of {IN_SESSION} (SQLite)",
        ("question", "median ms", "p95 ms", "by hand ms", "limit", ""),
    )
    path = data / "insight.db"
    with SqliteStorage(path) as storage:
        fill(storage, runs)
        index = Index(storage)
        started = time.perf_counter()
        index.update()
        rate = runs / (time.perf_counter() - started)
        table.rows.append((f"building: {rate:,.0f} runs a second", "", "", "", f"{BUILD:,}", verdict(BUILD, rate)))
        size = path.stat().st_size
        time.sleep(0.1)
        _rows(table, storage, index, path)
        table.notes.append(f"the file has {size / 2**20:,.0f} MB, with the log")
    return table


def _rows(table: Table, storage: SqliteStorage, index: Index, path: Path) -> None:
    def catch_up() -> float:
        storage.add_run("s000000", input="a new question", output="and its answer", user_id="u0", agent="a0")
        return timed(index.update)

    _row(table, "catching up after one run", [catch_up() for _ in range(ROUNDS)], None, CATCH_UP)
    with sqlite3.connect(path) as by_hand:
        known = words()
        whose = user_term("u7")
        for name, word in (("common", known[0]), ("rare", known[30_000])):
            match = f"SELECT rowid FROM sessile_index_text WHERE sessile_index_text MATCH '{term(word)}"
            newest = "' ORDER BY rowid DESC LIMIT 20"
            _pair(
                table,
                f"search: a {name} word, newest 20, all users",
                lambda word=word: index.search(word, user_id=ANY_USER),
                lambda sql=match + newest: by_hand.execute(sql).fetchall(),
                SEARCH,
            )
            _pair(
                table,
                f"search: a {name} word of one user",
                lambda word=word: index.search(word, user_id="u7"),
                lambda sql=f"{match} AND {whose}{newest}": by_hand.execute(sql).fetchall(),
                SEARCH,
            )
        lists: list[tuple[str, dict[str, Any], str]] = [
            ("runs: newest 20", {}, "1 = 1"),
            ("runs: of one user", {"user_id": "u7"}, "user_id = 'u7'"),
            ("runs: of one agent", {"agent": "a3"}, "agent = 'a3'"),
            ("runs: of a status that none has", {"status": "failed"}, "status = 'failed'"),
            ("runs: of one user and one agent", {"user_id": "u7", "agent": "a2"}, "user_id = 'u7' AND agent = 'a2'"),
        ]
        for name, filters, where in lists:
            sql = f"SELECT * FROM sessile_index_runs WHERE {where} AND number > 0 ORDER BY id DESC LIMIT 20"
            asked = {"user_id": ANY_USER, **filters}
            _pair(
                table,
                name,
                lambda asked=asked: index.runs(**asked),
                lambda sql=sql: by_hand.execute(sql).fetchall(),
                SEARCH,
            )
        total = "SELECT SUM(cost) FROM sessile_index_runs WHERE user_id = 'u7'"
        _pair(
            table,
            "usage: a user's budget",
            lambda: index.usage(user_id="u7"),
            lambda: by_hand.execute(total).fetchall(),
            SEARCH,
        )
        days = "SELECT started_at / 86400000000, SUM(cost), SUM(input_tokens) FROM sessile_index_runs GROUP BY 1"
        _pair(
            table,
            "usage: by day, all users",
            lambda: index.usage(user_id=ANY_USER, by="day"),
            lambda: by_hand.execute(days).fetchall(),
            USAGE,
        )


def _pair(table: Table, name: str, ours: Callable[[], Any], by_hand: Callable[[], Any], limit: float) -> None:
    times = interleave({"ours": lambda: timed(ours), "by hand": lambda: timed(by_hand)}, ROUNDS)
    _row(table, name, times["ours"], Stats.of(times["by hand"]), limit)


def _row(table: Table, name: str, times: list[float], floor: Stats | None, limit: float) -> None:
    found = Stats.of(times)
    beside = "" if floor is None else ms(floor.median)
    table.rows.append((name, ms(found.median), ms(found.p95), beside, ms(limit), verdict(found.median, limit)))
