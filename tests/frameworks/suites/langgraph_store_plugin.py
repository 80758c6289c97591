"""Put under the framework's own tests: its store in memory is ours, over the storage that SESSILE_URL names."""

from __future__ import annotations

import os
import secrets
from typing import Any

import langgraph.store.memory

import sessile
from sessile.integrations.langgraph import SessileStore

_whole = sessile.open(os.environ["SESSILE_URL"])


class Store(SessileStore):
    """Each one is a space of its own."""

    def __init__(self, *, index: Any = None) -> None:
        super().__init__(_whole.for_user(secrets.token_hex(8)), index=index)


langgraph.store.memory.InMemoryStore = Store  # type: ignore[misc, assignment]
