"""How a session lies in objects: crashes at every request, merged commits, claims of what was removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from tests.campaigns import sampled
from tests.objects.helpers import add, call, driver_of, objects

import sessile
from sessile import ANY_USER
from sessile.drivers.objects import log, merging, ports
from sessile.drivers.objects.layout import digest
from sessile.drivers.objects.ports import ThreadPort
from sessile.errors import CorruptDataError
from sessile.storage import Storage
from sessile.storage.driver import Deadline, Span
from sessile.storage.faces import step
from sessile.testing.samples import append_of


@pytest.fixture(params=["s3_url", "gcs_url", "seaweedfs_url"])
def storage(request: pytest.FixtureRequest) -> Iterator[Storage]:
    with sessile.open(request.getfixturevalue(request.param)) as opened:
        yield opened


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints at every append, and nothing is kept for slow readers."""
    monkeypatch.setattr(log, "INTERVAL", 0)
    monkeypatch.setattr(log, "SETTLED", 0)
    monkeypatch.setattr(log, "CLEARED_AT_ONCE", 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, no_waiting: None) -> None:
    """A session of some dozen runs has what one of many thousands has."""
    for name, value in (("MOST_ROWS", 4), ("LEAST_ROWS", 2), ("MERGED_ROWS", 2), ("FAN", 3), ("MOST_NODES", 4)):
        monkeypatch.setattr(merging, name, value)


class Crash(BaseException):
    """The process is gone."""


@contextmanager
def crash_at(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> Iterator[list[str]]:
    """The process is gone before, or after, its `number`-th request that writes; all requests that were made."""
    made: list[str] = []

    def dying(name: str) -> Any:
        original = getattr(ThreadPort, name)

        async def send(port: ThreadPort, names: str | Sequence[str], *args: Any) -> Any:
            made.append(f"{name} {names}")
            if len(made) > number or (len(made) == number and not after):
                raise Crash
            result = await original(port, names, *args)
            if len(made) == number:
                raise Crash
            return result

        return send

    with monkeypatch.context() as patch:
        for name in ("_put", "_delete"):
            patch.setattr(ThreadPort, name, dying(name))
        yield made


def crashes(
    monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any], prepare: Callable[[], Any] = lambda: None
) -> Iterator[int]:
    """Let `action` crash before and after its requests, one time after the other; then the caller looks what is there.

    A sample of these moments, but for `SESSILE_TORTURE=1`.
    """
    for moment in (1 + place for place in sampled()):
        number, after = divmod(moment, 2)
        prepare()
        with crash_at(monkeypatch, number, after=bool(after)) as made:
            try:
                action()
            except Crash:
                pass
            else:
                assert number > 2, "it did hardly anything"
                assert len(made) < number
                return
        yield number


# ---------------------------------------------------------------- crashes


@pytest.mark.parametrize("constants", ["no_waiting", "small"])
def test_a_crash_at_any_request_of_an_append(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, constants: str
) -> None:
    """The run is there whole or not at all, and the session goes on, is listed, and reads the same everywhere."""
    request.getfixturevalue(constants)
    add(storage, "s", 9, user_id="ada")
    count = 9
    for _ in crashes(monkeypatch, lambda: add(storage, "s", 1, user_id="ada")):
        runs = storage.runs("s", from_run=1, user_id="ada")
        assert [run.input for run in runs] == list(range(1, len(runs) + 1))
        assert len(runs) - count in (0, 1)
        count = len(runs)
        assert storage.verify("s", user_id="ada") == count
        assert [head.run_count for head in storage.sessions(user_id="ada").items] == [count]
    assert storage.get_session("s", user_id="ada").run_count == count + 1  # type: ignore[union-attr]


