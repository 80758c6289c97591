"""Turns on a database server, next to a floor through the same client library: one after the other, and 64 at once.

Two turns are measured. An agent's (`durability="exit"`) reads once and commits once. `get_session` and `add_run`, for
code that has no agent, read twice: `add_run` does not know what its caller has loaded. The floor makes as many round
trips. Blocking contenders are compared with the blocking floor, asynchronous ones with the asynchronous.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pydantic_core  # noqa: F401  # pyright: ignore[reportUnusedImport] (it is in every process that runs agents)
from tests.servers import (
    DynoxideServer,
    MariaDbServer,
    PostgresServer,
    RedisServer,
    ServerFailedError,
    ServerMissingError,
)

from sessile import MemoryStorage
from sessile.records import Usage
from sessile.storage import turns
from sessile.storage.core import Core
from sessile.storage.driver import Append, Span
from sessile.storage.extending import aoperate, operate
from sessile.storage.ids import uuid7
from sessile.storage.storage import Storage
from sessile.storage.vocabulary import MessageAdded, RunEnded

from .capacity import capacity
from .dynamodb import REGION, AsyncDynamoDbFloor, DynamoDbFloor, DynamoDbInspector
from .mariadb import AsyncMariaDbFloor, MariaDbFloor, MariaDbInspector
from .measure import Stats, interleave, ms, timed
from .mongodb import AsyncMongoDbFloor, MongoDbFloor, MongoDbInspector, MongoDbServer
from .payload import Exchange, exchange, messages
from .postgres import AsyncPostgresFloor, PostgresFloor, PostgresInspector
from .processor import Spent, lowest_fifth, spent
from .redis import AsyncRedisFloor, RedisFloor, RedisInspector
from .sizes import Calibration, Written, calibration, padding_for
from .tables import Table, verdict
from .turn import AGENT, BATCH, FORMAT, GROWTH_LIMIT, USER, Medians, Pool, add, turn_async, turn_sync

CONNECTIONS = 10
SESSIONS = 64
TURNS_AT_ONCE = 3
FILLED_AT_ONCE = 200

Padding = tuple[int, int]


class BlockingFloor(Protocol):
    """A floor for threads; `quick`: see `Encoder`."""

    quick: bool

    def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None: ...
    def fill(self, session_id: str, runs: int) -> None: ...
    def close(self) -> None: ...


class AsyncFloor(Protocol):
    """A floor for the tasks of one event loop."""

    quick: bool

    async def turn(self, session_id: str, turn: Exchange, reads: int = 1) -> None: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Engine:
    """A database server, and all that is measured on it."""

    name: str
    server: Callable[[], AbstractContextManager[Any]]
    storage: Callable[[str], Storage]
    inspector: Callable[[str], Any]
    floor: Callable[[str, Padding, int], BlockingFloor]
    async_floor: Callable[[str, Padding, int], Awaitable[AsyncFloor]]
    more: Callable[[str, Sequence[int]], list[Table]] = lambda url, sizes: []
    """What is measured there alone."""
    sync: float = 1.5
    asynchronous: float = 1.5
    """How many times as long as the floor's a turn may take, by the face."""
    together: float = 0.7
    """How much of the floor's throughput many sessions at once shall have."""

    def wanted(self, face: str) -> float:
        """The limit of a turn's time."""
        return self.sync if face == "sync" else self.asynchronous


def postgres_storage(url: str) -> Storage:
    """With the pool that the floor has."""
    from sessile import PostgresStorage

    return PostgresStorage(url, pool_size=CONNECTIONS)


def mariadb_storage(url: str) -> Storage:
    """With the pool that the floor has."""
    from sessile import MySQLStorage

    return MySQLStorage(url, pool_size=CONNECTIONS)


def redis_storage(url: str) -> Storage:
    """With the pool that the floor has."""
    from sessile import RedisStorage

    return RedisStorage(url, pool_size=CONNECTIONS)


def dynamodb_storage(url: str) -> Storage:
    """With as many connections as the floor."""
    from sessile import DynamoDbStorage

    return DynamoDbStorage(region=REGION, endpoint=url, pool_size=CONNECTIONS)


