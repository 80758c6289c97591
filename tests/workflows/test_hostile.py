"""What strange functions, errors and users do to a workflow: nothing is lost, and nothing is said that is not so."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import Context, SqliteStorage, workflow
from sessile.errors import StepFailedError


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
