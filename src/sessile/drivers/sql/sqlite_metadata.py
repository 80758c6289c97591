"""How SQLite compares a key of the metadata."""

from __future__ import annotations

from ...storage.rows import Json
from . import filters

_ITEM = "CASE WHEN json_valid(metadata) THEN EXISTS (SELECT 1 FROM json_each(metadata) AS item WHERE {}) ELSE 1 END"
"""Text that is no JSON, at which SQLite would end the whole statement, may match: then the list names the session."""


class SqliteMetadata(filters.MetadataFilters):
    """Over the function `json_each` (sqlite.org/json1.html)."""

    def has_key(self, key: str, number: int) -> tuple[str, filters.Parameters]:
        """See `MetadataFilters`."""
        name = f"has_key_{number}"
        return _ITEM.format(f"item.key = :{name}"), {name: key}

    def has_value(self, key: str, value: Json, number: int) -> tuple[str, filters.Parameters]:
        """See `MetadataFilters`."""
        key_name, name = f"key_{number}", f"value_{number}"
        if value is None:
            same = "item.type = 'null'"
        elif isinstance(value, bool):
            same = f"item.type = '{'true' if value else 'false'}'"
        elif isinstance(value, str):
            same = f"item.type = 'text' AND item.atom = :{name}"
        else:
            same = f"item.type IN ('integer', 'real') AND item.atom = :{name}"
        return _ITEM.format(f"item.key = :{key_name} AND {same}"), {key_name: key, name: value}
