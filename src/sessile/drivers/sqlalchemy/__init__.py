"""Every database that SQLAlchemy 2.1 has a dialect for, and the application's own engine, connection or ORM session."""

from __future__ import annotations

from ...errors import missing_dependency

try:
    # The one clear error comes first. SQLAlchemy does not bring greenlet, which this part of it needs, by itself.
    import sqlalchemy.ext.asyncio  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise missing_dependency("sqlalchemy[asyncio]", "sqlalchemy", "SqlAlchemyStorage") from error

from .storage import SqlAlchemyDriver, SqlAlchemyStorage

__all__ = ["SqlAlchemyDriver", "SqlAlchemyStorage"]
