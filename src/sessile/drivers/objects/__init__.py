"""`S3Storage` and `GcsStorage`: sessions in the objects of a bucket."""

from __future__ import annotations

from ...errors import missing_dependency

try:
    import obstore  # noqa: F401  # pyright: ignore[reportUnusedImport] (the one clear error)
except ImportError as error:
    raise missing_dependency("obstore", "s3", "S3Storage or GcsStorage") from error

from .storage import GcsStorage, S3Storage

__all__ = ["GcsStorage", "S3Storage"]
