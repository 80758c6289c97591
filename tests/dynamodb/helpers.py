"""What tests of DynamoDB share."""

from __future__ import annotations

from typing import Any

from tests.servers.dynamodb import dynamodb_client, table_of

from sessile import ANY_USER
from sessile.storage import Storage
from sessile.storage.extending import operate


def inputs(storage: Storage, session_id: str = "s") -> list[Any]:
    return [run.input for run in storage.runs(session_id, user_id=ANY_USER)]


def driver_of(storage: Storage) -> Any:
    """The driver of synchronous callers."""
    assert storage._core is not None
    return storage._core.driver


def sweep(storage: Storage, before: int) -> None:
    """Remove what was left by crashes before a moment in microseconds."""
    operate(storage, lambda core: core.driver.sweep(before, core.deadline()))


def all_items(url: str) -> list[dict[str, Any]]:
    """Everything in the table, without its values."""
    scan = dynamodb_client(url).get_paginator("scan")
    pages = scan.paginate(TableName=table_of(url), ProjectionExpression="session_id, sk")
    return [item for page in pages for item in page["Items"]]


def sort_keys(url: str) -> list[str]:
    return sorted(item["sk"]["S"] for item in all_items(url))
