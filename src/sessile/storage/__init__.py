"""Storing and loading sessions: the contract of a driver, the one core above it, and the `Storage` object.

Importing this package imports neither an agent framework nor a database client.
"""

from .driver import Capabilities, Deadline, Driver
from .registry import open_storage
from .rows import Append, CommitRow, HeadRow, Listing, ListQuery, Loaded, RecordName, Span
from .settings import Settings
from .storage import Storage
from .wrapping import WrappedDriver

__all__ = [
    "Append",
    "Capabilities",
    "CommitRow",
    "Deadline",
    "Driver",
    "HeadRow",
    "ListQuery",
    "Listing",
    "Loaded",
    "RecordName",
    "Settings",
    "Span",
    "Storage",
    "WrappedDriver",
    "open_storage",
]
