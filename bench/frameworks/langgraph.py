"""LangGraph: `invoke` of a graph with messages state and one node that answers, and `get_state`."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph

from sessile import SqliteStorage
from sessile.integrations.langgraph import SessileSaver

from .pairs import Side, Took, main, timed

CONFIG: Any = {"configurable": {"thread_id": "t1"}}


def pair(number: int) -> list[Any]:
    """A question and its answer."""
    text = f"Answer number {number}: " + "The capital of that country has been the same for a long time. " * 3
    return [HumanMessage(f"Question number {number}?", id=f"h{number}"), AIMessage(text, id=f"a{number}")]


class Theirs(Side):
    def __init__(self, path: Path) -> None:
        self.number = 0
        builder = StateGraph(MessagesState)
        builder.add_node("model", lambda state: {"messages": [pair(self.number)[1]]})
        builder.add_edge(START, "model")
        builder.add_edge("model", END)
        self.graph = builder.compile(checkpointer=self.open(path))

    def open(self, path: Path) -> Any:
        return SqliteSaver(sqlite3.connect(path, check_same_thread=False))

    def fill(self, turns: int) -> None:
        history = [message for number in range(turns) for message in pair(number)]
        self.graph.invoke({"messages": history}, CONFIG, durability="exit")
        self.number = turns

    def turn(self) -> Took:
        self.number += 1
        return timed(lambda: self.graph.invoke({"messages": [pair(self.number)[0]]}, CONFIG))


class Ours(Theirs):
    def open(self, path: Path) -> Any:
        return SessileSaver(SqliteStorage(path))


class TheirsState(Theirs):
    def turn(self) -> Took:
        return timed(lambda: self.graph.get_state(CONFIG))


class OursState(Ours):
    def turn(self) -> Took:
        return timed(lambda: self.graph.get_state(CONFIG))


if __name__ == "__main__":
    main({"LangGraph, invoke": (Theirs, Ours), "LangGraph, get_state": (TheirsState, OursState)})
