"""What another program could have made of stored data: one value of it is something else.

Programs of other environments use it, too: it needs nothing but Sessile.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

from sessile.drivers.memory import MemoryDriver

HOSTILE: list[Any] = [
    None, True, 0, -1, 10**30, 1.5, 1e308, "", "x", "\ud800", "\x00", "x" * 300, [], {}, [[]], [None], {"": None},
    {"$blob": "x", "size": -1}, {"$erased": True}, ["set", [], 1], [["set", [], 1]], [["del", ["a"]]], [[0, 0]],
    "9" * 5000,
]  # fmt: skip

Place = tuple[Any, Any]
"""A container and the key in it."""


def places_of(value: Any) -> Iterator[Place]:
    keys: Any = (
        list(cast(Any, value)) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield value, key
        yield from places_of(value[key])


def changed(text: str, chance: random.Random) -> str:
    """JSON text with one value changed, or with a part of it missing."""
    if chance.random() < 0.05:
        return text[: chance.randrange(len(text) + 1)]
    value = json.loads(text)
    places = list(places_of(value))
    container, key = chance.choice(places)
    if chance.random() < 0.25:
        del container[key]
    elif isinstance(container, dict) and chance.random() < 0.1:
        container[f"{key}x"] = container.pop(key)
    else:
        container[key] = chance.choice(HOSTILE)
    return json.dumps(value)


def spoil_head(driver: MemoryDriver, chance: random.Random) -> None:
    session = chance.choice(list(driver._sessions.values()))
    if chance.random() < 0.2:
        session.head = session.head._replace(metadata=chance.choice(["", "[]", "null", "{", '{"a":1}', "7"]))
    else:
        session.head = session.head._replace(body=changed(session.head.body, chance))


def spoil_commit(driver: MemoryDriver, chance: random.Random) -> None:
    session = chance.choice(list(driver._sessions.values()))
    index = chance.randrange(len(session.log))
    session.log[index] = session.log[index]._replace(body=changed(session.log[index].body, chance))


def spoil_record(driver: MemoryDriver, chance: random.Random) -> None:
    session = chance.choice([one for one in driver._sessions.values() if one.records])
    key = chance.choice(sorted(session.records))
    value = session.records[key]
    try:
        session.records[key] = changed(value.decode(), chance).encode("utf-8", "surrogatepass")
    except (ValueError, IndexError):
        session.records[key] = chance.randbytes(8)


SPOILERS: dict[str, Callable[[MemoryDriver, random.Random], None]] = {
    "head": spoil_head,
    "commit": spoil_commit,
    "record": spoil_record,
}
