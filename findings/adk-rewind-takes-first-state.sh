#!/usr/bin/env bash
# google-adk 2.13.0: going back to the second turn takes away what a session's state began with.
#
# A session is created with the state {"n": 1}. Two turns follow, which do not touch it; the runner goes back to before
# the second. Expected: the state is what it was at that moment, {"n": 1}. Seen: `n` is None, and a tool that counts on
# it fails: the rewind adds up the changes of the events before that moment, and what `create_session` was given is in no
# event. It is so in each of its session services over memory and SQLite.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet google-adk==2.13.0 sqlalchemy==2.1.9 aiosqlite==0.22.1 greenlet==3.5.6
venv/bin/python -W ignore - <<'PY' 2>/dev/null
import asyncio
import sys
from importlib.metadata import version

from google.adk.agents import BaseAgent
from google.adk.events import Event
from google.adk.runners import Runner
from google.adk.sessions import DatabaseSessionService, InMemorySessionService
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

WHERE = {"user_id": "ada", "session_id": "s"}


def said(text, role):
    return types.Content(role=role, parts=[types.Part(text=text)])


class Echo(BaseAgent):
    async def _run_async_impl(self, ctx):
        yield Event(invocation_id=ctx.invocation_id, author=self.name, content=said("an answer", "model"))


async def look(service):
    runner = Runner(agent=Echo(name="echo"), app_name="shop", session_service=service)
    await service.create_session(app_name="shop", state={"n": 1}, **WHERE)
    turns = []
    for text in ("first", "second"):
        async for event in runner.run_async(new_message=said(text, "user"), **WHERE):
            turns.append(event.invocation_id)
    before = (await service.get_session(app_name="shop", **WHERE)).state
    await runner.rewind_async(rewind_before_invocation_id=turns[-1], **WHERE)
    after = (await service.get_session(app_name="shop", **WHERE)).state
    return before, after.get("n")


async def main():
    return {
        "InMemorySessionService": await look(InMemorySessionService()),
        "SqliteSessionService": await look(SqliteSessionService("sqlite.db")),
        "DatabaseSessionService": await look(DatabaseSessionService("sqlite+aiosqlite:///database.db")),
    }


seen = asyncio.run(main())
print("google-adk", version("google-adk"))
for name, (before, after) in seen.items():
    print(f"{name}: n was {before.get('n')}, and is {after} after going back")
sys.exit(any((before.get("n"), after) != (1, None) for before, after in seen.values()))
PY
