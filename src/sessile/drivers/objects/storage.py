"""`S3Storage` and `GcsStorage`: which bucket, and how obstore's clients for it are made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, cast
from urllib.parse import unquote, urlsplit

import obstore.store

from ...errors import InvalidInputError
from ...storage.checks import check_seconds
from ...storage.storage import Storage
from ...storage.urls import check_no_url, split_url, take_settings
from .driver import ObjectDriver
from .ports import Target, TaskPort, ThreadPort


class _ObjectStorage(Storage):
    """What both have in common."""

    _scheme: str
    _query: frozenset[str]

    def __init__(
        self,
        bucket: str,
        prefix: str,
        make: Callable[[dict[str, Any]], Any],
        options: dict[str, Any],
        *,
        endpoint: Any,
        bulk: bool,
    ) -> None:
        for value, what in ((bucket, "bucket"), (prefix, "prefix")):
            if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidInputError(f"{what} must be a string; it is {value!r}.")
        if not bucket:
            raise InvalidInputError("There must be the name of a bucket.")
        check_no_url(bucket, "the name of a bucket")
        _check_endpoint(endpoint)
        timeout = options.get("timeout", 30.0)
        check_seconds(timeout, "timeout")
        where = f"{self._scheme}://{bucket}/{prefix}".rstrip("/")
        target = Target(where, make, timeout, bulk)
        super().__init__(
            ObjectDriver(ThreadPort(target)), async_driver=lambda: ObjectDriver(TaskPort(target)), **options
        )

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """`s3://bucket/prefix` or `gs://bucket/prefix`, with settings after `?` as for the class."""
        settings, address = take_settings(url, cls._query)
        parts = split_url(address)
        if set("@:") & set(parts.netloc) or parts.query or "#" in url:
            names = ", ".join(sorted(cls._query))
            raise InvalidInputError(f"The URL has more than a bucket, a prefix and these settings: {names}.")
        return cls(parts.netloc, unquote(parts.path).strip("/"), **{**settings, **options})


class S3Storage(_ObjectStorage):
    """Sessions in a bucket of Amazon S3, or of any service that speaks its protocol and has conditional writes.

    Args:
        bucket: its name. It must be there.
        prefix: where in the bucket; several storages can share one.
        region, endpoint: where it is; None: what the environment says (`AWS_REGION`, `AWS_ENDPOINT_URL`, …).
        access_key_id, secret_access_key: None: from the environment, or from the machine's or container's role.
        config: further settings of obstore's `S3Store`, by its names.
        options: the keyword arguments of `Storage`.
    """

    _scheme = "s3"
    _query = frozenset({"region", "endpoint", "access_key_id", "secret_access_key"})

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        region: str | None = None,
        endpoint: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        settings = _given(
            config, region=region, endpoint=endpoint, access_key_id=access_key_id, secret_access_key=secret_access_key
        )

        def make(common: dict[str, Any]) -> Any:
            return obstore.store.S3Store(bucket, prefix=prefix or None, config=cast(Any, settings), **common)

        super().__init__(bucket, prefix, make, options, endpoint=endpoint, bulk=True)


class GcsStorage(_ObjectStorage):
    """Sessions in a bucket of Google Cloud Storage.

    Args:
        bucket: its name. It must be there.
        prefix: where in the bucket; several storages can share one.
        endpoint: another address of the service than Google's.
        service_account: the path of a key file; None: the application's default credentials.
        bearer_token: an OAuth token, instead of a service account.
        config: further settings of obstore's `GCSStore`, by its names.
        options: the keyword arguments of `Storage`.
    """

    _scheme = "gs"
    _query = frozenset({"endpoint", "service_account", "bearer_token"})

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        service_account: str | None = None,
        bearer_token: str | None = None,
        config: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        settings = _given(config, base_url=endpoint, service_account=service_account, bearer_token=bearer_token)

        def make(common: dict[str, Any]) -> Any:
            return obstore.store.GCSStore(bucket, prefix=prefix or None, config=cast(Any, settings), **common)

        super().__init__(bucket, prefix, make, options, endpoint=endpoint, bulk=False)


def _check_endpoint(endpoint: Any) -> None:
    """Raise `InvalidInputError` for what is no address of a service, which the client would notice too late."""
    if endpoint is None:
        return
    parts = urlsplit(endpoint) if isinstance(endpoint, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInputError("endpoint must be an address such as https://objects.example.com.")


def _given(config: dict[str, Any] | None, **settings: str | None) -> dict[str, Any]:
    return {**(config or {}), **{name: value for name, value in settings.items() if value is not None}}
