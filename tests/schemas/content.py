"""What the stored databases hold: one session of each kind of thing that a schema keeps."""

from __future__ import annotations

from typing import Any

from sessile import ANY_USER
from sessile.records import Run
from sessile.storage import Storage, turns
from sessile.storage.extending import operate

STATE = {"step": 2, "odd": "NUL \0, surrogate \ud800, emoji 🦪"}
PICTURE = b"\x00\xff" * 4096


def fill(storage: Storage) -> None:
    """Store it."""
    storage.create_session(
        "s/1", user_id="ada", agent="support", name="Capitals", state={"step": 1}, metadata={"tier": "gold", "n": 1}
    )
    for number in range(1, 4):
        message = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": f"Question {number}"}]}
        storage.add_run(
            "s/1",
            input=f"Question {number}",
            output="Answer",
            messages=[message],
            format="pydantic-ai/2",
            user_id="ada",
        )
    storage.update_state("s/1", STATE, user_id="ada")
    storage.rewind("s/1", at=2, restore_state=False, user_id="ada")
    picture = {"kind": "binary", "media_type": "image/png", "data": _base64()}
    spec = turns.TurnSpec("s/1", run_id="open", input=picture, user_id="ada")
    operate(storage, turns.begin_turn, spec, 0)
    storage.create_session("Σ\n'; --", ttl=1e9)
    add_keyed(storage)


def add_keyed(storage: Storage) -> Run:
    """A run whose id is given, and so the key of a commit, which schema version 2 brought."""
    return storage.add_run("keyed", input="once", run_id="request-1", user_id="ada")


def _base64() -> str:
    from base64 import b64encode

    return b64encode(PICTURE).decode()


def check(storage: Storage) -> None:
    """Assert that all of it can be read, and written to."""
    head = storage.get_session("s/1", user_id="ada")
    assert head is not None
    assert (head.name, head.agent, head.state, head.metadata) == (
        "Capitals",
        "support",
        STATE,
        {"tier": "gold", "n": 1},
    )
    assert [run.number for run in storage.runs("s/1", user_id="ada")] == [1, 2, 4]
    assert [branch.tip for branch in storage.branches("s/1", user_id="ada")] == [3, 4]
    data: Any = storage.get_run("s/1", 4, user_id="ada").input
    assert storage.media("s/1", data["data"]["$blob"], user_id="ada") == PICTURE
    assert [item.session_id for item in storage.sessions(user_id="ada", metadata={"tier": "gold"})] == ["s/1"]
    assert storage.get_session("Σ\n'; --") is not None
    assert add_keyed(storage).number == 1
    assert len(storage.runs("keyed", user_id="ada")) == 1
    storage.add_run("s/1", input="Question 5", user_id="ada")
    for session_id in ("s/1", "Σ\n'; --", "keyed"):
        storage.verify(session_id, user_id=ANY_USER)
