"""Databases of the first layout of keys: brought along by whoever sets up, from wherever the one before has stopped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.servers.redis import RedisCluster, redis_client

import sessile
from sessile.drivers.redis import moving
from sessile.errors import StorageUnavailableError

from .helpers import append, keys_of, page, prefix_of

SESSIONS = 60


def agent_of(number: int) -> str | None:
    return f"a{number % 4}" if number % 3 else None


def user_of(number: int) -> str | None:
    return f"u{number % 5}" if number % 2 else None


def wanted(**query: Any) -> list[str]:
    """What lists by agent, by user, or of nobody must have, newest first."""
    return [
        f"s{number:02}"
        for number in reversed(range(SESSIONS))
        if query.get("agent", agent_of(number)) == agent_of(number)
        and query.get("user_id", user_of(number)) == user_of(number)
    ]


def fill(url: str, client: Any) -> None:
    """A database as the first layout had it: made by today's, and turned back."""
    prefix = prefix_of(url)
    with sessile.open(url) as storage:
        for number in range(SESSIONS):
            moment = {"created_at": 1000 + number // 3, "updated_at": 1000 + number // 3}
            append(storage, f"s{number:02}", agent=agent_of(number), user_id=user_of(number), **moment)
    for key in [f"{prefix}index:{order}:" for order in ("updated", "created")]:
        client.delete(f"{key}no-user")
        for number in range(4):
            entries = client.zrange(f"{key}agent:a{number}", 0, -1, withscores=True)
            client.zadd(f"{key}owner:a{number}", dict(entries))
            client.delete(f"{key}agent:a{number}")
    for number in range(SESSIONS):
        head = f"{prefix}{{s{number:02}}}:head"
        if (agent := agent_of(number)) is not None:
            client.hset(head, "owner", agent)
            client.hdel(head, "agent")
    client.set(f"{prefix}schema", 1)


def check(url: str, client: Any) -> None:
    with sessile.open(url) as storage:
        for query in ({"agent": "a1"}, {"agent": "a2", "user_id": None}, {"user_id": None}, {"user_id": "u1"}):
            for order in ("updated", "created"):
                assert [row.session_id for row in page(storage, order=order, **query).rows] == wanted(**query)
        assert client.get(f"{prefix_of(url)}schema") == b"2"
        assert append(storage, "s01", 1, agent="a1", user_id="u1")  # one of today's commits
        assert client.hget(f"{prefix_of(url)}{{s01}}:head", "owner") is None
        assert [row.agent for row in page(storage, user_id="u1", limit=1).rows] == ["a1"]


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "PAGE", 7)


@pytest.mark.usefixtures("small_pages")
def test_lists_are_brought_along(redis_url: str) -> None:
    with redis_client(redis_url) as client:
        fill(redis_url, client)
        check(redis_url, client)
    assert not [key for key in keys_of(redis_url) if ":owner:" in key or key == "moving"]


@pytest.mark.usefixtures("small_pages")
def test_lists_of_a_cluster_are_brought_along(redis_cluster: RedisCluster, redis_cluster_url: str) -> None:
    with redis_cluster.connect() as client:
        fill(redis_cluster_url, client)
        check(redis_cluster_url, client)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("pages", [0, 1, 5, 9, 13, 17])
def test_one_that_is_interrupted_is_gone_on_with(redis_url: str, pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    move_page = moving.Moving._move_page

    async def until_it_ends(self: Any, *args: Any) -> None:
        if len(done) == pages:
            raise StorageUnavailableError("The process has ended.", retryable=False)
        await move_page(self, *args)
        done.append(1)

    with redis_client(redis_url) as client:
        fill(redis_url, client)
        with monkeypatch.context() as patch:
            patch.setattr(moving.Moving, "_move_page", until_it_ends)
            with sessile.open(redis_url) as storage, pytest.raises(StorageUnavailableError):
                storage.setup()
        assert client.get(f"{prefix_of(redis_url)}schema") == b"1"
        check(redis_url, client)


@pytest.mark.usefixtures("small_pages")
def test_several_at_once(redis_url: str) -> None:
    def set_up(_: int) -> None:
        with sessile.open(redis_url) as storage:
            storage.setup()

    with redis_client(redis_url) as client:
        fill(redis_url, client)
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(set_up, range(6)))
        check(redis_url, client)
