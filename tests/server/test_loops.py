"""An application that is asked in several event loops, as test clients do, ends all the same."""

from __future__ import annotations

import asyncio
import threading

from sessile.server.work import cancelled


async def test_tasks_of_another_loop_are_told_and_not_waited_for() -> None:
    ready, told = threading.Event(), threading.Event()
    elsewhere: list[asyncio.Task[None]] = []

    async def work() -> None:
        ready.set()
        try:
            await asyncio.sleep(3600)
        finally:
            told.set()

    async def serve() -> None:
        elsewhere.append(asyncio.create_task(work()))
        await asyncio.wait(elsewhere)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    await asyncio.to_thread(ready.wait)
    own = asyncio.create_task(asyncio.sleep(3600))
    await asyncio.sleep(0)
    await cancelled([own, *elsewhere])
    assert own.cancelled()
    await asyncio.to_thread(told.wait)
    await asyncio.to_thread(thread.join)
