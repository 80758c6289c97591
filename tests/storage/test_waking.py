"""Followers of sessions whose database announces commits, while their storage is closed."""

from __future__ import annotations

import asyncio

from sessile.drivers.sql.following import Announcements


class Counted(Announcements[int]):
    """Counts the connections that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0

    async def _open(self) -> int:
        await asyncio.sleep(0)
        self.open += 1
        return self.open

    async def _listen(self, connection: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.open -= 1


async def test_a_follower_that_comes_while_it_is_closed_opens_no_connection() -> None:
    listener = Counted()
    first = asyncio.ensure_future(listener.register("a"))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(listener.close())
    await asyncio.sleep(0)
    late = await listener.register("b")
    await closing
    assert await first is not None
    assert (late, listener.open) == (None, 0)
