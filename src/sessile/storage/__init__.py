"""Storing and loading sessions: the contract of a driver, the one core above it, and the `Storage` object.

Names are imported when they are used. Importing this package imports neither an agent framework nor a database client.
"""

from __future__ import annotations

from ..later import names_of

TYPE_CHECKING = False  # as in `typing`, which takes as long to import as Python to start
if TYPE_CHECKING:
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

_NAMES = {
    "Append": "rows",
    "Capabilities": "driver",
    "CommitRow": "rows",
    "Deadline": "driver",
    "Driver": "driver",
    "HeadRow": "rows",
    "ListQuery": "rows",
    "Listing": "rows",
    "Loaded": "rows",
    "RecordName": "rows",
    "Settings": "settings",
    "Span": "rows",
    "Storage": "storage",
    "WrappedDriver": "wrapping",
    "open_storage": "registry",
}

__getattr__, __dir__ = names_of(__name__, _NAMES)
