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

from ._version import __version__
from .later import names_of

TYPE_CHECKING = False  # as in `typing`, which takes as long to import as Python to start
if TYPE_CHECKING:
    from .agents import (
        Agent,
        AgentSession,
        Auto,
        Budget,
        LastRuns,
        Memory,
        PastSessions,
        Relevant,
        RollingSummary,
        RunResult,
        SessionCapability,
        Shortened,
        Team,
        TokenBudget,
        app_state,
        ask_person,
        current_session,
        session_files,
        session_state,
        temp_state,
        user_state,
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
    from .insight import Index
    from .records import ANY_USER, Message, Page, PartialList, Rating, Run, Session, Usage, Waiting
    from .storage import Storage, open_storage
    from .storage.files import SessionFile
    from .storage.granting import Grant
    from .storage.memories import UserMemory
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
    "ANY_USER": "records",
    "Agent": "agents",
    "AgentSession": "agents",
    "Budget": "agents",
    "Shortened": "agents",
    "Auto": "agents",
    "DynamoDbStorage": "drivers.dynamodb",
    "GcsStorage": "drivers.objects",
    "Session": "records",
    "Index": "insight",
    "JsonStorage": "drivers.files",
    "LastRuns": "agents",
    "Memory": "agents",
    "PastSessions": "agents",
    "MemoryStorage": "drivers.memory",
    "Message": "records",
    "MongoDbStorage": "drivers.mongodb",
    "MySQLStorage": "drivers.mysql",
    "Page": "records",
    "PartialList": "records",
    "Waiting": "records",
    "PostgresStorage": "drivers.postgres",
    "Rating": "records",
    "RedisStorage": "drivers.redis",
    "Relevant": "agents",
    "RollingSummary": "agents",
    "Run": "records",
    "RunResult": "agents",
    "S3Storage": "drivers.objects",
    "SessionCapability": "agents",
    "SessionFile": "storage.files",
    "SqlAlchemyStorage": "drivers.sqlalchemy",
    "SqliteStorage": "drivers.sqlite",
    "Storage": "storage",
    "Team": "agents",
    "TokenBudget": "agents",
    "Usage": "records",
    "UserMemory": "storage.memories",
    "Grant": "storage.granting",
    "YamlStorage": "drivers.files",
    "open": "storage:open_storage",
    "current_session": "agents",
    "session_files": "agents",
    "session_state": "agents",
    "app_state": "agents",
    "ask_person": "agents",
    "temp_state": "agents",
    "user_state": "agents",
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


__getattr__, __dir__ = names_of(__name__, _NAMES)


# Without `open`, which would hide Python's own, and without storages whose client library may not be installed: they
# would be imported by `from sessile import *`.
__all__ = [
    "ANY_USER",
    "Agent",
    "AgentSession",
    "Auto",
    "Budget",
    "Session",
    "Index",
    "JsonStorage",
    "LastRuns",
    "Memory",
    "PastSessions",
    "MemoryStorage",
    "Message",
    "Page",
    "PartialList",
    "Waiting",
    "Rating",
    "Relevant",
    "RollingSummary",
    "Run",
    "RunResult",
    "SessionCapability",
    "SessionFile",
    "Shortened",
    "SqliteStorage",
    "Storage",
    "Team",
    "TokenBudget",
    "Usage",
    "UserMemory",
    "Grant",
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
    "app_state",
    "ask_person",
    "current_session",
    "current_step",
    "session_files",
    "session_state",
    "step",
    "temp_state",
    "user_state",
    "workflow",
]
