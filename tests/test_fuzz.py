"""Whoever can write to the database can store anything: whatever stands there, only Sessile's errors come out.

One value after the other is changed in what is stored (heads, entries, records), and then all operations are called.
"""

from __future__ import annotations

import base64
import io
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
from tests.access_page import OWNER, SUBJECTS, Caller, Subject, outcome
from tests.spoiling import HOSTILE, SPOILERS, changed

from sessile import ANY_USER, MemoryStorage, Usage, errors
from sessile.drivers.memory import MemoryDriver
from sessile.errors import InvalidInputError, SessileError
from sessile.insight import Index
from sessile.server.shown import run_shown
from sessile.storage.filters import place_of_cursor
from sessile.transcripts.transcript import transcript
from sessile.transfer import export_archive, export_chat, export_messages, export_runs, export_transcripts

NAMES = {
    name
    for name in vars(errors)
    if isinstance(vars(errors)[name], type) and issubclass(vars(errors)[name], SessileError)
}
NAMES |= {"RunExistsError", "UnknownFormatError", "MissingRunsError"}


def operations(subject: Subject) -> list[str]:
    return [name for name in subject.calls if name != "fork, as its target"]


@pytest.mark.parametrize("what", SPOILERS)
@pytest.mark.parametrize("subject", [one for one in SUBJECTS if one.name != "Team"], ids=lambda subject: subject.name)
def test_what_is_stored_is_something_else(subject: Subject, what: str) -> None:
    seeds = range(30 if subject.name == "Storage" else 12)
    for seed in seeds:
        chance = random.Random(f"{what} {subject.name} {seed}")
        with MemoryStorage(inline_media_bytes=0) as storage:
            subject.prepare(storage, OWNER)
            driver = cast(MemoryDriver, storage._core.driver)  # type: ignore[union-attr]
            if what == "record" and not any(one.records for one in driver._sessions.values()):
                return
            SPOILERS[what](driver, chance)
            names = operations(subject)
            chance.shuffle(names)
            for name in names:
                came = outcome(subject, name, storage, Caller("Ada", OWNER), twin=False)
                if isinstance(came, tuple) and len(came) == 2:
                    assert came[0] in NAMES, (seed, name, came)


def cursors() -> Iterator[str]:
    chance = random.Random(1)
    good = json.dumps([1_700_000_000_000_000, "s"])
    for value in HOSTILE:
        for text in (json.dumps(value), json.dumps([value, "s"]), json.dumps([1, value]), json.dumps([1, "s", value])):
            yield base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode()
    for _ in range(300):
        yield base64.urlsafe_b64encode(changed(good, chance).encode()).decode()[: chance.randrange(60)]
        yield chance.choice("=-_ \n\x00é\ud800") * chance.randrange(9) + base64.b64encode(chance.randbytes(9)).decode()
    yield base64.urlsafe_b64encode(b"[" * 100_000).decode()
    yield base64.urlsafe_b64encode(f"[{'9' * 100_000}, 1]".encode()).decode()


def test_cursors() -> None:
    with MemoryStorage() as storage:
        storage.create_session("s")
        for cursor in cursors():
            for call in (storage.sessions, storage.changed_sessions):
                try:
                    call(cursor=cursor)
                except InvalidInputError:
                    continue
                assert place_of_cursor(cursor)


# ---------------------------------------------------------------- memory, and endless loops

LARGE = 10**9

MOST = 40_000_000
"""Bytes of memory that no operation takes for a session of a few kilobytes, whatever its head says of it."""


def counts_too_much(driver: MemoryDriver) -> None:
    """The head counts runs that are not there."""
    for session in driver._sessions.values():
        body = json.loads(session.head.body)
        session.head = session.head._replace(body=json.dumps({**body, "run_count": LARGE, "tip": LARGE}))


def agrees_with_its_log(driver: MemoryDriver) -> None:
    """It does, and so do its revision and the number of the newest commit."""
    counts_too_much(driver)
    for session in driver._sessions.values():
        session.head = session.head._replace(revision=LARGE)
        session.log[-1] = session.log[-1]._replace(seq=LARGE)


def tells_of_many_branches(driver: MemoryDriver) -> None:
    agrees_with_its_log(driver)
    for session in driver._sessions.values():
        body = json.loads(session.head.body)
        body["segments"] = [[0, 1], *([number, LARGE - 500 + number] for number in range(500))]
        session.head = session.head._replace(body=json.dumps(body))


def everything_about(storage: MemoryStorage) -> dict[str, Callable[[], Any]]:
    """What is asked about all sessions."""
    index = Index(storage)
    return {
        "lists": lambda: list(storage.sessions(user_id=ANY_USER)),
        "sweep": storage.sweep,
        "index.runs": lambda: index.runs(user_id=ANY_USER),
        "index.usage": lambda: index.usage(user_id=ANY_USER, by=("day", "session")),
        "index.search": lambda: index.search("hello", user_id=ANY_USER),
        "export_chat": lambda: export_chat(storage, io.BytesIO()),
        "export_messages": lambda: export_messages(storage, io.BytesIO(), form="csv"),
        "export_archive": lambda: export_archive(storage, io.BytesIO()),
    }


