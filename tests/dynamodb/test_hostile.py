"""Ids and payloads that other databases stumble over: `DynamoDbStorage` keeps them as memory does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.servers.dynamodb import dynamodb_client, table_of

import sessile
from sessile import MemoryStorage
from sessile.errors import InvalidInputError
from sessile.storage import Storage
from sessile.testing.samples import HOSTILE_IDS, HOSTILE_VALUES

NAMES = (
    *HOSTILE_IDS,
    '{"$gt": ""}',
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
"""Also what this driver's own keys and expressions are made of."""


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


@pytest.fixture
def storages(dynamodb_url: str) -> Iterator[tuple[Storage, Storage]]:
    with sessile.open(dynamodb_url) as storage, MemoryStorage() as memory:
        yield storage, memory


def test_any_name_is_itself_alone(storages: tuple[Storage, Storage]) -> None:
    """As the id of a session, of a user and of an owner, as a name and in filters."""
    for storage in storages:
        for name in NAMES:
            storage.create_session(name, user_id=name, owner=name, name=name, metadata={"name": name})
            storage.add_run(name, input=name)
    ours, memory = storages
    for name in NAMES:
        assert [run.input for run in ours.runs(name, user_id=name)] == [name]
        for query in ({"user_id": name}, {"owner": name}, {"metadata": {"name": name}}, {"name_prefix": name}):
            found, wanted = ([head.session_id for head in each.sessions(**query, limit=500)] for each in storages)
            assert sorted(found) == sorted(wanted)
            assert name in found
            assert ours.count_sessions(**query) == len(found)
    for name in NAMES[::2]:
        assert ours.delete(name, user_id=name)
        assert memory.delete(name, user_id=name)
    left = {head.session_id for head in ours.sessions(limit=500)}
    assert left == {head.session_id for head in memory.sessions(limit=500)} == set(NAMES[1::2])


def test_any_payload_comes_back_as_from_memory(storages: tuple[Storage, Storage]) -> None:
    for storage in storages:
        storage.add_run("s", input=PAYLOAD, output=PAYLOAD, messages=[PAYLOAD], state=PAYLOAD, metadata=PAYLOAD)
        storage.update_state("s", {"again": PAYLOAD, "$gt": None})
        storage.set_metadata("s", {"again": PAYLOAD})
        for index, value in enumerate(HOSTILE_VALUES):
            storage.add_run("s", input=value, output=[value], state={f"k{index}": value} if index < 26 else None)
    ours, memory = ([storage.runs("s", from_run=1), storage.session("s")] for storage in storages)
    for run, other in zip(ours[0], memory[0], strict=True):
        assert repr((run.input, run.output)) == repr((other.input, other.output))
        assert repr([message.data for message in run.messages]) == repr([message.data for message in other.messages])
    assert repr(ours[1].state) == repr(memory[1].state)
    assert repr(ours[1].metadata) == repr(memory[1].metadata)


@pytest.mark.parametrize("value", ["", "$gt", "a\r\nb", 0, False, True, None, 2**63 - 1, 1.5])
def test_metadata_that_is_empty_or_odd_is_found_by_its_value(storages: tuple[Storage, Storage], value: Any) -> None:
    for storage in storages:
        storage.create_session("it", metadata={"k": value, "": "", "a.b": value})
        storage.create_session("other", metadata={"k": "other", "a": {"b": value}})
        storage.create_session("none")
        for key in ("k", "a.b"):
            assert [head.session_id for head in storage.sessions(metadata={key: value})] == ["it"]


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 256, {"$gt": ""}, None, 7])
def test_what_is_no_id_is_refused_before_anything_is_sent(dynamodb_url: str, name: Any) -> None:
    with sessile.open(dynamodb_url) as storage, pytest.raises(InvalidInputError):
        storage.add_run(name)
    assert table_of(dynamodb_url) not in dynamodb_client(dynamodb_url).list_tables()["TableNames"]
