"""What integrations draft within a change, and the newest messages of a branch."""

from __future__ import annotations

from typing import Any

import pytest

from sessile import Storage
from sessile.errors import InvalidInputError
from sessile.records import Usage
from sessile.storage.extending import (
    Core,
    Draft,
    Entry,
    Message,
    Snapshot,
    commit,
    entries_of,
    find_in,
    look,
    messages_added,
    metadata_changed,
    newest_messages,
    operate,
    read_records,
    renamed,
    rewound,
    run_added,
    run_amended,
    run_of,
    started_session,
    state_changed,
    write_record,
)

FORMAT = "test/1"


async def add(core: Core, *texts: str, run_id: str = "r", key: str | None = None) -> None:
    async def change(snapshot: Snapshot) -> Draft:
        head, first = started_session(core, snapshot, "s")
        said = [{"text": text} for text in texts]
        number, entries = run_added(head, run_id, input=texts[0], messages=said, format=FORMAT, usage=Usage(1, 5))
        return Draft([*first, *entries], number, key)

    await commit(core, "s", change)


async def alter(core: Core, make: Any, run: int = 0) -> None:
    async def change(snapshot: Snapshot) -> Draft:
        entries: list[Entry] = make(snapshot.head)
        return Draft(entries, run)

    await commit(core, "s", change)


async def said(core: Core, count: int | None = None, newest: int = 3) -> list[str]:
    return [one.data["text"] for one in await newest_messages(core, await look(core, "s", newest=newest), count)]


def test_runs_are_added_and_amended(storage: Storage) -> None:
    assert operate(storage, said) == []
    operate(storage, add, "a", "b", run_id="r1")
    operate(storage, add, "c", run_id="r2")

    def amended(head: Any) -> list[Entry]:
        return run_amended(
            1, "r1", drop=1, messages=[{"text": "B"}], format=FORMAT, output="out", usage=Usage(1, 2), status="failed"
        )

    operate(storage, alter, amended, 1)
    run = storage.runs("s", last=2)[0]
    assert [message.data["text"] for message in run.messages] == ["a", "B"]
    assert (run.status, run.output, run.usage.input_tokens) == ("failed", "out", 7)
    assert operate(storage, said) == ["a", "c", "B"], "in the order in which they were written"
    for count in range(4):
        assert operate(storage, said, count) == ["a", "c", "B"][3 - count :]
    assert storage.verify("s") == 3

    async def second(core: Core) -> str:
        return (await run_of(core, await look(core, "s"), 2)).messages[0].data["text"]

    assert operate(storage, second) == "c"
    with pytest.raises(InvalidInputError):
        operate(storage, add, "x", run_id="")


def test_what_a_rewind_has_left_is_not_said(storage: Storage) -> None:
    for number in range(60):
        operate(storage, add, str(number), run_id=f"r{number}")
    operate(storage, alter, lambda head: rewound(head, 40))
    operate(storage, add, "new", run_id="new")
    assert operate(storage, said, 3) == ["38", "39", "new"]
    assert operate(storage, said) == [*map(str, range(40)), "new"]
    assert operate(storage, said, newest=0) == [*map(str, range(40)), "new"]
    session = storage.get_session("s")
    assert session is not None
    assert rewound(session, 61) == []


def test_what_was_added_since(storage: Storage) -> None:
    operate(storage, add, "a", run_id="r1")

    async def added(core: Core, revision: int, newest: int = 5) -> list[str] | None:
        found: list[Message] | None = messages_added(await look(core, "s", newest=newest), revision)
        return None if found is None else [one.data["text"] for one in found]

    assert operate(storage, added, 1) == []
    operate(storage, add, "b", "c", run_id="r2")
    assert operate(storage, added, 1) == ["b", "c"]
    assert operate(storage, added, 1, newest=0) is None, "it has not been brought along"
    assert operate(storage, added, 0) is None
    operate(storage, alter, lambda head: run_amended(2, "r2", drop=1), 2)
    assert operate(storage, added, 2) is None
    operate(storage, alter, lambda head: rewound(head, 1))
    assert operate(storage, added, 3) is None


def test_state_name_and_metadata(storage: Storage) -> None:
    operate(storage, add, "a", key="mylib:a")
    operate(storage, alter, lambda head: state_changed(head, {"n": None, "o": {"x": 1}}))
    operate(storage, alter, lambda head: state_changed(head, {"o": {"y": 2}}, ["n"]))
    operate(storage, alter, lambda head: [*renamed(head, "name"), *metadata_changed(head, {"m": [1], "k": 1}), *[]])
    operate(storage, alter, lambda head: [*renamed(head, "other"), *metadata_changed(head, {}, ["k"])])
    session = storage.get_session("s")
    assert session is not None
    assert (session.state, session.metadata, session.name) == ({"o": {"y": 2}}, {"m": [1]}, "other")
    assert state_changed(session, {"o": {"y": 2}}) == renamed(session, "other") == metadata_changed(session, {}) == []
    assert len(operate(storage, find_in, session, "mylib:a")) == 4
    assert [entry.kind for entry in entries_of(operate(storage, look, "s", newest=1).rows)] == [
        "session.renamed",
        "session.metadata",
    ]
    operate(storage, write_record, session, "a", b"1")
    assert operate(storage, read_records, session, ["a", "b"]) == [b"1", None]
    assert operate(storage, read_records, session, []) == []
    storage.verify("s")
