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
        Team,
        TokenBudget,
        current_session,
        session_state,
    )
    from .drivers.dynamodb import DynamoDbStorage as DynamoDbStorage
    from .drivers.files import JsonStorage, YamlStorage
    from .drivers.memory import MemoryStorage
    from .drivers.mongodb import MongoDbStorage as MongoDbStorage
    from .drivers.mysql import MySQLStorage as MySQLStorage
    from .drivers.objects import GcsStorage as GcsStorage
    from .drivers.objects import S3Storage as S3Storage
    from .drivers.postgres import PostgresStorage as PostgresStorage
    from .drivers.redis import RedisStorage as RedisStorage
    from .drivers.sqlalchemy import SqlAlchemyStorage as SqlAlchemyStorage
    from .drivers.sqlite import SqliteStorage
    from .records import Head, Message, Page, Run
    from .storage import Storage, open_storage
    from .workflows import (
        Condition,
        Context,
        Loop,
        Parallel,
        Retry,
        Router,
        Step,
        SyncContext,
        Wait,
        Workflow,
        WorkflowResult,
        current_step,
        step,
        workflow,
    )

    open = open_storage

_NAMES = {
    "Agent": "agents",
    "DynamoDbStorage": "drivers.dynamodb",
    "GcsStorage": "drivers.objects",
    "Head": "records",
    "JsonStorage": "drivers.files",
    "LastRuns": "agents",
    "MemoryStorage": "drivers.memory",
    "Message": "records",
    "MongoDbStorage": "drivers.mongodb",
    "MySQLStorage": "drivers.mysql",
    "Page": "records",
    "PostgresStorage": "drivers.postgres",
    "RedisStorage": "drivers.redis",
    "RollingSummary": "agents",
    "Run": "records",
    "RunResult": "agents",
    "S3Storage": "drivers.objects",
    "SessionCapability": "agents",
    "SqlAlchemyStorage": "drivers.sqlalchemy",
    "SqliteStorage": "drivers.sqlite",
    "Storage": "storage",
    "Team": "agents",
    "TokenBudget": "agents",
    "YamlStorage": "drivers.files",
    "current_session": "agents",
    "session_state": "agents",
    **dict.fromkeys(
        (
            "Condition",
            "Context",
            "Loop",
            "Parallel",
            "Retry",
            "Router",
            "Step",
            "SyncContext",
            "Wait",
            "Workflow",
            "WorkflowResult",
            "current_step",
            "step",
            "workflow",
        ),
        "workflows",
    ),
}


def __getattr__(name: str) -> Any:
    if name == "open":
        return import_module(".storage", __name__).open_storage
    if name in _NAMES:
        return getattr(import_module(f".{_NAMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_NAMES, "open", *globals()})


# Without `open`, which would hide Python's own, and without storages whose client library may not be installed: they
# would be imported by `from sessile import *`.
__all__ = [
    "Agent",
    "Head",
    "JsonStorage",
    "LastRuns",
    "MemoryStorage",
    "Message",
    "Page",
    "RollingSummary",
    "Run",
    "RunResult",
    "SessionCapability",
    "SqliteStorage",
    "Storage",
    "Team",
    "TokenBudget",
    "Condition",
    "Context",
    "Loop",
    "Parallel",
    "Retry",
    "Router",
    "Step",
    "SyncContext",
    "Wait",
    "Workflow",
    "WorkflowResult",
    "YamlStorage",
    "__version__",
    "current_session",
    "current_step",
    "session_state",
    "step",
    "workflow",
]
