"""LangGraph's conformance kit over the storage that SESSILE_URL names; prints what it has found."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator

from langgraph.checkpoint.conformance import checkpointer_test, validate

import sessile
from sessile.integrations.langgraph import SessileSaver


async def main() -> None:
    async with sessile.open(os.environ["SESSILE_URL"]) as storage:

        @checkpointer_test(name="SessileSaver")
        async def saver() -> AsyncIterator[SessileSaver]:
            yield SessileSaver(storage.for_user(secrets.token_hex(8)))

        report = await validate(saver)
        print(json.dumps(report.to_dict(), default=str))


if __name__ == "__main__":
    asyncio.run(main())
