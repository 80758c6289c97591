"""docs/format.md says what is stored, and a stranger who knows only the page can read it."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests import format_page
from tests.format_page import EXAMPLES, PAGE, entry_of, with_parts

from sessile import SqliteStorage, Storage
from sessile.records import Entry, Usage
from sessile.storage import fold
from sessile.storage.driver import CommitRow, HeadRow
from sessile.storage.encoding import decode_commit, encode_commit
from sessile.storage.vocabulary import WORDS, RunStarted, SessionCreated, kind_of

BEGUN = [
    SessionCreated(session_id="s", kind="agent", incarnation="i", hidden="building").entry(),
    RunStarted(input="?").entry("0199…", 3),
]


def test_the_page_is_what_the_classes_say() -> None:
    page = PAGE.read_text("utf-8")
    assert page == with_parts(page), "write it anew: python -m tests.format_page"


def test_the_page_has_every_kind_column_and_count() -> None:
    assert {said.KIND for said in EXAMPLES} == WORDS.keys()
    assert tuple(format_page.COLUMNS) == HeadRow._fields
    assert tuple(format_page.COMMIT_COLUMNS) == CommitRow._fields
    assert format_page.COUNTS.keys() == Usage(1, 1, 1, 1, 1, 1, cost=1).to_json().keys()


@pytest.mark.parametrize("said", EXAMPLES, ids=lambda said: said.KIND)
def test_every_field_is_in_some_example_or_may_be_away(said: Any) -> None:
    required = {one.name for one in said.FIELDS.values() if one.required}
    assert required <= (said.json or {}).keys()
    assert all(one.meaning for one in said.FIELDS.values())


@pytest.mark.parametrize("said", EXAMPLES, ids=lambda said: said.KIND)
def test_examples_are_stored_and_come_back(said: Any) -> None:
    (entry,) = decode_commit(CommitRow(1, "c", 3, 5, encode_commit([entry_of(said)])))
    assert (entry.kind, entry.data) == (said.KIND, said.json)
    assert kind_of(entry).KIND == said.KIND


@pytest.mark.parametrize(
    "said", [said for said in EXAMPLES if said.KIND != "session.created"], ids=lambda said: said.KIND
)
def test_what_is_erased_changes_no_head(said: Any) -> None:
    head = fold.fold(None, 1, 1, BEGUN)
    entry = entry_of(said)
    whole = fold.fold(head, 2, 2, [entry])
    entry.data = kind_of(entry).erase(entry)
    assert fold.fold(head, 2, 2, [entry]) == whole
    if kind_of(entry).DROPPABLE:
        assert fold.fold(head, 2, 2, []) == whole


# ---------------------------------------------------------------- a stranger, who has read the page


def test_a_stranger_reads_a_database(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as storage:
        fill(storage)
        head = storage.get_session("s")
        assert head is not None
        connection = sqlite3.connect(tmp_path / "s.db")
        ((body,),) = connection.execute("SELECT body FROM sessile_sessions")
        rows = connection.execute("SELECT run, time, body FROM sessile_commits ORDER BY seq").fetchall()
        connection.close()
        known = json.loads(body)
        assert stranger_branch(known) == [run.number for run in storage.runs("s")] == [1, 3, 4]
        made = stranger_head(rows)
        assert made["state"] == known["state"] == head.state
        assert {name: known[name] for name in made} == made
        for run in storage.runs("s"):
            assert stranger_messages(rows, run.number) == [message.data for message in run.messages]


def fill(storage: Storage) -> None:
    for number in (1, 2):
        message = {"text": str(number)}
        storage.add_run(
            "s",
            input=number,
            format="test/1",
            messages=[message],
            usage=Usage(cost=number),
            state={"n": number, "deep": {}},
        )
    storage.rewind("s", at=1)
    storage.add_run(
        "s", input=3, format="test/1", messages=[{"text": "3"}, {"text": "4"}], state={"deep": {"er": [None]}}
    )
    storage.add_run("s", input=4, status="failed")
    storage.set_ttl("s", 3600)


def stranger_branch(body: Any) -> list[int]:
    """The runs of the current branch."""
    runs: list[int] = []
    run = body["tip"]
    for parent, first in reversed(body["segments"]):
        if first <= run:
            runs = [*range(first, run + 1), *runs]
            run = parent
    return runs


def stranger_head(rows: list[Any]) -> dict[str, Any]:
    """A part of the head, made from the log."""
    head: dict[str, Any] = {"tip": 0, "run_count": 0, "segments": [], "state": {}, "usage": {}, "ttl": None}
    for _, _, body in rows:
        for entry in json.loads(body)["entries"]:
            data = entry.get("data")
            if entry["kind"] == "session.created":
                head["state"] = data.get("state", {})
            elif entry["kind"] == "run.started" and "parent_run_id" not in entry:
                if head["tip"] != head["run_count"] or not head["segments"]:
                    head["segments"].append([head["tip"], entry["run"]])
                head["tip"] = head["run_count"] = entry["run"]
            elif entry["kind"] == "run.ended" and not data.get("copied"):
                for name, count in data.get("usage", {}).items():
                    head["usage"][name] = head["usage"].get(name, 0) + count
            elif entry["kind"] == "session.rewound":
                head["tip"] = data["run"]
            elif entry["kind"] == "session.ttl":
                head["ttl"] = data["ttl"]
            elif entry["kind"] == "state.patched":
                stranger_patch(head["state"], data["patch"])
    return head


def stranger_patch(state: Any, operations: Any) -> None:
    """Change the state by a patch."""
    for operation, path, *value in operations:
        node = state
        for key in path[:-1]:
            node = node.setdefault(key, {})
        if operation == "set":
            node[path[-1]] = value[0]
        else:
            node.pop(path[-1], None)


def stranger_messages(rows: list[Any], number: int) -> list[Any]:
    """The messages of a run."""
    entries = [entry for run, _, body in rows if run == number for entry in json.loads(body)["entries"]]
    return [entry["data"] for entry in entries if entry["kind"] == "message" and entry["run"] == number]


def test_every_kind_that_is_written_somewhere_is_a_word() -> None:
    """No other module names kinds of its own, or looks into the data of entries."""
    folder = Path(fold.__file__).parent.parent
    rooms = ["storage", "agents", "workflows", "live", "cli"]
    own = folder / "storage" / "vocabulary"
    kinds = "|".join(map(re.escape, WORDS.keys() - {"message"}))
    for path in [path for room in rooms for path in sorted((folder / room).rglob("*.py")) if own not in path.parents]:
        text = path.read_text("utf-8")
        assert not re.search(r"\b(?:entry|step|event|ended)\.data(?:\[|\.get\()", text), path
        assert not re.search(rf'(?:Entry\(|\b(?:entry|step)\.kind == )"(?:{kinds})"', text), path


def test_entries_are_made_of_words() -> None:
    assert RunStarted(input="?").entry("r", 1) == Entry("run.started", {"input": "?"}, "r", 1)
