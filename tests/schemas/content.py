"""What the stored databases hold: one session of each kind of thing that a schema keeps."""

from __future__ import annotations

from typing import Any

from sessile.storage import Storage, turns

STATE = {"step": 2, "odd": "NUL \0, surrogate \ud800, emoji 🦪"}
PICTURE = b"\x00\xff" * 4096


def fill(storage: Storage) -> None:
    """Store it."""
    storage.create_session(
        "s/1", user_id="ada", owner="support", name="Capitals", state={"step": 1}, metadata={"tier": "gold", "n": 1}
    )
    for number in range(1, 4):
        message = {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": f"Question {number}"}]}
        storage.add_run("s/1", input=f"Question {number}", output="Answer", messages=[message], format="pydantic-ai/2")
    storage.update_state("s/1", STATE)
    storage.rewind("s/1", at=2, restore_state=False)
    spec = turns.TurnSpec("s/1", run_id="open", input={"kind": "binary", "media_type": "image/png", "data": _base64()})
    storage.run_operation(turns.begin_turn, spec, 0)
    storage.create_session("Σ\n'; --", ttl=1e9)


def _base64() -> str:
    from base64 import b64encode

    return b64encode(PICTURE).decode()


def check(storage: Storage) -> None:
    """Assert that all of it can be read, and written to."""
    head = storage.session("s/1", user_id="ada")
    assert head is not None
    assert (head.name, head.owner, head.state, head.metadata) == (
        "Capitals",
        "support",
        STATE,
        {"tier": "gold", "n": 1},
    )
    assert [run.number for run in storage.runs("s/1")] == [1, 2, 4]
    assert [branch.tip for branch in storage.branches("s/1")] == [3, 4]
    data: Any = storage.run("s/1", 4).input
    assert storage.media("s/1", data["data"]["$blob"]) == PICTURE
    assert [item.session_id for item in storage.sessions(metadata={"tier": "gold"})] == ["s/1"]
    assert storage.session("Σ\n'; --") is not None
    storage.add_run("s/1", input="Question 5")
    for session_id in ("s/1", "Σ\n'; --"):
        storage.verify(session_id)