def test_a_crash_at_any_request_of_making_a_session(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there and listed, or neither; then its first run makes it."""

    def make() -> None:
        storage.create_session("s", user_id="ada", agent="support", ttl=3600)

    for _ in crashes(monkeypatch, make):
        there = storage.get_session("s", user_id="ada") is not None
        assert storage.count_sessions(user_id="ada") == there
        assert storage.count_sessions(user_id=ANY_USER, agent="support") == there
        storage.add_run("s", user_id="ada", agent="support")
        assert [head.run_count for head in storage.sessions(user_id="ada").items] == [1]
        assert storage.verify("s", user_id="ada") == 1 + there
        storage.delete("s", user_id="ada")


@pytest.mark.parametrize("sweeps", [True, False])
def test_a_crash_at_any_request_of_deleting(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, small: None, sweeps: bool
) -> None:
    """The session is there whole or gone; `sweep` removes what is left of it, or whoever makes it again."""

    def prepare() -> None:
        add(storage, "s", 9, user_id="ada", agent="support")
        head = storage.get_session("s", user_id="ada")
        call(storage, "put_record", "s", head.incarnation, "k", b"x")  # type: ignore[union-attr]

    for _ in crashes(monkeypatch, lambda: storage.delete("s", user_id="ada"), prepare):
        if (head := storage.get_session("s", user_id="ada")) is not None:
            assert (head.run_count, storage.verify("s", user_id="ada")) == (9, 9)
        elif sweeps:
            storage.sweep()
            assert left(storage) == []
        else:
            storage.add_run("s", input="new", user_id="ada")
            assert [run.input for run in storage.runs("s", user_id="ada")] == ["new"]
            assert storage.count_sessions(user_id=ANY_USER) == storage.count_sessions(user_id="ada") == 1
            assert storage.count_sessions(user_id=ANY_USER, agent="support") == 0
        storage.delete("s", user_id="ada")
        storage.sweep()
        assert left(storage) == []


def left(storage: Storage) -> list[str]:
    """Objects that are left when session `s` is deleted, but for its empty head, and places in lists."""
    ignored = ("sessile", f"heads/{digest('s')}")
    return [name for name in objects(storage) if name not in ignored and not name.startswith("lists/")]


# ---------------------------------------------------------------- what is merged, and what is removed


def test_runs_are_found_wherever_they_are(storage: Storage, small: None) -> None:
    """Merged several times over, read from either end, by number and by place."""
    add(storage, "s", 60)
    assert {name.split("/")[4] for name in objects(storage, "logs") if "/merged/" in name} == {"0", "1", "2"}
    assert storage.verify("s") == 60
    incarnation = storage.get_session("s").incarnation  # type: ignore[union-attr]
    for number in (1, 2, 17, 30, 59, 60):
        assert storage.get_run("s", number).input == number
        assert [run.input for run in storage.runs("s", last=number)] == list(range(61 - number, 61))
        assert [run.input for run in storage.runs("s", from_run=1, to_run=number)] == list(range(1, number + 1))
        rows = call(storage, "entries", "s", incarnation, Span(first=number, limit=7))
        assert [row.seq for row in rows] == list(range(number, min(60, number + 6) + 1))
        rows = call(storage, "entries", "s", incarnation, Span(last=number, limit=7, newest_first=True))
        assert [row.seq for row in rows] == list(range(number, max(1, number - 6) - 1, -1))


def test_large_commits_are_merged_alone(storage: Storage, no_waiting: None) -> None:
    for number in range(6):
        storage.add_run("s", input=number, format="test/1", messages=[{"text": "x" * 700_000}])
    assert [run.input for run in storage.runs("s")] == list(range(6))
    assert all(len(run.messages[0].data["text"]) == 700_000 for run in storage.runs("s"))
    assert len([name for name in objects(storage, "logs") if "/merged/0/" in name]) == 5


def test_what_was_merged_is_removed_from_the_appends(storage: Storage, small: None) -> None:
    add(storage, "s", 30)
    appends = [name for name in objects(storage, "logs") if "/commits/" in name]
    assert len(appends) <= 3
    assert len(objects(storage, "lists")) == 2  # one place in the order of changes, one in that of creation


def test_a_place_whose_object_was_removed_cannot_be_claimed(storage: Storage, small: None) -> None:
    """A writer that saw the session long ago loses, and leaves nothing."""
    for seq in range(20):
        assert call(storage, "append", append_of(expected=seq))
    before = objects(storage)
    for expected in (1, 5, 10, 16):
        assert not call(storage, "append", append_of(expected=expected, text="late"))
    assert objects(storage) == before
    assert [row.seq for row in call(storage, "entries", "s", "i1", Span())] == list(range(1, 21))


def test_an_append_to_a_session_that_was_deleted_loses(storage: Storage) -> None:
    """Also while the session is being removed, and after it was made again."""
    for seq in range(3):
        assert call(storage, "append", append_of(expected=seq))
    call(storage, "delete", "s", "i1")
    assert not call(storage, "append", append_of(expected=3))
    assert not call(storage, "append", append_of(expected=1))
    assert not call(storage, "put_record", "s", "i1", "k", b"x")
    assert left(storage) == []
    assert call(storage, "append", append_of(incarnation="i2"))
    assert not call(storage, "append", append_of(expected=1))
    assert call(storage, "append", append_of(expected=1, incarnation="i2"))


@pytest.mark.parametrize("before", [True, False])
def test_an_append_that_deleting_overtakes_loses(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    """The session is removed before the claim, or between the claim and the look at the checkpoint."""
    original = ThreadPort._put

    async def put(port: ThreadPort, name: str, *args: Any) -> None:
        monkeypatch.setattr(ThreadPort, "_put", original)
        if before:
            call(storage, "delete", "s", "i1")
        await original(port, name, *args)
        if not before:
            call(storage, "delete", "s", "i1")

    assert call(storage, "append", append_of())
    monkeypatch.setattr(ThreadPort, "_put", put)
    assert not call(storage, "append", append_of(expected=1))
    assert call(storage, "load", "s", 5) is None
    assert left(storage) == []


def test_a_reader_that_is_overtaken_begins_anew(storage: Storage, monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Between its checkpoint and what comes after that, dozens of commits are made, and their objects removed."""
    add(storage, "s", 2)
    original, others = log.Log._tail, iter([10, 20])
    monkeypatch.setattr(log, "STALE", 0.0)

    async def tail(self: log.Log, *args: Any) -> Any:
        if (count := next(others, None)) is not None:
            with monkeypatch.context() as patch:
                patch.setattr(log, "STALE", 30.0)
                patch.setattr(log.Log, "_tail", original)
                add(storage, "s", count)
        else:
            monkeypatch.setattr(log, "STALE", 30.0)
        return await original(self, *args)

    monkeypatch.setattr(log.Log, "_tail", tail)
    assert storage.get_session("s").run_count == 32  # type: ignore[union-attr]


def test_more_appends_than_a_page_of_names_without_a_checkpoint(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "INTERVAL", 10**15)
    monkeypatch.setattr(log, "MOST_TAIL", 10**9)
    for module in (ports, log):
        monkeypatch.setattr(module, "LIST_PAGE", 5)
    add(storage, "s", 13)
    assert [run.input for run in storage.runs("s")] == list(range(1, 14))
    assert storage.verify("s") == 13


# ---------------------------------------------------------------- lists


def test_checkpoints_that_were_not_due_are_made_up_for_by_lists(storage: Storage) -> None:
    """A session that has changed twice within a second stands where it belongs."""
    for name in ("a", "b"):
        storage.create_session(name, user_id="ada")
    storage.rename("a", "Renamed", user_id="ada")
    assert [head.session_id for head in storage.sessions(user_id="ada").items] == ["a", "b"]
    assert storage.sessions(user_id=ANY_USER, name_prefix="Ren").items[0].name == "Renamed"
    moments = [name.rpartition("/")[2] for name in objects(storage, "lists/updated/all")]
    assert [moment.partition("-")[2] for moment in moments] == [digest("a"), digest("b")]


def test_lists_go_beyond_a_page_of_names(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("drivers.objects.ports", "drivers.objects.lists"):
        monkeypatch.setattr(f"sessile.{name}.LIST_PAGE", 5)
    names = [f"s{number:02}" for number in range(23)]
    for name in names:
        storage.create_session(name)
    assert storage.count_sessions() == 23
    found, cursor = [], None
    while True:
        page = storage.sessions(limit=4, cursor=cursor)
        found += [head.session_id for head in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert found == names[::-1]
    assert storage.delete_user("nobody") == 0
    for name in names:
        storage.delete(name)
    assert storage.count_sessions(user_id=ANY_USER) == 0
    assert objects(storage, "logs") == objects(storage, "lists") == []


def test_places_of_no_session_are_removed_when_they_are_old(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then somebody may be about to make it."""
    storage.setup()
    call(storage, "append", append_of("gone"))
    places = objects(storage, "lists")
    call(storage, "delete", "gone", "i1")
    port = driver_of(storage).port
    for place in places:
        step(port.put("By the test", place, b"", Deadline(30.0)))
    assert storage.count_sessions(user_id=ANY_USER) == 0
    assert objects(storage, "lists") == places
    monkeypatch.setattr("sessile.drivers.objects.driver.UNKNOWN_FOR", -1)
    assert storage.count_sessions(user_id=ANY_USER) == 0
    assert storage.sessions(order="created", user_id=ANY_USER).items == []
    assert objects(storage, "lists") == []


def test_sweep_finds_what_it_looks_for_without_reading_all_sessions(storage: Storage) -> None:
    """Sessions that are neither expired, hidden nor running are not looked at."""
    for number in range(5):
        storage.add_run(f"quiet{number}")
    storage.create_session("expired", ttl=0)
    looked: list[str] = []
    original = log.Log.look

    async def look(self: log.Log, what: str, session: str, deadline: Deadline) -> Any:
        looked.append(session)
        return await original(self, what, session, deadline)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.Log, "look", look)
        assert storage.sweep() == 1
    assert set(looked) == {digest("expired")}


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("content", [None, b"{}", b'{"format":1}'])
@pytest.mark.parametrize("level", [0, 1])
def test_merged_objects_that_are_lost_or_damaged_are_named(
    storage: Storage, small: None, level: int, content: bytes | None
) -> None:
    """What is not in them can be read as before, and the session goes on."""
    add(storage, "s", 40)
    name = next(name for name in objects(storage, "logs") if f"/merged/{level}/" in name)
    port = driver_of(storage).port
    if content is None:
        step(port.delete("By the test", [name], Deadline(30.0)))
    else:
        step(port.put("By the test", name, content, Deadline(30.0)))
    for reading in (lambda: storage.get_run("s", 1), lambda: call(storage, "load", "s", 40)):
        with pytest.raises(CorruptDataError, match=name):
            reading()
    add(storage, "s", 1)
    assert [run.input for run in storage.runs("s", last=3)] == [39, 40, 41]


def test_a_session_that_is_deleted_while_it_is_read_is_absent(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    """Its merged objects are gone before they are read: that is no damage."""
    original = log.Log._merged

    async def merged(self: log.Log, *args: Any) -> Any:
        monkeypatch.setattr(log.Log, "_merged", original)
        call(storage, "delete", "s", "i1")
        return await original(self, *args)

    for method, arguments, wanted in (("load", ("s", 40), None), ("entries", ("s", "i1", Span()), [])):
        for seq in range(30):
            assert call(storage, "append", append_of(expected=seq))
        monkeypatch.setattr(log.Log, "_merged", merged)
        assert call(storage, method, *arguments) == wanted
