"""The table: what it is created with, and whether one that is there has what is needed."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...storage.driver import ListQuery
from .items import SHARDS

KEY = {"session_id": "HASH", "sk": "RANGE"}

FILTERED = ("kind", "status", "hidden", "expires_at")
"""What the indexes by last change hold beside their keys, so that filters on it read no heads."""

SCOPES = ("all", "owner", "user")
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


def index_for(query: ListQuery) -> Place:
    """The narrowest index that serves a query.

    Sessions of one user are in one partition; those of one owner, and all of them, are spread over several.
    """
    shards = [str(shard) for shard in range(SHARDS)]
    if query.user_id is not None:
        scope, partitions = "user", [query.user_id]
    elif query.owner is not None:
        scope, partitions = "owner", [f"{shard}#{query.owner}" for shard in shards]
    else:
        scope, partitions = "all", shards
    return Place(f"{scope}_{query.order}", f"{scope}_key", partitions, f"{query.order}_key", query.order == "updated")


def definition(table: str) -> dict[str, Any]:
    """The request that creates a table, billed by use."""
    names = [*KEY, *(f"{name}_key" for name in (*SCOPES, *ORDERS))]
    return {
        "TableName": table,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in names],
        "KeySchema": _schema(KEY),
        "GlobalSecondaryIndexes": [_index(scope, order) for scope in SCOPES for order in ORDERS],
    }


def _index(scope: str, order: str) -> dict[str, Any]:
    projection: dict[str, Any] = {"ProjectionType": "KEYS_ONLY"}
    if order == "updated":
        projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(FILTERED)}
    return {
        "IndexName": f"{scope}_{order}",
        "KeySchema": _schema({f"{scope}_key": "HASH", f"{order}_key": "RANGE"}),
        "Projection": projection,
    }


def _schema(key: dict[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in key.items()]


def lacking(description: dict[str, Any]) -> list[str]:
    """What a table that is there lacks, in words; nothing if it can be used."""
    wanted = definition("")
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
