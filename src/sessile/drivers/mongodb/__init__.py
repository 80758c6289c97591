"""MongoDB 4.4 and later, stand-alone servers too, with PyMongo: a commit is one document, without a transaction."""

from __future__ import annotations

from ...errors import missing_dependency

try:
    from pymongo import AsyncMongoClient  # noqa: F401  # pyright: ignore[reportUnusedImport] (the one clear error first)
except ImportError as error:
    raise missing_dependency("pymongo>=4.13", "mongodb", "MongoDbStorage") from error

from .storage import MongoDbDriver, MongoDbStorage

__all__ = ["MongoDbDriver", "MongoDbStorage"]
