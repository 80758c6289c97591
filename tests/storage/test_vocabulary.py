"""What programs of two versions do to one database: nothing that only one of them knows is lost."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sessile import SqliteStorage, Storage
from sessile.errors import NewerVersionError
from sessile.records import Entry, OpenRun, Session, Usage
from sessile.storage import encoding, fold, turns
from sessile.storage.driver import CommitRow
from sessile.storage.extending import operate
from sessile.storage.runs import build_runs
from sessile.storage.vocabulary import FOLDING, WORDS, RunEnded, RunStarted, ToolEnded, Word, words
from sessile.storage.vocabulary.words import field

from .helpers import end, start

LATER = 99


@pytest.fixture
def stored(sqlite: SqliteStorage, path: Path) -> Iterator[tuple[SqliteStorage, sqlite3.Connection]]:
    """A storage, and its file by another hand."""
    sqlite.setup()
    connection = sqlite3.connect(path, isolation_level=None)
    yield sqlite, connection
    connection.close()


def body_of(connection: sqlite3.Connection) -> Any:
    ((text,),) = connection.execute("SELECT body FROM sessile_sessions")
    return json.loads(text)


def set_body(connection: sqlite3.Connection, body: Any) -> None:
    connection.execute("UPDATE sessile_sessions SET body = ?", (json.dumps(body),))


# ---------------------------------------------------------------- what is not known is kept


def test_a_head_keeps_the_fields_of_a_later_version(stored: Any) -> None:
    storage, connection = stored
    storage.add_run("s", usage=Usage(cost=3e-9))
    start(storage)
    body = body_of(connection)
    body["mood"] = {"today": ["good"]}
    body["open_runs"]["2"] += ["host-7", 5]
    body["usage"]["audio_tokens"] = 40
    set_body(connection, body)
    storage.add_run("s", usage=Usage(cost=4e-9))
    storage.rename("s", "Renamed")
    body = body_of(connection)
    assert body["mood"] == {"today": ["good"]}
    assert body["open_runs"]["2"][4:] == ["host-7", 5]
    assert body["usage"] == {"cost": 7, "unpriced": 0, "audio_tokens": 40}
    head = storage.get_session("s")
    assert head is not None
    assert head.more == {"mood": {"today": ["good"]}}
    assert head.usage.more == {"audio_tokens": 40}


def test_what_only_a_later_version_folds_is_no_damage(stored: Any) -> None:
    storage, connection = stored
    storage.add_run("s")
    set_body(connection, {**body_of(connection), "mood": "good"})
    assert storage.verify("s") == 1


def test_counts_of_a_later_version_are_added_up(storage: Storage) -> None:
    storage.add_run("s", usage=Usage.from_json({"cost": 1, "audio_tokens": 2}))
    storage.add_run("s", usage=Usage.from_json({"audio_tokens": 3, "pages": 1}))
    head = storage.get_session("s")
    assert head is not None
    assert head.usage == Usage.from_json({"cost": 1, "audio_tokens": 5, "pages": 1})
    assert storage.verify("s") == 2
    below = RunEnded.of({"status": "completed", "usage": {"audio_tokens": 4}})
    entries = [
        RunStarted().entry("r", 1),
        RunStarted().entry("m", 1, "r"),
        below.entry("m", 1, "r"),
        RunEnded(status="completed", usage={"audio_tokens": 1}).entry("r", 1),
    ]
    run = build_runs(entries)[1]
    assert (run.usage.more, run.own_usage.more) == ({"audio_tokens": 5}, {"audio_tokens": 1})


def test_counts_that_are_added_and_taken_away_again_are_nothing() -> None:
    later = Usage.from_json({"cost": 2, "pages": 4})
    assert later + later - later == later
    assert later - later == Usage()
    assert Usage.from_json(later.to_json()) == later
    assert Usage.from_json({"pages": 4}).to_json() == {"pages": 4}


def test_a_fork_keeps_what_is_not_known(storage: Storage) -> None:
    turn = start(storage)
    strange = Entry("from.the.future", {"x": 1}, turn.spec.run_id, turn.number, more={"trace": "t1"})
    ended = turn.entry(ToolEnded.of({"tool_call_id": "c", "tool_name": "t", "outcome": "returned", "heat": 7}))
    operate(storage, turns.append_to_turn, turn, [strange, ended])
    end(storage, turn)
    copy = storage.fork("s").session_id
    kept = {entry.kind: entry for entry in storage.entries(copy)}
    assert (kept["from.the.future"].data, kept["from.the.future"].more) == ({"x": 1}, {"trace": "t1"})
    assert kept["tool.ended"].data["heat"] == 7


def test_the_name_that_agents_had_before_the_first_release_is_read() -> None:
    body = '{"version":1,"writer":"0","entries":[{"kind":"message","owner":"support","data":{},"run_id":"r","run":1}]}'
    (entry,) = encoding.decode_commit(CommitRow(2, "c", 1, 5, body))
    assert (entry.agent, entry.more) == ("support", None)
    created = Entry("session.created", {"session_id": "s", "incarnation": "i", "kind": "agent", "owner": "support"})
    assert fold.fold(None, 1, 1, [created]).agent == "support"


# ---------------------------------------------------------------- versions


@pytest.fixture
def later_words() -> Iterator[Any]:
    """The words of a later version: a kind that needs a new reader, and one of which only a field does."""

    class Painted(Word, kind="session.painted", version=LATER):
        """The session has a colour."""

        colour: str = field("which")

        @classmethod
        def fold(cls, head: Session, entry: Entry) -> None:
            """See `Word.fold`."""
            head.metadata = {**head.metadata, "colour": cls.of(entry.data).colour}

    class Framed(Word, kind="session.framed"):
        """The session has a frame."""

        width: int = field("how wide")
        glass: str | None = field("what is in it", default=None, since=LATER + 1)

    yield Painted, Framed
    for kind in ("session.painted", "session.framed"):
        WORDS.pop(kind)
        FOLDING.pop(kind, None)


def version_of(*entries: Entry) -> int:
    return json.loads(encoding.encode_commit(entries))["version"]


def test_a_commit_needs_the_highest_version_of_its_entries(later_words: Any) -> None:
    painted, framed = later_words
    ended = RunEnded(status="completed").entry("r", 1)
    assert version_of(ended) == version_of(framed(width=3).entry(), ended) == 1
    assert version_of(ended, painted(colour="red").entry(), ended) == LATER
    assert version_of(framed(width=3, glass="plain").entry()) == LATER + 1
    assert words.newest_version() == LATER + 1


def test_what_a_later_version_wrote_locks_an_older_one_out_of_nothing_else(
    stored: Any, later_words: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, _ = stored
    painted, _ = later_words
    storage.add_run("s", input="before")
    newer = turns.TurnSpec("s", run_id="newer", input="newer")
    turn = operate(storage, turns.begin_turn, newer, 0)
    operate(storage, turns.append_to_turn, turn, [turn.entry(painted(colour="red"))])
    end(storage, turn)
    monkeypatch.delitem(WORDS, "session.painted")
    monkeypatch.delitem(FOLDING, "session.painted")
    older = storage
    head = older.get_session("s")
    assert head is not None
    assert (head.metadata, head.run_count) == ({"colour": "red"}, 2)
    assert older.get_run("s", 1).input == "before"
    assert older.add_run("s", input="after").number == 3
    assert older.get_run("s", 3).input == "after"
    assert older.update_state("s", {"a": 1}).metadata == {"colour": "red"}
    found = older.runs("s")
    assert ([run.number for run in found], list(found.unreadable)) == ([1, 3], [2])
    for read in (lambda: older.get_run("s", 2), lambda: older.verify("s")):
        with pytest.raises(NewerVersionError, match=f"commit 3 needs format version {LATER}"):
            read()


def test_entries_of_unknown_kinds_keep_their_version(later_words: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    painted, _ = later_words
    body = encoding.encode_commit([painted(colour="red").entry(), RunStarted().entry("r", 1)])
    monkeypatch.delitem(WORDS, "session.painted")
    monkeypatch.setattr(encoding, "FORMAT_VERSION", LATER)
    first, second = encoding.decode_commit(CommitRow(2, "c", 0, 5, body))
    assert (version_of(first), version_of(second)) == (LATER, 1)


def test_heads_need_no_more_than_what_is_in_them() -> None:
    head = Session("s", "i", open_runs={1: OpenRun("r")}, more={"mood": "good"})
    row = encoding.encode_head(head, max_state=100, max_metadata=100)
    assert json.loads(row.body)["version"] == 1
    assert encoding.decode_head(row) == head
    assert encoding.decode_head(row).more == {"mood": "good"}


# ---------------------------------------------------------------- words


def test_optional_fields_are_written_only_where_they_say_something() -> None:
    assert RunEnded(status="failed", output=None, resumable=False, copied=True).json == {
        "status": "failed",
        "copied": True,
    }
    assert ToolEnded(tool_call_id="c", tool_name="t", outcome="returned", value=None).json["value"] is None
    with pytest.raises(KeyError):
        RunEnded()  # pyright: ignore[reportCallIssue]
    with pytest.raises(KeyError):
        RunEnded(status="failed", reasons="none")  # pyright: ignore[reportCallIssue]


def test_another_word_with_other_fields_keeps_the_rest() -> None:
    ended = RunEnded.of({"status": "failed", "error": {"type": "E"}, "heat": 7})
    assert ended.but(status="completed", error=None).json == {"status": "completed", "heat": 7}
    assert ended.json["status"] == "failed"
