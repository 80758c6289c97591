"""The contract of `Driver`, continued: commits by key, records by prefix, several at once, rewriting, the clock."""

from __future__ import annotations

import time
from typing import Any

from ..storage.driver import RecordName
from ..storage.encoding import encode_commit
from .checks import Area, Trial, expect, expect_equal
from .samples import HOSTILE_IDS, START, append_of, commit_row

area = Area("lookups")

CLOCK_TOLERANCE = 3600 * 10**6
"""How far the clock of a database may be from this machine's, in microseconds: only its unit is checked."""


async def _keyed(trial: Trial, keys: list[str | None], session_id: str = "s", run: int = 0) -> None:
    """One commit for each key."""
    for seq, key in enumerate(keys):
        write = append_of(session_id, seq, runs=(run,))
        write = write._replace(commits=(write.commits[0]._replace(key=key),))
        expect(await trial.driver.append(write), "an append without rivals")


async def _found(trial: Trial, key: str, session_id: str = "s", **span: Any) -> list[int]:
    rows = await trial.driver.entries(session_id, "i1", key=key, **span)
    expect(all(row.key == key for row in rows), f"a commit that was found by {key!r} carries that key")
    return [row.seq for row in rows]


@area.check()
async def commits_by_key(trial: Trial) -> None:
    """A key finds exactly the commits that carry it, within a span, in either direction."""
    await _keyed(trial, ["a", None, "b", "a", "A", "a", None, "ab"])
    for key, wanted in (("a", [1, 4, 6]), ("b", [3]), ("A", [5]), ("ab", [8]), ("c", []), ("a ", [])):
        expect_equal(await _found(trial, key), wanted, f"commits of key {key!r}")
    expect_equal(await _found(trial, "a", newest_first=True, limit=2), [6, 4], "the newest two")
    expect_equal(await _found(trial, "a", first=2, last=5), [4], "those between 2 and 5")
    rows = await trial.driver.entries("s", "i1")
    expect_equal([row.key for row in rows], ["a", None, "b", "a", "A", "a", None, "ab"], "the keys in the log")
    expect_equal(await trial.driver.entries("s", "other", key="a"), [], "commits of another incarnation")
    expect_equal(await trial.driver.entries("absent", "i1", key="a"), [], "commits of an absent session")


@area.check()
async def keys_are_a_sessions_own(trial: Trial) -> None:
    """The same key in two sessions finds each one's commits; a deleted session's are gone."""
    await _keyed(trial, ["k", None])
    await _keyed(trial, [None, "k"], "t")
    expect_equal((await _found(trial, "k"), await _found(trial, "k", "t")), ([1], [2]), "commits by key")
    await trial.driver.delete("s", "i1")
    expect_equal((await _found(trial, "k"), await _found(trial, "k", "t")), ([], [2]), "commits by key")
    await _keyed(trial, [None])
    expect_equal(await _found(trial, "k"), [], "commits of the session before, in one of the same id")


@area.check()
async def keys_are_any_ids(trial: Trial) -> None:
    """Whatever an id may be, a key may be; none finds another's commits."""
    await _keyed(trial, list(HOSTILE_IDS))
    for seq, key in enumerate(HOSTILE_IDS, 1):
        expect_equal(await _found(trial, key), [seq], f"commits of key {key!r}")


@area.check()
async def records_by_prefix(trial: Trial) -> None:
    """The keys of records that begin with a prefix, ascending by code point, page by page."""
    expect_equal(await trial.driver.record_keys("s", "i1"), [], "records of an absent session")
    await _keyed(trial, [None])
    keys = ["a", "a/1", "a/10", "a/2", "a%", "a_", "b/1", "ba/1", "é", "\uffee", "🦪"]
    for key in keys:
        await trial.driver.put_record("s", "i1", key, b"x")
    expect_equal(await trial.driver.record_keys("s", "i1"), sorted(keys), "all keys")
    expect_equal(await trial.driver.record_keys("s", "i1", "a/"), ["a/1", "a/10", "a/2"], "keys that begin with a/")
    expect_equal(await trial.driver.record_keys("s", "i1", "a_"), ["a_"], "keys that begin with a_")
    expect_equal(await trial.driver.record_keys("s", "i1", "A"), [], "keys that begin with A")
    expect_equal(await trial.driver.record_keys("s", "i1", "a/", limit=2), ["a/1", "a/10"], "the first page")
    expect_equal(await trial.driver.record_keys("s", "i1", "a/", after="a/10", limit=2), ["a/2"], "the second page")
    await trial.driver.put_record("s", "i1", "a/10", None)
    expect_equal(await trial.driver.record_keys("s", "i1", "a/"), ["a/1", "a/2"], "keys after one was removed")
    expect_equal(await trial.driver.record_keys("s", "other"), [], "records of another incarnation")


