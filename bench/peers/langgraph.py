"""langgraph: `SqliteSaver` and `PostgresSaver` under a graph with messages state and one node that answers.

Only the time inside the saver's methods counts, not the graph's own work: reading the newest checkpoint and
writing what the run leaves. A checkpoint holds the whole list of messages. By default a run writes three
checkpoints and two rows of pending writes; for speed the documentation names `durability="exit"` (one
checkpoint at the end), and for long threads `DeltaChannel` (beta: differences, and the whole list at every
100th update).
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import psycopg
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from psycopg.rows import dict_row
from typing_extensions import TypedDict

from ..payload import Exchange, exchange
from .harness import Place, Variant, main


class DeltaState(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer)]


class Timed:
    """A saver that adds up the time during which at least one method is at work, in whatever thread."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self.seconds, self.active, self.since = 0.0, 0, 0.0
        self.counting = threading.Lock()

    def timed(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self.counting:
            self.active += 1
            if self.active == 1:
                self.since = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            with self.counting:
                self.active -= 1
                if self.active == 0:
                    self.seconds += time.perf_counter() - self.since

    def get_tuple(self, *args: Any, **kwargs: Any) -> Any:
        return self.timed(super().get_tuple, *args, **kwargs)

    def get_delta_channel_history(self, *args: Any, **kwargs: Any) -> Any:
        return self.timed(super().get_delta_channel_history, *args, **kwargs)

    def put(self, *args: Any, **kwargs: Any) -> Any:
        return self.timed(super().put, *args, **kwargs)

    def put_writes(self, *args: Any, **kwargs: Any) -> Any:
        return self.timed(super().put_writes, *args, **kwargs)


class TimedSqliteSaver(Timed, SqliteSaver):
    """Over SQLite."""


class TimedPostgresSaver(Timed, PostgresSaver):
    """Over PostgreSQL, with the connection that `from_conn_string` makes."""


def pair(turn: Exchange) -> tuple[HumanMessage, AIMessage]:
    """The user's and the model's message."""
    tokens = {
        "input_tokens": turn.input_tokens,
        "output_tokens": turn.output_tokens,
        "total_tokens": turn.input_tokens + turn.output_tokens,
    }
    answer = AIMessage(turn.answer, id=f"lc_{turn.number:032x}", usage_metadata=tokens)  # type: ignore[arg-type]
    return HumanMessage(turn.user), answer


class Default(Variant):
    note = "reads and writes the whole list of messages; only time inside the saver counts"
    durability_mode: Literal["sync", "async", "exit"] = "async"
    state: type[Any] = MessagesState

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.saver = self.open()
        self.answer = AIMessage("")
        self.seen = 0
        builder = StateGraph(self.state)
        builder.add_node("model", self.model)
        builder.add_edge(START, "model")
        builder.add_edge("model", END)
        self.graph = builder.compile(checkpointer=self.saver)

    def open(self) -> Any:
        if self.path is not None:
            return TimedSqliteSaver(sqlite3.connect(self.path, check_same_thread=False))
        connection = psycopg.connect(self.url, autocommit=True, prepare_threshold=0, row_factory=dict_row)
        saver = TimedPostgresSaver(connection)
        saver.setup()
        return saver

    def model(self, state: Any) -> dict[str, Any]:
        self.seen = len(state["messages"])
        return {"messages": [self.answer]}

    def fill(self, session_id: str, runs: int) -> None:
        """One checkpoint with all messages: what the newest one of a long thread holds."""
        history = [message for number in range(1, runs) for message in pair(exchange(number))]
        request, self.answer = pair(exchange(runs))
        config: Any = {"configurable": {"thread_id": session_id}}
        self.graph.invoke({"messages": [*history, request]}, config, durability="exit")

    def turn(self, session_id: str, turn: Exchange) -> float:
        request, self.answer = pair(turn)
        config: Any = {"configurable": {"thread_id": session_id}}
        before = self.saver.seconds
        self.graph.invoke({"messages": [request]}, config, durability=self.durability_mode)
        assert self.seen >= 7
        return self.saver.seconds - before

    def scalar(self, sql: str) -> object:
        row = self.saver.conn.execute(sql).fetchone()
        return next(iter(row.values())) if isinstance(row, dict) else row[0]

    def close(self) -> None:
        self.saver.conn.close()


class Exit(Default):
    name = 'durability="exit"'
    note = "as above, one checkpoint per run: nothing is stored before the run ends"
    durability_mode = "exit"


class Delta(Exit):
    name = 'DeltaChannel, durability="exit"'
    note = "beta; reads the whole list; median leaves out the whole list that it writes at every 100th update"
    state = DeltaState
    filled_as = "deltas"


if __name__ == "__main__":
    main(["langgraph", "langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres"], [Default, Exit, Delta])