def mongodb_storage(url: str) -> Storage:
    """With the pool that the floor has."""
    from sessile import MongoDbStorage

    return MongoDbStorage(f"{url}?maxPoolSize={CONNECTIONS}")


POSTGRES = Engine(
    "PostgreSQL",
    PostgresServer,
    postgres_storage,
    PostgresInspector,
    PostgresFloor,
    AsyncPostgresFloor.open,
    sync=1.25,
    asynchronous=1.25,
    together=1.3,
)


MARIADB = Engine(
    "MariaDB",
    MariaDbServer,
    mariadb_storage,
    MariaDbInspector,
    MariaDbFloor,
    AsyncMariaDbFloor.open,
    sync=1.3,
    asynchronous=1.3,
    together=1.0,
)


REDIS = Engine(
    "Redis",
    partial(RedisServer, settings={"appendfsync": "always", "auto-aof-rewrite-percentage": "0"}),
    redis_storage,
    RedisInspector,
    RedisFloor,
    AsyncRedisFloor.open,
    sync=1.3,
)


DYNAMODB = Engine(
    "DynamoDB's emulator",
    DynoxideServer,
    dynamodb_storage,
    DynamoDbInspector,
    DynamoDbFloor,
    AsyncDynamoDbFloor.open,
    lambda url, sizes: [capacity(url, sizes, fill, agent_sync)],
)


MONGODB = Engine("MongoDB", MongoDbServer, mongodb_storage, MongoDbInspector, MongoDbFloor, AsyncMongoDbFloor.open)


ENGINES = {"postgres": POSTGRES, "mariadb": MARIADB, "mongodb": MONGODB, "redis": REDIS, "dynamodb": DYNAMODB}


@contextmanager
def serving(engine: Engine) -> Iterator[Any]:
    """A server of our own, with an empty database; None, and a word about it, if it cannot be had."""
    try:
        server = engine.server()
    except (ServerMissingError, ServerFailedError) as error:
        print(f"{engine.name} is left out. {error}\n", file=sys.stderr)
        yield None
        return
    with server:
        yield server


@contextmanager
def running(engine: Engine) -> Iterator[str | None]:
    """The URL of such a database."""
    with serving(engine) as server:
        yield None if server is None else server.url


# ---------------------------------------------------------------- turns


def begun(session_id: str, turn: Exchange) -> turns.TurnSpec:
    """How an agent's turn begins."""
    return turns.TurnSpec(session_id, uuid7(), turn.user, durability="exit", user_id=USER, agent=AGENT)


def ended(opened: turns.Turn, turn: Exchange) -> tuple[list[Any], RunEnded]:
    """How it ends: after a look at the history, the run's messages, and status, output and usage."""
    head = opened.before.head
    assert head is not None
    assert len(turns.runs_at_hand(opened, head.last_on_path(3)) or ()) == 3
    entries = [opened.entry(MessageAdded(message), FORMAT) for message in messages(turn)]
    usage = Usage(requests=1, input_tokens=turn.input_tokens, output_tokens=turn.output_tokens)
    return entries, RunEnded(status="completed", output=turn.answer, usage=usage.to_json())


def agent_sync(storage: Storage, session_id: str, turn: Exchange) -> None:
    """What an agent stores of a turn, on the synchronous face."""
    opened = operate(storage, turns.begin_turn, begun(session_id, turn), 3)
    operate(storage, turns.end_turn, opened, *ended(opened, turn), [])


async def agent_async(storage: Storage, session_id: str, turn: Exchange) -> None:
    """The same on the asynchronous face."""
    opened = await aoperate(storage, turns.begin_turn, begun(session_id, turn), 3)
    await aoperate(storage, turns.end_turn, opened, *ended(opened, turn), [])


TURNS: dict[int, tuple[str, Callable[..., None], Callable[..., Awaitable[object]]]] = {
    1: ("an agent's turn", agent_sync, agent_async),
    2: ("get_session, add_run", turn_sync, turn_async),
}
"""By the number of reads."""


