"""Parts that the tests of teams share."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.agents.helpers import model_at
from tests.model_server import ModelServer

from sessile import ANY_USER, Agent, Run, Storage, Team

FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."
ITALY = "What is the capital of Italy?"
ROME = "The capital of Italy is Rome."
LAST = "What was my last question?"


def call(tool: str, **arguments: Any) -> str:
    """A line that makes a model call a tool."""
    return f"call {tool} {json.dumps(arguments)}"


def ask(member: str, task: str) -> str:
    """A line that makes a leader ask a member."""
    return call("delegate_task", member=member, task=task)


def member(server: ModelServer, name: str, **options: Any) -> Agent[Any]:
    return Agent(model_at(server.base_url), name=name, **options)


def team_of(server: ModelServer, *members: Agent[Any] | str, **options: Any) -> Team[Any]:
    """A team over the model server; members that are named only are plain agents."""
    made = [member(server, one) if isinstance(one, str) else one for one in members]
    return Team(made, model_at(server.base_url), **{"name": "crew", **options})


def tree(run: Run) -> Any:
    """Who worked below a run, and how that ended."""
    return [
        (child.agent, child.status, child.output, *([tree(child)] if child.children else [])) for child in run.children
    ]


def own_session(storage: Storage, called: str) -> str:
    """The id of the one session that a member keeps in a storage of its own; it ends with something random."""
    (found,) = [head.session_id for head in storage.sessions(user_id=ANY_USER)]
    assert re.fullmatch(rf"{called}/[0-9a-f]{{16}}", found)
    return found
