"""Redis 6.2 and later, and Valkey, with redis-py: a commit is one script and one round trip, and so is a load."""

from __future__ import annotations

from ...errors import missing_dependency

try:
    import redis  # noqa: F401  # pyright: ignore[reportUnusedImport] (the one clear error comes first)
except ImportError as error:
    raise missing_dependency("redis", "redis", "RedisStorage") from error

from .driver import RedisDriver
from .durability import Durability, durability
from .storage import RedisStorage

__all__ = ["Durability", "RedisDriver", "RedisStorage", "durability"]
