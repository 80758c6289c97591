"""From a URL to a storage: the one place that knows drivers, by name, and imports them when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from ..errors import InvalidInputError
from .storage import Storage

ENTRY_POINT_GROUP = "sessile.drivers"
"""Third parties register `scheme = "package.module:StorageClass"` in this entry point group."""

BUILT_IN = {
    "dynamodb": "sessile.drivers.dynamodb:DynamoDbStorage",
    "gs": "sessile.drivers.objects:GcsStorage",
    "json": "sessile.drivers.files:JsonStorage",
    "mariadb": "sessile.drivers.mysql:MySQLStorage",
    "memory": "sessile.drivers.memory:MemoryStorage",
    "mongodb": "sessile.drivers.mongodb:MongoDbStorage",
    "mongodb+srv": "sessile.drivers.mongodb:MongoDbStorage",
    "mysql": "sessile.drivers.mysql:MySQLStorage",
    "postgres": "sessile.drivers.postgres:PostgresStorage",
    "postgresql": "sessile.drivers.postgres:PostgresStorage",
    "redis": "sessile.drivers.redis:RedisStorage",
    "redis+sentinel": "sessile.drivers.redis:RedisStorage",
    "rediss": "sessile.drivers.redis:RedisStorage",
    "rediss+sentinel": "sessile.drivers.redis:RedisStorage",
    "s3": "sessile.drivers.objects:S3Storage",
    "sqlalchemy+": "sessile.drivers.sqlalchemy:SqlAlchemyStorage",
    "sqlite": "sessile.drivers.sqlite:SqliteStorage",
    "unix": "sessile.drivers.redis:RedisStorage",
    "valkey": "sessile.drivers.redis:RedisStorage",
    "valkeys": "sessile.drivers.redis:RedisStorage",
    "yaml": "sessile.drivers.files.with_yaml:YamlStorage",
}
"""Scheme to class. `name+` stands for all schemes that begin with it: the rest is another library's URL."""

_EXAMPLES = (
    "Write for example sqlite:///relative/path.db, sqlite:////absolute/path.db or postgresql://user@host/database."
)


def open_storage(url: str, **options: Any) -> Storage:
    """The storage of a URL: `sqlite:///sessions.db`, `sqlite:////absolute/path.db`, `memory://`, ….

    The scheme names the driver; the class's `from_url` reads the rest. `options` are the storage's keyword
    arguments. Raises `InvalidInputError` for what is no URL or has an unknown scheme, and `MissingDependencyError` for
    a driver whose library is not installed. No error repeats the URL, which may hold a password.
    """
    scheme = _scheme(url)
    target = _target(scheme)
    if target is None:
        raise InvalidInputError(f"There is no driver for {scheme!r}.", hint=f"Known are: {', '.join(schemes())}.")
    module, _, name = target.partition(":")
    return cast(Storage, getattr(import_module(module), name).from_url(url, **options))


def _target(scheme: str) -> str | None:
    name, plus, _ = scheme.partition("+")
    known = [scheme, name + plus] if plus else [scheme]
    return next((drivers[key] for drivers in (BUILT_IN, _third_parties()) for key in known if key in drivers), None)


def _scheme(url: Any) -> str:
    from .urls import split_url  # with urllib, which importing `sessile.storage` does without

    if not isinstance(url, str):
        raise InvalidInputError(f"A database is named by a URL, not by a {type(url).__name__}.", hint=_EXAMPLES)
    scheme, mark, _ = url.partition("://")  # `urlsplit` has no scheme for the `_` in names of SQLAlchemy's drivers
    if not mark:
        raise InvalidInputError("This is not a URL: there is no :// in it.", hint=_EXAMPLES)
    split_url(url)
    return scheme.lower()


def schemes() -> list[str]:
    """The URL schemes that there are drivers for, built in and third parties' ones."""
    return sorted({*BUILT_IN, *_third_parties()})


def _third_parties() -> dict[str, str]:
    from importlib.metadata import entry_points  # takes as long to import as all of the rest

    return {point.name: point.value for point in entry_points(group=ENTRY_POINT_GROUP)}
