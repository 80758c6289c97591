"""Every database that SQLAlchemy 2.1 has a dialect for, and the application's own engine, connection or ORM session."""

from __future__ import annotations

from ...errors import missing_dependency

try:
    import sqlalchemy  # noqa: F401  # pyright: ignore[reportUnusedImport] (the one clear error comes first)
except ImportError as error:
    raise missing_dependency("sqlalchemy", "sqlalchemy", "SqlAlchemyStorage") from error

from .storage import SqlAlchemyDriver, SqlAlchemyStorage

__all__ = ["SqlAlchemyDriver", "SqlAlchemyStorage"]
