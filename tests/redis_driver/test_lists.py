"""The lists of sessions in Redis: what leaves them, and how they are mended."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.servers.redis import RedisCluster, redis_client

import sessile
from sessile import ANY_USER
from sessile.drivers.redis import driver, index
from sessile.errors import CorruptDataError, StorageUnavailableError
from sessile.storage import Deadline
from sessile.storage.core import Core
from sessile.storage.driver import ListQuery
from sessile.storage.extending import operate
from sessile.testing.samples import append_of

from .helpers import append, call, driver_of, keys_of, listed, page, prefix_of


def of_session(keys: set[str], session_id: str = "s") -> set[str]:
    return {key for key in keys if key.startswith(f"{{{session_id}}}")}


# ---------------------------------------------------------------- expiry


def test_the_server_removes_expired_sessions_by_itself(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        storage.create_session("s", ttl=1000)
        storage.add_run("s")
        head = storage.get_session("s")
        assert head is not None
        assert head.expires_us is not None
        keys = of_session(keys_of(redis_url))
        assert keys == {"{s}:head", "{s}:log", "{s}:runs"}
        for key in keys:
            gone = client.pexpiretime(f"{prefix_of(redis_url)}{key}")
            assert gone == head.expires_us // 1000 + driver.GRACE_MS
        storage.set_ttl("s", None)
        assert {client.pttl(f"{prefix_of(redis_url)}{key}") for key in keys} == {-1}


def test_records_expire_with_their_session(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        append(storage, expires_at=2**50, ttl=1)

        async def write(core: Core) -> None:
            await core.driver.put_record("s", "i1", "k", b"x", core.deadline())

        operate(storage, write)
        prefix = prefix_of(redis_url)
        assert client.pexpiretime(f"{prefix}{{s}}:head") == client.pexpiretime(f"{prefix}{{s}}:records")
        assert append(storage, "s", 1, expires_at=None)
        assert client.pttl(f"{prefix}{{s}}:records") == -1


def test_an_expired_session_is_kept_a_little_longer_for_who_prolongs_it(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        storage.create_session("s", ttl=0)
        assert storage.get_session("s") is None
        assert 0 < client.pttl(f"{prefix_of(redis_url)}{{s}}:head") <= driver.GRACE_MS
        assert storage.sweep() == 1
        assert keys_of(redis_url) == {"schema"}


@pytest.mark.parametrize("by", ["list", "sweep"])
def test_expired_sessions_leave_nothing_behind(redis_url: str, by: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        for number in range(250):
            append(storage, f"s{number}", user_id=f"u{number % 7}", agent="o", status="running")
        append(storage, "left", user_id="u1", agent="o")
        for key in keys_of(redis_url):
            if key.startswith("{s"):
                client.pexpire(f"{prefix_of(redis_url)}{key}", 0)  # as the server does in its own time
        assert storage.count_sessions(user_id=ANY_USER) == 1 if by == "list" else storage.sweep() == 0
        assert listed(storage, user_id="u1") == ["left"]
        keys = {key for key in keys_of(redis_url) if not key.startswith("{left}")}
        assert keys == {
            "schema",
            "index:places",
            *(f"index:{order}{of}" for order in ("updated", "created") for of in ("", ":agent:o", ":user:u1")),
        }
        assert client.hkeys(f"{prefix_of(redis_url)}index:places") == [b"left"]


def test_a_session_made_again_under_the_id_of_one_that_expired(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        append(storage, expires_at=2**50, user_id="ada")
        for key in of_session(keys_of(redis_url)):
            client.pexpire(f"{prefix_of(redis_url)}{key}", 0)
        storage.add_run("s", input=1, user_id="bea")
        assert listed(storage) == listed(storage, user_id="bea") == ["s"]
        assert listed(storage, user_id="ada") == []
        assert storage.verify("s", user_id="bea") == 1


# ---------------------------------------------------------------- mending


def test_wrong_entries_are_mended(redis_url: str) -> None:
    prefix = prefix_of(redis_url)
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        for name in ("a", "b", "c"):
            storage.add_run(name, user_id="ada")
        right = client.zrange(f"{prefix}index:updated", 0, -1, withscores=True)
        client.zadd(f"{prefix}index:updated", {"a": 1, "b": 2**52, "nobody": 5})
        client.zadd(f"{prefix}index:updated:user:bea", {"a": 1})
        client.zadd(f"{prefix}index:running", {"a": 1})
        assert listed(storage) == ["c", "b", "a"]
        assert listed(storage, user_id="bea") == []
        assert listed(storage, status="running") == []
        assert client.zrange(f"{prefix}index:updated", 0, -1, withscores=True) == right
        assert not client.exists(f"{prefix}index:updated:user:bea", f"{prefix}index:running")


def test_many_sessions_of_one_moment(redis_url: str) -> None:
    with sessile.open(redis_url) as storage:
        names = sorted(f"s{number:03}" for number in range(150))
        for name in names:
            append(storage, name, updated_at=7, created_at=7)
        found: list[str] = []
        cursor = None
        while True:
            page = storage.sessions(limit=20, cursor=cursor)
            found += [head.session_id for head in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == names[::-1]


def test_a_session_that_changes_during_a_list_is_in_it(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to the top, where the list has been already."""
    with sessile.open(redis_url) as storage:
        for number in range(250):
            append(storage, f"s{number:03}", updated_at=number, name="last" if number == 0 else None)
        heads, waiting = index.Index.heads, [1]

        async def change_first(*args: Any) -> Any:
            if waiting:
                write = append_of("s000", waiting.pop(), updated_at=time.time_ns() // 1000, name="last")
                assert await driver_of(storage).append(write, Deadline(20))
            return await heads(*args)

        monkeypatch.setattr(index.Index, "heads", change_first)
        assert storage.count_sessions() == 250
        waiting.append(2)
        assert listed(storage, name_prefix="last") == ["s000"]


# ---------------------------------------------------------------- on a cluster


def test_a_crash_between_a_commit_and_its_lists(redis_cluster: RedisCluster, redis_cluster_url: str) -> None:
    """The session stands where it stood, with its new contents, until a list meets it."""
    prefix = prefix_of(redis_cluster_url)
    with sessile.open(redis_cluster_url) as storage, redis_cluster.connect() as client:
        for name in ("a", "b", "c"):
            storage.add_run(name, user_id="ada")
        before = client.zscore(f"{prefix}index:updated", "a")
        storage.rename("a", "new", user_id="ada")
        client.zadd(f"{prefix}index:updated", {"a": before})  # as it was before the refresh
        assert {head.session_id: head.name for head in storage.sessions(user_id="ada").items}["a"] == "new"
        assert listed(storage) == ["a", "c", "b"]
        assert client.zscore(f"{prefix}index:updated", "a") > before
        assert listed(storage, order="created") == ["c", "b", "a"]


def test_a_crash_that_kept_a_session_out_of_a_list(redis_cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next list that meets the session enters it wherever it belongs, so that a sweep finds it."""
    with sessile.open(redis_cluster_url) as storage:
        assert append(storage, "s", updated_at=1000)

        async def crash(*_: Any) -> None:
            raise StorageUnavailableError("The process has ended.", retryable=False)

        with monkeypatch.context() as patch:
            patch.setattr(index.Index, "enter", crash)
            assert append(storage, "s", 1, updated_at=2000, status="running")
        assert listed(storage, status="running") == []
        assert listed(storage) == ["s"]
        assert listed(storage, status="running") == ["s"]


def test_entries_of_sessions_in_the_making_are_left_alone(redis_cluster: RedisCluster, redis_cluster_url: str) -> None:
    prefix = prefix_of(redis_cluster_url)
    with sessile.open(redis_cluster_url) as storage, redis_cluster.connect() as client:
        storage.add_run("s", user_id="ada")
        (head,) = storage.sessions(user_id="ada").items
        old = head.created_us - index.FRESH - 1_000_000
        client.zadd(f"{prefix}index:created", {"young": head.created_us, "old": old})
        assert listed(storage, order="created") == ["s"]
        assert client.zrange(f"{prefix}index:created", 0, -1) == [b"s", b"young"]
        assert storage.delete("s", user_id="ada")
        assert client.zrange(f"{prefix}index:created", 0, -1) == [b"young"]
        assert not client.exists(f"{prefix}index:updated:user:ada")


def test_a_rival_who_lost_the_race_to_make_a_session_changes_no_list(
    redis_cluster: RedisCluster, redis_cluster_url: str
) -> None:
    with sessile.open(redis_cluster_url) as storage:
        assert append(storage, "s", user_id="ada", created_at=1000, updated_at=1000)
        assert not append(storage, "s", incarnation="i2", user_id="bea", created_at=2000, updated_at=2000)
        assert append(storage, "t", user_id="ada", created_at=1500, updated_at=1500)
        assert listed(storage, order="created") == ["t", "s"]
        assert listed(storage, user_id="bea") == []
        assert listed(storage, user_id="ada", order="created", limit=1) == ["t"]


def test_where_commits_and_lists_part(redis_cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists that cannot be written: nothing is made; what is committed stays committed."""
    with sessile.open(redis_cluster_url) as storage:
        storage.add_run("s", input=1)

        async def fail(*_: Any) -> None:
            raise StorageUnavailableError("The lists are away.", retryable=False, written="unknown")

        monkeypatch.setattr(index.Index, "enter", fail)
        storage.add_run("s", input=2)
        with pytest.raises(StorageUnavailableError) as caught:
            storage.add_run("new", input=1)
        assert caught.value.written == "no"
        assert len(storage.runs("s")) == 2
        assert storage.get_session("new") is None


def test_lists_are_not_scanned_for(redis_url: str) -> None:
    """A page reads about as many heads as it shows, however many sessions there are."""
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        for number in range(300):
            append(storage, f"s{number:03}", updated_at=number, user_id="ada")
        client.config_resetstat()
        assert len(listed(storage, user_id="ada", limit=10)) == 10
        stats = client.info("commandstats")
        assert stats["cmdstat_hmget"]["calls"] <= 40
        assert "cmdstat_scan" not in stats
        assert "cmdstat_keys" not in stats


async def test_the_asynchronous_face_counts_too(redis_url: str) -> None:
    async with sessile.open(redis_url) as storage:
        await asyncio.gather(*(storage.aadd_run(f"s{number}", user_id="ada") for number in range(30)))
        assert await storage.acount_sessions(user_id="ada") == 30
        assert await storage.adelete_user("ada") == 30
        assert await storage.acount_sessions(user_id=ANY_USER) == 0


# ---------------------------------------------------------------- what cannot be read


def damage(client: Any, prefix: str) -> None:
    """Make heads of others than their own kind, and an entry that is no id."""
    client.delete(f"{prefix}{{s3}}:head")
    client.set(f"{prefix}{{s3}}:head", "x")
    client.hdel(f"{prefix}{{s5}}:head", "incarnation")
    client.hset(f"{prefix}{{s6}}:head", "revision", "many")
    for order in ("updated", "created"):
        client.zadd(f"{prefix}index:{order}", {b"\xff": 4})


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("order", ["updated", "created"])
def test_a_damaged_head_costs_only_itself(redis_url: str, order: Any, ascending: bool) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        for number in range(10):
            append(storage, f"s{number}", created_at=number, updated_at=number, user_id="ada")
        damage(client, prefix_of(redis_url))
        whole = page(storage, order=order, ascending=ascending)
        wanted = [f"s{number}" for number in range(10) if number not in (3, 5, 6)]
        assert [row.session_id for row in whole.rows] == (wanted if ascending else wanted[::-1])
        assert whole.unreadable.keys() == {"s3", "s5", "s6", "\\xff"}
        assert {type(error) for error in whole.unreadable.values()} == {CorruptDataError}
        pages: list[Any] = []
        while not pages or pages[-1].after is not None:
            after = pages[-1].after if pages else None
            pages.append(page(storage, order=order, ascending=ascending, limit=2, after=after))
        assert [row for each in pages for row in each.rows] == whole.rows
        named = [name for each in pages for name in each.unreadable]
        assert sorted(named) == sorted(whole.unreadable)
        assert call(storage, "count", ListQuery()) == 7
        assert page(storage, user_id="ada").unreadable.keys() == {"s3", "s5", "s6"}


def test_a_damaged_head_on_a_cluster(redis_cluster: RedisCluster, redis_cluster_url: str) -> None:
    with sessile.open(redis_cluster_url) as storage, redis_cluster.connect() as client:
        for number in range(10):
            append(storage, f"s{number}", created_at=number, updated_at=number)
        damage(client, prefix_of(redis_cluster_url))
        found = page(storage)
        assert [row.session_id for row in found.rows] == ["s9", "s8", "s7", "s4", "s2", "s1", "s0"]
        assert found.unreadable.keys() == {"s3", "s5", "s6", "\\xff"}


def test_an_entry_that_no_place_tells_of_is_taken_out(redis_url: str) -> None:
    prefix = prefix_of(redis_url)
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        append(storage, "s", agent="a")
        client.zadd(f"{prefix}index:updated:agent:b", {"gone": 1, "s": 2})
        assert page(storage, agent="b").rows == []
        assert not client.exists(f"{prefix}index:updated:agent:b")


def test_lists_of_who_has_no_user_are_not_scanned_for(redis_url: str) -> None:
    with sessile.open(redis_url) as storage, redis_client(redis_url) as client:
        for number in range(300):
            append(storage, f"s{number:03}", updated_at=number, user_id=None if number < 10 else "ada")
        client.config_resetstat()
        assert [row.session_id for row in page(storage, user_id=None, limit=3).rows] == ["s009", "s008", "s007"]
        assert client.info("commandstats")["cmdstat_hmget"]["calls"] <= 20
        assert call(storage, "count", ListQuery(user_id=None)) == 10
