"""What an application does with LangGraph, without a model: `python langgraph_work.py WHAT …`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from datetime import datetime
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

import sessile
from sessile.integrations.langgraph import SessileSaver, SessileStore


def graph_of(storage: sessile.Storage) -> Any:
    """A graph whose one node says how many messages there are."""

    def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{len(state['messages'])} messages")]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=SessileSaver(storage))


def config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


def talk(storage: sessile.Storage, thread_id: str, prompts: list[str]) -> list[str]:
    """Invocations of the graph, one after the other."""
    graph = graph_of(storage)
    return [
        graph.invoke({"messages": [HumanMessage(prompt)]}, config(thread_id))["messages"][-1].content
        for prompt in prompts
    ]


async def together(storage: sessile.Storage, writers: int, runs: int, name: str) -> None:
    """Many writers of checkpoints at once on one thread; each that has ended is told."""
    saver = SessileSaver(storage)

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            checkpoint: Any = {
                "v": 4,
                "id": said,
                "ts": "2026-01-01T00:00:00+00:00",
                "channel_values": {"said": [said] * 200},
                "channel_versions": {"said": "1"},
                "versions_seen": {},
            }
            place = {"configurable": {"thread_id": "many", "checkpoint_ns": ""}}
            await saver.aput_writes({"configurable": {**place["configurable"], "checkpoint_id": said}}, [("a", 1)], "t")
            await saver.aput(place, checkpoint, {"source": "loop"}, {"said": "1"})
            print(said, flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


def kept(storage: sessile.Storage) -> list[str]:
    """The ids of all checkpoints of that thread, each of which is whole."""
    found = list(SessileSaver(storage).list(config("many")))
    for one in found:
        assert one.checkpoint["channel_values"]["said"] == [one.checkpoint["id"]] * 200
        assert one.pending_writes == [("t", "a", 1)]
    return sorted(one.checkpoint["id"] for one in found)


async def running(storage: sessile.Storage, writers: int, runs: int, name: str) -> None:
    """Many runs of the graph at once, each writer's on a thread of its own; each that has ended is told."""
    graph = graph_of(storage)

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            await graph.ainvoke({"messages": [HumanMessage(said)]}, config(f"{name}-{writer}"))
            print(said, flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


def went_on(storage: sessile.Storage) -> dict[str, list[str]]:
    """What all threads hold, by thread, after each has gone on with a run."""
    found: dict[str, list[str]] = {}
    for session in storage.sessions(kind="langgraph"):
        thread = session.metadata["thread_id"]
        talk(storage, thread, ["On."])
        messages = graph_of(storage).get_state(config(thread)).values["messages"]
        found[thread] = [message.content for message in messages]
    return found


async def putting(storage: sessile.Storage, writers: int, runs: int, name: str) -> None:
    """Many writers of items at once, and all of them of one item, too; each put is told."""
    store = SessileStore(storage)

    async def work(writer: int) -> None:
        for number in range(runs):
            said = f"{name}-{writer}-{number}"
            await store.aput(("many", name), said, {"said": said})
            await store.aput(("one",), "item", {"said": said})
            print(said, flush=True)

    await asyncio.gather(*(work(writer) for writer in range(writers)))


def put(storage: sessile.Storage) -> list[str]:
    """The items that are there, and whose value the item has that all have put."""
    store = SessileStore(storage)
    items = store.search(("many",), limit=10_000)
    assert all(item.value == {"said": item.key} for item in items)
    one = store.get(("one",), "item")
    assert one is not None
    assert one.value["said"] in {item.key for item in items}
    return sorted(item.key for item in items)


def pruned(storage: sessile.Storage) -> list[int]:
    """Bytes of the session before and after pruning, and how many messages the thread has then."""
    talk(storage, "p", [f"{number} " + "x" * 500 for number in range(100)])
    saver, graph = SessileSaver(storage), graph_of(storage)
    checkpoints = len(list(saver.list(config("p"))))
    saver.prune(["p"])
    left = list(saver.list(config("p")))
    assert graph.get_state(config("p")).values["messages"][-1].content == "199 messages"
    assert talk(storage, "p", ["On."]) == ["201 messages"]
    return [checkpoints, len(left)]


def stored(storage: sessile.Storage) -> list[Any]:
    """What the store keeps, over two objects of it; and what expires."""
    store = SessileStore(storage)
    store.put(("memories", "ada"), "k1", {"likes": {"color": "red"}, "n": 1})
    store.put(("memories", "ada"), "k1", {"likes": {"color": "blue"}, "n": 2})
    store.put(("memories", "a:b", "c"), "k", {"n": 3})
    store.put(("other",), "k", {"n": 4})
    again = SessileStore(storage)
    first = again.get(("memories", "ada"), "k1")
    assert first is not None
    assert first.created_at < first.updated_at
    found = [first.value, [item.key for item in again.search(("memories",), filter={"n": {"$gt": 2}})]]
    found.append(again.list_namespaces(prefix=("memories",)))
    short = SessileStore(storage, ttl={"default_ttl": 60, "refresh_on_read": True})
    short.put(("brief",), "read", {"n": 1})
    ends = [_end(storage, "read")]
    for refresh in (False, True):
        time.sleep(0.01)
        assert short.get(("brief",), "read", refresh_ttl=refresh) is not None
        ends.append(_end(storage, "read"))
    assert ends[0] == ends[1] < ends[2], "it lives longer where that is asked for"
    short.put(("brief",), "left", {"n": 2}, ttl=0.001)
    while short.get(("brief",), "left", refresh_ttl=False) is not None:
        time.sleep(0.01)
    found.append([item.key for item in short.search(("brief",), refresh_ttl=False)])
    again.delete(("other",), "k")
    found.append(again.get(("other",), "k"))
    return found


def _end(storage: sessile.Storage, key: str) -> datetime:
    """When an item expires."""
    session = storage.get_session(f"langgraph-store:brief:{key}")
    assert session is not None
    assert session.expires_at is not None
    return session.expires_at


MANY: dict[str, Any] = {"together": together, "running": running, "putting": putting}
FOUND: dict[str, Any] = {"kept": kept, "went_on": went_on, "put": put, "pruned": pruned, "stored": stored}


def main(what: str, *arguments: str) -> None:
    with sessile.open(os.environ["SESSILE_URL"]) as storage:
        if what == "talk":
            print(json.dumps(talk(storage, arguments[0], list(arguments[1:]))))
        elif what in MANY:
            asyncio.run(MANY[what](storage, int(arguments[0]), int(arguments[1]), arguments[2]))
        else:
            print(json.dumps(FOUND[what](storage)))


if __name__ == "__main__":
    main(*sys.argv[1:])
