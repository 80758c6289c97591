"""Writers begin with the head that was seen last, and are right also where that is out of date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import sessile
from sessile import ANY_USER, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import ConflictError, SessionNotFoundError, TooLargeError
from sessile.records import Session, Usage
from sessile.storage import turns
from sessile.storage.core import Core
from sessile.storage.driver import Append, Deadline, Loaded
from sessile.storage.faces import step
from sessile.storage.ids import uuid7
from sessile.storage.remembered import LARGEST, MOST
from sessile.storage.snapshots import Draft, Snapshot
from sessile.storage.storage import operate
from sessile.storage.vocabulary import StatePatched

from .helpers import Tapped


@pytest.fixture
def two(tmp_path: Path) -> Any:
    """One database, seen by two storages, of which each remembers its own."""
    with SqliteStorage(tmp_path / "s.db", max_state_bytes=100) as ours, SqliteStorage(tmp_path / "s.db") as theirs:
        yield ours, theirs


def core_of(storage: Storage) -> Core:
    assert storage._core is not None
    return storage._core


def counted_loads(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    driver, loads = core_of(storage).driver, list[str]()
    load = driver.load

    async def counted(session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        loads.append(session_id)
        return await load(session_id, newest, deadline)

    monkeypatch.setattr(driver, "load", counted)
    return loads


def test_a_turn_looks_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.add_run("s", input=0)
    loads = counted_loads(storage, monkeypatch)
    for number in range(1, 4):
        assert storage.get_session("s", last_runs=10) is not None
        storage.add_run("s", input=number, state={"n": number})
    assert loads == ["s"] * 3
    storage.rename("s", "x")
    assert storage.update_state("s", set={"m": 1}).state == {"n": 3, "m": 1}
    assert loads == ["s"] * 3
    assert storage.verify("s") == 6
    assert [run.input for run in storage.runs("s")] == [0, 1, 2, 3]


def test_a_session_of_added_runs_is_read_without_commits_that_nobody_asked_for(two: tuple[Storage, Storage]) -> None:
    """Agents write two commits for each run, `add_run` one; that a session was seen tells which are to be expected."""
    ours, theirs = two
    asked = loaded_commits(ours)

    def inputs(runs: int) -> list[Any]:
        session = ours.get_session("s", last_runs=runs)
        assert session is not None
        return [run.input for run in session.runs]

    for number in range(20):
        theirs.add_run("s", input=number)
    assert [inputs(3), inputs(3)] == [[17, 18, 19]] * 2
    assert asked == [7, 3]
    for number in range(20, 25):  # what was expected is wrong from here on, and what is read is right
        theirs.add_run("s", input=number)
        theirs.rename("s", f"{number}")
    assert [inputs(3), inputs(3)] == [[22, 23, 24]] * 2
    assert asked == [7, 3, 3, 7]


def test_an_agent_reads_no_commit_too_many_of_a_session_that_was_seen(two: tuple[Storage, Storage]) -> None:
    """Unless it was seen, there may be another commit among those of its newest runs."""
    ours, theirs = two
    asked = loaded_commits(ours)

    def runs_before() -> list[Any]:
        opened = operate(ours, turns.open_turn, turns.TurnSpec("s", uuid7(), "next", durability="exit"), 3)
        return [run.input for run in turns.runs_at_hand(opened, [3, 4, 5]) or ()]

    for number in range(1, 6):
        theirs.add_run("s", input=number)
    assert [runs_before(), runs_before()] == [[3, 4, 5]] * 2
    assert asked == [4, 3]
    theirs.rename("s", "other")
    runs_before()  # now it is known to have one that is no run's
    assert runs_before() == [3, 4, 5]
    assert asked == [4, 3, 3, 4]


def loaded_commits(storage: Storage) -> list[int]:
    """How many commits each load asks for, from now on."""
    driver, asked = core_of(storage).driver, list[int]()
    load = driver.load

    async def noted(session_id: str, newest: int, deadline: Deadline) -> Loaded | None:
        asked.append(newest)
        return await load(session_id, newest, deadline)

    driver.load = noted  # pyright: ignore[reportAttributeAccessIssue]
    return asked


def test_what_others_have_written_meanwhile_counts(two: tuple[Storage, Storage]) -> None:
    ours, theirs = two
    ours.add_run("s", input=0, state={"n": 0})
    theirs.add_run("s", input=1, state={"n": 1})
    assert ours.update_state("s", {"n": 1}).revision == 2  # there is nothing to change
    theirs.rename("s", "theirs")
    assert ours.add_run("s", input=2, state={"m": 2}).number == 3
    head = theirs.get_session("s")
    assert head is not None
    assert (head.name, head.state) == ("theirs", {"n": 1, "m": 2})
    assert ours.stats().get("lost_races", 0) == 0  # nobody has raced
    assert ours.verify("s") == 4


def test_a_guess_refuses_nothing(two: tuple[Storage, Storage]) -> None:
    """What is in the way in a head that is out of date is not in the way."""
    ours, theirs = two
    revision = ours.create_session("s", state={"n": "x" * 80}).revision
    theirs.update_state("s", remove=["n"])
    assert ours.update_state("s", {"m": "y" * 80}).state == {"m": "y" * 80}  # both would be too much
    theirs.rename("s", "once more")
    ours.update_state("s", {"m": "z"}, if_revision=revision + 3)
    theirs.claim("s", "ada")
    ours.add_run("s", input=1, user_id="ada")
    theirs.delete("s", user_id="ada")
    assert ours.add_run("s", input=1).number == 1  # nobody's, and new
    assert ours.get_session("s", user_id="ada") is None


def test_what_is_refused_rightly_is_refused(two: tuple[Storage, Storage]) -> None:
    ours, theirs = two
    ours.create_session("s", user_id="ada")
    with pytest.raises(SessionNotFoundError):
        ours.add_run("s", input=1, user_id="bob")
    with pytest.raises(TooLargeError):
        ours.update_state("s", {"n": "x" * 200}, user_id="ada")
    theirs.rename("s", "x", user_id="ada")
    with pytest.raises(ConflictError):
        ours.update_state("s", {"n": 1}, user_id="ada", if_revision=1)
    assert ours.delete("s", user_id="ada")
    with pytest.raises(SessionNotFoundError):
        ours.rename("s", "y", user_id=ANY_USER)


def test_a_backup_was_put_back_and_others_came_to_the_same_revision(two: tuple[Storage, Storage]) -> None:
    """Incarnation and revision are those of the head that is remembered, and yet it is another one."""
    ours, theirs = two
    ours.create_session("s")
    backup = list(_copied(ours))
    ours.rename("s", "ours")
    _put_back(theirs, backup)
    theirs.update_state("s", {"n": 1})
    ours.add_run("s", input=1)
    head = theirs.get_session("s")
    assert head is not None
    assert (head.name, head.state, head.revision) == (None, {"n": 1}, 3)
    assert theirs.verify("s") == 3


def _copied(storage: Storage) -> list[Any]:
    core = core_of(storage)
    with core.driver._writing(core.deadline()) as connection:  # type: ignore[attr-defined]
        return connection.execute("SELECT revision, updated_at, name, body FROM sessile_sessions").fetchall()


def _put_back(storage: Storage, rows: list[Any]) -> None:
    storage.setup()
    core = core_of(storage)
    with core.driver._writing(core.deadline()) as connection:  # type: ignore[attr-defined]
        connection.execute("UPDATE sessile_sessions SET revision = ?, updated_at = ?, name = ?, body = ?", rows[0])
        connection.execute("DELETE FROM sessile_commits WHERE seq > ?", rows[0][:1])


@pytest.fixture(params=["memory", "sqlite", "json", "yaml", "postgres_url", "mysql_url"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    ours = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/s.db"}
    url = ours.get(request.param, f"{request.param}:///{tmp_path}/s" if request.param in ("json", "yaml") else None)
    with sessile.open(url or request.getfixturevalue(request.param)) as storage:
        yield storage


def test_an_append_says_which_head_it_follows(each: Storage) -> None:
    """At every database that is given the head's body, also where the revision is right."""
    each.create_session("s")
    each.rename("s", "x")

    async def append(core: Core) -> list[bool]:
        deadline = core.deadline()
        loaded = await core.driver.load("s", 1, deadline)
        assert loaded is not None
        head = loaded.head._replace(revision=3)
        commit = loaded.commits[0]._replace(seq=3, commit_id="ours")
        write = Append("s", head.incarnation, 2, (commit,), head)
        bodies = (f"{{ {head.body[1:]}", head.body.upper(), head.body)
        won = [await core.driver.append(write._replace(was_body=body), deadline) for body in bodies]
        after = await core.driver.load("s", 5, deadline)
        assert after is not None
        assert [row.seq for row in after.commits] == [1, 2, 3]
        return won

    assert operate(each, append) == [False, False, True]


