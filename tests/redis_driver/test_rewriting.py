"""Commits with other bodies in Redis, and what keys of commits leave behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.servers.redis import redis_client

import sessile
from sessile.drivers.redis import rewriting
from sessile.storage import Storage
from sessile.storage.driver import CommitRow, Span
from sessile.testing.samples import append_of

from .helpers import append, call, driver_of, in_thread, keys_of, prefix_of

LOG = Span(limit=10_000)


def fill(storage: Storage, count: int, secret: str = "") -> list[CommitRow]:
    for seq in range(count):
        assert append(storage, "s", seq, text=f"{secret}{seq}")
    return call(storage, "entries", "s", "i1", LOG)


def keyed(storage: Storage, seq: int, key: str | None) -> None:
    write = append_of("s", seq)
    assert call(storage, "append", write._replace(commits=(write.commits[0]._replace(key=key),)))


def emptied(row: CommitRow) -> CommitRow:
    return row._replace(body="{}")


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "COPIED_BYTES", 2000)
    monkeypatch.setattr(rewriting, "SENT_ROWS", 3)


def test_what_was_rewritten_is_nowhere_any_more(redis_url: str) -> None:
    prefix = prefix_of(redis_url)
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        client.config_set("rdbcompression", "no")
        rows = fill(storage, 30, f"{'long':40}secret-")  # its beginning is in the commit's id
        assert b"secret-7" in client.dump(f"{prefix}{{s}}:log")
        assert call(storage, "rewrite", "s", "i1", [emptied(row) for row in rows])
        assert b"secret" not in client.dump(f"{prefix}{{s}}:log")
        assert keys_of(redis_url) >= {"{s}:head", "{s}:log"}
        assert not [key for key in keys_of(redis_url) if key.startswith("{s}:log:")]


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("chosen", [slice(None), slice(0, 1), slice(99, 100), slice(3, 60, 7)])
def test_long_logs_are_copied_in_steps(redis_url: str, chosen: slice) -> None:
    with sessile.open(redis_url) as storage:
        rows = fill(storage, 100)
        changed = [emptied(row) for row in rows[chosen]]
        assert call(storage, "rewrite", "s", "i1", changed[::-1])
        rows[chosen] = changed
        assert call(storage, "entries", "s", "i1", LOG) == rows
        missing = [*changed, rows[-1]._replace(seq=101)]
        assert not call(storage, "rewrite", "s", "i1", missing)
        assert not [key for key in keys_of(redis_url) if key.startswith("{s}:log:")]


@pytest.mark.usefixtures("small_steps")
def test_others_commit_and_rewrite_meanwhile(redis_url: str) -> None:
    """Nothing that one of them was told to be done is lost."""
    with sessile.open(redis_url) as storage:
        rows = fill(storage, 60)
        done: list[bool] = []

        def rewrite(numbers: range) -> Callable[[], None]:
            def one_after_the_other() -> None:
                for number in numbers:
                    done.append(call(storage, "rewrite", "s", "i1", [emptied(rows[number])]))

            return one_after_the_other

        threads = [in_thread(rewrite(range(start, 60, 3))) for start in range(3)]
        for seq in range(60, 100):
            assert append(storage, "s", seq, text=str(seq))
        for thread in threads:
            thread.join()
        assert done == [True] * 60
        found = call(storage, "entries", "s", "i1", LOG)
        assert [row.seq for row in found] == list(range(1, 101))
        assert [row.body for row in found[:60]] == ["{}"] * 60
        assert "{}" not in [row.body for row in found[60:]]
        assert driver_of(storage).stats.counts()["retries"] > 0


@pytest.mark.usefixtures("small_steps")
def test_a_session_that_is_deleted_meanwhile_stays_deleted(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with sessile.open(redis_url) as storage:
        rows = fill(storage, 60)
        copy, gone = rewriting.Rewriting._copy, threading.Event()

        async def deleted(self: Any, *args: Any) -> bool:
            done = await copy(self, *args)
            if not gone.is_set():
                gone.set()
                in_thread(lambda: call(storage, "delete", "s", "i1")).join()
                in_thread(lambda: append(storage, "s", incarnation="i2")).join()
            return done

        monkeypatch.setattr(rewriting.Rewriting, "_copy", deleted)
        assert not call(storage, "rewrite", "s", "i1", [emptied(row) for row in rows])
        assert len(call(storage, "entries", "s", "i2", LOG)) == 1
        assert not [key for key in keys_of(redis_url) if key.startswith("{s}:log:")]


@pytest.mark.parametrize("expires_at", [None, 2**50])
def test_a_log_that_was_rewritten_expires_as_before(redis_url: str, expires_at: int | None) -> None:
    prefix = prefix_of(redis_url)
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        assert append(storage, "s", expires_at=expires_at, ttl=1)
        (row,) = call(storage, "entries", "s", "i1", LOG)
        assert call(storage, "rewrite", "s", "i1", [row._replace(key="k")])
        head = client.pexpiretime(f"{prefix}{{s}}:head")
        for name in ("log", "keys"):
            assert abs(client.pexpiretime(f"{prefix}{{s}}:{name}") - head) <= 10


def test_nothing_is_rewritten_where_there_is_something(redis_url: str) -> None:
    with sessile.open(redis_url) as storage:
        fill(storage, 1)
        assert call(storage, "rewrite", "s", "i1", [])
        assert not call(storage, "rewrite", "s", "i2", [])
        assert not call(storage, "rewrite", "t", "i1", [])


def test_keys_cost_nothing_where_there_are_none(redis_url: str) -> None:
    with sessile.open(redis_url) as storage:
        keyed(storage, 0, None)
        assert {key for key in keys_of(redis_url) if key.startswith("{s}")} == {"{s}:head", "{s}:log"}
        keyed(storage, 1, "k")
        assert "{s}:keys" in keys_of(redis_url)
        (found,) = call(storage, "entries", "s", "i1", Span(key="k"))
        assert call(storage, "rewrite", "s", "i1", [found._replace(key=None)])
        assert "{s}:keys" not in keys_of(redis_url)
        keyed(storage, 2, "k")
        call(storage, "delete", "s", "i1")
        assert not [key for key in keys_of(redis_url) if key.startswith("{s}")]


def test_commits_of_a_key_and_of_runs(redis_url: str) -> None:
    with sessile.open(redis_url) as storage:
        for seq, (key, run) in enumerate([("a", 1), ("a", 2), ("b", 2), ("a", 0), ("a", 3), ("a", 2)]):
            write = append_of("s", seq, runs=(run,))
            assert call(storage, "append", write._replace(commits=(write.commits[0]._replace(key=key),)))
        for newest_first, wanted in ((False, [2, 5, 6]), (True, [6, 5, 2])):
            span = Span(key="a", runs=(2, 3), newest_first=newest_first)
            assert [row.seq for row in call(storage, "entries", "s", "i1", span)] == wanted
        assert [row.seq for row in call(storage, "entries", "s", "i1", Span(key="a", runs=(2, 3), limit=2))] == [2, 5]
