"""Binary parts of messages, by their form."""

from __future__ import annotations

from ..records import JsonObject


def is_binary(node: JsonObject) -> bool:
    """Whether an object is a binary part of a message in its JSON form."""
    return node.get("kind") == "binary" and isinstance(node.get("media_type"), str)
