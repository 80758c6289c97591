"""Sessions of Google ADK: the answers of its own services, and what becomes of its events here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.campaigns import TORTURE
from tests.frameworks.helpers import page_runs, program
from tests.frameworks.writers import killed_in_the_middle, written_together

import sessile
from sessile import Agent
from sessile.storage.extending import operate, with_media

pytestmark = pytest.mark.measured_children

FRAMEWORK = "google_adk"
WORK, BESIDE = "google_adk_work.py", "google_adk_beside.py"


@cache
def theirs() -> Any:
    """What theirs answers, which is the same each time."""
    return program(FRAMEWORK, WORK, "sqlite:///unused.db", "theirs", "memory")


def test_it_answers_as_their_own_services(url: str) -> None:
    """Their source distribution has no tests; their service in memory is what theirs are written after."""
    assert program(FRAMEWORK, WORK, url, "answers") == theirs()


def test_an_invocation_is_a_run_here(url: str) -> None:
    assert program(FRAMEWORK, WORK, url, "talk", "s1", "Paris?", "And Rome?") == ["1 events", "3 events"]
    with sessile.open(url) as storage:
        session = storage.get_session("adk:app:ada:s1", user_id="ada")
        assert session is not None
        assert (session.kind, session.agent, session.run_count) == ("google-adk", "app", 2)
        assert session.state == {"count": 2}
        assert session.usage.input_tokens == 20
        runs = storage.runs("adk:app:ada:s1", last=5, user_id="ada")
        assert [(run.input, run.output, len(run.messages)) for run in runs] == [
            ("Paris?", "1 events", 2),
            ("And Rome?", "3 events", 2),
        ]
        for session_id in ("adk:app:ada:s1", "adk-user:app:ada"):
            storage.verify(session_id, user_id="ada")


def test_an_agent_of_ours_goes_on_and_theirs_after_it(sqlite_url: str) -> None:
    program(FRAMEWORK, WORK, sqlite_url, "talk", "s1", "Paris?")
    seen: list[ModelMessage] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(messages)
        return ModelResponse([TextPart("Ours.")])

    with sessile.open(sqlite_url) as storage:
        agent = Agent(FunctionModel(answer), storage=storage)
        assert agent.run("What was it?", session_id="adk:app:ada:s1", user_id="ada").output == "Ours."
    assert "Paris?" in str(seen)
    assert "1 events" in str(seen)
    assert program(FRAMEWORK, WORK, sqlite_url, "talk", "s1", "Go on.") == ["5 events"]


def test_no_event_is_without_its_state(sqlite_url: str) -> None:
    """A process ends between the commit of an event, and those of the states of user and app."""
    program(FRAMEWORK, WORK, sqlite_url, "crash")
    with sessile.open(sqlite_url) as storage:
        assert storage.get_session("adk-user:app:ada", user_id="ada") is None
    assert program(FRAMEWORK, WORK, sqlite_url, "talk", "crashed", "On.") == ["2 events"]
    with sessile.open(sqlite_url) as storage:
        user = storage.get_session("adk-user:app:ada", user_id="ada")
        app = storage.get_session("adk-app:app")
        assert user is not None
        assert app is not None
        assert (user.state, app.state) == ({"b": 2, "count": 1}, {"c": 3, "count": 1})


def test_invocations_from_several_processes_are_a_run_each(url: str) -> None:
    program(FRAMEWORK, WORK, url, "in_turn")
    with sessile.open(url) as storage:
        session = storage.get_session("adk:app:ada:turns", user_id="ada")
        assert session is not None
        assert session.state == {"said": [*range(12)]}
        runs = storage.runs(session.session_id, last=9, user_id="ada")
        said = [[message.data["content"]["parts"][0]["text"] for message in run.messages] for run in runs]
        assert said == [["0", "3", "6", "9"], ["1", "4", "7", "10"], ["2", "5", "8", "11"]]
        storage.verify(session.session_id, user_id="ada")


def test_services_that_remember_see_what_others_do(sqlite_url: str) -> None:
    """Events that come again, from whichever service, are those that are there; what was rewound is not."""
    events = [f"e{number}" for number in range(12)]
    found = program(FRAMEWORK, WORK, sqlite_url, "again")
    assert found == [events[:count][-last:] for count in (1, 11, 12, 2) for last in (12, 3, 12, 3)]


def test_writers_at_once_lose_nothing(busy_url: str) -> None:
    said = written_together(FRAMEWORK, WORK, busy_url)
    kept = program(FRAMEWORK, WORK, busy_url, "kept")
    assert sorted(kept["events"]) == said
    names = {f"{scope}{one}" for one in said for scope in ("", "user:", "app:")}
    assert kept["state"].keys() == names


def test_a_killed_process_loses_nothing_that_was_told(killed_url: str, told: int) -> None:
    acknowledged = killed_in_the_middle(FRAMEWORK, WORK, killed_url, told)
    kept = program(FRAMEWORK, WORK, killed_url, "kept")
    assert set(kept["events"]) >= set(acknowledged)
    assert all(f"{scope}{one}" in kept["state"] for one in kept["events"] for scope in ("", "user:", "app:"))


def test_a_process_killed_in_invocations_is_followed_by_another(killed_url: str, told: int) -> None:
    acknowledged = killed_in_the_middle(FRAMEWORK, WORK, killed_url, told, "running")
    sessions = program(FRAMEWORK, WORK, killed_url, "went_on")
    assert {said for events in sessions.values() for said in events} >= set(acknowledged)
    assert all(events[-2] == "On." and events[-1].endswith(" events") for events in sessions.values())
    with sessile.open(killed_url) as storage:
        for session in sessions:
            storage.verify(f"adk:app:ada:{session}", user_id="ada")


@pytest.mark.parametrize("what", ["files", "remembered"])
def test_files_and_memory_answer_as_their_own(what: str, url: str) -> None:
    assert program(FRAMEWORK, BESIDE, url, what) == program(FRAMEWORK, BESIDE, url, "theirs", what)


def test_a_file_is_a_session_and_its_content_media(sqlite_url: str) -> None:
    program(FRAMEWORK, BESIDE, sqlite_url, "files")
    with sessile.open(sqlite_url) as storage:
        session = storage.get_session("adk-artifact:app:ada:s1:a.bin", user_id="ada")
        assert session is not None
        assert (session.kind, session.name, session.run_count) == ("google-adk-artifact", "a.bin", 4)
        storage.verify(session.session_id, user_id="ada")
        alike = [run.messages[0].data["content"] for run in storage.runs(session.session_id, last=9, user_id="ada")]
        assert alike[0]["data"] == alike[3]["data"]
        assert operate(storage, with_media, session, alike[0])["data"] == bytes(range(256)) * 400
        storage.delete_user("ada")
        assert storage.count_sessions(user_id=sessile.ANY_USER) == 0


def test_what_is_forgotten_is_out_of_the_log(sqlite_url: str) -> None:
    program(FRAMEWORK, BESIDE, sqlite_url, "remembered")
    with sessile.open(sqlite_url) as storage:
        said = str(storage.entries("adk-memory:app:ada:s1", user_id="ada", limit=1000))
        assert "City of light." in said
        assert "I live in" not in said
        storage.verify("adk-memory:app:ada:s1", user_id="ada")


@pytest.mark.skipif(not TORTURE, reason="SESSILE_TORTURE=1")
def test_who_save_a_file_at_once_get_versions_of_their_own(busy_url: str) -> None:
    said = written_together(FRAMEWORK, BESIDE, busy_url)
    kept = program(FRAMEWORK, BESIDE, busy_url, "kept")
    assert sorted(kept["versions"]) == said == sorted(kept["remembered"])


def test_a_killed_process_loses_no_file_that_was_told(killed_url: str, told: int) -> None:
    acknowledged = set(killed_in_the_middle(FRAMEWORK, BESIDE, killed_url, told))
    kept = program(FRAMEWORK, BESIDE, killed_url, "kept")
    assert set(kept["versions"]) >= acknowledged
    assert set(kept["remembered"]) >= acknowledged


def test_the_page_runs(tmp_path: Path) -> None:
    said = page_runs(FRAMEWORK, "google-adk.md", tmp_path)
    assert "Hello, Ada." in said
    assert "1 b'two'" in said
    assert "['Hello, stranger.']" in said
