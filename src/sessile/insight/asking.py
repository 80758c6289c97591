"""Questions about a storage in one call, for programs that keep no index at hand."""

from __future__ import annotations

from typing import Unpack

from ..records import UserId
from ..storage import Storage
from .fewshot import Examples, Redaction
from .filters import RunFilters
from .index import Index


def examples(
    storage: Storage,
    *,
    user_id: UserId = None,
    like: str | None = None,
    limit: int = 5,
    tokens: int | None = None,
    redact: Redaction | None = None,
    tools: bool = False,
    into: str | None = None,
    **filters: Unpack[RunFilters],
) -> Examples:
    """Good runs as few-shot examples; see `Index.examples`.

    ```python
    examples(storage, user_id=ANY_USER, agent="support", min_score=1, like="Where is my parcel?", limit=3)
    ```

    Args:
        storage: whose runs.
        user_id, like, limit, tokens, redact, tools, **filters: as of `Index.examples`.
        into: the SQL database of the index, if it does not lie beside the log.

    Raises:
        InvalidInputError: an argument is wrong, or there is no such filter.
        StorageError: one of the databases failed.
    """
    with Index(storage, into) as index:
        return index.examples(
            user_id=user_id, like=like, limit=limit, tokens=tokens, redact=redact, tools=tools, **filters
        )


__all__ = ["examples"]
