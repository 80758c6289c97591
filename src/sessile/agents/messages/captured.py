"""The messages of a run while it works, for us and for a `capture_run_messages` of the caller's."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from pydantic_ai import _agent_graph, capture_run_messages
from pydantic_ai.messages import ModelMessage


@contextmanager
def captured() -> Generator[list[ModelMessage]]:
    """Pydantic AI's live list of the messages of the run in this block; the caller's own capture gets them, too.

    A capture inside of another hides it, and only the first run in one is captured.
    """
    outer = _outer()
    with capture_run_messages() as messages:
        try:
            yield messages
        finally:
            if outer is not None:
                outer.messages[:] = messages
                outer.used = True


def _outer() -> Any:
    """What captures the run at hand, if it has captured none yet."""
    try:
        outer = _agent_graph.get_captured_run_messages()
    except LookupError:
        return None
    return None if outer.used else outer
