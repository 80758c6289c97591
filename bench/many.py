"""A database with very many sessions, for what is measured there: lists, sums, searches.

The library writes a thousand sessions and their index. They are multiplied by statements, with other ids and times, so
that each row is as the library writes it. Their logs and words are left out where only lists and sums are asked for,
which do not read them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sessile import ANY_USER
from sessile.insight import Index
from sessile.insight.engines import unpack
from sessile.insight.lots import batches
from sessile.insight.place import Place
from sessile.insight.postings import COLUMNS, facet
from sessile.insight.spans import HOUR, HOURS, TICK, larger
from sessile.storage import Storage
from sessile.storage.core import Core
from sessile.storage.driver import RunStatement
from sessile.storage.extending import operate
from sessile.storage.ids import new_incarnation
from sessile.storage.snapshots import Draft
from sessile.storage.vocabulary import MessageAdded, RunEnded, RunStarted, SessionCreated

SEEDS = 1000
"""How many sessions the library writes."""

YEAR = 365 * 24 * HOUR

STATUSES = ("failed", "paused", "interrupted", "cancelled")


@dataclass(frozen=True)
class Seed:
    """What one of the sessions has. The first ones are rare; of what `big` has there is very much."""

    session_id: str
    kind: str
    agent: str
    user: str
    name: str
    status: str
    metadata: dict[str, Any]
    score: float | None
    tool: str | None
    cost: int


def seed(number: int, rng: random.Random) -> Seed:
    """A session: one of twelve agents, of a hundred users or a large one, most of them completed."""
    rare = number == 7
    return Seed(
        session_id=f"s{number:04}",
        kind="workflow" if rare else "team" if number % 12 == 0 else "agent",
        agent="rare" if rare else f"a{min(11, int(rng.expovariate(0.4)))}",
        user="rare" if rare else "big" if number % 10 == 0 else f"u{rng.randrange(100)}",
        name="Zebra" if rare else f"{rng.choice(['Order', 'Refund', 'Question', 'Delivery', 'Other'])} {number}",
        status=STATUSES[number % 4] if number % 25 == 3 else "completed",
        metadata={"tier": "rare" if rare else rng.choice(["gold", "silver", "none"]), "n": number},
        score=None if number % 10 else rng.choice([0.0, 1.0]),
        tool="rare" if rare else rng.choice([None, None, "look_up", "refund"]),
        cost=rng.randrange(100_000, 5_000_000),
    )


async def _write(core: Core, one: Seed) -> None:
    await core.prepare(core.deadline())
    created = SessionCreated(
        session_id=one.session_id,
        kind=one.kind,
        agent=one.agent,
        user_id=one.user,
        name=one.name,
        metadata=one.metadata,
        incarnation=new_incarnation(),
    )
    common = (f"{one.session_id}-1", 1, None, one.agent)
    usage = {"input_tokens": 900, "output_tokens": 300, "cost": f"{one.cost / 1e9:.9f}"}
    parts: list[dict[str, Any]] = [{"part_kind": "text", "content": f"The answer to {one.name}."}]
    if one.tool is not None:
        parts.append({"part_kind": "tool-call", "tool_name": one.tool, "args": {}, "tool_call_id": "c1"})
    said = {"kind": "response", "model_name": f"m{one.cost % 3}", "usage": usage, "parts": parts}
    counts = {"requests": 1, "input_tokens": 900, "output_tokens": 300, "cost": one.cost, "unpriced": 0}
    ended: dict[str, Any] = {"error": {"type": "ValueError", "message": "no"}} if one.status == "failed" else {}
    entries = [
        RunStarted(input=one.name).entry(*common),
        MessageAdded(said).entry(*common, format="pydantic-ai/2"),
        RunEnded(status=one.status, output="answered", usage=counts, **ended).entry(*common),
    ]
    await core.append_batch(None, one.session_id, [Draft([created.entry()]), Draft(entries, 1)], core.deadline())


def fill(storage: Storage, index: Index, sessions: int, *, whole: bool = False) -> Place:
    """Very many sessions of one run each, over a year, and their index; returns where that lies.

    `whole`: with their logs and words (SQLite alone), so that they can be searched and opened.
    """
    rng = random.Random(3)
    for number in range(SEEDS):
        one = seed(number, rng)
        operate(storage, _write, one)
        if one.score is not None:
            storage.rate(one.session_id, 1, score=one.score, label="good" if one.score else "bad", user_id=one.user)
    index.runs(user_id=ANY_USER)
    place = index._place  # pyright: ignore[reportPrivateUsage] (its tables are multiplied here)
    multiplying = _Multiplying(place, sessions // SEEDS - 1)
    multiplying.run()
    if whole:
        multiplying.logs_and_words()
    return place


class _Multiplying:
    """Copies of what is there, each some hours older than the one before."""

    def __init__(self, place: Place, copies: int) -> None:
        self._place, self._copies = place, copies
        dialect = place.engine.dialect
        self._mysql = dialect == "mysql"
        step = max(TICK, YEAR // max(1, copies) // TICK * TICK)
        self._back = f"(c * {step} + s.id * {step // SEEDS // TICK * TICK})"

    def _joined(self, *texts: str) -> str:
        return f"CONCAT({', '.join(texts)})" if self._mysql else " || ".join(texts)

    def run(self) -> None:
        copy = "CAST(c AS CHAR)" if self._mysql else "CAST(c AS TEXT)"
        tenth = self._place.engine.steps("c", 20)
        tenth = f"CAST({tenth} AS {'CHAR' if self._mysql else 'TEXT'})"
        back, ticks = self._back, self._place.engine.steps(self._back, TICK)
        other = self._joined("t.user_id", "'-'", tenth)
        named = {
            "session_id": self._joined("t.session_id", "'-'", copy),
            "user_id": f"CASE WHEN t.user_id = 'big' THEN 'big' ELSE {other} END",
        }
        named["incarnation"] = "t.incarnation"
        times = {
            name: f"t.{name} - {back}" for name in ("created_at", "updated_at", "started_at", "ended_at", "rated_at")
        }
        numbers = {"id": f"t.id - {ticks}", "run": f"t.run - {ticks}", "session": f"t.session + c * {SEEDS}"}
        run_of = "JOIN {runs} r ON r.id = t.run JOIN {sessions} s ON s.id = r.session"
        self._copy("heads", {**named, **times}, "JOIN {sessions} s ON s.session_id = t.session_id")
        self._copy("ratings", {**times, **numbers}, run_of)
        self._copy("tools", numbers, run_of)
        self._copy("models", numbers, run_of)
        run_id = (
            f"CASE WHEN t.number = 0 THEN t.run_id ELSE {self._joined('t.run_id', chr(39) + '-' + chr(39), copy)} END"
        )
        took = "(t.session * 7919 + c * 104729) % 600000 * 1000"
        lasted = {
            "ended_at": f"CASE WHEN t.number = 0 THEN t.ended_at ELSE t.started_at + {took} END - {back}",
            "duration": f"CASE WHEN t.number = 0 THEN t.duration ELSE {took} END",
        }
        self._copy(
            "runs", {**named, **times, **numbers, **lasted, "run_id": run_id}, "JOIN {sessions} s ON s.id = t.session"
        )
        self._copy("sessions", {**named, **times, "id": f"t.id + c * {SEEDS}"}, "JOIN {sessions} s ON s.id = t.id")
        self._facets()
        self._spans()
        analyze = {
            "postgres": "ANALYZE",
            "mysql": "ANALYZE TABLE {heads}, {runs}, {sessions}, {facets}, {models}, {tools}, {ratings}",
        }
        if (sql := analyze.get(self._place.engine.dialect)) is not None:  # servers do it by themselves, SQLite does not
            self._place.change(lambda run: run(self._place.sql(sql), {}))

    def logs_and_words(self) -> None:
        """What the copies have said: their logs, and the words by which they are found."""
        log = self._place.tables["heads"].replace("_sessions", "_commits")
        session_id = self._joined("t.session_id", "'-'", "CAST(c AS TEXT)")
        values = {"session_id": session_id, "time": f"t.time - {self._back}"}
        # The thousand of one copy after the other, as a program would have written them.
        self._copy(log, values, "JOIN {sessions} s ON s.session_id = t.session_id", order="c, s.id, t.seq")
        packed = self._place.read("SELECT run, words FROM {words}")
        bodies = [(run, unpack(words).terms) for run, words in packed]
        ticks = self._place.engine.steps(self._back, TICK)
        joins = "CROSS JOIN n JOIN {runs} r ON r.id = t.run JOIN {sessions} s ON s.id = r.session"

        async def work(run: RunStatement) -> None:
            await run("CREATE TEMPORARY TABLE said (run INTEGER PRIMARY KEY, body TEXT)", {})
            await self._place.engine.insert(run, "said", ("run", "body"), bodies)
            counting = f"WITH RECURSIVE n(c) AS (SELECT 1 UNION ALL SELECT c + 1 FROM n WHERE c < {self._copies})"
            sql = f"{counting} INSERT INTO {{text}} (rowid, body) SELECT t.run - {ticks}, t.body FROM said t {joins}"
            await run(self._place.sql(f"{sql} ORDER BY 1"), {})
            await run("DROP TABLE said", {})

        self._place.change(work)
        self._copy(
            "words", {"run": f"t.run - {ticks}"}, "JOIN {runs} r ON r.id = t.run JOIN {sessions} s ON s.id = r.session"
        )

    def _columns(self, table: str) -> Sequence[str]:
        name = self._place.tables.get(table, table).strip('`"')
        if self._place.engine.dialect == "sqlite":
            return [row[1] for row in self._place.read(f"PRAGMA table_info({name})")]
        name = name.rpartition(".")[2].strip('`"')
        schema = "DATABASE()" if self._mysql else "current_schema()"
        sql = f"SELECT column_name FROM information_schema.columns WHERE table_schema = {schema} AND table_name = :name"
        return [row[0] for row in self._place.read(sql, {"name": name})]

    def _copy(self, table: str, changed: dict[str, str], joins: str, *, order: str = "c DESC") -> None:
        columns = self._columns(table)
        selected = ", ".join(changed.get(column, f"t.{column}") for column in columns)
        counting = f"WITH RECURSIVE n(c) AS (SELECT 1 UNION ALL SELECT c + 1 FROM n WHERE c < {self._copies})"
        named = f"{{{table}}}" if table in self._place.tables else table
        select = f"SELECT {selected} FROM {named} t {joins} CROSS JOIN n ORDER BY {order}"
        into = f"INSERT INTO {named} ({', '.join(columns)})"
        whole = f"{into} {counting} {select}" if self._mysql else f"{counting} {into} {select}"

        async def work(run: RunStatement) -> None:
            await run(self._place.sql(whole), {})

        self._place.change(work)

    def _facets(self) -> None:
        """The facets of all sessions, from their columns; those of users are other ones than their seeds have."""
        read = self._place.read
        users = [row[0] for row in read("SELECT DISTINCT user_id FROM {sessions}")]
        tokens = [(row[0], int(one)) for row in read(f"SELECT id, tokens FROM {{sessions}} WHERE id <= {SEEDS}")
                  for one in json.loads(row[1])]  # fmt: skip
        seed = f"s.id - {self._place.engine.steps('(s.id - 1)', SEEDS)} * {SEEDS}"
        pairs = [f"s.{one} + 3 * s.{other}" for one, other in combinations(COLUMNS, 2)]
        into = "INSERT INTO {facets} (facet, updated_at, session, name_number)"

        async def work(run: RunStatement) -> None:
            async def tell(sql: str) -> None:
                await run(self._place.sql(sql), {})

            table = "users_of_facets"
            copied = "SELECT DISTINCT user_id, user_facet AS facet FROM {sessions}"  # with its types and collations
            await tell(f"CREATE TEMPORARY TABLE {table} AS {copied}")
            await tell(f"CREATE INDEX {table}_user ON {table} (user_id)")
            for one in users:
                values = {"facet": facet("user", one), "user_id": one}
                await run(f"UPDATE {table} SET facet = :facet WHERE user_id = :user_id", values)
            own = f"(SELECT facet FROM {table} WHERE {table}.user_id = {{sessions}}.user_id)"
            await tell(f"UPDATE {{sessions}} SET user_facet = {own}")
            await tell(f"DROP {'TEMPORARY ' if self._mysql else ''}TABLE {table}")
            table = "tokens_of_facets"
            await tell(f"CREATE TEMPORARY TABLE {table} (seed BIGINT, token BIGINT, PRIMARY KEY (seed, token))")
            await self._place.engine.insert(run, table, ("seed", "token"), tokens)
            await tell("DELETE FROM {facets}")
            for one in [*(f"s.{name}" for name in COLUMNS), *pairs]:
                await tell(f"{into} SELECT {one}, s.updated_at, s.id, s.name_number FROM {{sessions}} s ORDER BY 1, 2")
            for one in ["t.token", *(f"s.{name} + 3 * t.token" for name in COLUMNS)]:
                source = f"FROM {{sessions}} s JOIN {table} t ON t.seed = {seed}"
                await tell(f"{into} SELECT {one}, s.updated_at, s.id, s.name_number {source} ORDER BY 1, 2")
            await tell(f"DROP {'TEMPORARY ' if self._mysql else ''}TABLE {table}")

        self._place.change(work)

    def _spans(self) -> None:
        hours = self._place.read(f"SELECT DISTINCT {self._place.engine.steps('started_at', HOUR)} FROM {{runs}}")
        known = {row[0] for row in self._place.read("SELECT block FROM {spans}")}
        blocks = {block for (hour,) in hours for block in (int(hour), larger(int(hour)))} - known

        async def work(run: RunStatement) -> None:
            for some in batches(sorted(blocks), HOURS * 20):
                rows = ", ".join(f"({block}, 1, 0)" for block in some)
                await run(self._place.sql(f"INSERT INTO {{spans}} (block, changed, summed) VALUES {rows}"), {})

        self._place.change(work)
