"""What adapters do with sessions that another program has changed: only errors of Sessile's, for those sessions alone.

`attack(make, calls)` is called by a program for each framework; `python spoiled.py FRAMEWORK SEEDS` runs it.
"""

from __future__ import annotations

import importlib
import json
import random
import signal
import sys
import traceback
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

sys.path.append(str(Path(__file__).resolve().parents[3]))

from tests.spoiling import HOSTILE, SPOILERS

from sessile import ANY_USER, MemoryStorage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import SessileError

SECRET = "zanzibar"
"""What is said in all sessions."""

MOST, LONGEST = 60_000_000, 600
"""Bytes of memory that no call needs for a few kilobytes, and seconds after which something has no end."""

Calls = dict[str, Callable[[], Any]]
Spoil = Callable[[MemoryDriver, random.Random], None]


def spoil_metadata(driver: MemoryDriver, chance: random.Random) -> None:
    """Metadata stays an object, so that the session can be read: it is what an adapter has written there."""
    session = chance.choice(list(driver._sessions.values()))
    told = json.loads(session.head.metadata)
    if told:
        told[chance.choice(sorted(told))] = chance.choice(HOSTILE)
        session.head = session.head._replace(metadata=json.dumps(told))


def spoil_state(driver: MemoryDriver, chance: random.Random) -> None:
    """The same for the state, one level below it."""
    session = chance.choice(list(driver._sessions.values()))
    body = json.loads(session.head.body)
    place = body.get("state") or {}
    for _ in range(chance.randrange(3)):
        below = [value for value in place.values() if isinstance(value, dict) and value]
        place = chance.choice(below) if below else place
    if place:
        place[chance.choice(sorted(place))] = chance.choice(HOSTILE)
        session.head = session.head._replace(body=json.dumps(body))


def spoil_entry(driver: MemoryDriver, chance: random.Random) -> None:
    """One value in what an entry holds."""
    session = chance.choice(list(driver._sessions.values()))
    place = chance.randrange(len(session.log))
    body = json.loads(session.log[place].body)
    said = chance.choice(body["entries"])
    value, path = said.get("data"), [(said, "data")]
    while isinstance(value, dict | list) and value and chance.random() < 0.7:
        keys = sorted(value) if isinstance(value, dict) else range(len(value))
        path.append((value, chance.choice(list(keys))))
        value = value[path[-1][1]]
    container, key = path[-1]
    container[key] = chance.choice(HOSTILE)
    session.log[place] = session.log[place]._replace(body=json.dumps(body))


KINDS = {**SPOILERS, "metadata": spoil_metadata, "state": spoil_state, "entry": spoil_entry}


def attack(
    make: Callable[[MemoryStorage, str], None],
    calls: Callable[[MemoryStorage, str], Calls],
    others: Callable[[MemoryStorage], list[str]],
    allowed: tuple[type[Exception], ...] = (),
    *,
    seeds: int,
    more: dict[str, Spoil] | None = None,
) -> list[Any]:
    """What came out that should not have: of the session `s1`, and of lists in which `sound` should be."""
    signal.alarm(LONGEST)
    wrong: list[Any] = []
    for what, spoil in {**KINDS, **(more or {})}.items():
        for seed in range(seeds):
            chance = random.Random(f"{what} {seed}")
            with MemoryStorage(inline_media_bytes=0) as storage:
                make(storage, "s1")
                driver = cast(MemoryDriver, storage._core.driver)  # type: ignore[union-attr]
                if what == "record" and not any(one.records for one in driver._sessions.values()):
                    break
                ours = dict(driver._sessions)
                make(storage, "sound")
                sound = {name: driver._sessions.pop(name) for name in list(driver._sessions) if name not in ours}
                spoil(driver, chance)
                driver._sessions.update(sound)
                names = list(calls(storage, "s1").items())
                chance.shuffle(names)
                tracemalloc.start()
                found = [
                    came_of(name, call, allowed) for name, call in [("others", lambda: told(others, storage)), *names]
                ]
                if tracemalloc.get_traced_memory()[1] > MOST:
                    found.append(f"memory: {tracemalloc.get_traced_memory()[1]}")
                tracemalloc.stop()
                wrong += [[what, seed, one] for one in found if one]
                for head in storage.sessions(user_id=ANY_USER):
                    storage.delete(head.session_id, user_id=ANY_USER)
    return wrong


def told(others: Callable[[MemoryStorage], list[str]], storage: MemoryStorage) -> None:
    try:
        found = others(storage)
    except SessileError as error:
        raise AssertionError("a list fails of one session in it") from error
    assert "sound" in found, found


def came_of(name: str, call: Callable[[], Any], allowed: tuple[type[Exception], ...]) -> str | None:
    """What is wrong with what came of a call."""
    try:
        call()
    except (SessileError, *allowed) as error:
        said = SECRET in "".join(traceback.format_exception(error))
        return f"{name}: its error tells what was said: {type(error).__name__}" if said else None
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return f"{name}: {''.join(traceback.format_exception(error))[-700:]}"
    return None


if __name__ == "__main__":
    print(json.dumps(importlib.import_module(f"{sys.argv[1]}_spoiled").main(int(sys.argv[2]))))