def test_a_turn_on_every_database_looks_once(each: Storage) -> None:
    for number in range(3):
        each.add_run("s", input=number)
        assert each.get_session("s", last_runs=1) is not None
        each.add_run("s", input=number, state={"n": number})
    assert each.verify("s") == 6
    assert [run.input for run in each.runs("s")] == [0, 0, 1, 1, 2, 2]


def test_callers_may_change_what_they_are_given(storage: Storage) -> None:
    for give in (lambda: storage.create_session("s", state={"n": {}}), lambda: storage.rename("s", "x")):
        given: Session = give()
        given.state["n"]["theirs"] = 1
        given.open_runs.clear()
        assert storage.update_state("s", {"m": 1}).state == {"n": {}, "m": 1}
        storage.update_state("s", remove=["m"])
    assert storage.verify("s") == 6


def test_views_of_users_have_sessions_of_their_own(storage: Storage) -> None:
    storage.create_session("s", state={"whose": "nobody's"})
    ada = storage.for_user("ada")
    ada.add_run("s", input=1, state={"whose": "ada's"})
    storage.add_run("s", input=2)
    ada.add_run("s", input=3)
    ours, hers = storage.get_session("s"), ada.get_session("s")
    assert ours is not None
    assert hers is not None
    assert (ours.state, hers.state) == ({"whose": "nobody's"}, {"whose": "ada's"})
    assert (ours.run_count, hers.run_count) == (1, 2)