def fill(storage: Storage, sizes: dict[str, int]) -> None:
    """Make sessions of so many runs: added to a session in memory, and copied from there in batches."""
    at_once = operate(storage, commits_at_once)
    with MemoryStorage() as memory:
        for session_id, runs in sizes.items():
            for number in range(1, runs + 1):
                add(memory, session_id, exchange(number))
            rows, head = operate(memory, read_all, session_id)
            for start in range(0, len(rows), at_once):
                batch = tuple(rows[start : start + at_once])
                after = head._replace(revision=batch[-1].seq)
                operate(storage, append, Append(session_id, head.incarnation, start, batch, after))
            memory.delete(session_id, user_id=USER)


async def read_all(core: Core, session_id: str) -> tuple[list[Any], Any]:
    """All commits of a session, and its head."""
    loaded = await core.driver.load(session_id, 0, core.deadline())
    head = (await core.look(session_id, core.deadline())).head
    assert loaded is not None
    assert head is not None
    return await core.all_rows(head, Span(), core.deadline()), loaded.head


async def commits_at_once(core: Core) -> int:
    """How many commits are appended together."""
    return min(FILLED_AT_ONCE, core.driver.capabilities.commits_per_append)


async def append(core: Core, write: Append) -> None:
    """One append of the driver's."""
    await core.prepare(core.deadline())
    assert await core.driver.append(write, core.deadline())


def calibrate(engine: Engine, url: str) -> tuple[Calibration, Calibration, Padding]:
    """What a turn of Sessile's and of the floor's writes, and the padding that the floor needs to write as much."""
    inspector = engine.inspector(url)
    storage = engine.storage(url)
    fill(storage, {"probe": 10})
    ours = calibration(inspector, "probe", lambda: agent_sync(storage, "probe", exchange(11)))
    storage.close()
    padding, results = (0, 0), []
    for session_id in ("bare", "padded"):
        floor = engine.floor(url, padding, 1)
        floor.fill(session_id, 10)
        results.append(calibration(inspector, session_id, lambda f=floor, s=session_id: f.turn(s, exchange(11))))
        floor.close()
        padding = padding_for(ours, results[0])
    inspector.close()
    return ours, results[1], padding


# ---------------------------------------------------------------- measuring


class Contest:
    """Floors and storages on one database, blocking and asynchronous, with sessions filled for them."""

    def __init__(self, engine: Engine, url: str, padding: Padding) -> None:
        self.engine = engine
        self.url = url
        self.loop = asyncio.new_event_loop()
        self.storage = engine.storage(url)
        self.floor = engine.floor(url, padding, CONNECTIONS)
        self.async_floor = self.loop.run_until_complete(engine.async_floor(url, padding, CONNECTIONS))

    def fill(self, sizes: dict[str, int]) -> float:
        """Make the same sessions for the floors and for the storages; returns the seconds that it took."""
        started = time.perf_counter()
        fill(self.storage, sizes)
        for session_id, runs in sizes.items():
            self.floor.fill(session_id, runs)
        inspector = self.engine.inspector(self.url)
        inspector.settle()
        inspector.close()
        return time.perf_counter() - started

    def timed(self, coroutine: Callable[[], Awaitable[object]]) -> float:
        """Seconds that a coroutine takes, measured on the loop."""

        async def run() -> float:
            start = time.perf_counter()
            await coroutine()
            return time.perf_counter() - start

        return self.loop.run_until_complete(run())

    def of_floors(self, pool: Pool, reads: int, face: str, *, quick: bool) -> float:
        """Seconds that a turn takes by hand; `quick`: with our JSON library."""
        if face == "sync":
            self.floor.quick = quick
            return timed(lambda: self.floor.turn(*pool.next(), reads))
        self.async_floor.quick = quick
        return self.timed(lambda: self.async_floor.turn(*pool.next(), reads))

    def close(self) -> None:
        self.floor.close()
        self.loop.run_until_complete(self.async_floor.close())
        self.loop.run_until_complete(self.storage.aclose())
        self.loop.close()


