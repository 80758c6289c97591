"""The lease of a run in progress, and looks whether it is to be cancelled."""

from __future__ import annotations

import asyncio

import pytest

from sessile.live import lease
from sessile.live.lease import KeptAlive


def test_a_renewal_that_waits_holds_up_no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a lease that is renewed as often as is looked."""
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)
    looks: list[int] = []

    async def renew() -> bool:
        await asyncio.sleep(60)  # for a lock, or for a disk
        return False

    async def is_asked() -> bool:
        looks.append(1)
        return False

    async def main() -> None:
        with KeptAlive(0.03, ("incarnation", 1), renew, is_asked, lambda: None):
            while len(looks) < 10:  # noqa: ASYNC110 (the looks are what is waited for)
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_nothing_is_left_of_it() -> None:
    async def never() -> bool:
        raise AssertionError("its run has ended")

    async def main() -> None:
        with KeptAlive(0.3, ("incarnation", 1), never, never, lambda: None) as _:
            pass
        await asyncio.sleep(0.2)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