@pytest.mark.parametrize("spoil", [counts_too_much, agrees_with_its_log, tells_of_many_branches])
def test_what_heads_say_of_their_sessions(spoil: Callable[[MemoryDriver], None]) -> None:
    """Nothing is done as often, and nothing made as large, as a number that is stored."""
    for subject in SUBJECTS:
        with MemoryStorage(timeout=5, inline_media_bytes=0) as storage:
            subject.prepare(storage, OWNER)
            spoil(cast(MemoryDriver, storage._core.driver))  # type: ignore[union-attr]
            tracemalloc.start()
            try:
                for name in operations(subject):
                    came = outcome(subject, name, storage, Caller("Ada", OWNER), twin=False)
                    assert not (isinstance(came, tuple) and len(came) == 2) or came[0] in NAMES - {"DeadlineError"}, (
                        name,
                        came,
                    )
                for call in everything_about(storage).values() if subject.name == "Storage" else ():
                    with suppress(SessileError):
                        call()
                assert tracemalloc.get_traced_memory()[1] < MOST
            finally:
                tracemalloc.stop()


# ---------------------------------------------------------------- what others made of it


def texts(storage: MemoryStorage) -> dict[str, Callable[[], Any]]:
    def told() -> None:
        for head in storage.sessions(user_id=ANY_USER):
            with suppress(SessileError):
                for run in storage.runs(head.session_id, user_id=ANY_USER):
                    list(transcript(run, whole=True))
                    run_shown(head.session_id, run, whole_errors=True)

    return {
        "told": told,
        "html": lambda: export_transcripts(storage, io.BytesIO(), form="html", whole=True),
        "csv": lambda: export_runs(storage, io.BytesIO(), form="csv"),
        **everything_about(storage),
    }


@pytest.mark.parametrize("what", SPOILERS)
def test_one_changed_value_costs_no_more_than_its_session(what: str) -> None:
    """Exports, transcripts, the server's views and the index go on with the others."""
    for seed in range(12):
        chance = random.Random(f"others {what} {seed}")
        with MemoryStorage(inline_media_bytes=0) as storage:
            SUBJECTS[0].prepare(storage, OWNER)
            (made,) = storage.sessions(user_id=ANY_USER)
            storage.rate(made.session_id, 2, score=1, label="good", by="bob", user_id=ANY_USER)
            storage.add_run("sound", input="hello", output="world")
            driver = cast(MemoryDriver, storage._core.driver)  # type: ignore[union-attr]
            sound = driver._sessions.pop("sound")
            SPOILERS[what](driver, chance)
            driver._sessions["sound"] = sound
            calls = texts(storage)
            for name, call in calls.items():
                try:
                    call()
                except SessileError:
                    assert name == "sweep", (seed, name)  # which tells at its end what it could not do
            found = Index(storage).search("hello world", user_id=None)
            assert [hit.session_id for hit in found] == ["sound"]


def test_numbers_of_messages_that_no_column_holds() -> None:
    """What a provider, or whoever gives messages, says of its tokens: one run is not counted, and is named."""
    usage = {"input_tokens": 10**30, "output_tokens": 1}
    message = {"kind": "response", "parts": [{"part_kind": "text", "content": "hello"}], "usage": usage}
    messages = [{**message, "model_name": name} for name in "ab"]
    with MemoryStorage() as storage:
        storage.add_run("a", input="x", messages=messages, format="pydantic-ai/2")
        storage.add_run("b", input="hello", usage=Usage(requests=1, input_tokens=3))
        index = Index(storage)
        assert [run.session_id for run in index.runs()] == ["b"]
        assert index.usage().total.usage.input_tokens == 3


def test_runs_that_lie_below_each_other_without_end() -> None:
    with MemoryStorage() as storage:
        storage.add_run("s", input="x")
        storage.add_run("s", input="y")
        driver = cast(MemoryDriver, storage._core.driver)  # type: ignore[union-attr]
        log = driver._sessions["s"].log
        body = json.loads(log[-1].body)
        (started,) = [entry for entry in body["entries"] if entry["kind"] == "run.started"]
        above = started["run_id"]
        for number in range(3_000):
            body["entries"].append({**started, "run_id": f"r{number}", "parent_run_id": above})
            above = f"r{number}"
        log[-1] = log[-1]._replace(body=json.dumps(body))
        found = storage.runs("s")
        assert ([run.number for run in found], list(found.unreadable)) == ([1], [2])
        assert [run.number for run in Index(storage).runs()] == [1]