def run(engine: Engine, server: Any, sizes: Sequence[int], rounds: int) -> tuple[list[Table], Medians, Written]:
    """Measure on an empty database; returns the tables, the medians of an agent's turn, and what it writes."""
    url = server.url
    ours, theirs, padding = calibrate(engine, url)
    contest = Contest(engine, url, padding)
    try:
        table, medians = one_by_one(contest, sizes, rounds)
        table.notes[:0] = [ours.note("Sessile"), theirs.note("floor")]
        tables = [table, at_once(contest, getattr(server, "pid", None), max(6, rounds // 5)), *engine.more(url, sizes)]
        return tables, medians, ours.written
    finally:
        contest.close()


def one_by_one(contest: Contest, sizes: Sequence[int], rounds: int) -> tuple[Table, Medians]:
    """The time of a turn, and the medians of an agent's."""
    count = rounds * BATCH
    pools = {size: Pool(size, 2 * len(TURNS) * count) for size in sizes}
    floor_pools = {size: Pool(size, 4 * len(TURNS) * count) for size in sizes}  # each floor has two contenders
    filled = contest.fill({name: size for size, pool in floor_pools.items() for name in pool.names})
    contenders: dict[str, Callable[[], float]] = {}
    for size in sizes:
        for reads, (_, turn, aturn) in TURNS.items():
            for kind, quick in (("floor", False), ("quick", True)):
                of_floors = partial(contest.of_floors, floor_pools[size], reads, quick=quick)
                contenders[f"{kind} sync {reads} {size}"] = partial(of_floors, "sync")
                contenders[f"{kind} async {reads} {size}"] = partial(of_floors, "async")
            contenders |= {
                f"sync {reads} {size}": lambda p=pools[size], t=turn: timed(lambda: t(contest.storage, *p.next())),
                f"async {reads} {size}": lambda p=pools[size], t=aturn: contest.timed(
                    lambda: t(contest.storage, *p.next())
                ),
            }
    interleave(contenders, 3, BATCH)  # connections, caches, prepared statements
    stats = {name: Stats.of(times) for name, times in interleave(contenders, rounds, BATCH).items()}
    table = turn_table(contest.engine, sizes, stats, count)
    table.notes.append(f"Filling the sessions took {filled:.0f} s.")
    medians = {
        f"sessile: {face}": {
            size: (stats[f"{face} 1 {size}"].median, stats[f"floor {face} 1 {size}"].median) for size in sizes
        }
        for face in ("sync", "async")
    }
    return table, medians


def turn_table(engine: Engine, sizes: Sequence[int], stats: dict[str, Stats], count: int) -> Table:
    """The figures as a table."""
    table = Table(
        f"A turn on {engine.name} (ms, median and p95 of {count})",
        [
            "turn",
            "runs in session",
            "face",
            "floor",
            "quick floor",
            "Sessile",
            "Sessile/floor",
            "wanted",
            "/quick floor",
        ],
    )
    for reads, (name, _, _) in TURNS.items():
        for face in ("sync", "async"):
            found = [[stats[f"{kind}{face} {reads} {size}"] for kind in ("floor ", "quick ", "")] for size in sizes]
            for size, (floor, quick, ours) in zip(sizes, found, strict=True):
                ratio = ours.median / floor.median
                cells = [f"{ms(s.median)} ({ms(s.p95)})" for s in (floor, quick, ours)]
                limit = engine.wanted(face)
                wanted = f"<= {limit:g} {verdict(ratio, limit)}"
                beside = f"{ours.median / quick.median:.2f}"
                table.rows.append([name, f"{size:,}", face, *cells, f"{ratio:.2f}", wanted, beside])
            growth = [last.median / first.median for first, last in zip(found[0], found[-1], strict=True)]
            wanted = f"<= {GROWTH_LIMIT:g} {verdict(growth[-1], GROWTH_LIMIT)}"
            cells = [f"{value:.2f}" for value in growth]
            table.rows.append([name, f"{sizes[-1]:,} / {sizes[0]:,}", face, *cells, "", wanted, ""])
    return table


def at_once(contest: Contest, pid: int | None, rounds: int) -> Table:
    """Turns per second of many sessions over one pool: an agent's turns, in threads and in tasks.

    `pid`: the server's process, if it is one of our own, whose processor time is counted then.
    """
    names = [f"busy-{number}" for number in range(SESSIONS)]
    contest.fill(dict.fromkeys(names, 10))
    with ThreadPoolExecutor(SESSIONS) as executor:
        contenders = busy_contenders(contest, names, executor)
        interleave(contenders, 2)
        costs: dict[str, list[Spent]] = {name: [] for name in contenders}

        def counted(name: str) -> float:
            cost = spent(contenders[name], pid)
            costs[name].append(cost)
            return cost.wall

        times = interleave({name: partial(counted, name) for name in contenders}, rounds)
    return busy_table(contest.engine, {name: Stats.of(each) for name, each in times.items()}, costs)


def busy_contenders(
    contest: Contest, names: Sequence[str], executor: ThreadPoolExecutor
) -> dict[str, Callable[[], float]]:
    """The floor, the floor with our JSON library, and Sessile: some turns of all sessions, by face."""
    turn, storage, floor, async_floor = exchange(11), contest.storage, contest.floor, contest.async_floor

    def work(one: Callable[[str], object], name: str) -> None:
        for _ in range(TURNS_AT_ONCE):
            one(name)

    async def awork(one: Callable[[str], Awaitable[object]], name: str) -> None:
        for _ in range(TURNS_AT_ONCE):
            await one(name)

    def threads(one: Callable[[str], object], *, quick: bool = False) -> float:
        floor.quick = quick
        return timed(lambda: list(executor.map(lambda name: work(one, name), names)))

    async def gathered(one: Callable[[str], Awaitable[object]]) -> None:
        await asyncio.gather(*(awork(one, name) for name in names))

    def tasks(one: Callable[[str], Awaitable[object]], *, quick: bool = False) -> float:
        async_floor.quick = quick
        return contest.timed(lambda: gathered(one))

    return {
        "floor sync": lambda: threads(lambda name: floor.turn(name, turn)),
        "quick sync": lambda: threads(lambda name: floor.turn(name, turn), quick=True),
        "sync": lambda: threads(lambda name: agent_sync(storage, name, turn)),
        "floor async": lambda: tasks(lambda name: async_floor.turn(name, turn)),
        "quick async": lambda: tasks(lambda name: async_floor.turn(name, turn), quick=True),
        "async": lambda: tasks(lambda name: agent_async(storage, name, turn)),
    }


def busy_table(engine: Engine, stats: dict[str, Stats], costs: dict[str, list[Spent]]) -> Table:
    """The rates, and the processor time of a turn."""
    turns = SESSIONS * TURNS_AT_ONCE
    table = Table(
        f"{SESSIONS} sessions at once on {engine.name}, {CONNECTIONS} connections "
        f"(an agent's turns per second, median of {stats['sync'].count})",
        ["face", "floor", "with our JSON", "Sessile", "Sessile/floor", "/ with our JSON", "wanted", *CPU_COLUMNS],
    )
    for face, what in (("sync", f"sync, {SESSIONS} threads"), ("async", f"async, {SESSIONS} tasks")):
        contenders = (f"floor {face}", f"quick {face}", face)
        rates = [turns / stats[name].median for name in contenders]
        word = "ok" if rates[2] >= engine.together * rates[0] else "UNDER"
        cells = [f"{rate:,.0f}" for rate in rates]
        ratios = [f"{rates[2] / rate:.2f}" for rate in rates[:2]]
        table.rows.append(
            [what, *cells, *ratios, f">= {engine.together:g} {word}", *(cpu(costs[name]) for name in contenders)]
        )
    table.notes.append("µs: processor time of a turn, client + server, of each the lowest fifth.")
    return table


CPU_COLUMNS = ("µs: floor", "µs: with our JSON", "µs: Sessile")


def cpu(costs: Sequence[Spent]) -> str:
    """Processor time of one turn, client + server: the lowest fifth of each."""
    turns = SESSIONS * TURNS_AT_ONCE
    each = [lowest_fifth(seconds) / turns * 1e6 for seconds in zip(*(cost[1:] for cost in costs), strict=True)]
    return " + ".join(f"{one:.0f}" for one in each)
