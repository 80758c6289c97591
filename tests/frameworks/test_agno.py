"""Sessions and runs of Agno: the answers of its own database, and what becomes of its runs here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.frameworks.helpers import page_runs, program
from tests.frameworks.writers import killed_in_the_middle, written_together

import sessile
from sessile import Agent

pytestmark = pytest.mark.measured_children

FRAMEWORK = "agno"
WORK = "agno_work.py"


@cache
def theirs() -> Any:
    """What theirs answers, which is the same each time."""
    return program(FRAMEWORK, WORK, "sqlite:///unused.db", "theirs", "memory")


def test_it_answers_as_their_own_database(url: str) -> None:
    """Their source distribution has no tests. The two databases of theirs differ: this is the one in memory."""
    assert program(FRAMEWORK, WORK, url, "answers") == theirs()


def test_what_theirs_would_lose_is_refused(url: str) -> None:
    """Runs of other users and of no session; and a run is cancelled once, and only where it waits."""
    assert program(FRAMEWORK, WORK, url, "refused") == [True, True, True, True, False]


def test_a_run_of_theirs_is_a_run_here(url: str) -> None:
    assert program(FRAMEWORK, WORK, url, "talk", "s1", "Paris?", "And Rome?") == ["1 messages", "3 messages"]
    with sessile.open(url) as storage:
        session = storage.get_session("agno:s1", user_id="ada")
        assert session is not None
        assert (session.kind, session.run_count) == ("agno", 2)
        runs = storage.runs("agno:s1", last=5, user_id="ada")
        assert [(run.input, run.output, run.agent) for run in runs] == [
            ("Paris?", "1 messages", "guide"),
            ("And Rome?", "3 messages", "guide"),
        ]
        assert [message.data["role"] for run in runs for message in run.messages] == ["user", "assistant"] * 2
        storage.verify("agno:s1", user_id="ada")


def test_an_agent_of_ours_goes_on(sqlite_url: str) -> None:
    program(FRAMEWORK, WORK, sqlite_url, "talk", "s1", "Paris?")
    seen: list[ModelMessage] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(messages)
        return ModelResponse([TextPart("Ours.")])

    with sessile.open(sqlite_url) as storage:
        agent = Agent(FunctionModel(answer), storage=storage)
        assert agent.run("What was it?", session_id="agno:s1", user_id="ada").output == "Ours."
    assert "Paris?" in str(seen)
    assert program(FRAMEWORK, WORK, sqlite_url, "talk", "s1", "On.") == ["3 messages"], "theirs sees its own runs"


def test_writers_at_once_lose_nothing(busy_url: str) -> None:
    said = written_together(FRAMEWORK, WORK, busy_url)
    assert program(FRAMEWORK, WORK, busy_url, "kept") == said


def test_a_killed_process_loses_nothing_that_was_told(killed_url: str, told: int) -> None:
    acknowledged = killed_in_the_middle(FRAMEWORK, WORK, killed_url, told)
    assert set(program(FRAMEWORK, WORK, killed_url, "kept")) >= set(acknowledged)


def test_a_process_killed_in_runs_is_followed_by_another(killed_url: str, told: int) -> None:
    acknowledged = killed_in_the_middle(FRAMEWORK, WORK, killed_url, told, "running")
    sessions = program(FRAMEWORK, WORK, killed_url, "went_on")
    assert {said for inputs in sessions.values() for said in inputs} >= set(acknowledged)
    assert all(inputs[-1] == "On." for inputs in sessions.values())
    with sessile.open(killed_url) as storage:
        for session in sessions:
            storage.verify(f"agno:{session}", user_id="ada")


def test_a_session_whose_first_write_was_cut_off_gets_its_runs(url: str) -> None:
    all_of_them = ["first", "second", "third"]
    assert program(FRAMEWORK, WORK, url, "cut_off") == [["first"], all_of_them, all_of_them]


def test_a_run_that_is_written_often_is_what_was_written_last() -> None:
    """And a session that is nobody's is who claims it first."""
    assert program(FRAMEWORK, WORK, "memory://", "often") == ["509", 1, [True, False, True, False]]


def test_the_page_runs(tmp_path: Path) -> None:
    assert "Hello, 2" in page_runs(FRAMEWORK, "agno.md", tmp_path)
