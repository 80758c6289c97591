"""Stores sessions of every kind in a SQLite database and in JSON files, and what they have to read as."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from pydantic_ai import Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from tests.releases.reading import reading_of

import sessile
from sessile import Agent, Context, JsonStorage, SqliteStorage, Storage, Team, session_state, user_state, workflow

HERE = Path(__file__).parent


def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Calls the first tool once, and then answers."""
    called = any(part.part_kind == "tool-return" for message in messages for part in message.parts)
    if info.function_tools and not called:
        return ModelResponse([ToolCallPart(info.function_tools[0].name, {"amount": 5}, tool_call_id="call-1")])
    return ModelResponse([TextPart("Paid back.")])


def refund(amount: int) -> str:
    """Pay money back."""
    session_state()["refunded"] = amount
    return f"Paid back {amount}."


def count_refund(amount: int) -> str:
    """Pay money back, and count how often that was done for the user."""
    user_state()["refunds"] = user_state().get("refunds", 0) + 1
    return refund(amount)


def reserve(order: int) -> str:
    return f"order {order} is reserved"


def write(storage: Storage) -> None:
    """Sessions of every kind, status and age that a later version may meet."""
    model, tool = FunctionModel(answer), [count_refund]
    agent = Agent(model, name="cashier", storage=storage, tools=tool, scopes=["user"], durability="step")
    agent.run("My money back.", session_id="agent", user_id="ada")
    agent.run("And now?", session_id="agent", user_id="ada")
    storage.rewind("agent", at=1, user_id="ada")
    agent.run("Once more.", session_id="agent", user_id="ada")
    storage.fork("agent", at=1, session_id="fork", user_id="ada")
    storage.rate("agent", 1, score=1.0, user_id="ada")
    asks = Tool(refund, requires_approval=True)
    Agent(model, name="asks", storage=storage, tools=[asks]).run("My money back.", session_id="paused")
    storage.add_run("added", input="Hi", output="Hello\0 \ud83d\ude00.", state={"n": 10**30, "none": None})
    storage.update_state("added", {"more": [1, {"a": 1.5}]})
    storage.set_metadata("added", {"plan": "pro"})
    storage.rename("added", "A name")
    storage.for_user("bob").add_run("notes", input="Buy milk.", output="Noted.")
    Team([agent], model, name="desk", storage=storage, mode="route").run("Hello", session_id="team", user_id="ada")

    @workflow(storage=storage)
    async def ship(ctx: Context, order: int) -> str:
        await ctx.step(reserve, order)
        return await ctx.wait_for_event("address")

    ship.run(7, session_id="waits")


def main() -> int:
    """Write the folder of this version, anew."""
    folder = HERE / sessile.__version__
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for storage in (SqliteStorage(folder / "sessions.db"), JsonStorage(folder / "sessions")):
        with storage:
            write(storage)
    with SqliteStorage(folder / "sessions.db") as storage:
        said = reading_of(storage)
    (folder / "reads-as.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", "utf-8")
    shutil.rmtree(folder / "sessions" / ".sessile", ignore_errors=True)
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
