"""Results that are kept for other runs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from sessile import ANY_USER, Agent, Context, MemoryStorage, SqliteStorage, Step, workflow
from sessile.errors import InvalidIdError, InvalidInputError, StorageUnavailableError
from sessile.storage import cache
from sessile.storage.extending import Core, Draft, Snapshot, aoperate, operate
from sessile.storage.ids import KEPT
from sessile.storage.vocabulary import ResultKept
from sessile.storage.writes import creation


@pytest.fixture
def computed() -> list[Any]:
    return []


def cached_step(computed: list[Any], **options: Any) -> Step[..., Any]:
    def square(value: int, power: int = 2) -> int:
        computed.append(value)
        return value**power

    return Step(square, **{"cache": timedelta(hours=1), **options})


def test_across_sessions(storage: SqliteStorage, computed: list[Any]) -> None:
    square = cached_step(computed)

    @workflow(storage=storage)
    async def flow(ctx: Context, value: int) -> int:
        return await ctx.step(square, value) + await ctx.step(square, value=value, power=2)

    assert flow.run(3, session_id="a", user_id="ada").output == 18
    assert flow.run(3, session_id="b", user_id="ada").output == 18
    assert flow.run(4, session_id="c", user_id="ada").output == 32
    assert computed == [3, 4]
    assert [one.cached for one in flow.journal("a", user_id="ada")] == [False, True]
    assert [one.cached for one in flow.journal("b", user_id="ada")] == [True, True]
    assert {head.session_id for head in storage.sessions(user_id="ada")} == {"a", "b", "c"}
    assert storage.count_sessions(user_id="ada") == 3


def test_of_each_user(storage: SqliteStorage, computed: list[Any]) -> None:
    square = cached_step(computed)

    @workflow(storage=storage)
    async def flow(ctx: Context, value: int) -> int:
        return await ctx.step(square, value)

    for user in ("ada", "bob", None, "ada", "bob", None):
        assert flow.run(3, user_id=user).output == 9
    assert computed == [3, 3, 3, 3], "those who have no user share nothing"
    assert storage.delete_user("ada") == 2  # and with her sessions what was kept for others
    flow.run(3, user_id="ada")
    flow.run(3, user_id="bob")
    assert computed == [3, 3, 3, 3, 3]


def test_of_one_session_of_nobody(storage: SqliteStorage, computed: list[Any]) -> None:
    square = cached_step(computed)

    @workflow(storage=storage)
    async def flow(ctx: Context, value: int) -> int:
        return await ctx.step(square, value)

    for session_id in ("a", "a", "b", "a"):
        assert flow.run(3, session_id=session_id).output == 9
    assert computed == [3, 3]


def test_shared_by_everybody(storage: SqliteStorage, computed: list[Any]) -> None:
    square = cached_step(computed, shared=True)

    @workflow(storage=storage)
    async def flow(ctx: Context, value: int) -> int:
        return await ctx.step(square, value)

    for user in ("ada", None, "bob", None):
        assert flow.run(3, user_id=user).output == 9
    storage.delete_user("ada")
    flow.run(3, user_id="bob")
    assert computed == [3]
    with pytest.raises(InvalidInputError, match="Only results that are cached"):
        Step(print, shared=True)


def test_of_each_function(storage: SqliteStorage) -> None:
    """Two steps of one name, in two modules or two places of one, do not take each other's results."""

    class Home:
        @staticmethod
        def greet(name: str) -> str:
            return f"Hello {name}"

    class Away:
        @staticmethod
        def greet(name: str) -> str:
            return f"Farewell {name}"

    @workflow(storage=storage)
    async def flow(ctx: Context) -> list[str]:
        return [await ctx.step(Step(kind.greet, cache=60, shared=True), "Ada") for kind in (Home, Away)]

    assert flow.run().output == ["Hello Ada", "Farewell Ada"]
    assert flow.run().output == ["Hello Ada", "Farewell Ada"]


