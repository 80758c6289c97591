"""Put under the framework's own tests: its `SQLiteSession` is ours, over the storage that SESSILE_URL names."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import agents
import agents.extensions.memory.encrypt_session  # before its base is replaced, which it asks for
import agents.memory
import agents.memory.sqlite_session

import sessile
from sessile.integrations.openai_agents import SessileSession

_whole = sessile.open(os.environ["SESSILE_URL"])


class SQLiteSession(SessileSession):
    """Takes what the framework's takes: each file, and each session in memory, is a space of its own."""

    def __init__(
        self,
        session_id: str,
        db_path: str | Path = ":memory:",
        sessions_table: str = "agent_sessions",
        messages_table: str = "agent_messages",
        session_settings: Any = None,
    ) -> None:
        space = uuid.uuid4().hex if str(db_path) == ":memory:" else f"{db_path}|{messages_table}"
        super().__init__(session_id, _whole.for_user(space[-200:]), session_settings=session_settings)
        self.db_path = db_path

    def close(self) -> None:
        """The storage is everybody's."""


for module in (agents, agents.memory, agents.memory.sqlite_session):
    module.SQLiteSession = SQLiteSession  # type: ignore[misc, attr-defined]
