#!/usr/bin/env bash
# google-adk 2.13.0: which event is the newest of a session depends on the session service that it is asked of.
#
# Three events are appended, of which the second has an earlier timestamp than the first, as when two machines' clocks
# differ by a second. Expected: each service gives them back in one order, that of appending, as a model must see them.
# Seen: InMemorySessionService keeps the order of appending; SqliteSessionService sorts by timestamp, so that what was
# said last is no longer last, and `num_recent_events=1` is another event. An event that is appended again, as after a
# lost answer, is taken for the same one by the first, and raises an IntegrityError in the second.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install --quiet google-adk==2.13.0
venv/bin/python -W ignore - <<'PY' 2>/dev/null
import asyncio
import sys
from importlib.metadata import version

from google.adk.events import Event
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

WHERE = {"app_name": "shop", "user_id": "ada", "session_id": "s"}


def event(name, timestamp):
    content = types.Content(role="user", parts=[types.Part(text=name)])
    return Event(id=name, author="user", timestamp=timestamp, content=content)


async def look(service):
    session = await service.create_session(**WHERE)
    for name, timestamp in (("first", 2000.0), ("second", 1000.0), ("third", 1500.0)):
        session = await service.get_session(**WHERE)
        await service.append_event(session, event(name, timestamp))
    session = await service.get_session(**WHERE)
    newest = await service.get_session(**WHERE, config=GetSessionConfig(num_recent_events=1))
    order = [one.id for one in session.events]
    try:
        await service.append_event(session, event("first", 2000.0))
        again = len((await service.get_session(**WHERE)).events)
    except Exception as error:
        again = type(error).__name__
    return order, [one.id for one in newest.events], again


async def main():
    return {
        "InMemorySessionService": await look(InMemorySessionService()),
        "SqliteSessionService": await look(SqliteSessionService("sessions.db")),
    }


seen = asyncio.run(main())
print("google-adk", version("google-adk"))
for name, (order, newest, again) in seen.items():
    print(f"{name}: in order {order}, newest {newest}, one appended again: {again}")
sys.exit(
    seen
    != {
        "InMemorySessionService": (["first", "second", "third"], ["third"], 3),
        "SqliteSessionService": (["second", "third", "first"], ["first"], "IntegrityError"),
    }
)
PY