def test_of_each_version(storage: SqliteStorage, computed: list[Any]) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context, version: str, name: str) -> int:
        return await ctx.step(cached_step(computed, version=version, name=name), 3)

    for arguments in (("1", "a"), ("2", "a"), ("1", "b"), ("2", "a")):
        assert flow.run(*arguments, session_id="s").output == 9
    assert computed == [3, 3, 3]


def test_age(storage: SqliteStorage, computed: list[Any]) -> None:
    """What is too old is computed anew, and what has expired is swept away."""

    @workflow(storage=storage)
    async def flow(ctx: Context, age: float) -> int:
        return await ctx.step(cached_step(computed, cache=age), 3)

    flow.run(60.0, session_id="s")
    time.sleep(0.02)
    flow.run(0.01, session_id="s")  # too old for this one, which keeps its own for as long
    assert computed == [3, 3]
    time.sleep(0.02)
    assert storage.sweep() == 1
    flow.run(60.0, session_id="s")
    assert computed == [3, 3, 3]
    assert storage.sweep(abandoned_after=0) == 0
    flow.run(60.0, session_id="s")
    assert computed == [3, 3, 3]
    with pytest.raises(InvalidInputError, match="cache must be"):
        cached_step(computed, cache=0)


def test_answers_of_agents(storage: SqliteStorage) -> None:
    asked: list[str] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        asked.append("asked")
        return ModelResponse(parts=[TextPart(f"answer {len(asked)}")])

    writer = Step(Agent(FunctionModel(answer), name="writer"), cache=60)

    @workflow(storage=storage)
    async def flow(ctx: Context, topic: str) -> str:
        return await ctx.step(writer, topic)

    answers = [flow.run(topic, user_id="ada").output for topic in ("rain", "rain", "sun")]
    assert answers == ["answer 1", "answer 1", "answer 2"]


def test_inputs_that_have_no_key(storage: SqliteStorage, computed: list[Any]) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        return await ctx.step(cached_step(computed), object())

    with pytest.raises(InvalidInputError, match="Its results cannot be cached"):
        flow.run()


