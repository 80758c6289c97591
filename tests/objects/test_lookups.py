"""Keys of commits, rewriting, lists of what cannot be read, the clock, and buckets of before the first release."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.objects.helpers import call, driver_of, objects
from tests.objects.test_log import crashes
from tests.servers.counting import CountingProxy

import sessile
from sessile import ANY_USER
from sessile.drivers.objects import layout, log, merging
from sessile.drivers.objects.layout import digest
from sessile.errors import CorruptDataError, NewerVersionError
from sessile.storage import Storage
from sessile.storage.dates import ServerClock
from sessile.storage.driver import CommitRow, Deadline, Listing, ListQuery, RecordName, Span
from sessile.storage.encoding import encode_commit
from sessile.storage.faces import step
from sessile.testing.samples import START, append_of, commit_row


@pytest.fixture(params=["s3_url", "gcs_url"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(request.param)


@pytest.fixture
def storage(url: str) -> Iterator[Storage]:
    with sessile.open(url) as opened:
        opened.setup()
        yield opened


@pytest.fixture
def proxy(url: str) -> Iterator[CountingProxy]:
    if "endpoint=http://" not in url:
        pytest.skip("The proxy sees nothing of a connection that is encrypted.")
    with CountingProxy(url.partition("endpoint=")[2].partition("&")[0]) as opened:
        yield opened


@pytest.fixture
def through(url: str, proxy: CountingProxy) -> Iterator[Storage]:
    with sessile.open(url, endpoint=proxy.url) as opened:
        opened.setup()
        yield opened


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints at every append, and a session of some dozen commits has what one of many thousands has."""
    for name, value in (("INTERVAL", 0), ("SETTLED", 0), ("CLEARED_AT_ONCE", 1)):
        monkeypatch.setattr(log, name, value)
    for name, value in (("MOST_ROWS", 4), ("LEAST_ROWS", 2), ("MERGED_ROWS", 2), ("FAN", 3), ("MOST_NODES", 4)):
        monkeypatch.setattr(merging, name, value)


def append(storage: Storage, seq: int, key: str | None = None, text: str = "x") -> bool:
    write = append_of(expected=seq - 1, text=text)
    return call(storage, "append", write._replace(commits=(write.commits[0]._replace(key=key),)))


def entries(storage: Storage, **span: Any) -> list[CommitRow]:
    return call(storage, "entries", "s", "i1", Span(**span))


def put(storage: Storage, name: str, data: bytes) -> None:
    step(driver_of(storage).port.put("By the test", name, data, Deadline(30.0)))


def contents(storage: Storage) -> bytes:
    """Everything that is in the objects of a storage."""
    port = driver_of(storage).port
    found = [step(port.get("By the test", name, Deadline(30.0))) for name in objects(storage)]
    return b"".join(each.data for each in found if each is not None)


# ---------------------------------------------------------------- keys


def test_keys_are_found_wherever_their_commits_are(storage: Storage, small: None) -> None:
    for seq in range(1, 61):
        assert append(storage, seq, "one" if seq == 33 else "ten" if seq % 10 == 0 else None)
    assert {name.split("/")[4] for name in objects(storage, "logs") if "/merged/" in name} == {"0", "1", "2"}
    assert [row.seq for row in entries(storage, key="one")] == [33]
    assert [row.seq for row in entries(storage, key="ten")] == [10, 20, 30, 40, 50, 60]
    assert [row.seq for row in entries(storage, key="ten", first=11, last=59, limit=2)] == [20, 30]
    assert [row.seq for row in entries(storage, key="ten", newest_first=True, limit=3)] == [60, 50, 40]


