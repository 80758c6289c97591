"""Ids and payloads that databases stumble over: every one keeps them as memory does."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.servers.networks import TORTURE

import sessile
from sessile import ANY_USER, MemoryStorage
from sessile.errors import InvalidInputError
from sessile.storage import Storage
from sessile.testing import Scale
from sessile.testing.samples import HOSTILE_IDS, HOSTILE_VALUES

NAMES = (
    *HOSTILE_IDS,
    '{"$gt": ""}',
    "$set",
    "_id",
    "head.json",
    "log.jsonl",
    "head",
    "{a}:log",
    "\\x41",
    "' OR '1'='1",
    '{"S": "a"}',
    "a.b.$c",
    "#name",
    ":value",
    ":id",
    "~head",
    "~",
    "0#a",
    "3#a",
    "log#",
    "chunk#a#b",
    "attribute_exists(sk)",
    "session_id",
)
"""Also what drivers' own keys, files and expressions are made of."""


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for level in range(depth):
        value = [value] if level % 2 else {"": value}
    return value


PAYLOAD: dict[str, Any] = {
    "": "",
    "$gt": "",
    "a.b": {"$where": "sleep(1)", ".": None, "$": {}},
    "S": {"N": "1", "NULL": True, "M": {}},
    "#name": ":value",
    "crlf": "a\r\nb\r",
    "nul": "a\0b\0",
    "integers": [2**63 - 1, 2**63, -(2**63) - 1, 2**200, 10**130],
    "floats": [1e300, -0.0, 5e-324, 0.1],
    "surrogate": "\ud800",
    "empty": ["", [], {}, None, False, 0],
    "deep": nested(30),
}


ODD = ("", "$gt", "a\r\nb", 0, False, True, None, 2**63 - 1, 1.5)


@pytest.fixture(
    params=["sqlite", "json", "postgres_url", "mysql_url", "redis_url", "mongodb_url", "dynamodb_url", "s3_url"]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param.endswith("_url"):
        return request.getfixturevalue(request.param)
    return f"{request.param}:///{tmp_path}/sessions"


@pytest.fixture
def storages(url: str) -> Iterator[tuple[Storage, Storage]]:
    with sessile.open(url) as storage, MemoryStorage() as memory:
        yield storage, memory


def test_any_name_is_itself_alone(storages: tuple[Storage, Storage], scale: Scale) -> None:
    """As the id of a session, of a user and of an agent, as a name and in filters; some of them, by the seed."""
    names = NAMES if TORTURE else random.Random(scale.seed).sample(NAMES, 12)
    for storage in storages:
        for name in names:
            storage.create_session(name, user_id=name, agent=name, name=name, metadata={"name": name})
            storage.add_run(name, input=name, user_id=name)
    ours, memory = storages
    for name in names:
        assert [run.input for run in ours.runs(name, user_id=name)] == [name]
        for query in ({"user_id": name}, {"agent": name}, {"metadata": {"name": name}}, {"name_prefix": name}):
            whose: Any = {"user_id": ANY_USER, **query}
            found, wanted = ([head.session_id for head in each.sessions(**whose, limit=500)] for each in storages)
            assert sorted(found) == sorted(wanted)
            assert name in found
            assert ours.count_sessions(**whose) == len(found)
    for name in names[::2]:
        assert ours.delete(name, user_id=name)
        assert memory.delete(name, user_id=name)
    left = {head.session_id for head in ours.sessions(user_id=ANY_USER, limit=500)}
    assert left == {head.session_id for head in memory.sessions(user_id=ANY_USER, limit=500)} == set(names[1::2])


def test_any_payload_comes_back_as_from_memory(storages: tuple[Storage, Storage]) -> None:
    for storage in storages:
        storage.add_run(
            "s", input=PAYLOAD, output=PAYLOAD, format="test/1", messages=[PAYLOAD], state=PAYLOAD, metadata=PAYLOAD
        )
        storage.update_state("s", {"again": PAYLOAD, "$gt": None})
        storage.set_metadata("s", {"again": PAYLOAD})
        for index, value in enumerate(HOSTILE_VALUES):
            storage.add_run("s", input=value, output=[value], state={f"k{index}": value} if index < 26 else None)
    ours, memory = ([storage.runs("s", from_run=1), storage.get_session("s")] for storage in storages)
    for run, other in zip(ours[0], memory[0], strict=True):
        assert repr((run.input, run.output)) == repr((other.input, other.output))
        assert repr([message.data for message in run.messages]) == repr([message.data for message in other.messages])
    assert repr(ours[1].state) == repr(memory[1].state)
    assert repr(ours[1].metadata) == repr(memory[1].metadata)


def test_metadata_that_is_empty_or_odd_is_found_by_its_value(storages: tuple[Storage, Storage]) -> None:
    for storage in storages:
        for number, value in enumerate(ODD):
            storage.create_session(f"it{number}", metadata={f"k{number}": value, "": "", f"a.b{number}": value})
            storage.create_session(f"other{number}", metadata={f"k{number}": "other", "a": {f"b{number}": value}})
        for number, value in enumerate(ODD):
            for key in (f"k{number}", f"a.b{number}"):
                assert [head.session_id for head in storage.sessions(metadata={key: value})] == [f"it{number}"]


def test_what_is_no_id_is_refused(url: str) -> None:
    no_ids: list[Any] = ["", "a\0b", "\ud800", "x" * 256, {"$gt": ""}, None, 7]
    with sessile.open(url) as storage:
        for name in no_ids:
            with pytest.raises(InvalidInputError):
                storage.add_run(name)
        assert storage.count_sessions(user_id=ANY_USER) == 0
