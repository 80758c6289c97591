"""PostgreSQL 12 and later, with psycopg 3: a commit is one statement and one round trip, and so is a load."""

from __future__ import annotations

from ...errors import missing_dependency

try:
    import psycopg  # noqa: F401  # pyright: ignore[reportUnusedImport] (the one clear error comes first)
except ImportError as error:
    raise missing_dependency("psycopg", "postgres", "PostgresStorage") from error

from .storage import PostgresDriver, PostgresStorage

__all__ = ["PostgresDriver", "PostgresStorage"]