def test_few_heads_are_remembered_and_no_large_ones_or_such_as_expire(storage: Storage) -> None:
    for number in range(MOST + 20):
        storage.create_session(str(number))
    storage.create_session("large", state={"n": "x" * LARGEST})
    storage.create_session("expires", ttl=60)
    remembered = core_of(storage).remembered
    assert len(remembered._seen) == MOST
    assert [remembered.get(name) for name in ("0", "19", "large", "expires")] == [None] * 4
    assert remembered.get("20") is not None


def test_a_commit_that_lost_its_race_to_itself_is_made_once() -> None:
    """A client that sends a request twice, unseen by its driver, and hands over the second answer."""
    driver = Tapped(MemoryDriver())
    with Storage(driver) as storage:
        storage.create_session("s")

        async def twice(write: Append, deadline: Deadline) -> None:
            driver.before.clear()
            assert await driver.inner.append(write, deadline)

        driver.before["append"] = lambda write, deadline: step(twice(write, deadline))
        assert storage.add_run("s", input="once").number == 1
        assert [run.input for run in storage.runs("s")] == ["once"]


def test_what_is_remembered_is_what_was_stored_and_nobody_elses(two: tuple[Storage, Storage]) -> None:
    """Whoever changes what a call has returned or was given changes nothing that the next call begins with."""
    ours, theirs = two

    async def with_tuple(core: Core) -> Session:
        async def change(snapshot: Snapshot) -> Draft:
            patch: Any = [["set", ["pair"], ({"n": 1}, 2)]]
            return Draft([StatePatched(patch=patch, undo=[]).entry()])

        committed = await core.commit("s", None, change, core.deadline())
        assert committed is not None
        return committed.head

    def seen(storage: Storage) -> Session:
        session = storage.get_session("s")
        assert session is not None
        return session

    ours.create_session("s", metadata={"tags": ["a"]}, state={"list": [1]})
    ours.add_run("s", usage=Usage(requests=1, input_tokens=2))
    calls: list[Callable[[], Session]] = [
        lambda: operate(ours, with_tuple),
        lambda: seen(ours),
        lambda: ours.rename("s", "x"),
        lambda: ours.set_metadata("s", {"m": [1]}),
    ]
    for call in calls:
        returned = call()
        returned.state["pair"][0]["n"] = 5
        returned.state["list"].append(2)
        returned.metadata["tags"].append("b")
        returned.segments.append((7, 8))
        returned.usage.requests = 9
        returned.run_count, returned.revision = 17, 40
        now = seen(ours)
        assert now == seen(theirs)
        assert (now.state, now.metadata["tags"]) == ({"list": [1], "pair": [{"n": 1}, 2]}, ["a"])
    assert ours.add_run("s", usage=Usage(requests=1)).number == 2
    assert (seen(ours).usage.requests, seen(ours).segments) == (2, [(0, 1)])
    assert ours.stats().get("lost_races", 0) == 0
    assert theirs.verify("s") == ours.verify("s") == 6


class Name(str, Enum):  # noqa: UP042 (that is what is tried)
    """As many programs write their constants. In an f-string such a one is not its text."""

    ADA = "ada"
    AGENT = "helper"


def test_ids_of_types_of_the_callers_own_come_back_as_text(two: tuple[Storage, Storage]) -> None:
    ours, theirs = two
    ours.add_run("s", user_id=Name.ADA, agent=Name.AGENT)
    ours.rename("s", Name.AGENT, user_id=Name.ADA)
    ours.hold("s", Name.AGENT, user_id=Name.ADA)
    for storage in (ours, theirs, ours):
        session = storage.get_session("s", user_id="ada")
        assert session is not None
        told = f"{session.user_id} {session.agent} {session.name} {session.hold}"
        assert told == "ada helper helper helper"