@area.check()
async def several_records(trial: Trial) -> None:
    """`get_records` brings the records of several sessions in the order of their names, None for what is absent."""
    for session_id in ("s", "t"):
        await _keyed(trial, [None], session_id)
        for key in ("a", "b"):
            await trial.driver.put_record(session_id, "i1", key, f"{session_id}{key}".encode())
    texts = ("t i1 b", "s i1 a", "s i1 c", "s i2 a", "u i1 a", "t i1 a", "t i1 b")
    names = [RecordName(*text.split()) for text in texts]
    wanted = [b"tb", b"sa", None, None, None, b"ta", b"tb"]
    expect_equal(await trial.driver.get_records(names), wanted, "the records")
    expect_equal(await trial.driver.get_records([]), [], "no records")


@area.check()
async def newest_of_several(trial: Trial) -> None:
    """`newest` brings the newest commits of several sessions, those of each oldest first."""
    await _keyed(trial, ["a", "b", "c"])
    await _keyed(trial, ["d"], "t")
    found = await trial.driver.newest([("t", "i1"), ("s", "i1"), ("u", "i1"), ("s", "old")], 2)
    expect_equal([[row.key for row in rows] for rows in found], [["d"], ["b", "c"], [], []], "the newest two commits")
    expect_equal(await trial.driver.newest([], 2), [], "the newest commits of no sessions")


@area.check(needs="rewrites")
async def commits_are_rewritten(trial: Trial) -> None:
    """`rewrite` replaces bodies and keys; everything else about log and head stays."""
    await _keyed(trial, ["a", "b", "a", None], run=1)
    before = await trial.driver.entries("s", "i1")
    nothing = encode_commit([])
    changed = [before[0]._replace(body=nothing, key=None), before[2]._replace(body=nothing, key="c")]
    expect(await trial.driver.rewrite("s", "i1", changed), "commits that are there are rewritten")
    wanted = [changed[0], before[1], changed[1], before[3]]
    expect_equal(await trial.driver.entries("s", "i1"), wanted, "the log")
    expect_equal(await trial.driver.entries("s", "i1", runs=(1, 1)), wanted, "the log of the run")
    expect_equal([await _found(trial, key) for key in "abc"], [[], [2], [3]], "commits by key")
    loaded = await trial.driver.load("s", 4)
    assert loaded is not None
    expect_equal((loaded.head, loaded.commits), (append_of("s", 3, runs=(1,)).head, wanted), "the session")
    expect(await trial.driver.append(append_of("s", 4, runs=(2,))), "the session is written on")
    expect_equal(len(await trial.driver.entries("s", "i1")), 5, "commits after another one")


@area.check(needs="rewrites")
async def rewriting_larger_and_smaller(trial: Trial) -> None:
    """A body may be of any size before and after."""
    await _keyed(trial, [None])
    (row,) = await trial.driver.entries("s", "i1")
    for size in (600_000, 10, 1_000_000, 0):
        text = commit_row(1, 0, "x" * size).body
        expect(await trial.driver.rewrite("s", "i1", [row._replace(body=text)]), "the commit is rewritten")
        expect_equal([one.body for one in await trial.driver.entries("s", "i1")], [text], "the body")


@area.check(needs="rewrites")
async def what_is_not_there_is_not_rewritten(trial: Trial) -> None:
    """False, and nothing changed: no such session, incarnation or commit."""
    await _keyed(trial, [None, None])
    rows = await trial.driver.entries("s", "i1")
    other = [row._replace(body=encode_commit([])) for row in rows]
    for session_id, incarnation, commits in (
        ("t", "i1", other),
        ("s", "i2", other),
        ("s", "i1", [other[0], other[1]._replace(seq=3)]),
        ("s", "i1", [other[0], other[1]._replace(commit_id="another")]),
    ):
        expect(not await trial.driver.rewrite(session_id, incarnation, commits), "what is not there is not rewritten")
    expect_equal(await trial.driver.entries("s", "i1"), rows, "the log after rewriting was refused")


@area.check()
async def the_clock_runs(trial: Trial) -> None:
    """`now` and `load` tell the same time, in microseconds, and it goes on."""
    await _keyed(trial, [None])
    first, loaded = await trial.driver.now(), await trial.driver.load("s")
    assert loaded is not None
    expect(abs(first - time.time_ns() // 1000) < CLOCK_TOLERANCE, f"{first} is no time in microseconds UTC")
    expect(first <= loaded.now < first + CLOCK_TOLERANCE, f"load says {loaded.now} after now said {first}")
    expect(loaded.now > START, "the clock is later than the samples")
