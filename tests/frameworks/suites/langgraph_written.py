"""What LangGraph itself stores, and what becomes of it here: `python langgraph_written.py FOLDER_OR_POSTGRES_URL`.

Prints the runs of the sessions that its threads have become, and how many are unchanged in a second import.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages

import sessile
from sessile import ANY_USER
from sessile.transfer import import_conversations


class State(TypedDict):
    messages: Annotated[list[Any], add_messages]


def answer(state: State) -> dict[str, Any]:
    text = state["messages"][-1].content
    if "look up" not in text:
        return {"messages": [AIMessage(f"answer to {text}")]}
    call = AIMessage("", tool_calls=[{"id": "call_1", "name": "lookup", "args": {"city": "Rome"}}])
    told = ToolMessage("Rome is a city", tool_call_id="call_1")
    return {"messages": [call, told, AIMessage("answer to Rome is a city")]}


def saver_of(place: str) -> Any:
    if "://" not in place:
        return SqliteSaver.from_conn_string(place)
    return PostgresSaver.from_conn_string(place)


def main(place: str) -> None:
    graph = StateGraph(State)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    path = place if "://" in place else f"{place}/langgraph.db"
    with sessile.open(os.environ["SESSILE_URL"]) as storage:
        unchanged: list[int] = []
        for thread, prompt in (("t1", "Paris?"), ("t2", "other"), ("t1", "look up Rome")):
            with saver_of(path) as saver:
                saver.setup()
                app = graph.compile(checkpointer=saver)
                app.invoke({"messages": [HumanMessage(prompt)]}, {"configurable": {"thread_id": thread}})
            unchanged.append(import_conversations(path, storage, library="langgraph").unchanged)
        runs = {
            thread: [
                (run.input, run.output, len(run.messages)) for run in storage.runs(thread, last=9, user_id=ANY_USER)
            ]
            for thread in ("t1", "t2")
        }
        times = [run.ended_at for run in storage.runs("t1", last=9, user_id=ANY_USER)]
        print(json.dumps({"runs": runs, "unchanged": unchanged, "apart": times[0] < times[1]}))


if __name__ == "__main__":
    main(sys.argv[1])
