"""How SQLite compares a key of the metadata."""

from __future__ import annotations

from ...storage.driver import Json
from . import filters


class SqliteMetadata(filters.MetadataFilters):
    """Over the function `json_each` (sqlite.org/json1.html)."""

    def has_key(self, key: str, number: int) -> tuple[str, filters.Parameters]:
        """See `MetadataFilters`."""
        name = f"has_key_{number}"
        return f"EXISTS (SELECT 1 FROM json_each(metadata) AS item WHERE item.key = :{name})", {name: key}

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
        condition = f"EXISTS (SELECT 1 FROM json_each(metadata) AS item WHERE item.key = :{key_name} AND {same})"
        return condition, {key_name: key, name: value}
