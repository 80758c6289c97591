"""What a saver keeps where it is hard to: `python langgraph_kept.py WHAT`; says nothing if it is all right."""

from __future__ import annotations

import os
import sys
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

import sessile
from sessile.integrations import langgraph_threads
from sessile.integrations.langgraph import SessileSaver

LARGE = "much " * 4000


def put(saver: SessileSaver, checkpoint_id: str, thread: str = "t", metadata: Any = None, **values: Any) -> None:
    """A checkpoint with these values, each of which is new."""
    versions: dict[str, Any] = dict.fromkeys(values, checkpoint_id)
    checkpoint: Any = {
        "v": 4,
        "id": checkpoint_id,
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": values,
        "channel_versions": versions,
        "versions_seen": {},
    }
    saver.put(place(thread), checkpoint, {"source": "loop", **(metadata or {})}, versions)


def place(thread: str = "t", checkpoint_id: str | None = None) -> Any:
    given = {"thread_id": thread, "checkpoint_ns": ""}
    return {"configurable": given | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def values(saver: SessileSaver, checkpoint_id: str, thread: str = "t") -> Any:
    found = saver.get_tuple(place(thread, checkpoint_id))
    assert found is not None
    return found.checkpoint["channel_values"]


def messages_by_value(storage: sessile.Storage) -> None:
    """A message that a node has changed in place is another one; nobody shares objects with a saver."""
    saver = SessileSaver(storage)
    messages = [HumanMessage(f"{number} {LARGE[:200]}", id=str(number)) for number in range(200)]
    put(saver, "1", "m", messages=messages)
    first = values(saver, "1", "m")["messages"]
    assert first == messages
    again = values(saver, "1", "m")["messages"]
    again[3].content = "changed"
    again[150].additional_kwargs["note"] = {"deep": [1]}
    put(saver, "2", "m", messages=again)
    put(saver, "3", "m", messages=[*again, AIMessage("one more", id="m")])
    for reader in (saver, SessileSaver(storage)):
        assert values(reader, "1", "m")["messages"] == messages
        assert values(reader, "2", "m")["messages"] == again
        assert values(reader, "3", "m")["messages"][3].content == "changed"
        assert values(reader, "3", "m")["messages"][200] == AIMessage("one more", id="m")


def checkpoints(storage: sessile.Storage) -> list[str]:
    """The checkpoints that are in the log of the thread, hidden or not."""
    entries = storage.entries("langgraph:t", limit=100)
    return [entry.data["id"] for entry in entries if entry.kind == "langgraph.checkpoint"]


def cut_off(storage: sessile.Storage) -> None:
    """A process dies while it removes what was pruned, and another one writes the same content at that moment."""
    writer, pruner = SessileSaver(storage), SessileSaver(storage)
    put(writer, "1", said=LARGE)
    put(writer, "2", said="small")
    remove, write = langgraph_threads.drop_contents, writer._values.put
    removing: list[Any] = []

    async def written_meanwhile(*given: Any) -> None:
        await write(*given)
        await remove(*removing)

    async def dies(*given: Any) -> None:
        removing[:] = given
        writer._values.put = written_meanwhile  # type: ignore[method-assign]
        put(writer, "3", said=LARGE)
        raise KeyboardInterrupt

    langgraph_threads.drop_contents = dies
    try:
        pruner.prune(["t"])
        raise AssertionError("it did not die")
    except KeyboardInterrupt:
        langgraph_threads.drop_contents = remove
    assert values(SessileSaver(storage), "3") == {"said": LARGE}
    assert [one.checkpoint["id"] for one in SessileSaver(storage).list(place())] == ["3", "2"]
    assert checkpoints(storage) == ["1", "2", "3"]
    SessileSaver(storage).prune(["t"])
    assert checkpoints(storage) == ["3"], "the next one ends what was begun"
    assert values(SessileSaver(storage), "3") == {"said": LARGE}
    storage.verify("langgraph:t")


def many_tasks(storage: sessile.Storage) -> None:
    """A step of more tasks than one read brings."""
    saver = SessileSaver(storage)
    put(saver, "1", said="x")
    for number in range(520):
        saver.put_writes(place(checkpoint_id="1"), [("said", number)], f"task-{number:04}")
    found = saver.get_tuple(place())
    assert found is not None
    assert [value for _, _, value in found.pending_writes or ()] == list(range(520))


def odd_metadata(storage: sessile.Storage) -> None:
    """Metadata that look like the place of a content, and ids that are hardly any, are copied and read."""
    saver = SessileSaver(storage)
    odd = {"place": {"type": "meeting", "at": "noon"}, "list": [{"at": "0" * 64, "type": "msgpack"}]}
    for checkpoint_id in ("gone", "é" * 120, "😀" * 120, "x" * 500):
        put(saver, checkpoint_id, "odd", odd, said=LARGE)
        saver.put_writes(place("odd", checkpoint_id), [("said", LARGE)], "task")
    saver.copy_thread("odd", "copy")
    for checkpoint_id in ("gone", "é" * 120, "😀" * 120, "x" * 500):
        found = saver.get_tuple(place("copy", checkpoint_id))
        assert found is not None
        assert {**found.metadata, **odd} == found.metadata
        assert found.checkpoint["channel_values"] == {"said": LARGE}
        assert [value for _, _, value in found.pending_writes or ()] == [LARGE]
    saver.prune(["copy"])
    assert values(saver, "😀" * 120, "copy") == {"said": LARGE}
    saver.copy_thread("copy", "again")
    assert values(SessileSaver(storage), "😀" * 120, "again") == {"said": LARGE}


KEPT: dict[str, Any] = {
    "messages_by_value": messages_by_value,
    "cut_off": cut_off,
    "many_tasks": many_tasks,
    "odd_metadata": odd_metadata,
}


if __name__ == "__main__":
    with sessile.open(os.environ["SESSILE_URL"]) as opened:
        for what in sys.argv[1:]:
            KEPT[what](opened)
            print("true")