async def test_a_cache_that_cannot_be_written(computed: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own result is kept, and the run goes on."""
    storage = MemoryStorage()

    async def down(*args: Any, **kwargs: Any) -> None:
        raise StorageUnavailableError("gone")

    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        return await ctx.step(cached_step(computed), 3)

    monkeypatch.setattr(cache, "keep_result", down)
    assert (await flow.arun(session_id="s")).output == 9
    assert [one.cached for one in await flow.ajournal("s")] == [False]


async def test_written_by_several_at_once(storage: SqliteStorage) -> None:
    import asyncio

    key = cache.cache_key("ada", "x")

    def kept_of(number: int) -> ResultKept:
        return ResultKept(name="square", output=number)

    await asyncio.gather(
        *(
            aoperate(storage, cache.keep_result, key, kept_of(number), 60, user_id="ada", agent="flow")
            for number in range(16)
        )
    )
    kept = await aoperate(storage, cache.read_result, key, 60, user_id="ada")
    assert kept is not None
    assert kept.output in range(16)
    assert await aoperate(storage, cache.read_result, key, 60, user_id="bob") is None
    assert await aoperate(storage, cache.read_result, key, 60) is None
    assert await storage.aget_session(key, user_id=ANY_USER) is None
    with pytest.raises(InvalidIdError, match="Sessile makes for itself"):
        await storage.aget_session(key, user_id="ada")


def foreign_session(storage: SqliteStorage, path: Path, key: str) -> None:
    """Somebody else's session under the id of a kept result, as only who writes to the database itself can make it."""

    async def make(core: Core) -> None:
        async def change(snapshot: Snapshot) -> Draft:
            return Draft([creation(core, key, user_id="eve", agent=None)()])

        await core.commit(key, "eve", change, core.deadline())

    operate(storage, make)


def half_made_fork(storage: SqliteStorage, path: Path, key: str) -> None:
    async def make(core: Core) -> None:
        await core.prepare(core.deadline())
        made = creation(core, key, user_id="eve", agent=None, hidden="building")
        await core.append_batch(None, key, [Draft([made()])], core.deadline())

    operate(storage, make)


def something_damaged(storage: SqliteStorage, path: Path, key: str) -> None:
    foreign_session(storage, path, key)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE sessile_sessions SET body = '{' WHERE session_id = ?", (key,))


@pytest.mark.parametrize("other", [foreign_session, half_made_fork, something_damaged])
def test_something_else_where_a_result_is_kept(
    storage: SqliteStorage,
    path: Path,
    computed: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    other: Callable[[SqliteStorage, Path, str], None],
) -> None:
    """The step has its own result, nothing is taken from there, and nothing is written there."""
    key = f"{KEPT}known"
    monkeypatch.setattr(cache, "cache_key", lambda *parts: key)
    square = cached_step(computed)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> int:
        return await ctx.step(square, 3)

    other(storage, path, key)
    before = log_of(path, key)
    assert [flow.run(user_id="ada").output for _ in range(2)] == [9, 9]
    assert computed == [3, 3]
    assert log_of(path, key) == before


def log_of(path: Path, key: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT * FROM sessile_commits WHERE session_id = ?", (key,)).fetchall()


@dataclass
class Scale:
    factor: int

    def times(self, value: int) -> int:
        return self.factor * value

    def __call__(self, value: int) -> int:
        return self.factor * value


def test_what_is_bound_to_a_function(storage: SqliteStorage) -> None:
    """It is an input as well: without it, one would get the result of another."""

    def times(factor: int, value: int) -> int:
        return factor * value

    @workflow(storage=storage)
    async def flow(ctx: Context, target: str, factor: int) -> tuple[int, bool]:
        targets = {
            "partial": partial(times, factor),
            "named": partial(times, factor=factor),
            "method": Scale(factor).times,
            "object": Scale(factor),
            "builtin": (5).__add__ if factor == 2 else (15).__add__,
        }
        arguments = {"value": 5} if target == "named" else {}
        step = Step(targets[target], target, cache=3600)
        return await ctx.step(step, *(() if arguments else (5,)), **arguments)

    for target in ("partial", "named", "method", "object", "builtin"):
        assert [flow.run(target, factor, session_id=target).output for factor in (2, 4, 2)] == [10, 20, 10]
        assert [flow.journal(target, run_number=run)[0].cached for run in (1, 2, 3)] == [False, False, True]


def test_of_the_owner_of_the_session(storage: SqliteStorage, computed: list[Any]) -> None:
    """Also where the caller has named no user: what is Ada's is nobody else's."""
    square = cached_step(computed)

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return ctx.user_id, await ctx.step(square, 3)

    assert flow.run(session_id="hers", user_id="ada").output == ("ada", 9)
    assert flow.run(session_id="hers", user_id=ANY_USER).output == ("ada", 9)
    assert flow.run(session_id="nobody's").output == (None, 9)
    assert computed == [3, 3]


def test_a_result_that_this_program_cannot_read(
    storage: SqliteStorage, computed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its class is gone: it is computed anew, and kept in place of the old one."""

    def scale(factor: int) -> Any:
        computed.append(factor)
        return kinds[-1](factor)

    kinds: list[Any] = [Scale]

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return await ctx.step(Step(scale, cache=3600), 3)

    assert flow.run(session_id="a", user_id="ada").output == Scale(3)
    kinds.append(int)
    monkeypatch.delattr(f"{__name__}.Scale")
    assert flow.run(session_id="b", user_id="ada").output == 3
    assert flow.run(session_id="c", user_id="ada").output == 3
    assert computed == [3, 3]
