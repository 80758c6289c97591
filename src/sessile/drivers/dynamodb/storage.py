"""`DynamoDbStorage`: the table, and how clients for it are made."""

from __future__ import annotations

import re
from typing import Any, Self

from ...errors import InvalidInputError
from ...storage.checks import check_count, check_seconds
from ...storage.storage import Storage
from ...storage.urls import split_url, take_settings
from .driver import DynamoDbDriver
from .ports import Target, TaskPort, ThreadPort, is_asynchronous, is_client, is_endpoint

_TABLE = re.compile(r"[A-Za-z0-9_.-]{3,255}")


class DynamoDbStorage(Storage):
    """Sessions in one table of Amazon DynamoDB.

    Args:
        table: its name. It is created, billed by use, if it is not there.
        region, endpoint: where it is; None: what AWS's own tools would take, from the environment and `~/.aws`.
        client: a client for DynamoDB of the application's, instead of region and endpoint: boto3's, which asynchronous
            callers then use in worker threads, or aiobotocore's, which only its own event loop can use.
        pool_size: the most connections, for synchronous callers and for each event loop.
        auto_migrate: False: never create the table except by `migrate`.
        options: the keyword arguments of `Storage`.
    """

    def __init__(
        self,
        table: str = "sessile",
        *,
        region: str | None = None,
        endpoint: str | None = None,
        client: Any = None,
        pool_size: int = 10,
        auto_migrate: bool = True,
        **options: Any,
    ) -> None:
        if not isinstance(table, str) or not _TABLE.fullmatch(table):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(
                f"table must be 3 to 255 letters, digits, dashes, dots and underscores; it is {table!r}."
            )
        if endpoint is not None and not is_endpoint(endpoint):
            raise InvalidInputError("endpoint must be a URL like http://localhost:8000, without a user or a key.")
        check_count(pool_size, "pool_size", least=1)
        timeout = options.get("timeout", 30.0)
        check_seconds(timeout, "timeout")
        where = f"DynamoDB table {table!r}" + (f" at {endpoint}" if endpoint else "")
        target = Target(where, region, endpoint, timeout, pool_size)
        if client is None:
            super().__init__(
                DynamoDbDriver(ThreadPort(target), table, auto_migrate=auto_migrate),
                async_driver=lambda: DynamoDbDriver(TaskPort(target), table, auto_migrate=auto_migrate),
                **options,
            )
            return
        if not is_client(client) or region or endpoint:
            raise InvalidInputError(
                "client must be a client for DynamoDB of boto3's or aiobotocore's, with region and endpoint of its own."
            )
        if is_asynchronous(client):
            driver = DynamoDbDriver(TaskPort(target, client), table, auto_migrate=auto_migrate)
            super().__init__(None, async_driver=lambda: driver, **options)
        else:
            super().__init__(DynamoDbDriver(ThreadPort(target, client), table, auto_migrate=auto_migrate), **options)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`dynamodb://table?region=eu-central-1`; with `endpoint=http://localhost:8000` and `pool_size` if wanted."""
        settings, address = take_settings(url, ("region", "endpoint", "pool_size"))
        parts = split_url(address)
        secret = "@" in parts.netloc or "@" in settings.get("endpoint", "")
        if secret or parts.path.strip("/") or parts.query or "#" in url:
            raise InvalidInputError(
                "The URL has more than a table, ?region=, endpoint= and pool_size=.",
                hint="Write dynamodb://table?region=eu-central-1, and give other options as keyword arguments.",
            )
        return cls(parts.netloc, **{**settings, **options})


__all__ = ["DynamoDbDriver", "DynamoDbStorage"]
