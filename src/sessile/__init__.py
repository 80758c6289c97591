"""Sessile keeps the sessions of AI agents, agent teams and workflows in your own database.

```python
from sessile import Agent, SqliteStorage

agent = Agent("openai:gpt-5-mini", storage=SqliteStorage("sessions.db"))
agent.run("My name is Ada.", session_id="s1")
agent.run("What is my name?", session_id="s1")
```

Names are imported when they are used: `import sessile.storage` does not load an agent framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .agents import (
        Agent,
        LastRuns,
        RollingSummary,
        RunResult,
        SessionCapability,
        TokenBudget,
        current_session,
        session_state,
    )
    from .drivers.files import JsonStorage, YamlStorage
    from .drivers.memory import MemoryStorage
    from .drivers.mysql import MySQLStorage
    from .drivers.postgres import PostgresStorage
    from .drivers.sqlalchemy import SqlAlchemyStorage
    from .drivers.sqlite import SqliteStorage
    from .records import Head, Message, Page, Run
    from .storage import Storage, open_storage

    open = open_storage

_NAMES = {
    "Agent": "agents",
    "Head": "records",
    "JsonStorage": "drivers.files",
    "LastRuns": "agents",
    "MemoryStorage": "drivers.memory",
    "Message": "records",
    "MySQLStorage": "drivers.mysql",
    "Page": "records",
    "PostgresStorage": "drivers.postgres",
    "RollingSummary": "agents",
    "Run": "records",
    "RunResult": "agents",
    "SessionCapability": "agents",
    "SqlAlchemyStorage": "drivers.sqlalchemy",
    "SqliteStorage": "drivers.sqlite",
    "Storage": "storage",
    "TokenBudget": "agents",
    "YamlStorage": "drivers.files",
    "current_session": "agents",
    "session_state": "agents",
}


def __getattr__(name: str) -> Any:
    if name == "open":
        return import_module(".storage", __name__).open_storage
    if name in _NAMES:
        return getattr(import_module(f".{_NAMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "open", *globals()])


# Without `open`: `from sessile import *` must not hide Python's own.
__all__ = [
    "Agent",
    "Head",
    "JsonStorage",
    "LastRuns",
    "MemoryStorage",
    "Message",
    "MySQLStorage",
    "Page",
    "PostgresStorage",
    "RollingSummary",
    "Run",
    "RunResult",
    "SessionCapability",
    "SqlAlchemyStorage",
    "SqliteStorage",
    "Storage",
    "TokenBudget",
    "YamlStorage",
    "__version__",
    "current_session",
    "session_state",
]
