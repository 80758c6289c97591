"""What looking into sessions costs: building the index, catching up, lists, searches and sums over many runs.

Beside each question stands the same one by hand (`insight_by_hand`): the bare statement, and one with all that a user
of the index gets. The factor is to the latter.
"""

from __future__ import annotations

import random
import sqlite3
import string
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import sessile
from sessile import ANY_USER, SqliteStorage
from sessile.insight import Index
from sessile.storage import Storage
from sessile.storage.core import Core
from sessile.storage.extending import operate
from sessile.storage.ids import new_incarnation
from sessile.storage.snapshots import Draft
from sessile.storage.vocabulary import MessageAdded, RunEnded, RunStarted, SessionCreated

from .insight_by_hand import Both, ByHand
from .measure import Stats, interleave, ms, timed
from .tables import Table, verdict

RUNS, IN_SESSION, BYTES = 100_000, 10, 3_000
USERS, AGENTS = 200, 5
BUILD, BUILD_BARE, CATCH_UP, SEARCH, USAGE = 3_000, 15_000, 0.005, 0.020, 0.300
ROUNDS = 30


def words() -> list[str]:
    """A vocabulary; the first words are the common ones."""
    rng = random.Random(1)
    return ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9))) for _ in range(60_000)]


def fill(storage: Storage, runs: int) -> None:
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


SETTLED = 95
"""What has changed within the last minute and a half is looked at by every question: others may still be on the way."""


def run(data: Path, runs: int = RUNS) -> Table:
    """Measure all of it on one file."""
    table = Table(
        f"Looking into {runs:,} runs of {BYTES // 1000} KB, in sessions of {IN_SESSION} (SQLite)",
        ("question", "median ms", "p95 ms", "bare ms", "equal work ms", "factor", "limit", ""),
    )
    path = data / "insight.db"
    with SqliteStorage(path) as storage:
        fill(storage, runs)
        for what, rate, wanted in _rates(storage, runs):
            told = f"building {what}: {rate:,.0f} runs a second"
            table.rows.append((told, *[""] * 5, f"{wanted:,}", verdict(wanted, rate)))
        index = Index(storage)
        size = path.stat().st_size
        just = [timed(partial(index.runs, user_id=ANY_USER)) for _ in range(ROUNDS)]
        _row(table, f"runs: newest 20, when {runs // IN_SESSION:,} sessions have just changed", just, None, SEARCH)
        time.sleep(SETTLED)
        _rows(table, storage, index, path)
        table.notes.append(f"the file has {size / 2**20:,.0f} MB, with the log")
    return table


def _rows(table: Table, storage: SqliteStorage, index: Index, path: Path) -> None:
    def catch_up() -> float:
        storage.add_run("s000000", input="a new question", output="and its answer", user_id="u0", agent="a0")
        return timed(index.update)

    _row(table, "catching up after one run", [catch_up() for _ in range(ROUNDS)], None, CATCH_UP)
    with closing(sqlite3.connect(path)) as db:
        hand = ByHand(db)
        known = words()
        everybody: dict[str, Any] = {"user_id": ANY_USER}
        for name, word in (("common", known[0]), ("rare", known[30_000])):
            asked = f"search: a {name} word"
            ours = partial(index.search, word, **everybody)
            _pair(table, f"{asked}, newest 20, all users", ours, hand.search(word), SEARCH)
            _pair(
                table,
                f"{asked} of one user",
                partial(index.search, word, user_id="u7"),
                hand.search(word, "u7"),
                SEARCH,
            )
        lists: list[tuple[str, dict[str, Any], str]] = [
            ("newest 20", {}, "1 = 1"),
            ("of one user", {"user_id": "u7"}, "user_id = 'u7'"),
            ("of one agent", {"agent": "a3"}, "agent = 'a3'"),
            ("of a status that none has", {"status": "failed"}, "status = 'failed'"),
            ("of one user and one agent", {"user_id": "u7", "agent": "a2"}, "user_id = 'u7' AND agent = 'a2'"),
        ]
        for name, filters, where in lists:
            _pair(table, f"runs: {name}", partial(index.runs, **(everybody | filters)), hand.runs(where), SEARCH)
        _pair(table, "usage: a user's budget", partial(index.usage, user_id="u7"), hand.budget("u7"), SEARCH)
        _pair(table, "usage: by day, all users", partial(index.usage, by="day", **everybody), hand.days(), USAGE)


def building(url: str, name: str, runs: int = RUNS // 5) -> Table:
    """Building the index on a server."""
    table = Table(
        f"Building the index of {runs:,} runs of {BYTES // 1000} KB ({name})", ("", "runs a second", "limit", "")
    )
    with sessile.open(url) as storage:
        fill(storage, runs)
        for what, rate, wanted in _rates(storage, runs):
            table.rows.append((what, f"{rate:,.0f}", f"{wanted:,}", verdict(wanted, rate)))
    return table


def _rates(storage: Storage, runs: int) -> Iterator[tuple[str, float, int]]:
    """How many runs a second are entered into a new index; the one with the text stays."""
    for what, text, wanted in (("without text", False, BUILD_BARE), ("with the text", True, BUILD)):
        with Index(storage, text=text) as index:
            started = time.perf_counter()
            index.rebuild()
            yield what, runs / (time.perf_counter() - started), wanted


def _pair(table: Table, name: str, ours: Callable[[], Any], hand: Both, limit: float) -> None:
    contenders = {"ours": ours, "bare": hand.bare, "equal": hand.equal}
    times = interleave({which: lambda one=one: timed(one) for which, one in contenders.items()}, ROUNDS)
    _row(table, name, times["ours"], (Stats.of(times["bare"]), Stats.of(times["equal"])), limit)


def _row(table: Table, name: str, times: list[float], hand: tuple[Stats, Stats] | None, limit: float) -> None:
    found = Stats.of(times)
    beside = ("", "", "")
    if hand is not None:
        bare, equal = hand
        beside = (ms(bare.median), ms(equal.median), f"{found.median / equal.median:.1f}")
    table.rows.append((name, ms(found.median), ms(found.p95), *beside, ms(limit), verdict(found.median, limit)))
