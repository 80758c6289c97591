"""What an application does with Google ADK, without a model: `python google_adk_work.py WHAT …`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import BaseAgent
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.events.event import Event, EventActions
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.adk.sessions.sqlite_session_service import SqliteSessionService
from google.genai import types

import sessile
from sessile.integrations.google_adk import SessileSessionService


def text(said: str, role: str = "user") -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=said)])


class Counter(BaseAgent):
    """Says how many events it has seen, and counts in the states of session, user and app."""

    async def _run_async_impl(self, ctx: Any) -> AsyncIterator[Event]:
        state = ctx.session.state
        names = ("count", "user:count", "app:count")
        delta = {name: state.get(name, 0) + 1 for name in names} | {"temp:x": 1}
        yield Event(
            author=self.name,
            invocation_id=ctx.invocation_id,
            content=text(f"{len(ctx.session.events)} events", "model"),
            actions=EventActions(state_delta=delta),
            usage_metadata=types.GenerateContentResponseUsageMetadata(prompt_token_count=10, candidates_token_count=2),
        )


async def talk(service: Any, session_id: str, prompts: list[str]) -> list[str]:
    """Invocations of an agent, one after the other."""
    if await service.get_session(app_name="app", user_id="ada", session_id=session_id) is None:
        await service.create_session(app_name="app", user_id="ada", session_id=session_id)
    runner = Runner(agent=Counter(name="counter"), app_name="app", session_service=service)
    said: list[str] = []
    for prompt in prompts:
        async for event in runner.run_async(user_id="ada", session_id=session_id, new_message=text(prompt)):
            said += [part.text for part in event.content.parts]
    return said


async def together(service: Any, writers: int, runs: int, name: str) -> None:
    """Many writers of events at once on one session; each event that was appended is told."""
    with contextlib.suppress(AlreadyExistsError):
        await service.create_session(app_name="app", user_id="ada", session_id="many")

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            session = await service.get_session(app_name="app", user_id="ada", session_id="many")
            changed = {said: number, f"user:{said}": number, f"app:{said}": number}
            event = Event(
                author="user", invocation_id=said, content=text(said), actions=EventActions(state_delta=changed)
            )
            await service.append_event(session, event)
            print(said, flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


async def running(service: Any, writers: int, runs: int, name: str) -> None:
    """Many invocations of an agent at once, each writer's in a session of its own; each that has ended is told."""

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            await talk(service, f"{name}-{writer}", [said])
            print(said, flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


async def went_on(service: Any) -> dict[str, Any]:
    """What all sessions hold, by session, after each has gone on."""
    found: dict[str, Any] = {}
    for one in (await service.list_sessions(app_name="app", user_id="ada")).sessions:
        await talk(service, one.id, ["On."])
        session = await service.get_session(app_name="app", user_id="ada", session_id=one.id)
        found[one.id] = [event.content.parts[0].text for event in session.events]
    return found


async def kept(service: Any) -> dict[str, Any]:
    """What became of it."""
    session = await service.get_session(app_name="app", user_id="ada", session_id="many")
    return {"events": [event.content.parts[0].text for event in session.events], "state": session.state}


async def in_turn(service: Any) -> None:
    """Three invocations at once, events of which come from two services in turn, as from two processes."""
    names = {"app_name": "app", "user_id": "ada", "session_id": "turns"}
    await service.create_session(**names)
    other = SessileSessionService(service.storage)
    for number in range(12):
        one = (service, other)[number % 2]
        session = await one.get_session(**names)
        session.state["cart"] = ["changed by who has got it, and not appended"]
        delta = {"said": [*session.state.get("said", []), number]}
        event = Event(author="user", invocation_id=f"i{number % 3}", content=text(f"{number}"))
        event.actions = EventActions(state_delta=delta)
        await one.append_event(session, event)


async def again(service: Any) -> list[list[str]]:
    """What two services hold, as two processes do, of events that come again, and of runs that are left by a rewind."""
    names: dict[str, Any] = {"app_name": "app", "user_id": "ada", "session_id": "again"}
    session = await service.create_session(**names)
    other = SessileSessionService(service.storage)
    found: list[list[str]] = []

    async def look() -> None:
        for one in (service, other):
            for count in (None, 3):
                config = None if count is None else GetSessionConfig(num_recent_events=count)
                got = await one.get_session(**names, config=config)
                found.append([event.id for event in got.events])

    for number in range(12):
        event = Event(id=f"e{number}", author="user", invocation_id=f"i{number}", content=text(f"{number}"))
        for one in (service, other, service) if number % 5 == 0 else ((service, other)[number % 2],):
            await one.append_event(session, event)
        if number in (0, 10):
            await look()
    for number in (11, 3):
        event = Event(id=f"e{number}", author="user", invocation_id="late", content=text("again"))
        for one in (other, service):
            await one.append_event(session, event)
    await look()
    await service.storage.arewind("adk:app:ada:again", at=2, user_id="ada")
    await look()
    return found


async def crash(service: Any) -> None:
    """End after an event is stored, and before the states of user and app are."""
    session = await service.create_session(app_name="app", user_id="ada", session_id="crashed")

    async def end(*given: Any) -> None:
        os._exit(0)

    service._write = end
    changed = {"a": 1, "user:b": 2, "app:c": 3}
    event = Event(author="user", invocation_id="i", content=text("x"), actions=EventActions(state_delta=changed))
    await service.append_event(session, event)


async def answers(service: Any) -> list[Any]:
    """What a session service answers to what its documentation speaks of."""
    found: list[Any] = []

    def shown(session: Any) -> Any:
        if session is None:
            return None
        events = [(event.id, event.author, event.timestamp, event.actions.state_delta) for event in session.events]
        return [session.id, session.app_name, session.user_id, session.state, events]

    async def get(session_id: str = "s1", user_id: str = "ada", **config: Any) -> Any:
        given = GetSessionConfig(**config) if config else None
        return shown(await service.get_session(app_name="app", user_id=user_id, session_id=session_id, config=given))

    one: dict[str, Any] = {"app_name": "app", "user_id": "ada"}
    state = {"a": 1, "user:u": [2], "app:x": {"y": 3}, "temp:t": 4, "none": None}
    found.append(shown(await service.create_session(**one, session_id="  s1 ", state=state)))
    for session_id in ("s1", " s1"):
        try:
            await service.create_session(**one, session_id=session_id)
        except AlreadyExistsError as error:
            found.append(str(error))
    made = await service.create_session(**one)
    found.append(len(made.id) > 10)
    await service.delete_session(**one, session_id=made.id)
    found += [await get(), await get(" s1 "), await get("s2"), await get("s1", "bob")]
    session = await service.get_session(**one, session_id="s1")
    deltas: list[dict[str, Any]] = [
        {"a": None, "b": {"c": 1}},
        {"b": {"d": 2}, "user:u": {"n": 1}, "app:x": None, "temp:q": 1},
        {"user:v": None},
        {},
    ]
    for number, delta in enumerate(deltas):
        event = Event(
            id=f"e{number}",
            author="user" if number % 2 == 0 else "bot",
            invocation_id=f"i{number // 2}",
            timestamp=1000.0 + number,
            content=text(f"said {number}"),
            actions=EventActions(state_delta=delta),
        )
        appended = await service.append_event(session, event)
        found.append([appended.id, appended.actions.state_delta, session.state, len(session.events)])
    partial = Event(id="p", author="bot", partial=True, content=text("par"), timestamp=1010.0)
    await service.append_event(session, partial)
    found += [await get(), session.last_update_time]
    found += [await get(num_recent_events=count) for count in (0, 1, 3, 10)]
    found += [await get(after_timestamp=moment) for moment in (0.0, 1002.0, 1002.5, 2000.0)]
    found.append(await get(num_recent_events=3, after_timestamp=1003.0))
    await service.create_session(app_name="app", user_id="bob", session_id="s1", state={"user:u": "bob's"})
    await service.create_session(app_name="other", user_id="ada", session_id="s1")
    for given in ({}, {"user_id": "ada"}, {"user_id": "bob"}, {"user_id": "nobody"}):
        listed = (await service.list_sessions(app_name="app", **given)).sessions
        found.append([shown(one) for one in listed])
    found += [await service.get_user_state(app_name="app", user_id=user) for user in ("ada", "bob", "eve")]
    await service.delete_session(**one, session_id="s1")
    await service.delete_session(**one, session_id="s1")
    found.append(await get())
    found.append(await service.get_user_state(**one))
    try:
        await service.append_event(session, Event(id="late", author="user", content=text("late")))
    except ValueError as error:
        found.append(type(error).__name__)
    again = await service.create_session(**one, session_id="s1")
    found.append(shown(again))
    return found


MANY: dict[str, Any] = {"together": together, "running": running}
FOUND: dict[str, Any] = {"kept": kept, "went_on": went_on, "answers": answers, "crash": crash, "in_turn": in_turn}
FOUND["again"] = again


def main(what: str, *arguments: str) -> None:
    if what == "theirs":
        path = os.environ["SESSILE_URL"].removeprefix("sqlite:///") + ".theirs"
        services = {"memory": InMemorySessionService, "sqlite": lambda: SqliteSessionService(path)}
        print(json.dumps(asyncio.run(answers(services[arguments[0]]()))))
        return
    with sessile.open(os.environ["SESSILE_URL"]) as storage:
        service = SessileSessionService(storage)
        if what == "talk":
            print(json.dumps(asyncio.run(talk(service, arguments[0], list(arguments[1:])))))
        elif what in MANY:
            asyncio.run(MANY[what](service, int(arguments[0]), int(arguments[1]), arguments[2]))
        else:
            print(json.dumps(asyncio.run(FOUND[what](service))))


if __name__ == "__main__":
    main(*sys.argv[1:])
