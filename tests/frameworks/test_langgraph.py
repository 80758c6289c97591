"""LangGraph's checkpoints: its conformance kit, its own tests, and what becomes of its threads here."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.campaigns import TORTURE
from tests.frameworks.helpers import own_tests, page_runs, program, source_of
from tests.frameworks.writers import killed_in_the_middle, written_together

import sessile

pytestmark = pytest.mark.measured_children

FRAMEWORK = "langgraph"
WORK = "langgraph_work.py"

FIRST = ["tests/test_delta_channel_exit_mode.py", "tests/test_delta_channel_fork.py"]
MORE = [
    "tests/test_pregel.py",
    "tests/test_pregel_async.py",
    "tests/test_time_travel.py",
    "tests/test_time_travel_async.py",
    "tests/test_interruption.py",
    "tests/test_large_cases.py",
    "tests/test_large_cases_async.py",
    "tests/test_subgraph_persistence.py",
]


def test_the_conformance_kit(url: str) -> None:
    report = program(FRAMEWORK, "langgraph_kit.py", url)
    failures = {name: result["failures"] for name, result in report["results"].items() if result["failures"]}
    assert report["conformance_level"] == "FULL", failures
    assert sum(result["tests_passed"] for result in report["results"].values()) == 81


def test_the_frameworks_own_tests(killed_url: str) -> None:
    """Those that take a saver, with ours in the place of SQLite's: `-k sqlite`. None of them is left out.

    The kit does not test that writes may come before their checkpoint; the tests of delta channels do.
    """
    folder = source_of(FRAMEWORK, "langgraph")
    files = [*FIRST, *MORE] if TORTURE else FIRST
    options = ["-o", "addopts=", "-k", "sqlite"]
    passed = own_tests(FRAMEWORK, folder, killed_url, "langgraph_plugin", files, options=options)
    assert passed > (600 if TORTURE else 20)


def test_a_thread_is_a_session_here(url: str) -> None:
    assert program(FRAMEWORK, WORK, url, "talk", "42", "Paris?", "Rome?") == ["1 messages", "3 messages"]
    with sessile.open(url) as storage:
        (session,) = storage.sessions(kind="langgraph").items
        assert (session.session_id, session.agent) == ("langgraph:42", "42")
        assert session.metadata == {"thread_id": "42", "checkpoint_ns": ""}
        entries = storage.entries("langgraph:42")
        assert [entry.data["metadata"]["step"] for entry in entries if entry.kind == "langgraph.checkpoint"] == [
            -1, 0, 1, 2, 3, 4,
        ]  # fmt: skip
        storage.verify("langgraph:42")


def test_pruning_leaves_what_is_needed(url: str) -> None:
    assert program(FRAMEWORK, WORK, url, "pruned") == [300, 1]
    with sessile.open(url) as storage:
        storage.verify("langgraph:p")
        kinds = [entry.kind for entry in storage.entries("langgraph:p", limit=1000)]
        assert kinds.count("langgraph.checkpoint") == 4, "those that were dropped are gone"


def test_what_is_kept_where_it_is_hard_to(url: str) -> None:
    """See `suites/langgraph_kept.py`."""
    assert program(FRAMEWORK, "langgraph_kept.py", url, "messages_by_value", "cut_off", "odd_metadata") is True


def test_the_writes_of_any_number_of_tasks_are_read() -> None:
    assert program(FRAMEWORK, "langgraph_kept.py", "memory://", "many_tasks") is True


def test_writers_at_once_lose_nothing(busy_url: str) -> None:
    said = written_together(FRAMEWORK, WORK, busy_url)
    assert program(FRAMEWORK, WORK, busy_url, "kept") == said


@pytest.mark.skipif(not TORTURE, reason="SESSILE_TORTURE=1")
def test_writers_of_items_at_once_lose_nothing(busy_url: str) -> None:
    said = written_together(FRAMEWORK, WORK, busy_url, "putting")
    assert program(FRAMEWORK, WORK, busy_url, "put") == said


def test_a_killed_process_loses_nothing_that_was_told(killed_url: str, told: int) -> None:
    acknowledged = killed_in_the_middle(FRAMEWORK, WORK, killed_url, told, "running")
    threads = program(FRAMEWORK, WORK, killed_url, "went_on")
    assert {said for messages in threads.values() for said in messages} >= set(acknowledged)
    assert all(messages[-2] == "On." and messages[-1].endswith(" messages") for messages in threads.values())
    with sessile.open(killed_url) as storage:
        for thread in threads:
            storage.verify(f"langgraph:{thread}")


def test_the_frameworks_own_tests_of_stores(killed_url: str) -> None:
    """With ours in the place of the one in memory, search by meaning included. None of them is left out."""
    folder = source_of(FRAMEWORK, "langgraph-checkpoint")
    files = ["tests/test_store.py"]
    assert own_tests(FRAMEWORK, folder, killed_url, "langgraph_store_plugin", files, options=["-o", "addopts="]) > 110


def test_items_are_kept(url: str) -> None:
    found = program(FRAMEWORK, WORK, url, "stored")
    assert found == [
        {"likes": {"color": "blue"}, "n": 2},
        ["k"],
        [["memories", "a:b", "c"], ["memories", "ada"]],
        ["read"],
        None,
    ]
    with sessile.open(url) as storage:
        assert storage.get_session("langgraph-store:memories:a%3Ab:c:k") is not None


def test_the_page_runs(tmp_path: Path) -> None:
    assert "4 messages" in page_runs(FRAMEWORK, "langgraph.md", tmp_path)
