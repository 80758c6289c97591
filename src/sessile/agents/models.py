"""What talks to models: the agent of Pydantic AI below one of ours, and its model, one for each event loop.

The connections that a provider keeps open belong to the loop that opened them, and
an agent works in several loops as soon as it is used both synchronously (on the background loop) and asynchronously,
or by several threads, or in a forked child.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast

from pydantic_ai import Agent as ModelAgent
from pydantic_ai import DeferredToolRequests
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import ReinjectSystemPrompt
from pydantic_ai.models import Model, infer_model

from ..errors import InvalidInputError
from ..storage.faces import forget_closed
from ..storage.forking import Lock


def override_of(agent: Any) -> Any:
    """The model that an agent was told to use instead of every other one (`pydantic_ai.Agent.override`), or None."""
    while (wrapped := getattr(agent, "wrapped", None)) is not None:
        agent = wrapped
    chosen: Any = getattr(agent, "_override_model", None)  # nothing public says so
    found = None if chosen is None else chosen.get()
    return None if found is None else found.value


def has_system_prompt(agent: Any) -> bool:
    """Whether an agent may have a system prompt, given to it or registered on it since; of a wrapper nobody knows."""
    if getattr(agent, "wrapped", None) is not None:
        return True
    return bool(getattr(agent, "_system_prompts", True) or getattr(agent, "_system_prompt_functions", True))


def may_call_tools(agent: Any, options: Mapping[str, Any]) -> bool:
    """Whether a run of an agent with these options may have tools; of anything but a plain agent nobody knows."""
    if type(agent) is not ModelAgent or options.get("toolsets") or options.get("capabilities"):
        return True
    known = cast("ModelAgent[Any, Any]", agent)
    overridden: Any = getattr(known, "_override_root_capability", None)  # nothing public says so
    if overridden is None or overridden.get() is not None:
        return True
    capabilities = known.root_capability.capabilities
    if not _of_every_agent().issuperset(map(type, capabilities)):  # any other may bring tools along
        return True
    return any(getattr(one, "tools", None) != {} for one in known.toolsets)


def tells_events(agent: Any, options: Mapping[str, Any]) -> bool:
    """Whether somebody hears the events of a run of an agent with these options, so that responses are streamed."""
    return (options.get("event_stream_handler") or getattr(agent, "event_stream_handler", None)) is not None


@cache
def _of_every_agent() -> frozenset[type[Any]]:
    """The capabilities that Pydantic AI gives to each agent, which find tools and bring none."""
    bare: ModelAgent[Any, Any] = ModelAgent()
    return frozenset(map(type, bare.root_capability.capabilities))


def system_prompt_again() -> ReinjectSystemPrompt[Any]:
    """Sends the system prompt with every run: a window may not reach back to the run that it was stored with."""
    return ReinjectSystemPrompt(replace_existing=True)


def pydantic_agent_of(
    model: Any, name: str | None, output_type: Any, options: Mapping[str, Any]
) -> ModelAgent[Any, Any]:
    """The agent that talks to the model: the given one, or one made with all that Pydantic AI takes.

    What is given may be another `AbstractAgent`; that it is mostly a `pydantic_ai.Agent` is what users' editors know.
    """
    if isinstance(model, AbstractAgent):
        if options or output_type is not str:
            given = ", ".join([*options, *(["output_type"] if output_type is not str else [])])
            raise InvalidInputError(f"A ready pydantic_ai.Agent has its own {given}; do not pass them beside it.")
        return cast(ModelAgent[Any, Any], model)
    make = cast(Callable[..., ModelAgent[Any, Any]], ModelAgent)
    return make(model, name=name, output_type=[output_type, DeferredToolRequests], **options)


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
        self._lock = Lock()

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
