"""Which tools an agent has, before it runs: a decision about a call is of no use without its tool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from pydantic_ai import RunContext
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import (
    AbstractToolset,
    CombinedToolset,
    DynamicToolset,
    ExternalToolset,
    FunctionToolset,
    PrefixedToolset,
    RenamedToolset,
    SetMetadataToolset,
    WrapperToolset,
)
from pydantic_ai.usage import RunUsage

from ..run.job import Job


class UnlistedError(Exception):
    """It is not known whether an agent has a tool before its toolsets are asked (a server's, or made for each run)."""


class Tools:
    """The tools of the agent that a job runs, by the names that its model sees."""

    def __init__(self, job: Job) -> None:
        self._deps = job.options.get("deps")
        self._asked: set[str] = set()
        self._unasked: list[AbstractToolset[Any]] = []
        self._metadata: dict[str, dict[str, Any]] = {}
        given = [capability.get_toolset() for capability in job.options.get("capabilities") or ()]
        for toolset in (*getattr(job.agent, "toolsets", ()), *(job.options.get("toolsets") or ()), *given):
            self._metadata.update(self._walk(toolset))

    def _walk(self, toolset: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """What can be seen without asking anybody: names, and what is said about each."""
        if isinstance(toolset, FunctionToolset):
            yield from ((name, tool.metadata or {}) for name, tool in toolset.tools.items())
        elif isinstance(toolset, ExternalToolset):
            yield from ((tool.name, tool.metadata or {}) for tool in toolset.tool_defs)
        elif isinstance(toolset, CombinedToolset):
            for part in cast("CombinedToolset[Any]", toolset).toolsets:
                yield from self._walk(part)
        elif isinstance(toolset, WrapperToolset):
            inner = Tools.__new__(Tools)
            inner._unasked = []
            wrapper = cast("WrapperToolset[Any]", toolset)
            found = list(inner._walk(wrapper.wrapped))
            if inner._unasked:
                self._unasked.append(wrapper)  # asked as a whole, so that names come out as it makes them
            said = toolset.metadata if isinstance(toolset, SetMetadataToolset) else {}
            yield from ((_renamed(wrapper, name), {**about, **said}) for name, about in found)
        elif isinstance(toolset, AbstractToolset):
            self._unasked.append(cast("AbstractToolset[Any]", toolset))
        elif callable(toolset):
            self._unasked.append(DynamicToolset(cast("Callable[[RunContext[Any]], AbstractToolset[Any]]", toolset)))

    @property
    def idempotent(self) -> set[str]:
        """Those that are declared idempotent, by `metadata={"idempotent": True}`."""
        return {name for name, metadata in self._metadata.items() if metadata.get("idempotent") is True}

    def without(self, names: Iterable[str]) -> list[str]:
        """Which of these tools the agent does not have; `UnlistedError` if its toolsets must be asked first."""
        missing = sorted(set(names) - self._metadata.keys() - self._asked)
        if missing and self._unasked:
            raise UnlistedError
        return missing

    async def ask(self) -> None:
        """Ask the toolsets that do not show their tools; raises what they raise."""
        context = RunContext(deps=self._deps, model=TestModel(), usage=RunUsage())
        for toolset in self._unasked:
            own = await (await toolset.for_run(context)).for_run_step(context)
            async with own:
                self._asked.update(await own.get_tools(context))
        self._unasked = []


def _renamed(toolset: WrapperToolset[Any], name: str) -> str:
    if isinstance(toolset, PrefixedToolset):
        return f"{toolset.prefix}_{name}"
    if isinstance(toolset, RenamedToolset):
        return next((new for new, old in toolset.name_map.items() if old == name), name)
    return name
