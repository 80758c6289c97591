"""Erasing what was said, out of a log that is written."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest
from pydantic_ai.messages import ModelMessagesTypeAdapter

from sessile import Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError, SessionNotFoundError, UnsupportedError
from sessile.records import Entry, Session
from sessile.storage import rewriting, turns
from sessile.storage.driver import Capabilities, Span
from sessile.storage.extending import operate
from sessile.storage.vocabulary import ERASED, ERASED_VALUE, MessageAdded, RunStarted, ToolEnded, ToolStarted

from .helpers import end, start

SECRET = "4711-0815"
ASKED: Any = {
    "kind": "request",
    "instructions": f"Be kind to {SECRET}.",
    "parts": [
        {"part_kind": "system-prompt", "content": f"You know {SECRET}."},
        {"part_kind": "user-prompt", "content": ["My card:", SECRET, {"kind": "image-url", "url": SECRET}]},
    ],
}
CALLED: Any = {
    "kind": "response",
    "model_name": "m",
    "parts": [
        {"part_kind": "thinking", "content": SECRET, "signature": SECRET},
        {"part_kind": "tool-call", "tool_name": "pay", "tool_call_id": "c1", "args": {"card": SECRET}},
    ],
}
RETURNED: Any = {
    "kind": "request",
    "parts": [{"part_kind": "tool-return", "tool_name": "pay", "tool_call_id": "c1", "content": {"paid": SECRET}}],
}
ANSWERED: Any = {"kind": "response", "parts": [{"part_kind": "text", "content": f"Paid with {SECRET}."}]}
MESSAGES = [ASKED, CALLED, RETURNED, ANSWERED]


def fill(storage: Storage) -> None:
    """Three runs: two of them tell the secret, the third one does not."""
    for number in (1, 2):
        storage.add_run(
            "s",
            input=f"{number}: {SECRET}",
            output={"answer": SECRET},
            messages=MESSAGES,
            format="pydantic-ai/2",
            state={"step": number},
            metadata={"about": SECRET},
        )
    storage.add_run("s", status="failed", error={"type": "ValueError", "message": SECRET})


def erase(storage: Storage, *args: Any, **options: Any) -> rewriting.Erased:
    return operate(storage, rewriting.erase, "s", *args, **options)


def text_of(storage: Storage) -> str:
    return repr([entry.data for entry in storage.entries("s")])


def but_told_of(storage: Storage) -> Session | None:
    """The session as it was before the commit that says what was rewritten."""
    head = storage.get_session("s")
    return head and replace(head, revision=head.revision - 1, updated_us=storage.entries("s")[-2].time_us)


def test_a_run_is_erased_and_nothing_else(storage: Storage) -> None:
    fill(storage)
    before = storage.get_session("s")
    other = storage.get_run("s", 1)
    done = erase(storage, Span(runs=(2, 2)))
    assert (done.entries, done.commits) == (6, 1)
    run = storage.get_run("s", 2)
    assert SECRET not in repr(run)
    assert (run.status, run.input, run.output) == ("completed", ERASED_VALUE, ERASED_VALUE)
    assert but_told_of(storage) == before
    assert storage.get_run("s", 1) == other
    assert storage.verify("s") == 4
    assert erase(storage, Span(runs=(2, 2))) == rewriting.Erased()
    assert storage.verify("s") == 4
    told = storage.entries("s")[-1]
    assert (told.kind, told.data) == ("session.rewritten", {"runs": [[2, 2]]})


def test_what_is_left_of_messages_can_still_be_sent(storage: Storage) -> None:
    fill(storage)
    erase(storage, Span(runs=(1, 2)))
    left = [message.data for message in storage.messages("s", to_run=1)]
    asked, called, returned, answered = ModelMessagesTypeAdapter.validate_python(left)
    assert [part.part_kind for part in asked.parts] == ["system-prompt", "user-prompt"]
    assert [part.part_kind for part in called.parts] == ["thinking", "tool-call"]
    assert (getattr(called.parts[1], "tool_call_id", ""), getattr(returned.parts[0], "tool_call_id", "")) == (
        "c1",
        "c1",
    )
    assert getattr(answered.parts[0], "content", "") == ERASED


def test_everything_of_a_session(storage: Storage) -> None:
    fill(storage)
    done = erase(storage, Span())
    assert done.commits == 3
    assert SECRET not in text_of(storage)
    assert storage.get_run("s", 3).error == {"type": "ValueError", "message": ERASED}
    assert storage.verify("s") == 4
    storage.add_run("s", input="and on")
    assert storage.verify("s") == 5


def test_one_message(storage: Storage) -> None:
    fill(storage)
    seq = storage.messages("s")[1].seq
    places = [entry.kind for entry in storage.entries("s") if entry.seq == seq]
    wanted = places.index("message") + 1

    def second(place: int, entry: Entry) -> bool:
        return place == wanted and entry.kind == "message"

    assert erase(storage, Span(first=seq, last=seq), second).entries == 1
    first, changed, *others = [message.data for message in storage.messages("s", to_run=1)]
    assert [first, *others] == [ASKED, RETURNED, ANSWERED]
    assert changed["parts"][1]["args"] == ERASED_VALUE


def test_whole_entries_are_taken_out(storage: Storage) -> None:
    turn = start(storage)
    steps = [
        ToolStarted(tool_call_id="c1", tool_name="pay", args={"card": SECRET}),
        ToolEnded(tool_call_id="c1", tool_name="pay", outcome="returned", value=SECRET),
        MessageAdded({"text": SECRET}),
    ]
    operate(storage, turns.append_to_turn, turn, [turn.entry(one) for one in steps])
    end(storage, turn, state=[["set", ["step"], 1]])
    before = storage.get_session("s")
    erase(storage, Span(runs=(1, 1)), drop=True)
    run = storage.get_run("s", 1)
    assert [step.kind for step in run.steps] == ["state.patched"]
    assert ([message.data for message in run.messages], run.status) == ([ERASED_VALUE], "completed")
    assert but_told_of(storage) == before
    assert storage.verify("s") == 4


def test_messages_of_other_formats_and_unknown_kinds_leave_nothing(storage: Storage) -> None:
    storage.add_run("s", messages=[{"role": "user", "content": SECRET}], format="openai")
    turn = start(storage)
    strange = Entry("from.the.future", {"said": SECRET}, turn.spec.run_id, turn.number)
    operate(storage, turns.append_to_turn, turn, [strange])
    end(storage, turn)
    erase(storage, Span())
    assert SECRET not in text_of(storage)
    assert storage.messages("s", to_run=1)[0].data == ERASED_VALUE
    assert storage.verify("s") == storage.get_session("s").revision  # pyright: ignore[reportOptionalMemberAccess]


def test_steps_of_a_run_and_the_names_of_media(storage: Storage) -> None:
    content = bytes(8192)
    picture = {"kind": "binary", "media_type": "image/png", "data": base64.b64encode(content).decode()}
    turn = start(storage)
    result = operate(storage, turns.keep_media, turn, picture)
    digest = result["data"]["$blob"]
    steps = [
        ToolStarted(tool_call_id="c1", tool_name="draw", args={"what": SECRET}),
        ToolEnded(tool_call_id="c1", tool_name="draw", outcome="returned", value=result),
        ToolEnded(tool_call_id="c2", tool_name="draw", outcome="failed", message=SECRET),
        MessageAdded({"parts": [result]}),
    ]
    operate(storage, turns.append_to_turn, turn, [turn.entry(one) for one in steps])
    end(storage, turn)
    done = erase(storage, Span())
    assert done.media == {digest}
    started, returned, failed = storage.get_run("s", 1).steps
    assert (started.data["args"], returned.data["value"], failed.data["message"]) == (
        ERASED_VALUE,
        ERASED_VALUE,
        ERASED,
    )
    assert storage.media("s", digest) == content


def test_runs_that_are_not_over_are_left_alone(storage: Storage) -> None:
    fill(storage)
    start(storage)
    with pytest.raises(InvalidInputError, match="Run 4 of session 's' is not over"):
        erase(storage, Span(runs=(4, 4)))
    assert storage.get_run("s", 4).input != ERASED_VALUE

    def other(place: int, entry: Entry) -> bool:
        return entry.run != 4

    assert erase(storage, Span(), other).commits == 3


def test_more_commits_than_are_rewritten_at_a_time(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "PAGE", 3)
    for _ in range(7):
        storage.add_run("s", input=SECRET)
    assert erase(storage, Span()).commits == 7
    assert SECRET not in text_of(storage)


def test_what_a_later_version_has_written_beside_stays(storage: Storage) -> None:
    storage.create_session("s")
    newer = RunStarted.of({"input": SECRET, "mood": "good"}).entry("r", 1)
    newer.more = {"trace": "t1"}
    turn = start(storage)
    newer.run_id, newer.run, newer.parent_run_id = "below", turn.number, turn.spec.run_id
    operate(storage, turns.append_to_turn, turn, [newer])
    end(storage, turn)
    erase(storage, Span())
    (entry,) = [entry for entry in storage.entries("s") if entry.run_id == "below"]
    assert (entry.data, entry.more) == ({"input": ERASED_VALUE, "mood": "good"}, {"trace": "t1"})


def test_refused(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SessionNotFoundError):
        erase(storage, Span())
    with Storage(MemoryDriver()) as other:
        monkeypatch.setattr(MemoryDriver, "capabilities", Capabilities())
        other.add_run("s")
        with pytest.raises(UnsupportedError, match="cannot rewrite"):
            erase(other, Span())
