"""Random workflows that crash at random points come to what they come to without, and run nothing twice that finished.

A crash is simulated: the driver (over memory) raises at some operation, and whatever is asked of it afterwards raises
as well, so that nothing more of that life is kept. The next life begins an hour later, when the lease has run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessile import Context, Retry, Step, Workflow, current_step, session_state
from sessile.drivers.memory import MemoryDriver
from sessile.errors import NotResumableError, StepFailedError
from sessile.storage.driver import Append, Deadline, Loaded
from sessile.storage.storage import Storage


class Crash(BaseException):
    """The end of a process."""


class MortalDriver(MemoryDriver):
    """The database of several lives."""

    def __init__(self) -> None:
        super().__init__()
        self.hours = 0
        self.left: int | None = None
        self.before = False
        self.dead = False

    def live(self, left: int | None, before: bool) -> None:
        """Begin a life that ends at its commit of that number, before or after it is made; None: it does not end."""
        self.hours, self.left, self.before, self.dead = self.hours + 1, left, before, False

    def die(self) -> None:
        self.dead = True
        raise Crash

    async def load(self, session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        if self.dead:
            raise Crash
        loaded = await super().load(session_id, newest, deadline)
        return None if loaded is None else loaded._replace(now=loaded.now + self.hours * 3600 * 10**6)

    async def append(self, write: Append, deadline: Deadline) -> bool:
        if self.dead:
            raise Crash
        if self.left is not None:
            self.left -= 1
        due = self.left is not None and self.left <= 0
        if due and self.before:
            self.die()
        done = await super().append(write, deadline)
        if due:
            self.die()
        return done


# ---------------------------------------------------------------- programs

Program = list[Any]

simple = st.one_of(
    st.tuples(st.just("step"), st.integers(0, 9)),
    st.tuples(st.just("plain"), st.integers(0, 9)),
    st.tuples(st.just("caught"), st.integers(0, 9)),
    st.tuples(st.just("flaky"), st.integers(1, 3)),
    st.tuples(st.just("state"), st.sampled_from("abc")),
    st.tuples(st.just("local"), st.sampled_from("abc")),
    st.tuples(st.just("random"), st.none()),
    st.tuples(st.just("time"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from(["x", "y"])),
)


def nested(inner: Any) -> Any:
    programs = st.lists(inner, max_size=3)
    return st.one_of(
        st.tuples(st.just("parallel"), st.lists(programs, max_size=3)),
        st.tuples(st.just("group"), programs),
        st.tuples(st.just("if"), programs, programs),
        st.tuples(st.just("at once"), st.lists(st.integers(0, 9), max_size=3)),
    )


programs = st.lists(st.recursive(simple, nested, max_leaves=8), min_size=1, max_size=5)


class World:
    """One program on one database, in as many lives as it needs."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.driver = MortalDriver()
        self.crash_at: int | None = None
        self.executed: list[str] = []

    def flow(self) -> tuple[Storage, Workflow[Any]]:
        storage = Storage(self.driver, timeout=5)
        return storage, Workflow(self._flow, name="flow", storage=storage, state={"a": 0})

    async def _flow(self, ctx: Context) -> Any:
        return await self._sequence(ctx, self.program)

    async def _sequence(self, ctx: Context, program: Program, branch: str = "") -> list[Any]:
        return [await self._one(ctx, branch, *item) for item in program]

    async def _one(self, ctx: Context, branch: str, kind: str, *about: Any) -> Any:  # noqa: C901 (a case for each kind)
        """`branch` is part of the keys of the state: in which order branches change the same one is not certain."""
        match kind, about:
            case "step", (value,):
                return await ctx.step(self.later, value)
            case "plain", (value,):
                return await ctx.step(self.plain, value)
            case "caught", (value,):
                try:
                    await ctx.step(self.failing, value)
                except StepFailedError as error:
                    return [error.error_type, await ctx.step(self.later, value)]
            case "flaky", (times,):
                return await ctx.step(Step(self.flaky, retry=Retry(OSError, attempts=5, wait_max=0)), times)
            case "state", (key,):
                return await ctx.step(self.counting, key + branch)
            case "local", (key,):
                key += branch
                ctx.state[key] = ctx.state.get(key, 0) + 1
                return ctx.state[key]
            case "random", _:
                return [ctx.random(), str(ctx.uuid())]
            case "time", _:
                before, value = ctx.now(), await ctx.step(self.later, 1)
                return [value, ctx.now() >= before]
            case "wait", (name,):
                return await ctx.wait_for_event(name)
            case "parallel", (branches,):
                return await ctx.gather(
                    *(self._sequence(ctx, inner, f"{branch}.{number}") for number, inner in enumerate(branches))
                )
            case "group", (inner,):
                return await ctx.step(Step(self._sequence, "group"), ctx, inner, branch)
            case "if", (yes, no):
                value = await ctx.step(self.later, 1 if ctx.random() < 0.5 else 0)
                return await self._sequence(ctx, yes if value else no, branch)
            case "at once", (values,):
                return await asyncio.gather(*(ctx.step(self.later, value) for value in values))
            case _:
                raise AssertionError(kind)

    def _execute(self) -> None:
        self.executed.append(current_step().path)
        if self.crash_at is not None:
            self.crash_at -= 1
            if self.crash_at <= 0:
                self.driver.die()

    async def later(self, value: int) -> int:
        self._execute()
        await asyncio.sleep(0)
        return value

    def plain(self, value: int) -> int:
        self._execute()
        return value + 100

    async def failing(self, value: int) -> int:
        self._execute()
        raise ValueError(value)

    async def flaky(self, times: int) -> int:
        self._execute()
        if current_step().attempt <= times:
            raise OSError(times)
        return times

    async def counting(self, key: str) -> int:
        self._execute()
        session_state()[key] = session_state().get(key, 0) + 1
        return session_state()[key]

    # -------------------------------------------------------- lives

    def live(self, crash: tuple[str, int] | None) -> Any:
        """One life: run or resume the program; None if it crashed."""
        where, when = crash or (None, None)
        self.driver.live(when if where in ("before", "after") else None, where == "before")
        self.crash_at = when if where == "inside" else None
        finished, self.executed = self._finished(), []
        try:
            return asyncio.run(self._live())
        except Crash:
            return None
        finally:
            assert not finished & set(self.executed), "a finished step ran again"

    async def _live(self) -> Any:
        storage, flow = self.flow()
        result = await flow.arun(session_id="s", run_id="r")
        while result.status == "paused":
            try:
                for name in dict.fromkeys(result.waiting_for):
                    await flow.asend_event("s", name, f"sent {name}", resume=False)
                result = await flow.aresume("s")
            except NotResumableError:
                result = await flow.arun(session_id="s", run_id="r")
        return [result.output, (await storage.aget_session("s")).state]  # type: ignore[union-attr]

    def _finished(self) -> set[str]:
        storage = Storage(self.driver)
        self.driver.left, self.driver.dead = None, False
        if storage.get_session("s") is None:
            return set()
        return {step.data["path"] for step in storage.get_run("s", 1).steps if step.kind == "step.finished"}


def crashes() -> Any:
    return st.lists(st.tuples(st.sampled_from(["before", "after", "inside"]), st.integers(1, 8)), max_size=6)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs, crashes())
def test_crashed_at_random(program: Program, crashes: list[tuple[str, int]]) -> None:
    whole = World(program).live(None)
    world = World(program)
    results: Iterator[Any] = (world.live(crash) for crash in crashes)
    result = next((result for result in results if result is not None), None)
    assert (world.live(None) if result is None else result) == whole
    Storage(world.driver).verify("s")
