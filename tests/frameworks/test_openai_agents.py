"""Sessions of the OpenAI Agents SDK: its own tests, and what becomes of its runs here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.campaigns import TORTURE
from tests.frameworks.helpers import own_tests, page_runs, program, source_of
from tests.frameworks.writers import killed_in_the_middle, written_together

import sessile
from sessile import Agent

pytestmark = pytest.mark.measured_children

FRAMEWORK = "openai_agents"
WORK = "openai_agents_work.py"

CONNECTIONS = [
    "close_closes_worker_thread_connections",
    "reaps_connections_from_exited",
    "closes_retired_connections",
    "keeps_connections_of_live",
    "closed_rejects_empty",
    "skips_corrupt",
    "dropping_only_corrupt_rows",
    "file_lock_is_shared",
    "failed_add_items_releases",
    "failed_clear_session_rolls_back",
    "failed_pop_item_releases",
    "rollback_failure_evicts",
    "close_retries_quarantined",
    "post_commit_cancellation",
    "rolls_back_failed_insert",
    "settles_before_newer_append",
    "preserves_original_tokens",
    "settled_pop_failure",
    "settled_clear_failure",
]
"""They reach into `SQLiteSession`'s own connections, locks, tables, and rows that are no JSON, or replace them."""

ATOMIC_POP = ["test_encrypted_pop"]
"""They ask for a private method that `EncryptedSession` calls on subclasses of `SQLiteSession` alone."""

FIRST = ["tests/memory/test_session.py", "tests/memory/test_session_limit.py", "tests/memory/test_compaction_suffix.py"]
MORE = [
    "tests/memory/test_session_context_wrapper.py",
    "tests/memory/test_compaction_model_visibility.py",
    "tests/memory/test_openai_responses_compaction_session.py",
    "tests/extensions/memory/test_encrypt_session.py",
]


def test_the_frameworks_own_tests(url: str) -> None:
    """On PostgreSQL, where they open many connections, the sessions alone."""
    files = [*FIRST, *MORE] if TORTURE and "postgres" not in url else FIRST if "sqlite" in url else FIRST[:1]
    folder = source_of(FRAMEWORK, "openai-agents")
    passed = own_tests(FRAMEWORK, folder, url, "openai_agents_plugin", files, deselect=[*CONNECTIONS, *ATOMIC_POP])
    assert passed > 30 * len(files) / 3


def test_a_run_of_theirs_is_a_run_here(url: str) -> None:
    """With a tool the runner adds to its session three times."""
    assert program(FRAMEWORK, WORK, url, "talk", "s1", "Paris?", "And Rome?") == ["3 items", "7 items"]
    with sessile.open(url) as storage:
        session = storage.get_session("openai:s1")
        assert session is not None
        assert (session.kind, session.run_count, session.status) == ("openai-agents", 2, "completed")
        assert session.usage.input_tokens == 40
        runs = storage.runs("openai:s1", last=5)
        assert [(run.input, run.output, len(run.messages)) for run in runs] == [
            ("Paris?", "3 items", 4),
            ("And Rome?", "7 items", 4),
        ]
        assert [run.usage.requests for run in runs] == [2, 2]
        storage.verify("openai:s1")


def test_an_agent_of_ours_goes_on_and_theirs_after_it(sqlite_url: str) -> None:
    program(FRAMEWORK, WORK, sqlite_url, "talk", "s1", "Paris?")
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel

    seen: list[ModelMessage] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        seen.extend(messages)
        return ModelResponse([TextPart("Ours.")])

    with sessile.open(sqlite_url) as storage:
        agent = Agent(FunctionModel(answer), storage=storage)
        assert agent.run("What was it?", session_id="openai:s1").output == "Ours."
    assert "Sun in Paris." in str(seen)
    assert "What was it?" in str(seen)
    items = program(FRAMEWORK, WORK, sqlite_url, "items", "s1")
    assert [item.get("type") or item["role"] for item in items] == [
        "user", "function_call", "function_call_output", "message", "user", "message",
    ]  # fmt: skip
    assert items[-1]["content"][0]["text"] == "Ours."
    assert program(FRAMEWORK, WORK, sqlite_url, "talk", "s1", "Go on.") == ["9 items"]


def test_a_long_conversation_is_read_once(sqlite_url: str) -> None:
    """After that, only what has followed."""
    assert program(FRAMEWORK, WORK, sqlite_url, "long") == [300, 301, True, 0]


def test_sessions_of_theirs_are_shown_and_found(sqlite_url: str) -> None:
    program(FRAMEWORK, WORK, sqlite_url, "talk", "s1", "Paris?")
    command = Path(sys.executable).with_name("sessile")
    for arguments in (["show", sqlite_url, "openai:s1"], ["index", sqlite_url], ["search", sqlite_url, "Paris"]):
        done = subprocess.run([str(command), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert arguments[0] == "index" or "Paris?" in done.stdout


def test_writers_at_once_lose_nothing(busy_url: str) -> None:
    said = written_together(FRAMEWORK, WORK, busy_url)
    with sessile.open(busy_url) as storage:
        runs = list(storage.runs("openai:many", last=10_000))
        assert sorted(run.input for run in runs) == said
        assert all(len(run.messages) == 4 and run.output for run in runs)
        storage.verify("openai:many")
    assert program(FRAMEWORK, WORK, busy_url, "pops", 8) == 8


def test_a_killed_process_loses_nothing_that_was_told(killed_url: str, told: int) -> None:
    acknowledged = killed_in_the_middle(FRAMEWORK, WORK, killed_url, told)
    program(FRAMEWORK, WORK, killed_url, "talk", "many", "And now?")
    with sessile.open(killed_url) as storage:
        whole = {run.input for run in storage.runs("openai:many", last=10_000) if run.output}
        assert whole > set(acknowledged)
        storage.verify("openai:many")


def test_the_page_runs(tmp_path: Path) -> None:
    assert "Sun in Paris." in page_runs(FRAMEWORK, "openai-agents.md", tmp_path)
