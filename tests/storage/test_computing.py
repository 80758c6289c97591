"""What takes long to compute does not hold up the event loop that it is asked for on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sessile import Storage
from sessile.errors import InvalidStateError, StorageUnavailableError
from sessile.storage import computing, extending, threads
from sessile.storage.computing import LARGE, computed, weight
from sessile.storage.encoding import copied, frozen
from sessile.storage.extending import aoperate
from sessile.storage.threads import Worker

from .helpers import longest_stall, suspending

MANY = {f"key {number}": {"number": number, "text": "x" * 10} for number in range(2_000)}
MESSAGES = [{"kind": "said", "parts": [{"text": f"word {n}", "n": n} for n in range(10)]} for _ in range(200)]
Work = Callable[[Storage], Awaitable[Any]]


def stall(work: Work) -> float:
    """The longest that the loop stands still for it, the shortest of some tries."""

    async def run() -> float:
        storage, _ = suspending(max_state_bytes=10**7)
        async with storage:
            await storage.acreate_session("s", state=MANY)
            await storage.aadd_run("s", format="test/1", messages=MESSAGES)
            return await longest_stall(work(storage))

    return min(asyncio.run(run()) for _ in range(4))


async def patched(storage: Storage) -> None:
    await storage.aupdate_state("s", {name: {"number": -1} for name in MANY})


async def added(storage: Storage) -> None:
    await storage.aadd_run("s", format="test/1", messages=MESSAGES)


async def read(storage: Storage) -> None:
    assert len((await storage.aruns("s"))[-1].messages) == len(MESSAGES)


async def forked(storage: Storage) -> None:
    await storage.afork("s")


async def verified(storage: Storage) -> None:
    await storage.averify("s")


async def tailed(storage: Storage) -> None:
    await storage.atail("s", 1)


async def gathered(storage: Storage) -> None:
    head = await storage.aget_session("s")
    assert head is not None
    assert await aoperate(storage, extending.all_entries, head)


async def gone_back(storage: Storage) -> None:
    await storage.arewind("s", at=0)


@pytest.mark.parametrize("work", [patched, added, read, forked, verified, tailed, gathered, gone_back])
def test_the_loop_goes_on_with_others(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = stall(work)
    monkeypatch.setattr(computing, "LARGE", 10**12)
    assert beside < stall(work) / 3


def test_what_is_small_is_computed_at_once_and_what_fails_fails() -> None:
    def fail() -> None:
        raise StorageUnavailableError("No.")

    async def main() -> tuple[int, int]:
        for size in (0, LARGE):
            with pytest.raises(StorageUnavailableError, match="No"):
                await computed(fail, size=size)
        return await computed(threading.get_ident), await computed(threading.get_ident, "x" * 1_000_000)

    here, there = asyncio.run(main())
    assert here == threading.get_ident() != there


def test_where_no_thread_can_be_started_it_is_computed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_computing", Worker())

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert asyncio.run(computed(lambda: "done", size=LARGE)) == "done"


@pytest.mark.parametrize(
    ("value", "large"),
    [
        ("text", False),
        ({"a": [1, {"b": None}]}, False),
        ("x" * 200 * LARGE, True),
        (b"x" * 200 * LARGE, True),
        ([0] * LARGE, True),
        ({str(n): n for n in range(LARGE)}, True),
        ([{"a": [[1, 2, 3]] * 10}] * 100, True),
        (SimpleNamespace(parts=[SimpleNamespace(content="x" * 200 * LARGE)]), True),
        (object(), False),
    ],
)
def test_what_is_large(value: Any, large: bool) -> None:
    assert (weight(value) >= LARGE) is large


def test_copies_of_json_are_their_own() -> None:
    value = {"a": [1, 2.5, None, True, "é\ud800", {"b": 10**50}]}
    for copy in (copied(value), frozen(value, "it")[0]()):
        assert copy == value
        assert copy["a"] is not value["a"]
        assert type(copy["a"][3]) is bool
    odd = {"a": Odd()}
    assert copied(odd)["a"] is not odd["a"]
    for wrong in ({"a": {1, 2}}, {"a": b"x"}, {1: 2}, {"a": float("nan")}, odd):
        with pytest.raises(InvalidStateError):
            frozen(wrong, "it")[0]()
    inside: dict[str, Any] = {}
    inside["it"] = [inside]
    with pytest.raises(InvalidStateError, match="contains itself"):
        frozen(inside, "it")[0]()
    none: Any
    for none in (None, [], [1], "", 0, False):
        with pytest.raises(InvalidStateError, match="it is no object, but of type "):
            frozen(none, "it")
        assert frozen(none, "it", {"before": 1})[0]() == {"before": 1}


class Odd:
    """No JSON."""
