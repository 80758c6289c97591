"""Forks and rewinding."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import (
    AlreadyExistsError,
    DeadlineError,
    RunNotFoundError,
    SessionNotFoundError,
    StorageUnavailableError,
    TooLargeError,
)
from sessile.records import Branch, Entry, Session, Usage
from sessile.storage import branches
from sessile.storage.extending import operate
from sessile.storage.turns import append_to_turn, summarize

from .helpers import Tapped, end, hurry, open_turn, start, texts


def fill(storage: Storage, count: int = 4) -> None:
    """Run N says `mN`, sets `n` to N and `only_N`; between the runs others change the state."""
    for n in range(1, count + 1):
        storage.add_run(
            "s",
            input=n,
            format="test/1",
            messages=[{"text": f"m{n}"}],
            state={"n": n, f"only_{n}": n},
            usage=Usage(cost=1),
        )
        storage.update_state("s", {"between": n})


def head_of(storage: Storage, session_id: str = "s") -> Session:
    head = storage.get_session(session_id)
    assert head is not None
    return head


def said(storage: Storage, session_id: str = "s") -> list[str]:
    return texts(storage.messages(session_id))


# ---------------------------------------------------------------- rewinding


def test_rewinding_moves_the_path_and_restores_the_state(storage: Storage) -> None:
    fill(storage)
    head = storage.rewind("s", at=2)
    assert head.state == {"n": 2, "only_1": 1, "only_2": 2, "between": 1}
    assert said(storage) == ["m1", "m2"]
    assert storage.branches("s") == [Branch(2, 2, True), Branch(4, 4, False)]
    assert storage.get_run("s", 4).messages[0].data == {"text": "m4"}


def test_what_is_left_stays_as_a_branch_and_can_be_returned_to(storage: Storage) -> None:
    fill(storage, 3)
    storage.rewind("s", at=1)
    storage.add_run("s", format="test/1", messages=[{"text": "m4"}], state={"n": 4})
    assert said(storage) == ["m1", "m4"]
    assert head_of(storage).state == {"n": 4, "only_1": 1}
    assert storage.branches("s") == [Branch(3, 3, False), Branch(4, 2, True)]
    storage.rewind("s", at=3)
    assert said(storage) == ["m1", "m2", "m3"]
    assert head_of(storage).state == {"n": 3, "only_1": 1, "only_2": 2, "only_3": 3, "between": 2}
    storage.add_run("s", format="test/1", messages=[{"text": "m5"}])
    assert said(storage) == ["m1", "m2", "m3", "m5"]
    assert storage.branches("s") == [Branch(4, 2, False), Branch(5, 4, True)]
    assert texts(storage.messages("s", last_runs=2)) == ["m3", "m5"]
    assert head_of(storage).usage.cost == 3, "usage counts all branches"
    storage.verify("s")


def test_rewinding_to_the_beginning(storage: Storage) -> None:
    storage.create_session("s", state={"first": True})
    storage.update_state("s", {"second": True})
    fill(storage, 2)
    head = storage.rewind("s", at=0)
    assert (head.state, said(storage), head.run_count) == ({"first": True, "second": True}, [], 2)
    assert storage.add_run("s", format="test/1", messages=[{"text": "anew"}]).number == 3
    assert said(storage) == ["anew"]


def test_rewinding_an_empty_session(storage: Storage) -> None:
    storage.create_session("s", state={"a": 1})
    assert storage.rewind("s", at=0).state == {"a": 1}
    assert storage.branches("s") == [Branch(0, 0, True)]


def test_rewinding_without_the_state(storage: Storage) -> None:
    fill(storage, 2)
    state = head_of(storage).state
    assert storage.rewind("s", at=1, restore_state=False).state == state
    assert said(storage) == ["m1"]


def test_rewinding_a_state_that_was_rewound_before(storage: Storage) -> None:
    fill(storage, 3)
    storage.rewind("s", at=1)
    storage.update_state("s", {"n": "changed"})
    storage.rewind("s", at=3)
    storage.rewind("s", at=2)
    assert head_of(storage).state == {"n": 2, "only_1": 1, "only_2": 2, "between": 1}


def test_the_state_after_one_of_two_runs_that_were_at_work_at_once(storage: Storage) -> None:
    one, two = start(storage, run_id="one"), start(storage, run_id="two")
    end(storage, two, state=[["set", ["two"], 1]])
    end(storage, one, state=[["set", ["one"], 1]])
    assert head_of(storage).state == {"one": 1, "two": 1}
    assert storage.rewind("s", at=2).state == {"two": 1}
    assert storage.rewind("s", at=1).state == {"one": 1}, "of a run that is left out nothing stays"


def test_a_long_log_is_read_back_page_by_page(memory: MemoryStorage) -> None:
    memory.add_run("s", state={"n": 0})
    for n in range(450):
        memory.update_state("s", {"n": n, f"k{n % 7}": n})
    assert memory.rewind("s", at=1).state == {"n": 0}


def test_rewinding_needs_the_run(storage: Storage) -> None:
    fill(storage, 1)
    with pytest.raises(RunNotFoundError, match="no run 2; its last one is 1"):
        storage.rewind("s", at=2)
    with pytest.raises(SessionNotFoundError):
        storage.rewind("absent", at=0)


def test_messages_of_many_runs_across_branches(memory: MemoryStorage) -> None:
    for n in range(1, 251):
        memory.add_run("s", format="test/1", messages=[{"text": str(n)}])
        if n in (60, 130, 200):
            memory.rewind("s", at=n - 20)
    expected = [*range(1, 41), *range(61, 111), *range(131, 181), *range(201, 251)]
    assert texts(memory.messages("s", from_run=1)) == list(map(str, expected))
    assert texts(memory.messages("s")) == list(map(str, expected[-100:]))
    copied = memory.fork("s", at=150)
    assert said(memory, copied.session_id) == [str(n) for n in expected if n <= 150][-100:]


# ---------------------------------------------------------------- forks


def test_a_fork_is_independent_afterwards(storage: Storage) -> None:
    storage.create_session("s", agent="bot", kind="team", name="N", metadata={"m": 1})
    fill(storage)
    original = storage.runs("s")
    head = storage.fork("s", at=2, session_id="f")
    assert (head.user_id, head.agent, head.kind, head.name, head.metadata) == (None, "bot", "team", "N", {"m": 1})
    assert head.forked_from == {"session_id": "s", "run": 2}
    assert head.state == {"n": 2, "only_1": 1, "only_2": 2, "between": 1}
    assert (head.run_count, head.status, head.usage, head.open_runs) == (2, "completed", Usage(), {})
    for run, source in zip(storage.runs("f"), original, strict=False):
        assert (run.number, run.input, run.started_at, run.ended_at) == (
            source.number, source.input, source.started_at, source.ended_at,
        )  # fmt: skip
    storage.add_run("f", format="test/1", messages=[{"text": "in the fork"}], state={"fork": True})
    storage.add_run("s", format="test/1", messages=[{"text": "in the source"}])
    assert said(storage, "f") == ["m1", "m2", "in the fork"]
    assert said(storage) == ["m1", "m2", "m3", "m4", "in the source"]
    assert "fork" not in head_of(storage).state
    storage.delete("s")
    assert said(storage, "f") == ["m1", "m2", "in the fork"]
    assert storage.verify("f") == head_of(storage, "f").revision


def test_a_fork_of_a_branch_is_numbered_from_one(storage: Storage) -> None:
    fill(storage, 3)
    storage.rewind("s", at=1)
    storage.add_run("s", format="test/1", messages=[{"text": "m4"}])
    here = storage.fork("s", name="here")
    assert (here.name, said(storage, here.session_id)) == ("here", ["m1", "m4"])
    assert [run.number for run in storage.runs(here.session_id)] == [1, 2]
    there = storage.fork("s", at=3)
    assert said(storage, there.session_id) == ["m1", "m2", "m3"]
    assert head_of(storage, there.session_id).state["n"] == 3
    assert storage.fork("s", at=0).run_count == 0


def test_a_fork_leaves_out_what_has_not_finished(storage: Storage) -> None:
    fill(storage, 1)
    working = start(storage, run_id="working")
    storage.add_run("s", format="test/1", messages=[{"text": "m3"}])
    head = storage.fork("s")
    assert (said(storage, head.session_id), head.run_count, head.open_runs) == (["m1", "m3"], 2, {})
    end(storage, working, "late")
    assert said(storage, head.session_id) == ["m1", "m3"]


def test_a_fork_keeps_the_summary_of_the_runs_that_it_has(storage: Storage) -> None:
    fill(storage, 1)
    start(storage, run_id="working")  # run 2 is not copied
    for n in (3, 4, 5):
        storage.add_run("s", format="test/1", messages=[{"text": f"m{n}"}])
    operate(storage, summarize, open_turn(storage), 4, "so far")
    assert storage.fork("s").summary == {"upto": 3, "text": "so far"}
    assert storage.fork("s", at=4).summary == {"upto": 3, "text": "so far"}
    assert storage.fork("s", at=3).summary is None  # it tells of run 4
    storage.rewind("s", at=3)
    storage.add_run("s", format="test/1", messages=[{"text": "m6"}])
    assert storage.fork("s").summary is None
    forked = storage.fork("s", at=5)
    assert forked.summary == {"upto": 3, "text": "so far"}
    assert storage.verify(forked.session_id)


def test_a_fork_keeps_member_runs_and_steps(storage: Storage) -> None:
    turn = start(storage, run_id="top")
    below = [
        Entry("run.started", {"input": "sub"}, "member", 1, "top", "helper"),
        Entry("message", {"text": "from the member"}, "member", 1, "top", "helper"),
        Entry("run.ended", {"status": "completed", "output": 1}, "member", 1, "top", "helper"),
        Entry("tool.call", {"name": "f"}, "top", 1),
    ]
    operate(storage, append_to_turn, turn, below)
    end(storage, turn, "answer")
    for session_id in ("s", storage.fork("s").session_id):
        (run,) = storage.runs(session_id)
        (member,) = run.children
        assert (member.agent, member.output, texts(member.messages)) == ("helper", 1, ["from the member"])
        assert [step.kind for step in run.steps] == ["tool.call"]


def test_a_fork_needs_a_free_id_and_a_run(storage: Storage) -> None:
    fill(storage, 1)
    storage.create_session("taken", user_id="eve")
    with pytest.raises(AlreadyExistsError, match="a session 'taken' already"):
        storage.fork("s", session_id="taken")
    with pytest.raises(AlreadyExistsError):
        storage.fork("s", session_id="s")
    with pytest.raises(RunNotFoundError):
        storage.fork("s", at=2)
    storage.set_ttl("taken", 0, user_id="eve")
    assert storage.fork("s", session_id="taken").run_count == 1


def test_a_fork_belongs_to_the_user_of_its_source(storage: Storage) -> None:
    storage.add_run("s", user_id="ada")
    assert storage.fork("s", user_id="ada").user_id == "ada"
    assert storage.fork("s", session_id="f", user_id=ANY_USER).user_id == "ada"
    with pytest.raises(SessionNotFoundError):
        storage.fork("s")


def test_a_fork_of_a_long_session_is_copied_in_parts(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "PAGE", 3)
    fill(memory, 10)
    head = memory.fork("s")
    assert said(memory, head.session_id) == [f"m{n}" for n in range(1, 11)]
    memory.verify(head.session_id)


def test_a_database_that_takes_one_commit_at_a_time() -> None:
    with Storage(Tapped(MemoryDriver(), commits_per_append=1)) as storage:
        fill(storage, 3)
        assert said(storage, storage.fork("s").session_id) == ["m1", "m2", "m3"]


# ---------------------------------------------------------------- forks that fail


def tapped() -> tuple[Tapped, Storage]:
    driver = Tapped(MemoryDriver())
    storage = Storage(driver)
    fill(storage, 3)
    return driver, storage


def test_a_fork_that_fails_leaves_nothing_and_may_be_repeated() -> None:
    driver, storage = tapped()

    def down(write: Any, deadline: Any) -> None:
        if write.expected > 1:
            raise StorageUnavailableError("Down.")

    driver.before["append"] = down
    hurry(storage, 1)
    with pytest.raises((StorageUnavailableError, DeadlineError)):  # whatever the last of its attempts has met
        storage.fork("s", session_id="f")
    hurry(storage, 30)
    driver.before.clear()
    assert storage.get_session("f") is None
    assert storage.sweep(abandoned_after=0) == 0
    assert said(storage, storage.fork("s", session_id="f").session_id) == ["m1", "m2", "m3"]


def test_a_fork_whose_source_is_deleted_meanwhile_is_not_half_a_fork() -> None:
    driver, storage = tapped()

    def vanish(result: Any, write: Any, deadline: Any) -> None:
        if write.session_id == "f":
            driver.after.clear()
            storage.delete("s")
            storage.create_session("s")

    driver.after["append"] = vanish
    with pytest.raises(SessionNotFoundError, match="deleted while it was being copied"):
        storage.fork("s", session_id="f")
    assert [head.session_id for head in storage.sessions()] == ["s"]
    assert storage.sweep(abandoned_after=0) == 0


def test_two_forks_to_one_id() -> None:
    driver, storage = tapped()

    def rival(*args: Any) -> None:
        driver.before.clear()
        storage.fork("s", session_id="f", at=1)

    driver.before["append"] = rival
    with pytest.raises(AlreadyExistsError, match="'f'"):
        storage.fork("s", session_id="f")
    assert said(storage, "f") == ["m1"]


def test_a_fork_over_the_limits_leaves_nothing() -> None:
    driver = MemoryDriver()
    with Storage(driver) as storage:
        fill(storage, 1)
    with Storage(driver, max_state_bytes=10) as small:
        with pytest.raises(TooLargeError):
            small.fork("s", session_id="f")
        assert small.sweep(abandoned_after=0) == 0


def test_a_session_that_is_deleted_while_it_is_rewound() -> None:
    driver, storage = tapped()
    looks: list[int] = []

    def vanish(*args: Any) -> None:
        looks.append(1)
        if len(looks) % 2 == 0:
            driver.before.clear()
            storage.delete("s")

    for change in (lambda: storage.rewind("s", at=1), lambda: storage.fork("s", at=1)):
        driver.before["entries"] = vanish
        with pytest.raises(SessionNotFoundError):
            change()
        assert storage.count_sessions(user_id=ANY_USER) == 0
        fill(storage, 3)


def test_a_run_below_one_that_is_not_there_is_left_out(storage: Storage) -> None:
    turn = start(storage, run_id="top")
    orphan = Entry("run.started", {"input": 1}, "orphan", 1, "nobody")
    operate(storage, append_to_turn, turn, [orphan])
    end(storage, turn)
    assert [(run.run_id, run.children) for run in storage.runs("s")] == [("top", [])]


def test_a_fork_may_be_rewound_as_its_source_could(storage: Storage) -> None:
    fill(storage, 4)
    storage.rewind("s", at=2)
    storage.add_run("s", format="test/1", messages=[{"text": "m5"}], state={"n": 5})
    storage.fork("s", session_id="f")
    source = {at: storage.rewind("s", at=run).state for at, run in enumerate([0, 1, 2, 5])}
    assert source[3]["n"] == 5
    for at in (3, 1, 2, 0):
        assert storage.rewind("f", at=at).state == source[at]
    storage.verify("f")


def test_forks_and_rewinds_hold_few_states_at_once(tmp_path: Path) -> None:
    """Each run has changed all of a large state, so that each commit has it twice."""
    runs, size = 48, 600_000
    with SqliteStorage(tmp_path / "s.db", synchronous="NORMAL", max_state_bytes=2 * size) as storage:
        for number in range(runs):
            storage.add_run("s", input=number, state={"text": f"{number}" + "x" * size})

        def held(work: Callable[[], object]) -> float:
            tracemalloc.start()
            try:
                work()
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        ways: list[Callable[[], object]] = [
            lambda: storage.fork("s", session_id="whole"),
            lambda: storage.fork("s", session_id="half", at=runs // 2),
            lambda: storage.rewind("s", at=1),
        ]
        for way in ways:
            assert held(way) < runs * size * 0.75
        assert storage.get_session("half").state == {"text": f"{runs // 2 - 1}" + "x" * size}  # type: ignore[union-attr]
        assert storage.get_session("s").state == {"text": "0" + "x" * size}  # type: ignore[union-attr]
        assert storage.verify("whole") > runs
