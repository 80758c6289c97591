"""Threads and items of LangGraph's that another program has changed."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from spoiled import SECRET, Calls, attack

import sessile
from sessile import MemoryStorage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import UnknownFormatError
from sessile.integrations.langgraph import SessileSaver, SessileStore
from sessile.integrations.langgraph_values import CarefulSerializer


def answer(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(SECRET)]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
builder.add_edge("answer", END)


def say(storage: MemoryStorage, name: str) -> None:
    graph = builder.compile(checkpointer=SessileSaver(storage))
    graph.invoke({"messages": [HumanMessage(SECRET)]}, config(name))


def config(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


def make(storage: MemoryStorage, name: str) -> None:
    say(storage, name)
    say(storage, name)
    store = SessileStore(storage)
    store.put(("kept", name), "k", {"said": SECRET, "n": 1})


def calls(storage: MemoryStorage, name: str) -> Calls:
    saver, store = SessileSaver(storage), SessileStore(storage)
    return {
        "say": lambda: say(storage, name),
        "state": lambda: builder.compile(checkpointer=saver).get_state(config(name)),
        "history": lambda: list(builder.compile(checkpointer=saver).get_state_history(config(name))),
        "get": lambda: saver.get_tuple(config(name)),
        "list": lambda: list(saver.list(config(name))),
        "filter": lambda: list(saver.list(None, filter={"source": "loop"})),
        "copy": lambda: saver.copy_thread(name, f"{name} again"),
        "delta": lambda: saver.get_delta_channel_history(config=config(name), channels=["messages"]),
        "runs": lambda: saver.delete_for_runs(["r"]),
        "item": lambda: store.get(("kept", name), "k"),
        "search": lambda: store.search(("kept",), filter={"n": {"$gt": 0}}),
        "names": lambda: store.list_namespaces(),
        "put": lambda: store.put(("kept", name), "k", {"said": SECRET}),
        "prune": lambda: saver.prune([name]),
        "delete": lambda: saver.delete_thread(name),
    }


def others(storage: MemoryStorage) -> list[str]:
    found = SessileStore(storage).search(("kept",))
    saved = SessileSaver(storage).list(None)
    names = {one.config["configurable"]["thread_id"] for one in saved} & {one.namespace[1] for one in found}
    return sorted(names)


def chosen() -> list[Any]:
    """What stored values must not do: import, call, or make what the program does not know."""
    wrong: list[Any] = []
    careful = CarefulSerializer()
    sys.modules.pop("antigravity", None)
    for code in range(9):
        for said in (
            ("antigravity", "geohash", "x"),
            ("os", "getcwd", []),
            ("builtins", "eval", "1 + 1"),
            ("subprocess", "Popen", ["true"]),
            ("typing", "Any", None),
            ("sessile", "SqliteStorage", "/tmp/x.db"),
            (1, 2, 3),
            (),
        ):
            data = ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(said)))
            for content in (data, ormsgpack.packb([ormsgpack.Ext(7, data)])):
                try:
                    made = careful.loads_typed(("msgpack", content))
                except (sessile.errors.SessileError, TypeError, ValueError):
                    continue
                if code in (0, 1, 2, 4, 5):
                    wrong.append(["chosen", code, said, repr(made)])
    if "antigravity" in sys.modules:
        wrong.append(["chosen", "a module was imported"])
    for kind in ("pickle", "json", "other"):
        try:
            careful.loads_typed((kind, b"{}"))
        except UnknownFormatError:
            continue
        wrong.append(["chosen", kind])
    return wrong


def circle(driver: MemoryDriver, chance: random.Random) -> None:
    """The first checkpoint follows the last one, and none has a value of the channel that is asked for."""
    session = next(one for name, one in driver._sessions.items() if name == "langgraph:s1")
    ids: list[str] = []
    for again in range(2):
        for place, row in enumerate(session.log):
            body = json.loads(row.body)
            for entry in body["entries"]:
                if entry["kind"] == "langgraph.checkpoint":
                    ids.append(entry["data"]["id"])
                    entry["data"]["channels"].pop("messages", None)
                    if again and entry["data"]["parent"] is None:
                        entry["data"]["parent"] = ids[len(ids) // 2]
            session.log[place] = row._replace(body=json.dumps(body))


def main(seeds: int) -> list[Any]:
    return [*chosen(), *attack(make, calls, others, seeds=seeds, more={"circle": circle})]
