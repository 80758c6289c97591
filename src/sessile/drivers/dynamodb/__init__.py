"""Amazon DynamoDB: a commit is one conditional transaction of items that share the session's partition."""

from __future__ import annotations

from ...errors import missing_dependency

try:
    import botocore  # noqa: F401  # pyright: ignore[reportUnusedImport, reportMissingTypeStubs] (the one clear error)
except ImportError as error:
    raise missing_dependency("botocore", "dynamodb", "DynamoDbStorage") from error

from .storage import DynamoDbDriver, DynamoDbStorage

__all__ = ["DynamoDbDriver", "DynamoDbStorage"]
