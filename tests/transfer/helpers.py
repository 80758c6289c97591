"""Sessions of all shapes, and all that a storage has."""

from __future__ import annotations

import base64
from typing import Any

from sessile import ANY_USER, Storage
from sessile.storage import turns
from sessile.storage.driver import CommitRow, ListQuery
from sessile.storage.extending import Core, Session, Span, operate, write_record
from sessile.storage.vocabulary import MessageAdded, RunEnded

PICTURE = bytes(range(256)) * 4096
"""A content of 1 MB: on some databases it is stored in parts."""


def message(content: Any) -> dict[str, Any]:
    return {"kind": "request", "parts": [{"part_kind": "user-prompt", "content": content}]}


def picture() -> dict[str, Any]:
    data = base64.urlsafe_b64encode(PICTURE).decode()
    return {"kind": "binary", "media_type": "image/png", "data": data}


def look(storage: Storage) -> None:
    """A run with a picture, which is kept beside the log."""
    turn = operate(storage, turns.open_turn, turns.TurnSpec("seen", "r", input="What is this?"), 0)
    operate(storage, turns.start_turn, turn)
    kept = operate(storage, turns.keep_media, turn, message(["Look:", picture()]))
    said = turn.entry(MessageAdded(kept), "pydantic-ai/2")
    operate(storage, turns.end_turn, turn, [said], RunEnded(status="completed", output="a picture"), [])


def fill(storage: Storage) -> None:
    for number in range(40):  # more commits than one append of some databases carries
        storage.add_run("long", input=f"question {number}", output="x" * 2000, user_id="ada", state={"n": number})
    storage.rewind("long", at=20, user_id="ada")
    storage.add_run("long", input="another way", output="…", user_id="ada", state={"way": [1, {"deep": None}]})
    look(storage)
    storage.rename("seen", "A picture \u202e of 猫")
    storage.rate("seen", 1, score=0.5, comment="good", by="eve")
    storage.create_session("empty", metadata={"tier": "gold", "n": 1}, ttl=3600, agent="helper", kind="team")
    storage.fork("long", session_id="fork", user_id="ada")
    storage.for_user("ada").add_run("long", input="her own", output="yes")
    seen = storage.get_session("seen")
    assert seen is not None
    operate(storage, write_record, seen, "mylib/cursor", b"\x00\xff")


Whole = dict[str, tuple[Session | None, list[CommitRow], dict[str, bytes | None]]]


def everything(storage: Storage) -> Whole:
    """All that a storage has, under the contract of drivers: heads, commits, media and other records."""

    async def read(core: Core) -> Whole:
        deadline = core.deadline()
        await core.prepare(deadline)
        found: Whole = {}
        for row in (await core.driver.list(ListQuery(hidden=None, limit=1000), deadline)).rows:
            where = (row.session_id, row.incarnation)
            keys = await core.driver.record_keys(*where, "", deadline)
            digests = [key.split("/")[1] for key in keys if key.startswith("media/") and key.count("/") == 1]
            media = {name: storage.media(row.session_id, name, user_id=ANY_USER) for name in digests}
            own = {key: await core.driver.get_record(*where, key, deadline) for key in keys if key.startswith("x/")}
            head = (await core.look(row.session_id, deadline)).found
            found[row.session_id] = (head, await core.driver.entries(*where, Span(), deadline), {**media, **own})
        return found

    return operate(storage, read)
