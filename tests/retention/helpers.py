"""A user's words in all places where a storage can have them."""

from __future__ import annotations

from typing import Any

from sessile.storage import Storage
from sessile.storage.cache import keep_result
from sessile.storage.extending import operate
from sessile.storage.media import digest_of, write_media
from sessile.storage.vocabulary import ResultKept

SECRET = "walrus7731"
PICTURE = b"\x89PNG" + SECRET.encode() * 300


def talk(storage: Storage, user_id: str, word: str) -> None:
    """All that can hold a user's words: a log, a state, a name, media, a kept result, a session of their own."""
    for number in range(1, 5):
        said = [{"role": "user", "content": f"{word} said {number}"}]
        about: dict[str, Any] = {"state": {"w": word}, "user_id": user_id, "agent": "guide"}
        storage.add_run(user_id, input=f"{word} in {number}", output=word, messages=said, format="mine", **about)
    storage.rename(user_id, word, user_id=user_id)
    storage.for_user(user_id).add_run("own", input=word)
    kept = ResultKept(name="step", output=word)
    operate(storage, keep_result, f"sessile:kept:{user_id}", kept, 3600.0, user_id=user_id)

    async def keep(core: Any) -> None:
        head = await core.head_of(user_id, user_id, core.deadline())
        await write_media(core, head, digest_of(PICTURE), PICTURE, core.deadline())

    operate(storage, keep)
