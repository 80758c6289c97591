"""What strange functions, errors and users do to a workflow: nothing is lost, and nothing is said that is not so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sessile import Context, SqliteStorage, workflow
from sessile.errors import InvalidStateError, StepFailedError
from sessile.storage import turns


class Mute(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(Exception):
    def __init__(self, code: int, *, reason: Any) -> None:
        self.code = code
        super().__init__(code, reason)


def mute() -> None:
    raise Mute


def odd() -> None:
    raise Odd(7, reason=object)


@pytest.mark.parametrize(("step", "kind"), [(mute, "Mute"), (odd, "Odd")])
def test_errors_that_cannot_be_shown_or_made_again(storage: SqliteStorage, step: Any, kind: str) -> None:
    @workflow(storage=storage)
    async def caught(ctx: Context) -> str:
        try:
            await ctx.step(step)
        except StepFailedError as error:
            return error.error_type
        return ""

    @workflow(storage=storage)
    async def raised(ctx: Context) -> None:
        step()

    assert caught.run(session_id="caught").output == kind
    assert [one.error["type"] for one in caught.journal("caught") if one.error] == [kind]
    with pytest.raises((Mute, Odd)):
        raised.run(session_id="raised")
    assert storage.run("raised", 1).status == "failed"


async def test_a_pause_that_cannot_be_stored(storage: SqliteStorage) -> None:
    """The run has failed then, and does not pretend to be at work."""
    good: list[int] = []

    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        ctx.state["value"] = 1 if good else object()
        return await ctx.wait("go")

    with pytest.raises(InvalidStateError, match="type object"):
        await flow.arun(session_id="s")
    assert storage.run("s", 1).status == "failed"
    good.append(1)
    assert (await flow.aresume("s")).status == "paused"
    assert (await flow.asend("s", "go", 2)).output == 2


async def test_cancelled_while_the_pause_is_stored(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    @workflow(storage=storage)
    async def flow(ctx: Context) -> Any:
        return await ctx.wait("go")

    running = asyncio.ensure_future(flow.arun(session_id="s"))
    loop = asyncio.get_running_loop()
    end_turn = turns.end_turn

    async def cancelling(*args: Any, **kwargs: Any) -> None:
        await end_turn(*args, **kwargs)
        loop.call_soon_threadsafe(running.cancel)

    monkeypatch.setattr(turns, "end_turn", cancelling)
    with pytest.raises(asyncio.CancelledError):
        await running
    monkeypatch.undo()
    assert storage.run("s", 1).status == "paused"
    assert (await flow.asend("s", "go", 2)).output == 2
