"""Storing and loading sessions: the contract of a driver, the one core above it, and the `Storage` object.

Importing this package imports neither an agent framework nor a database client.
"""

from .core import Settings
from .driver import Append, Capabilities, CommitRow, Deadline, Driver, HeadRow, ListQuery, Loaded, Span
from .registry import open_storage
from .storage import Storage

__all__ = [
    "Append",
    "Capabilities",
    "CommitRow",
    "Deadline",
    "Driver",
    "HeadRow",
    "ListQuery",
    "Loaded",
    "Settings",
    "Span",
    "Storage",
    "open_storage",
]
