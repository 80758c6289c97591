"""One agent object, many users and sessions at the same time: nothing of one reaches another."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.models.openai import OpenAIChatModel
from tests.agents.helpers import prompts, sent
from tests.model_server import ModelServer

from sessile import ANY_USER, Agent, MemoryStorage, SqliteStorage, current_session, session_state
from sessile.errors import SessionNotFoundError, UserRequiredError
from sessile.records import Session

SESSIONS = 20
RUNS = 2


async def note(word: str) -> str:
    """Remember a word in the state."""
    await asyncio.sleep(0)
    return note_in_a_thread(word)


def note_in_a_thread(word: str) -> str:
    """Remember a word in the state."""
    session_state().setdefault("words", []).append(word)
    return str(session_state().setdefault("me", word.split("-")[0]))


def prompt(session: int, run: int) -> str:
    tool = "note" if session % 2 else "note_in_a_thread"
    return f'call {tool} {{"word": "s{session}-{run}"}}'


def make_agent(model: OpenAIChatModel, storage: Any, **settings: Any) -> Agent[str]:
    return Agent(
        model,
        storage=storage,
        history="all",
        instructions="You talk to {me}.",
        tools=[note, note_in_a_thread],
        **settings,
    )


def check(server: ModelServer, storage: Any) -> None:
    """What arrived on the wire is of one session each; what is stored is of the session that it belongs to."""
    for request in range(len(server.requests)):
        owners = {text.split('"s')[1].split("-")[0] for text in prompts(server, request)}
        assert len(owners) == 1
        (owner,) = owners
        instructions = sent(server, request).system_text
        assert instructions in ("You talk to {me}.", f"You talk to s{owner}.")
        results = {turn.text for turn in sent(server, request).turns if turn.role == "tool"}
        assert results <= {f"s{owner}"}
    for session in range(SESSIONS):
        head: Session = storage.get_session(f"session-{session}", user_id=f"user-{session}")
        assert head.run_count == RUNS
        assert head.state["me"] == f"s{session}"
        assert {word.split("-")[0] for word in head.state["words"]} == {f"s{session}"}
        runs = storage.runs(f"session-{session}", user_id=f"user-{session}")
        assert sorted(run.input for run in runs) == [prompt(session, run) for run in range(RUNS)]
        assert {run.output.split("=")[1] for run in runs} == {f"s{session}"}


async def test_many_sessions_in_tasks(server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = make_agent(model, storage)
    await asyncio.gather(
        *(
            agent.arun(prompt(session, run), session_id=f"session-{session}", user_id=f"user-{session}")
            for run in range(RUNS)
            for session in range(SESSIONS)
        )
    )
    check(server, storage)


def test_many_sessions_in_threads(server: ModelServer, model: OpenAIChatModel) -> None:
    with MemoryStorage() as storage:
        agent = make_agent(model, storage, on_busy="queue")

        def work(session: int, run: int) -> None:
            key: dict[str, Any] = {"session_id": f"session-{session}", "user_id": f"user-{session}"}
            if run % 2:
                agent.run(prompt(session, run), **key)
            else:
                list(agent.stream(prompt(session, run), **key))

        together([partial(work, session, run) for run in range(RUNS) for session in range(SESSIONS)])
        check(server, storage)


def together(jobs: list[Callable[[], Any]]) -> None:
    """Run all jobs at the same time; an error of one is raised."""
    errors: list[BaseException] = []

    def work(job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 (raised in the test's own thread)
            errors.append(error)

    threads = [threading.Thread(target=work, args=[job]) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


# ---------------------------------------------------------------- other people's sessions


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_another_users_session_is_not_there(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage, durability: Any
) -> None:
    agent = Agent(model, storage=storage, durability=durability)
    agent.run("My secret", session_id="s1", user_id="ada")
    agent.run("Nobody's", session_id="open")
    before = storage.entries("s1", user_id="ada"), storage.entries("open")
    server.reset()
    for session_id, user in (("s1", "bob"), ("open", "bob"), ("s1", None), ("absent", ANY_USER)):
        key: dict[str, Any] = {"session_id": session_id, "user_id": user}
        with pytest.raises(SessionNotFoundError):
            agent.run("What did she say?", **key)
        with pytest.raises(SessionNotFoundError):
            list(agent.stream("What did she say?", **key))
        with pytest.raises(SessionNotFoundError):
            agent.print_response("What did she say?", **key)
        with pytest.raises(SessionNotFoundError):
            agent.resume(**key)
    assert server.requests == []
    assert (storage.entries("s1", user_id="ada"), storage.entries("open")) == before
    assert len(storage.sessions(user_id=ANY_USER)) == 2


@pytest.mark.parametrize("durability", ["run", "step", "exit"])
def test_any_user_goes_on_with_the_session_of_whoever_has_it(
    model: OpenAIChatModel, storage: SqliteStorage, durability: Any
) -> None:
    seen: list[str | None] = []

    def who() -> None:
        seen.append(current_session().user_id)

    agent = Agent(model, storage=storage, durability=durability, tools=[who])
    agent.run("My secret", session_id="s1", user_id="ada")
    agent.run("call who {}", session_id="s1", user_id=ANY_USER)
    assert seen == ["ada"]
    assert [run.status for run in storage.runs("s1", user_id="ada")] == ["completed", "completed"]


async def test_another_users_session_is_not_there_asynchronously(
    server: ModelServer, model: OpenAIChatModel, storage: SqliteStorage
) -> None:
    agent = Agent(model, storage=storage, user_id="ada")
    await agent.arun("My secret", session_id="s1")
    with pytest.raises(SessionNotFoundError):
        await agent.arun("Hello", session_id="s1", user_id="bob")
    with pytest.raises(SessionNotFoundError):
        async for _ in agent.astream("Hello", session_id="s1", user_id="bob"):
            pass
    assert len(server.requests) == 1


def test_a_handle_of_another_users_session(model: OpenAIChatModel, storage: SqliteStorage) -> None:
    agent = Agent(model, storage=storage)
    agent.run("My secret", session_id="s1", user_id="ada")
    handle = agent.session("s1", user_id="bob")
    assert handle.get_session() is None
    assert (handle.state(), handle.runs(), handle.messages(), handle.pending()) == ({}, [], [], {})
    with pytest.raises(SessionNotFoundError):
        handle.run("Hello")
    with pytest.raises(SessionNotFoundError):
        handle.update_state({"x": 1})


def test_a_user_that_is_required(server: ModelServer, model: OpenAIChatModel, path: Path) -> None:
    with SqliteStorage(path, require_user=True) as storage:
        agent = Agent(model, storage=storage, read_chat_history=True, search_sessions=True)
        with pytest.raises(UserRequiredError):
            agent.run("Hello", session_id="s1")
        assert server.requests == []
        assert agent.run("Hello", session_id="s1", user_id="ada").output == "You said: Hello"
        assert Agent(model, storage=storage, user_id="ada").run("Hello").status == "completed"
        assert agent.session("s1", user_id="ada").pending() == {}
        assert "Hello" in agent.run('call read_history {"last_runs": 5}', session_id="s1", user_id="ada").output