def test_what_a_key_costs(through: Storage, proxy: CountingProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing where there is none, one request to write, and a few to find it among however many commits."""
    monkeypatch.setattr(log, "INTERVAL", 0)
    counts: dict[int, int] = {}
    for seq in range(1, 121):
        proxy.forget()
        assert append(through, seq, f"key {seq}" if seq in (5, 100) else None)
        counts[seq] = len([path for method, path in proxy.seen if method == "PUT" and "keys" in path])
    assert {seq for seq, count in counts.items() if count} == {5, 100}
    assert counts[5] == counts[100] == 1
    for key, wanted in (("key 5", [5]), ("key 100", [100])):
        proxy.forget()
        assert [row.seq for row in entries(through, key=key)] == wanted
        assert len(proxy.seen) <= 6
    proxy.forget()
    assert entries(through, key="none") == []
    assert len(proxy.seen) == 1


def test_a_crash_at_any_request_of_an_append_with_a_key(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    """The key finds the commit if it is there, and no commit that is not, nor another one under its number."""
    for seq in range(1, 6):
        append(storage, seq)
    for number in crashes(monkeypatch, lambda: append(storage, len(entries(storage)) + 1, "key", f"{time.time_ns()}")):
        wanted = [row for row in entries(storage) if row.key == "key"]
        assert entries(storage, key="key") == wanted
        assert append(storage, len(entries(storage)) + 1, "other", f"other {number}")
        assert entries(storage, key="key") == wanted
    assert entries(storage, key="key")


def test_what_loses_its_race_is_found_by_no_key(storage: Storage) -> None:
    assert append(storage, 1)
    assert append(storage, 2, "winner")
    assert not append(storage, 2, "loser", "late")
    assert entries(storage, key="loser") == []
    assert [row.seq for row in entries(storage, key="winner")] == [2]


def test_several_sessions_records_and_commits_at_once(storage: Storage) -> None:
    for session_id in "st":
        for seq in range(3):
            assert call(storage, "append", append_of(session_id, seq))
        call(storage, "put_record", session_id, "i1", "lease/1", session_id.encode())
    names = [RecordName(session_id, "i1", "lease/1") for session_id in "tus"]
    assert call(storage, "get_records", names) == [b"t", None, b"s"]
    found = call(storage, "newest", [("t", "i1"), ("u", "i1"), ("s", "i1")], 2)
    assert [[row.seq for row in rows] for rows in found] == [[2, 3], [], [2, 3]]


def test_long_keys_of_records_have_short_parts(storage: Storage) -> None:
    """For services that keep objects in files, whose names have up to 255 bytes."""
    assert append(storage, 1)
    keys = sorted([*("x" * length for length in (1, 99, 100, 101, 200, 255)), "é" * 127, "🦪" * 63])
    for key in keys:
        call(storage, "put_record", "s", "i1", key, b"x")
    assert call(storage, "record_keys", "s", "i1", "") == keys
    assert [len(key) for key in call(storage, "record_keys", "s", "i1", "x" * 100)] == [100, 101, 200, 255]
    assert all(len(part) <= 255 for name in objects(storage) for part in name.split("/"))


def test_more_keys_of_records_than_a_page_of_names(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ports", "records"):
        monkeypatch.setattr(f"sessile.drivers.objects.{name}.LIST_PAGE", 5)
    assert append(storage, 1)
    keys = [f"{letter}/{number:02}" for letter in "abc" for number in range(12)]
    for key in keys:
        call(storage, "put_record", "s", "i1", key, b"x")
    assert call(storage, "record_keys", "s", "i1", "b/") == keys[12:24]
    driver = driver_of(storage)
    page = step(driver.record_keys("s", "i1", "b/", Deadline(30), after="b/04", limit=6))
    assert page == keys[17:23]


# ---------------------------------------------------------------- rewriting


def changes(storage: Storage, seqs: range, text: str = "") -> list[CommitRow]:
    rows = {row.seq: row for row in entries(storage)}
    return [rows[seq]._replace(body=encode_commit([]) if not text else commit_row(seq, 0, text).body) for seq in seqs]


def test_rewriting_erases_a_commit_wherever_it_is(storage: Storage, small: None) -> None:
    for seq in range(1, 41):
        assert append(storage, seq, text=f"secret {seq} ")
    changed = changes(storage, range(1, 41, 3))
    assert call(storage, "rewrite", "s", "i1", changed)
    rows = entries(storage)
    assert [row for row in rows if (row.seq - 1) % 3 == 0] == changed
    left = contents(storage)
    for seq in range(1, 41):
        assert (f'"text":"secret {seq} '.encode() in left.replace(b"\\", b"")) == bool((seq - 1) % 3)
    for seq in range(41, 60):
        assert append(storage, seq)
    assert entries(storage)[:40] == rows


def test_rewriting_what_no_checkpoint_has_yet(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "INTERVAL", 10**15)
    for seq in range(1, 8):
        assert append(storage, seq, text="secret")
    assert call(storage, "rewrite", "s", "i1", changed := changes(storage, range(2, 8)))
    assert entries(storage)[1:] == changed
    left = contents(storage).replace(b"\\", b"")
    assert [f'"text":"secret","seq":{seq}}}'.encode() in left for seq in range(1, 8)] == [True, *[False] * 6]


def test_a_crash_at_any_request_of_rewriting(storage: Storage, monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Each commit is the old one or the new one, and rewriting again ends it."""
    for seq in range(1, 13):
        assert append(storage, seq, "old")
    before = entries(storage)
    after = [row._replace(key="new") for row in changes(storage, range(1, 13), "new")]

    def back() -> None:
        assert call(storage, "rewrite", "s", "i1", before)

    for _ in crashes(monkeypatch, lambda: call(storage, "rewrite", "s", "i1", after), back):
        rows = entries(storage)
        assert all(row in pair for row, *pair in zip(rows, before, after, strict=True))
        for key in ("old", "new"):
            assert entries(storage, key=key) == [row for row in rows if row.key == key]
        assert call(storage, "rewrite", "s", "i1", after)
        assert entries(storage) == after
        assert entries(storage, key="old") == []


def test_a_slow_writer_of_a_checkpoint_brings_nothing_back(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    """It has seen the old commits, and merges them after they were rewritten."""
    for seq in range(1, 5):
        assert append(storage, seq, text="secret")
    original = log.Log.write_before

    async def write_before(self: log.Log, *args: Any) -> Any:
        monkeypatch.setattr(log.Log, "write_before", original)
        assert call(storage, "rewrite", "s", "i1", changes(storage, range(1, 5)))
        for seq in range(6, 20):
            assert append(storage, seq)
        return await original(self, *args)

    monkeypatch.setattr(log.Log, "write_before", write_before)
    append(storage, 5)
    rows = entries(storage)
    assert [row.seq for row in rows] == list(range(1, 20))
    assert [row.body for row in rows[:4]] == [encode_commit([])] * 4
    assert b'"text":"secret' not in contents(storage).replace(b"\\", b"")


# ---------------------------------------------------------------- lists


def listing(storage: Storage, **query: Any) -> Listing:
    return call(storage, "list", ListQuery(**query))


def test_what_cannot_be_read_costs_only_itself(storage: Storage) -> None:
    for name in ("a", "b", "c", "d"):
        storage.create_session(name, user_id="ada" if name < "c" else None)
    put(storage, layout.head_name(digest("a")), b"{")
    put(storage, layout.head_name(digest("c")), b'{"format":99}')
    put(storage, "lists/updated/all/stray", b"")
    put(storage, f"{layout.folder('d', 'i1')}/commits/stray", b"")
    page = listing(storage)
    assert [row.session_id for row in page.rows] == ["d", "b"]
    assert {name: type(error) for name, error in page.unreadable.items()} == {
        layout.head_name(digest("a")): CorruptDataError,
        layout.head_name(digest("c")): NewerVersionError,
        "lists/updated/all/stray": CorruptDataError,
    }
    assert [row.session_id for row in listing(storage, ascending=True).rows] == ["b", "d"]
    assert listing(storage, user_id="ada").unreadable.keys() == {layout.head_name(digest("a"))}
    assert storage.count_sessions(user_id=ANY_USER) == 2
    with pytest.raises(CorruptDataError):
        storage.delete_user("ada")
    assert [row.session_id for row in listing(storage).rows] == ["d"]


@pytest.mark.parametrize("limit", [3, 7, 50])
def test_the_oldest_first_over_several_pages_of_names(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    for name in ("drivers.objects.ports", "drivers.objects.lists"):
        monkeypatch.setattr(f"sessile.{name}.LIST_PAGE", 5)
    names = [f"s{number:02}" for number in range(18)]
    for number, name in enumerate(names):
        assert call(storage, "append", append_of(name, updated_at=START + number * 10**6))
    for since, wanted in ((None, names), (START + 5 * 10**6, names[5:])):
        found: list[str] = []
        after = None
        while True:
            page = listing(storage, ascending=True, since=since, limit=limit, after=after)
            found += [row.session_id for row in page.rows]
            if (after := page.after) is None:
                break
        assert found == wanted


def test_what_has_changed_since_is_found_before_its_place_has_moved(storage: Storage) -> None:
    """The second of two changes within a second writes no checkpoint."""
    storage.create_session("s")
    since = storage.get_session("s").updated_us  # type: ignore[union-attr]
    storage.rename("s", "Renamed")
    page = listing(storage, since=since + 1, ascending=True)
    assert [row.name for row in page.rows] == ["Renamed"]


# ---------------------------------------------------------------- the clock and the counters


def test_the_stores_clock_decides(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 86_400 * 10**9)
    with sessile.open(url) as storage:
        storage.setup()
        assert abs(call(storage, "now") - real() // 1000) < 3 * 10**6
        assert append(storage, 1)
        loaded = call(storage, "load", "s", 1)
        assert abs(loaded.now - real() // 1000) < 3 * 10**6


def test_whoever_may_only_read_has_this_machines_clock(through: Storage, proxy: CountingProxy) -> None:
    proxy.answer("PUT", "sessile", 403, times=1000)
    driver_of(through).port.clock = ServerClock()
    assert abs(call(through, "now") - time.time_ns() // 1000) < 10**6


def test_troubles_are_counted_and_logged(
    through: Storage, proxy: CountingProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sessile")
    driver = driver_of(through)
    through.create_session("s")
    assert driver.stats.counts() == {}
    proxy.answer("GET", "heads", 503, b"<Code>SlowDown</Code>", times=2)
    through.get_session("s")
    assert driver.stats.counts() == {"retries": 2}
    proxy.lose("PUT", "commits")
    through.add_run("s")
    counts = driver.stats.counts()
    assert counts["unknown_answers"] >= 1
    assert counts["reconnects"] == 1
    assert "had no answer" in caplog.text
    through.rename("s", "Renamed")  # writes no checkpoint, so that its place is behind
    through.sessions()
    assert driver.stats.counts()["catch_ups"] >= 1


# ---------------------------------------------------------------- before the first release

CONTENT = b"an image"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def old_bucket(storage: Storage) -> None:
    """The session `old` of one run, with a lease and an image, as it was written before the first release."""
    where = layout.folder("old", "i1")
    session = digest("old")
    moment = 10**19 - 1 - START
    body = {"version": 1, "writer": "0.1.0", "run_count": 1, "usage": {}, "tip": 1, "segments": [[0, 1]]}
    body |= {"open_runs": {}, "ttl": None, "forked_from": None, "summary": None, "hidden": None, "state": {}}
    head = ["old", "i1", 1, "agent", "support", "ada", None, "completed", START, START, None, False, "{}"]
    created = {"session_id": "old", "kind": "agent", "owner": "support", "user_id": "ada", "incarnation": "i1"}
    run = {"run_id": "r1", "run": 1, "owner": "support"}
    log_entries = [
        {"kind": "session.created", "data": created},
        {"kind": "run.started", **run, "data": {"input": "a"}},
        {"kind": "message", **run, "data": {"image": DIGEST}},
        {"kind": "run.ended", **run, "data": {"status": "completed", "output": "b"}},
    ]
    commit = json.dumps({"version": 1, "writer": "0.1.0", "entries": log_entries})
    groups = ("all", f"owner/{digest('support')}", f"user/{digest('ada')}")
    places = [f"lists/{order}/{group}/{moment:019}-{session}" for order in ("updated", "created") for group in groups]
    checkpoint = {
        "format": 1,
        "head": [*head, json.dumps(body)],
        "rows": [[1, "r1", 1, START, commit]],
        "nodes": [],
        "written": START,
        "places": sorted(places),
        "cleared": 0,
        "safe": 0,
        "covered": 1,
        "covered_at": START,
        "removing": False,
    }
    for name in places:
        put(storage, name, b"")
    put(storage, f"heads/{session}", json.dumps(checkpoint).encode())
    records = {"lease/1": b"{}", f"media/{DIGEST}": b'{"size":8,"parts":1}', f"media/{DIGEST}/0": CONTENT}
    for key, value in records.items():
        put(storage, f"{where}/records/{digest(key)}", value)


def test_a_bucket_of_before_the_first_release_is_read_and_listed_and_written_on(storage: Storage) -> None:
    old_bucket(storage)
    for order in ("updated", "created"):
        (item,) = storage.sessions(agent="support", user_id=ANY_USER, order=order).items
        assert (item.session_id, item.agent, item.user_id) == ("old", "support", "ada")
    assert [run.input for run in storage.runs("old", user_id="ada")] == ["a"]
    storage.add_run("old", input="c", user_id="ada")
    storage.add_run("new", input="d", agent="support")
    storage.verify("old", user_id="ada")
    found = storage.sessions(agent="support", user_id=ANY_USER).items
    assert [item.session_id for item in found] == ["new", "old"]
    assert storage.count_sessions(agent="support", user_id=ANY_USER) == 2
    assert not [name for name in objects(storage, "lists") if "/owner/" in name]


def test_places_of_before_the_first_release_move_when_they_are_listed(storage: Storage) -> None:
    old_bucket(storage)
    assert len(storage.sessions(agent="support", user_id=ANY_USER).items) == 1
    assert Counter(name.split("/")[2] for name in objects(storage, "lists")) == {"all": 2, "agent": 2, "user": 2}
    assert len(storage.sessions(agent="support", user_id=ANY_USER).items) == 1


def test_records_of_before_the_first_release(storage: Storage) -> None:
    old_bucket(storage)
    keys = ["lease/1", f"media/{DIGEST}", f"media/{DIGEST}/0"]
    assert storage.media("old", DIGEST, user_id="ada") == CONTENT
    assert call(storage, "record_keys", "old", "i1", "") == keys
    assert call(storage, "put_record", "old", "i1", "lease/1", b"new")
    assert call(storage, "get_record", "old", "i1", "lease/1") == b"new"
    assert call(storage, "record_keys", "old", "i1", "") == keys
    call(storage, "put_record", "old", "i1", "lease/1", None)
    assert call(storage, "get_record", "old", "i1", "lease/1") is None
    assert call(storage, "record_keys", "old", "i1", "lease/") == []
    storage.delete("old", user_id="ada")
    assert objects(storage, "logs") == objects(storage, "lists") == []
