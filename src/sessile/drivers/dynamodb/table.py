"""The table: what it is created with, and whether one that is there has what is needed."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...storage.driver import ListQuery
from .items import SHARDS

KEY = {"session_id": "HASH", "sk": "RANGE"}

FILTERED = ("kind", "status", "hidden", "expires_at")
"""What the indexes by last change hold beside their keys, so that filters on it read no heads."""

AGENTS, OLD_AGENTS = "agent", "owner"
"""What the indexes by agent are called, and what they were called before the first release. Indexes cannot be renamed:
a table that has the old ones keeps them, with the attribute that they are partitioned by."""

ORDERS = ("updated", "created")


class Place(NamedTuple):
    """Where a list is read.

    `attribute` is what the index is partitioned by, `sort_attribute` what it is sorted by. `filters`: whether it holds
    what `FILTERED` names.
    """

    name: str
    attribute: str
    partitions: list[str]
    sort_attribute: str
    filters: bool


def attribute_of(scope: str) -> str:
    """What an index is partitioned by."""
    return f"{scope}_key"


def index_for(query: ListQuery, agents: str) -> Place:
    """The narrowest index that serves a query; `agents` is what those by agent are called.

    Sessions of one user are in one partition; those of one agent, and all of them, are spread over several. Those
    that have no user are in no index of their own.
    """
    shards = [str(shard) for shard in range(SHARDS)]
    if isinstance(query.user_id, str):
        scope, partitions = "user", [query.user_id]
    elif query.agent is not None:
        scope, partitions = agents, [f"{shard}#{query.agent}" for shard in shards]
    else:
        scope, partitions = "all", shards
    attribute, sorted_by = attribute_of(scope), f"{query.order}_key"
    return Place(f"{scope}_{query.order}", attribute, partitions, sorted_by, query.order == "updated")


def definition(table: str, agents: str = AGENTS) -> dict[str, Any]:
    """The request that creates a table, billed by use."""
    scopes = ("all", agents, "user")
    names = [*KEY, *(attribute_of(name) for name in (*scopes, *ORDERS))]
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
        "KeySchema": _schema(KEY),
        "GlobalSecondaryIndexes": [_index(scope, order) for scope in scopes for order in ORDERS],
    }


def _index(scope: str, order: str) -> dict[str, Any]:
    projection: dict[str, Any] = {"ProjectionType": "KEYS_ONLY"}
    if order == "updated":
        projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(FILTERED)}
    return {
        "IndexName": f"{scope}_{order}",
        "KeySchema": _schema({attribute_of(scope): "HASH", f"{order}_key": "RANGE"}),
        "Projection": projection,
    }


def _schema(key: dict[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in key.items()]


def agents_of(description: dict[str, Any]) -> str:
    """What the indexes by agent of a table that is there are called."""
    described: list[dict[str, Any]] = description.get("GlobalSecondaryIndexes") or []
    names = {index["IndexName"] for index in described}
    old = {f"{OLD_AGENTS}_{order}" for order in ORDERS}
    return OLD_AGENTS if old <= names else AGENTS


def lacking(description: dict[str, Any]) -> list[str]:
    """What a table that is there lacks, in words; nothing if it can be used."""
    wanted = definition("", agents_of(description))
    missing: list[str] = []
    if _keys(description) != KEY or not _are_strings(description, KEY):
        missing.append("the key session_id (HASH, a string), sk (RANGE, a string)")
    described: list[dict[str, Any]] = description.get("GlobalSecondaryIndexes") or []
    found = {index["IndexName"]: index for index in described}
    for index in wanted["GlobalSecondaryIndexes"]:
        there = found.get(index["IndexName"], {})
        if _keys(there) != _keys(index) or not _projects(there.get("Projection", {}), index["Projection"]):
            parts = ", ".join(f"{name} ({kind})" for name, kind in _keys(index).items())
            held = index["Projection"].get("NonKeyAttributes")
            missing.append(f"the index {index['IndexName']} on {parts}" + (f" with {', '.join(held)}" if held else ""))
    return missing


def _keys(described: dict[str, Any]) -> dict[str, str]:
    return {part["AttributeName"]: part["KeyType"] for part in described.get("KeySchema", [])}


def _are_strings(description: dict[str, Any], names: dict[str, str]) -> bool:
    kinds = {part["AttributeName"]: part["AttributeType"] for part in description.get("AttributeDefinitions", [])}
    return all(kinds.get(name) == "S" for name in names)


def _projects(there: dict[str, Any], wanted: dict[str, Any]) -> bool:
    if there.get("ProjectionType") == "ALL":
        return True
    return set(wanted.get("NonKeyAttributes", [])) <= set(there.get("NonKeyAttributes", []))
