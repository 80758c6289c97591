"""MySQL 8.0 and MariaDB 10.6, and later ones, with PyMySQL and, for asynchronous callers, aiomysql.

aiomysql stands on PyMySQL, has its errors, and closes a connection whose statement was cancelled.
"""

from __future__ import annotations

from ...errors import missing_dependency

try:
    import aiomysql  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingTypeStubs]
    import pymysql  # noqa: F401  # pyright: ignore[reportUnusedImport] (the one clear error comes first)
except ImportError as error:
    raise missing_dependency(error.name or "pymysql", "mysql", "MySQLStorage") from error

from .storage import MySQLDriver, MySQLStorage

__all__ = ["MySQLDriver", "MySQLStorage"]
