"""Media kept apart from the messages, once per session and content."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import (
    CorruptDataError,
    InvalidIdError,
    InvalidInputError,
    SessionBusyError,
    SessionNotFoundError,
    TooLargeError,
)
from sessile.storage import media, turns
from sessile.storage.extending import operate
from sessile.storage.faces import step
from sessile.storage.vocabulary import MessageAdded

from .helpers import Tapped, end, open_turn, start

PICTURE = bytes(range(256)) * 40
DIGEST = hashlib.sha256(PICTURE).hexdigest()


def part(content: bytes, **more: Any) -> dict[str, Any]:
    return {"kind": "binary", "media_type": "image/png", "data": base64.urlsafe_b64encode(content).decode(), **more}


def keep(storage: Storage, turn: Any, value: Any) -> Any:
    return operate(storage, turns.keep_media, turn, value)


def store(storage: Storage, session_id: str = "s", content: bytes = PICTURE) -> Any:
    """A run whose message has a picture; returns the message as it is stored."""
    turn = start(storage, session_id)
    message = keep(storage, turn, {"parts": ["look:", part(content)]})
    operate(storage, turns.append_to_turn, turn, [turn.entry(MessageAdded(message))])
    end(storage, turn)
    return storage.messages(session_id)[-1].data


def test_large_parts_are_references_in_the_message(storage: Storage) -> None:
    stored = store(storage)
    assert stored["parts"][1] == {"kind": "binary", "media_type": "image/png", "data": {"$blob": DIGEST, "size": 10240}}
    assert storage.media("s", DIGEST) == PICTURE
    assert sum(len(repr(entry.data)) for entry in storage.entries("s")) < 1000


def test_small_parts_stay_inside(storage: Storage) -> None:
    turn = start(storage)
    value = {"parts": [part(b"x" * 4096)]}
    assert keep(storage, turn, value) == value
    assert keep(storage, turn, "text") == "text"


def test_what_is_no_binary_part_stays_as_it_is(storage: Storage) -> None:
    turn = start(storage)
    text = "this is not base64, though decoding would pass over that. " * 200
    for value in (
        {"kind": "binary", "data": text},
        {"kind": "binary", "data": text + "="},
        {"kind": "binary", "data": "é" * 5000},
        {"kind": "binary", "data": 5},
        {"kind": "binary"},
        {"kind": "text", "data": part(PICTURE)["data"]},
        {"data": part(PICTURE)["data"]},
        part(PICTURE)["data"],
    ):
        assert keep(storage, turn, [value]) == [value]


def test_both_alphabets_of_base64_are_taken(storage: Storage) -> None:
    standard = {**part(PICTURE), "data": base64.b64encode(PICTURE).decode()}
    assert keep(storage, start(storage), standard)["data"]["$blob"] == DIGEST


def test_putting_back_is_the_inverse(memory: MemoryStorage) -> None:
    value = {
        "parts": ["a", part(PICTURE), {"kind": "binary", "data": {"no": "reference"}}],
        "n": 1,
        "small": part(b"x"),
    }
    reduced, found = media.put_aside(value, 4096)
    assert found == {DIGEST: PICTURE}
    assert list(media.references(reduced)) == [DIGEST]

    async def read(digest: str) -> bytes:
        return found[digest]

    back = asyncio.run(media.put_back(reduced, read))
    assert back["parts"][1]["data"] == PICTURE
    assert back["small"]["data"] == b"x"
    assert (back["parts"][0], back["parts"][2], back["n"]) == (value["parts"][0], value["parts"][2], 1)


def test_one_content_is_stored_once() -> None:
    driver = Tapped(MemoryDriver(), max_record_bytes=1000)
    with Storage(driver) as storage:
        turn = start(storage)
        keep(storage, turn, [part(PICTURE), part(PICTURE, media_type="other")])
        written = driver.calls.count("put_record")
        assert written == 12, "eleven parts and the record that names them"
        keep(storage, turn, part(PICTURE))
        assert driver.calls.count("put_record") == written
        assert storage.media("s", DIGEST) == PICTURE


def test_media_go_with_the_session_and_belong_to_it(storage: Storage) -> None:
    store(storage)
    storage.create_session("other")
    with pytest.raises(CorruptDataError, match=f"media {DIGEST} of session 'other' are missing or damaged"):
        storage.media("other", DIGEST)
    storage.delete("s")
    storage.create_session("s")
    with pytest.raises(CorruptDataError):
        storage.media("s", DIGEST)
    with pytest.raises(SessionNotFoundError):
        storage.media("absent", DIGEST)
    for bad in ("", "\0", "\ud800", None, "x" * 300):
        with pytest.raises(InvalidIdError):
            storage.media("s", bad)  # pyright: ignore[reportArgumentType]
    for bad in ("../../x", f"{DIGEST}/0", DIGEST.upper()):  # the second is the key of a part
        with pytest.raises(InvalidInputError):
            storage.media("s", bad)


def test_a_fork_has_its_own_copy(storage: Storage) -> None:
    store(storage)
    copied = storage.fork("s")
    storage.delete("s")
    assert storage.media(copied.session_id, DIGEST) == PICTURE


@pytest.mark.parametrize("digest", ["0" * 64, "x", "\ud800", "a/b"])
def test_a_message_that_only_looks_like_a_reference_does_not_stop_a_fork(storage: Storage, digest: str) -> None:
    message = {"tool": "said", "data": {"$blob": digest, "size": 3}}
    storage.add_run("s", format="test/1", messages=[message])
    copied = storage.fork("s")
    assert storage.messages(copied.session_id)[0].data == message


def test_a_session_is_made_for_its_media(storage: Storage) -> None:
    turn = open_turn(storage, durability="exit", user_id="ada", session={"name": "N"})
    reduced = keep(storage, turn, part(PICTURE))
    head = storage.get_session("s", user_id="ada")
    assert head is not None
    assert (head.name, head.user_id, head.run_count) == ("N", "ada", 0)
    assert operate(storage, turns.turn_media, turn, DIGEST) == PICTURE
    turn.spec.input = reduced
    end(storage, turn)
    assert storage.get_run("s", 1, user_id="ada").input == reduced


def test_a_session_that_somebody_else_makes_first(storage: Storage) -> None:
    turn = open_turn(storage)
    storage.create_session("s", name="first")
    keep(storage, turn, part(PICTURE))
    assert storage.media("s", DIGEST) == PICTURE
    operate(storage, turns.start_turn, turn)
    head = storage.get_session("s")
    assert head is not None
    assert (head.name, head.run_count) == ("first", 1)


def test_media_without_a_session(storage: Storage) -> None:
    with pytest.raises(SessionNotFoundError):
        operate(storage, turns.turn_media, open_turn(storage), DIGEST)


def test_media_of_a_session_that_was_deleted_meanwhile(storage: Storage) -> None:
    turn = start(storage)
    storage.delete("s")
    with pytest.raises(SessionNotFoundError, match="deleted while media were stored"):
        keep(storage, turn, part(PICTURE))


def test_media_over_the_limit_are_refused_before_anything_is_written() -> None:
    with MemoryStorage(max_media_bytes=10_000) as storage:
        with pytest.raises(TooLargeError, match="binary part has 10,240 bytes; the limit is 10,000"):
            keep(storage, open_turn(storage), part(PICTURE))
        assert storage.count_sessions(user_id=ANY_USER) == 0


def test_damaged_media_are_never_given_out() -> None:
    driver = Tapped(MemoryDriver(), max_record_bytes=1000)
    with Storage(driver) as storage:
        store(storage)
        key = f"media/{DIGEST}/3"
        driver.after["get_record"] = lambda value, *args: b"y" * 1000 if args[2] == key else None
        with pytest.raises(CorruptDataError, match="missing or damaged"):
            storage.media("s", DIGEST)


def test_whether_a_value_holds_media() -> None:
    for value in (
        part(PICTURE),
        [part(PICTURE)],
        {"a": [{"b": part(b"x")}]},
        {"kind": "binary", "media_type": "image/png", "data": {"$blob": DIGEST}},
    ):
        assert media.has_binary(value)
    for value in ({}, [], "binary", {"kind": "text"}, [{"kind": {"kind": "text"}}], None):
        assert not media.has_binary(value)


@pytest.mark.parametrize(
    "data",
    [{"$blob": DIGEST, "size": 1}, {"$blob": "0" * 64, "size": 1}, {"$blob": None, "value": 1}, {"$blob": None}, {}],
)
def test_what_looks_like_a_reference_is_not_taken_for_one(storage: Storage, data: Any) -> None:
    """A tool may return anything: it must not be able to make a session unreadable, or to fetch what it names."""
    store(storage)
    value = {"result": [{"kind": "binary", "media_type": "image/png", "data": data}, part(PICTURE)]}
    kept = keep(storage, start(storage), value)
    assert kept["result"][1]["data"]["$blob"] == DIGEST

    async def read(digest: str) -> bytes:
        return storage.media("s", digest)

    back = step(media.put_back(kept, read))
    assert back == {"result": [value["result"][0], {**part(PICTURE), "data": PICTURE}]}


def test_what_a_run_begins_with_may_hold_media(storage: Storage) -> None:
    spec = turns.TurnSpec("s", "r", {"look": part(PICTURE)})
    turn = operate(storage, turns.begin_turn, spec, 3)
    assert turn.number == 1
    assert storage.get_run("s", 1).input["look"]["data"] == {"$blob": DIGEST, "size": len(PICTURE)}
    later = turns.TurnSpec("s", "later", "text", durability="exit")
    assert operate(storage, turns.begin_turn, later, 3).number == 0
    head = storage.get_session("s")
    assert head is not None
    assert head.run_count == 1


def test_a_run_that_had_to_wait_keeps_its_media(storage: Storage) -> None:
    first = start(storage)
    spec = turns.TurnSpec("s", "r2", [part(PICTURE)], on_busy="queue")
    for _ in range(2):
        with pytest.raises(SessionBusyError):
            operate(storage, turns.begin_turn, spec, 3)
    end(storage, first)
    operate(storage, turns.begin_turn, spec, 3)
    assert storage.get_run("s", 2).input[0]["data"] == {"$blob": DIGEST, "size": len(PICTURE)}
