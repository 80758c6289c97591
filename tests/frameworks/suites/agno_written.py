"""What Agno itself stores, whichever release is here: `python agno_written.py FOLDER [POSTGRES_URL]`.

An agent answers, calls a tool, and fails; a team delegates.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from agno.agent import Agent
from agno.models.base import Model
from agno.models.response import ModelResponse
from agno.team import Team


class Offline(Model):
    """Calls a tool, or a member, where it is asked to; fails where it is asked to; answers else."""

    def invoke(self, *args: Any, **given: Any) -> Any:
        messages = given.get("messages") or next(one for one in args if isinstance(one, list))
        last = messages[-1]
        text = str(last.content)
        if last.role == "user" and "fail" in text:
            raise RuntimeError("the provider is down")
        if last.role == "user" and "look up" in text:
            return self.calls("call_1", "lookup", {"city": "Rome"})
        if last.role == "user" and "delegate" in text:
            functions = [tool["function"] for tool in given.get("tools") or [] if "function" in tool]
            said = next(one for one in functions if "member" in one["name"])
            wanted = said["parameters"]["properties"]
            return self.calls("call_2", said["name"], {name: "helper" if "id" in name else "do it" for name in wanted})
        return ModelResponse(role="assistant", content=f"answer to {text[:40]}", **counted())

    def calls(self, call_id: str, name: str, arguments: dict[str, Any]) -> Any:
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": call_id, "type": "function", "function": function}
        return ModelResponse(role="assistant", tool_calls=[call], **counted())

    async def ainvoke(self, *args: Any, **given: Any) -> Any:
        return self.invoke(*args, **given)

    def invoke_stream(self, *args: Any, **given: Any) -> Iterator[Any]:
        yield self.invoke(*args, **given)

    async def ainvoke_stream(self, *args: Any, **given: Any) -> Any:
        yield self.invoke(*args, **given)

    def parse_provider_response(self, response: Any, **given: Any) -> Any:
        return response

    parse_provider_response_delta = _parse_provider_response = _parse_provider_response_delta = parse_provider_response


def counted() -> dict[str, Any]:
    """What a response has used, where the release takes it."""
    try:
        from agno.metrics import MessageMetrics
    except ImportError:
        return {}
    return {"response_usage": MessageMetrics(input_tokens=10, output_tokens=3, total_tokens=13)}


def lookup(city: str) -> str:
    """Look a city up."""
    return f"{city} is a city"


def stored(folder: Path, url: str | None, name: str) -> dict[str, Any]:
    """Where an agent or team keeps its sessions."""
    path = str(folder / f"{name}.db")
    try:
        from agno.db.sqlite import SqliteDb
    except ImportError:
        return _stored_by_the_first(path, url, name)
    if url is not None:
        from agno.db.postgres import PostgresDb

        return {"db": PostgresDb(db_url=url)}
    return {"db": SqliteDb(db_file=path)}


def _stored_by_the_first(path: str, url: str | None, name: str) -> dict[str, Any]:
    from agno.storage.sqlite import SqliteStorage

    mode = {"mode": "coordinate"} if name == "team" else {}
    if url is not None:
        from agno.storage.postgres import PostgresStorage

        kind: Any = "team" if name == "team" else "agent"
        return {"storage": PostgresStorage(table_name=f"{name}_sessions", db_url=url, mode=kind), **mode}
    return {"storage": SqliteStorage(table_name=f"{name}_sessions", db_file=path), **mode}


def keep_in_files(folder: Path) -> None:
    """The same in files, which the first release has for agents, in JSON and in YAML."""
    try:
        from agno.storage.json import JsonStorage
        from agno.storage.yaml import YamlStorage
    except ImportError:
        return
    for name, kind in (("json", JsonStorage), ("yaml", YamlStorage)):
        agent = Agent(name="guide", model=Offline(id="offline"), storage=kind(str(folder / name)))
        agent.run("Yes? 'no': {a: 1}", session_id="f1", user_id="ada")


def main(folder: Path, url: str | None = None) -> None:
    state = {"n": 1, "none": None}
    agent = Agent(
        name="guide", model=Offline(id="offline"), tools=[lookup], session_state=state, **stored(folder, url, "agent")
    )
    for prompt in ("Paris?", "look up Rome", "fail now"):
        with suppress(RuntimeError):  # of the first release, which does not store the run
            agent.run(prompt, session_id="s1", user_id="ada")
        time.sleep(1.1)  # its times are whole seconds
    keep_in_files(folder)
    helper = Agent(name="helper", model=Offline(id="offline"))
    team = Team(name="team", model=Offline(id="offline"), members=[helper], **stored(folder, url, "team"))
    team.run("please delegate", session_id="t1", user_id="bob")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
