"""One model for each event loop: the connections that a provider keeps open belong to the loop that opened them.

An agent works in several loops as soon as it is used both synchronously (on the background loop) and asynchronously,
or by several threads, or in a forked child.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import Any

from pydantic_ai.models import Model, infer_model

from ..storage.faces import forget_closed


class LoopModels:
    """The models of an agent that was given the name of one.

    The first loop that is seen uses the agent's own model, each other one a model made for it. What a ready `Model`
    holds is not known, so that cannot be made again.
    """

    def __init__(self, agent: Any, name: Any) -> None:
        self._agent = agent
        self._name: str | None = name if isinstance(name, str) else None
        self._own: Any = getattr(agent, "model", None)
        self._models: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Model | None] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def here(self) -> Model | None:
        """The model to use in the running loop; None: the agent's own."""
        if self._name is None or self._agent.model is not self._own or not isinstance(self._own, Model):
            return None
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._models:
                forget_closed(self._models)
                own_is_free = None not in self._models.values()
                self._models[loop] = None if own_is_free else infer_model(self._name)
            return self._models[loop]
