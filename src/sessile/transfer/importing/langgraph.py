"""Threads of LangGraph, read by its own savers: the messages of the newest checkpoint of each.

Needs `langgraph-checkpoint-sqlite` or `-postgres` beside Sessile: only they know how their values are packed.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import InvalidInputError, missing_dependency
from .conversations import Conversation, Conversations, Skip
from .databases import mapping
from .items import Timed, turns_of
from .openai_agents import moment

ROOT = ""
"""The namespace of a thread's own graph; others are those of subgraphs."""


def conversations(source: str, skip: Skip) -> Conversations:
    """The threads of a SQLite file, or of a PostgreSQL URL."""
    convert = _part("langchain_core.messages", "convert_to_openai_messages", "langchain-core")
    with _saver(source) as saver:
        for thread, lengths in _threads(saver).items():
            newest = saver.get_tuple({"configurable": {"thread_id": thread, "checkpoint_ns": ROOT}})
            messages = [] if newest is None else _messages(newest)
            if not messages:
                skip(thread, "it has no channel of messages")
                continue
            try:
                said: list[Any] = convert(messages)
            except (ValueError, TypeError) as error:
                skip(thread, f"its messages cannot be converted: {error}")
                continue
            timed: list[Timed] = [
                (item, _reached(lengths, place), f"{thread}/{place}") for place, item in enumerate(said, 1)
            ]
            yield Conversation(source=thread, session_id=thread, created_us=lengths[0][0], turns=turns_of(timed))


def _threads(saver: Any) -> dict[str, list[tuple[int, int]]]:
    """Of each thread when it had how many messages, oldest first."""
    found: dict[str, list[tuple[int, int]]] = {}
    for one in saver.list(None):  # newest first
        place = mapping(one.config.get("configurable"))
        if place.get("checkpoint_ns", ROOT) == ROOT:
            lengths = found.setdefault(str(place.get("thread_id")), [])
            lengths.insert(0, (_when(one.checkpoint.get("ts")), len(_messages(one))))
    return found


def _messages(found: Any) -> list[Any]:
    messages: Any = mapping(found.checkpoint.get("channel_values")).get("messages")
    return messages if isinstance(messages, list) else []  # pyright: ignore[reportUnknownVariableType]


def _reached(lengths: list[tuple[int, int]], count: int) -> int:
    """When the thread first had so many messages."""
    return next((when for when, length in lengths if length >= count), lengths[-1][0])


def _when(value: Any) -> int:
    return moment(
        value.replace("Z", "+00:00") if isinstance(value, str) else value if isinstance(value, datetime) else None
    )


@contextmanager
def _saver(source: str) -> Generator[Any]:
    scheme, _, rest = source.partition("://")
    if rest and scheme.partition("+")[0] in ("postgres", "postgresql"):
        postgres = _part("langgraph.checkpoint.postgres", "PostgresSaver", "langgraph-checkpoint-postgres")
        with postgres.from_conn_string(f"postgresql://{rest}") as saver:
            yield saver
        return
    path = Path(source.removeprefix("sqlite:///"))
    if not path.is_file():
        raise InvalidInputError(f"There is no file {str(path)!r}.")
    sqlite = _part("langgraph.checkpoint.sqlite", "SqliteSaver", "langgraph-checkpoint-sqlite")
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, check_same_thread=False)) as opened:
        saver = sqlite(opened)
        saver.is_setup = True  # else it would make its tables, which cannot be written here
        yield saver


def _part(module: str, name: str, package: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise missing_dependency(package, "langgraph", "Reading LangGraph's checkpoints") from error
