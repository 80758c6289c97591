"""Whoever can write to the database can change what an adapter has written: only that session is lost.

One clear error comes out, which tells nothing of what was said. Nothing has no end, or grows without bound. No other
user's state is read or written, lists have all other sessions, and LangGraph's values choose no class.
"""

from __future__ import annotations

import pytest
from tests.campaigns import TORTURE
from tests.frameworks.helpers import program

pytestmark = pytest.mark.measured_children

FRAMEWORKS = ["pydantic_ai", "openai_agents", "langgraph", "google_adk", "agno"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_only_our_errors_come_out(framework: str) -> None:
    assert program(framework, "spoiled.py", "", framework, 40 if TORTURE else 3) == []
