"""The end of a session is replaced in one commit; reading from the end; what has changed in all sessions."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import (
    ConflictError,
    InvalidInputError,
    NewerVersionError,
    RunNotFoundError,
    SessionNotFoundError,
)
from sessile.records import MICROSECOND, Run, Usage
from sessile.storage import encoding, turns
from sessile.storage.amending import amend
from sessile.storage.extending import operate
from sessile.storage.tailing import Changes, Tail, changed, tail
from sessile.storage.vocabulary import MessageAdded, RunEnded, RunStarted

from .helpers import Counted, Dated, Tapped, append, crash, end, start, texts


def said(*words: str) -> list[dict[str, Any]]:
    return [{"text": word} for word in words]


def amended(storage: Storage, **options: Any) -> Run:
    return operate(storage, amend, "s", **options)


@pytest.fixture
def talked(storage: Storage) -> Storage:
    storage.add_run("s", format="test/1", messages=said("old"), output="0", usage=Usage(requests=1))
    storage.add_run(
        "s", format="test/1", messages=said("a", "b", "c"), output="1", usage=Usage(requests=3, input_tokens=10)
    )
    return storage


# ---------------------------------------------------------------- amending


def test_the_newest_messages_are_taken_away_and_others_put_in_their_place(talked: Storage) -> None:
    run = amended(talked, drop=2, messages=said("B", "C", "D"), format="test/1")
    assert texts(run.messages) == ["a", "B", "C", "D"]
    assert talked.get_run("s", 2) == run
    assert texts(talked.messages("s")) == ["old", "a", "B", "C", "D"]
    assert (run.status, run.output, run.own_usage) == ("completed", "1", Usage(requests=3, input_tokens=10))
    run = amended(talked, drop=4)
    assert run.messages == []
    assert texts(amended(talked, format="test/1", messages=said("e")).messages) == ["e"]
    head = talked.get_session("s")
    assert head is not None
    assert head.revision == 5, "one commit each"
    assert [run.number for run in talked.runs("s")] == [1, 2]
    talked.verify("s")


def test_what_came_out_is_changed(talked: Storage) -> None:
    run = amended(talked, output=None, usage=Usage(requests=2, output_tokens=7))
    assert (run.output, run.own_usage) == (None, Usage(requests=2, output_tokens=7))
    head = talked.get_session("s")
    assert head is not None
    assert head.usage == Usage(requests=3, output_tokens=7)
    run = amended(talked, status="failed", error={"type": "E", "message": "m"}, output="no")
    assert (run.status, run.error, run.output) == ("failed", {"type": "E", "message": "m"}, "no")
    assert texts(run.messages) == ["a", "b", "c"]
    assert talked.get_run("s", 2) == run
    assert [head.status for head in talked.sessions()] == ["failed"]
    assert amended(talked, status="completed", error=None).error is None
    talked.verify("s")


def test_only_the_end_of_a_finished_branch_can_be_amended(storage: Storage) -> None:
    with pytest.raises(SessionNotFoundError):
        amended(storage)
    storage.create_session("s", user_id="ada")
    with pytest.raises(SessionNotFoundError):
        amended(storage, user_id="eve")
    with pytest.raises(RunNotFoundError):
        amended(storage, user_id="ada")
    storage.delete("s", user_id="ada")
    turn = start(storage)
    append(storage, turn, "a")
    with pytest.raises(ConflictError, match="is running"):
        amended(storage, drop=1)
    end(storage, turn, status="paused")
    with pytest.raises(ConflictError, match="is paused"):
        amended(storage, drop=1)
    storage.add_run("s", format="test/1", messages=said("x"))
    for wrong in (
        {"drop": 2},
        {"drop": -1},
        {"drop": True},
        {"status": "running"},
        {"messages": "x"},
        {"output": {1}},
        {"error": 5},
        {"usage": 5},
        {"key": ""},
    ):
        with pytest.raises(InvalidInputError):
            amended(storage, **wrong)
    with pytest.raises(ConflictError, match="at revision"):
        amended(storage, if_revision=1)
    assert texts(storage.messages("s")) == ["a", "x"]


def test_the_branch_that_is_left_stays_as_it_was(talked: Storage) -> None:
    talked.rewind("s", at=1)
    amended(talked, drop=1, format="test/1", messages=said("new"))
    assert texts(talked.messages("s")) == ["new"]
    talked.rewind("s", at=2)
    assert texts(talked.messages("s")) == ["new", "a", "b", "c"]


def test_members_keep_what_they_said(storage: Storage) -> None:
    turn = start(storage)
    append(storage, turn, "mine")
    below: dict[str, Any] = {"run_id": "m", "run": turn.number, "parent_run_id": "r", "agent": "member"}
    words = (
        RunStarted(),
        MessageAdded({"text": "member's"}),
        RunEnded(status="completed", usage=Usage(requests=4).to_json()),
    )
    operate(storage, turns.append_to_turn, turn, [word.entry(**below) for word in words])
    end(storage, turn, "last")
    run = amended(storage, drop=1, usage=Usage(requests=1))
    assert (texts(run.messages), texts(run.children[0].messages)) == (["mine"], ["member's"])
    assert (run.own_usage, run.usage) == (Usage(requests=1), Usage(requests=5))
    assert storage.get_run("s", 1) == run
    storage.verify("s")


def test_writers_at_once_all_come_about(storage: Storage) -> None:
    storage.add_run("s")

    def write(name: str) -> None:
        for number in range(5):
            amended(storage, format="test/1", messages=said(f"{name}{number}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = texts(storage.messages("s"))
    assert len(found) == 20
    for name in "abcd":
        assert [text for text in found if text[0] == name] == [f"{name}{number}" for number in range(5)]
    storage.verify("s")


def test_a_fork_has_the_amended_run(talked: Storage) -> None:
    amended(talked, drop=1, format="test/1", messages=said("C"), output="2", usage=Usage(requests=5))
    talked.fork("s", session_id="t")
    run = talked.get_run("t", 2)
    assert (texts(run.messages), run.output, run.own_usage) == (["a", "b", "C"], "2", Usage(requests=5))
    head = talked.get_session("t")
    assert head is not None
    assert head.usage == Usage(), "it was paid for in the other session"
    talked.verify("t")


def test_amending_costs_two_round_trips_and_is_found_by_its_key() -> None:
    driver = Counted(MemoryDriver())
    with Storage(driver) as storage:
        storage.add_run("s", format="test/1", messages=said("a"))
        driver.reset()
        amended(storage, drop=1, format="test/1", messages=said("b"), key="mine")
        assert driver.calls == {"load": 1, "append": 1}


def test_programs_that_do_not_know_amended_runs_are_locked_out_of_them_alone(
    talked: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    talked.add_run("other")
    amended(talked, drop=1)
    monkeypatch.setattr(encoding, "FORMAT_VERSION", 1)
    assert len(talked.runs("other")) == 1
    with pytest.raises(NewerVersionError):
        talked.get_run("s", 2)


# ---------------------------------------------------------------- the tail


def tails(storage: Storage, count: int = 20, **options: Any) -> Tail:
    found = operate(storage, tail, "s", count, **options)
    assert found is not None
    return found


def test_the_tail_is_newest_first_and_goes_on_where_it_ended(storage: Storage) -> None:
    for number in range(150):
        storage.update_state("s", {"n": number}) if number else storage.create_session("s")
        if number % 10 == 0:
            storage.add_run("s", format="test/1", messages=said(f"m{number}", f"n{number}"))
    everything = storage.entries("s")
    assert tails(storage, 1000).entries == everything[::-1]
    assert tails(storage, 1000).before is None
    found: list[Any] = []
    before: int | None = None
    while True:
        page = tails(storage, 7, before=before)
        assert page.head.revision == everything[-1].seq
        found += page.entries
        before = page.before
        if before is None:
            break
    assert found == everything[::-1]
    messages = tails(storage, 3, kinds=["message"]).entries
    assert [entry.data["text"] for entry in messages] == ["n140", "m140", "n130", "m130"], "a commit is not split"
    assert tails(storage, 5, before=1).entries == []
    assert [entry.kind for entry in tails(storage, 5, before=2).entries] == ["session.created"]


def test_a_tail_of_nothing(storage: Storage) -> None:
    assert operate(storage, tail, "s") is None
    storage.create_session("s", user_id="ada")
    assert operate(storage, tail, "s") is None
    assert len(tails(storage, user_id="ada").entries) == 1
    for wrong in ({"count": 0}, {"before": 0}, {"kinds": [""]}):
        with pytest.raises(InvalidInputError):
            operate(storage, tail, "s", **wrong)


def test_a_tail_is_one_round_trip_and_bounded() -> None:
    driver = Counted(MemoryDriver())
    with Storage(driver, timeout=600) as storage:
        storage.create_session("s")
        for number in range(3000):
            storage.update_state("s", {"n": number})
        driver.reset()
        assert len(tails(storage, 20).entries) == 20
        assert (driver.calls, driver.rows) == ({"load": 1}, 20)
        driver.reset()
        page = tails(storage, 20, kinds=["message"])
        assert (page.entries, page.before) == ([], 2002)
        assert driver.rows == 1000


# ---------------------------------------------------------------- changes


def changes(storage: Storage, since: int = 0, **options: Any) -> Changes:
    return operate(storage, changed, since, **options)


def named(found: Changes) -> list[str]:
    return [head.session_id for head in found.sessions]


def test_what_has_changed_comes_oldest_first(storage: Storage) -> None:
    for name in "abcde":
        storage.create_session(name, user_id=name)
    storage.rename("b", "B", user_id="b")
    assert named(changes(storage)) == ["a", "c", "d", "e", "b"]
    assert named(changes(storage, user_id="b")) == ["b"]
    middle = storage.get_session("d", user_id="d")
    assert middle is not None
    assert named(changes(storage, middle.updated_us)) == ["d", "e", "b"]
    found: list[str] = []
    after = None
    while True:
        page = changes(storage, limit=2, after=after)
        found += named(page)
        after = page.after
        if after is None:
            break
    assert found == ["a", "c", "d", "e", "b"]


def test_what_is_in_no_list_is_marked() -> None:
    driver = Counted(MemoryDriver())
    with Storage(driver) as storage:
        storage.create_session("there")
        storage.create_session("going")

        async def interrupted(*args: Any) -> None:
            raise KeyboardInterrupt

        driver.delete = interrupted  # type: ignore[method-assign] (the process ends between commit and removal)
        with pytest.raises(KeyboardInterrupt):
            storage.delete("going")
        assert {head.session_id: head.hidden for head in changes(storage).sessions} == {
            "there": None,
            "going": "deleted",
        }


def test_a_round_says_up_to_when_it_is_complete() -> None:
    driver = Dated(MemoryDriver())
    with Storage(driver, timeout=5) as storage:
        storage.create_session("a")
        first = changes(storage)
        assert first.complete_until < driver.time - 5 * MICROSECOND
        driver.ahead += 1000
        storage.get_session("a")  # brings the time along
        second = changes(storage, first.complete_until)
        assert named(second) == ["a"], "what is young may come again"
        assert named(changes(storage, second.complete_until)) == []


def test_one_session_that_cannot_be_read_does_not_hide_the_others() -> None:
    data = MemoryDriver()
    with Storage(data) as storage:
        for name in "abc":
            storage.create_session(name)
        session = data._sessions["b"]
        session.head = session.head._replace(body='{"version": 1000}')
        found = changes(storage)
        assert named(found) == ["a", "c"]
        assert isinstance(found.unreadable["b"], NewerVersionError)


def test_interrupted_runs_are_changes_when_somebody_notes_them() -> None:
    with MemoryStorage(lease=0.001) as storage:
        crash(storage)
        before = changes(storage).sessions[0].revision
        storage.sweep()
        assert changes(storage).sessions[0].revision == before + 1


# ---------------------------------------------------------------- as users call them


async def test_the_public_methods(talked: Storage) -> None:
    run = talked.amend_run("s", drop=1, format="test/1", messages=said("C"), output="2")
    assert (texts(run.messages), run.output, run.status) == (["a", "b", "C"], "2", "completed")
    assert (await talked.aamend_run("s", status="failed")).status == "failed"
    found = talked.tail("s", 2, kinds=["message"])
    assert found is not None
    assert [entry.data["text"] for entry in found.entries] == ["C", "c", "b", "a"]
    assert await talked.atail("s", 2, kinds=["message"]) == found
    assert (talked.tail("absent"), await talked.atail("s", user_id="eve")) == (None, None)


async def test_changes_in_pages(storage: Storage) -> None:
    for name, user in (("a", None), ("b", "bob"), ("c", None), ("d", "dan")):
        storage.create_session(name, user_id=user)
    seen: list[str] = []
    first = page = storage.changed_sessions(user_id=ANY_USER, limit=3)
    while True:
        seen += [session.session_id for session in page]
        if page.next_cursor is None:
            break
        page = storage.changed_sessions(user_id=ANY_USER, limit=3, cursor=page.next_cursor)
    assert seen == ["a", "b", "c", "d"]
    assert first.complete_until < datetime.now(UTC)
    assert [one.session_id for one in await storage.achanged_sessions()] == ["a", "c"], "those without a user"
    made = storage.get_session("c")
    assert made is not None
    assert [one.session_id for one in storage.changed_sessions(made.updated_at, user_id=ANY_USER)] == ["c", "d"]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"cursor": "x"}, {"since": 5}, {"since": datetime(2030, 1, 1)}):  # noqa: DTZ001
        with pytest.raises(InvalidInputError):
            storage.changed_sessions(**wrong)


def test_stats_say_what_has_happened() -> None:
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        storage.create_session("s")
        assert storage.stats() == {}

        def be_faster(*_: Any) -> None:
            driver.before.clear()
            storage.rename("s", "n")

        driver.before["append"] = be_faster
        storage.update_state("s", {"a": 1})
        assert storage.stats() == {}, "it had not looked, and nobody has raced"
        assert storage._core is not None
        storage._core.remembered.forget("s")
        driver.before["append"] = be_faster
        storage.update_state("s", {"a": 2})
        assert storage.stats() == {"lost_races": 1}
