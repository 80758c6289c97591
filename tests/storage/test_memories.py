"""What is remembered about users, as code sees it: limits, holding, archives, encryption, redaction, processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
from sessile.errors import HeldError, InvalidInputError, MemoryNotFoundError, TooLargeError
from sessile.redaction import Patterns
from sessile.storage.scopes import ScopeName
from sessile.transfer import export_archive, import_archive

PLACE = ScopeName("memory", "ada").stored_id


def test_written_changed_found_and_forgotten(storage: Storage) -> None:
    mine = storage.memories("ada")
    tea, oslo = mine.add("Likes tea.", topics=["food", "food"]), mine.add("Lives in Oslo.")
    assert tea.topics == ("food",)
    assert [one.memory for one in mine.all()] == ["Lives in Oslo.", "Likes tea."]
    assert mine.all(topic="food") == [tea]
    assert mine.get(oslo.memory_id) == oslo
    assert [one.memory for one in mine.search("Does she drink TEA or live in Oslo? tea!", limit=1)] == [
        "Lives in Oslo."
    ]
    assert mine.search("nothing") == []
    changed = mine.update(oslo.memory_id, "Lives in Bergen.", topics=["city"], ttl=3600)
    assert (changed.created_at, changed.memory_id) == (oslo.created_at, oslo.memory_id)
    assert changed.expires_at is not None
    assert mine.update(oslo.memory_id, topics=[]).memory == "Lives in Bergen."
    assert mine.update(oslo.memory_id, ttl=None).expires_at is None
    assert storage.memories("bob").get(tea.memory_id) is None
    with pytest.raises(MemoryNotFoundError):
        storage.memories("bob").update(tea.memory_id, "X")
    assert not storage.memories("bob").delete(tea.memory_id)
    assert mine.delete(tea.memory_id)
    assert not mine.delete(tea.memory_id)
    assert storage.all_memories() == mine.all()
    assert mine.clear(session_id="s1") == 0
    assert mine.clear() == 1
    assert mine.all() == []
    assert storage.verify(PLACE, user_id=ANY_USER)


@pytest.mark.parametrize("wrong", [None, "", "  ", 3, "x" * 2001])
def test_what_is_no_memory(memory: MemoryStorage, wrong: object) -> None:
    with pytest.raises(InvalidInputError):
        memory.memories("ada").add(wrong)  # pyright: ignore[reportArgumentType]


def test_nobody_and_everybody_have_none(memory: MemoryStorage) -> None:
    for user in (None, ANY_USER):
        with pytest.raises(InvalidInputError):
            memory.memories(user).all()  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidInputError):
            memory.memories(user).add("x")  # pyright: ignore[reportArgumentType]
    for topics in ("food", ["x"] * 11, ["y" * 101], [3]):
        with pytest.raises(InvalidInputError):
            memory.memories("ada").add("x", topics=topics)  # pyright: ignore[reportArgumentType]


def test_there_is_room_for_so_many_bytes(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db", max_state_bytes=4_000) as storage:
        mine = storage.memories("ada")

        def fill() -> None:
            for number in range(100):
                mine.add(f"{number} {'x' * 300}")

        with pytest.raises(TooLargeError):
            fill()
        kept = mine.all()
        assert 5 < len(kept) < 15
        assert mine.delete(kept[0].memory_id)
        assert mine.add("Fits again.")


def test_held_ones_stay(storage: Storage) -> None:
    mine = storage.memories("ada")
    kept = mine.add("Likes tea.")
    mine.add("For a moment.", ttl=0)
    storage.hold(PLACE, "a lawsuit", user_id=ANY_USER)
    for forget in (lambda: mine.delete(kept.memory_id), mine.clear, lambda: storage.delete_user("ada")):
        with pytest.raises(HeldError):
            forget()
    mine.add("Likes coffee.")
    assert len(mine.all()) == 2
    assert "For a moment." in str([one.data for one in storage.entries(PLACE, user_id=ANY_USER)])
    storage.release(PLACE, user_id=ANY_USER)
    assert mine.delete(kept.memory_id)
    assert "For a moment." not in str([one.data for one in storage.entries(PLACE, user_id=ANY_USER)])


def test_they_travel_and_are_deleted_with_their_user(storage: Storage, tmp_path: Path) -> None:
    storage.memories("ada").add("Likes tea.", topics=["food"])
    storage.memories("bob").add("Likes coffee.")
    export_archive(storage, tmp_path / "a.sessile", user_id="ada")
    with MemoryStorage() as other:
        import_archive(tmp_path / "a.sessile", other)
        assert other.all_memories() == storage.memories("ada").all()
        assert other.memories("ada").add("Likes tea").topics == ("food",)
    storage.delete_user("ada")
    assert [one.user_id for one in storage.all_memories()] == ["bob"]


def test_nothing_is_readable_that_was_encrypted_or_redacted(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from sessile.encryption import EncryptedStorage, new_key

    path = tmp_path / "s.db"
    with EncryptedStorage(SqliteStorage(path, redact=Patterns("mail")), keys={"k": new_key()}) as storage:
        mine = storage.memories("ada")
        mine.add("Lives in Bergen, mail ada@example.com.")
        mine.add("Lives in Bergen, mail ada@example.com.")
        (one,) = mine.search("bergen")
        assert "example.com" not in one.memory
        assert b"Bergen" not in b"".join(file.read_bytes() for file in tmp_path.glob("s.db*"))


WRITER = """
import sys
from sessile import SqliteStorage
with SqliteStorage(sys.argv[1]) as storage:
    for number in range(10):
        storage.memories("ada").add(f"{sys.argv[2]} {number}")
"""


def test_several_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with SqliteStorage(path) as storage:
        writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abcd"]
        assert [one.wait() for one in writers] == [0] * 4
        wanted = sorted(f"{name} {number}" for name in "abcd" for number in range(10))
        assert sorted(one.memory for one in storage.memories("ada").all()) == wanted
        assert storage.verify(PLACE, user_id=ANY_USER)


FOOD, HOME = ("vegetarian", "eat", "dinner"), ("bergen", "live", "house")


def meant(texts: list[str]) -> list[list[float]]:
    """Vectors of two dimensions: how much of food, and how much of home."""
    return [[sum(word in text.lower() for word in words) + 0.01 for words in (FOOD, HOME)] for text in texts]


def test_found_by_meaning(storage: Storage) -> None:
    asked: list[list[str]] = []

    def embed(texts: list[str]) -> list[list[float]]:
        asked.append(texts)
        return meant(texts)

    mine = storage.memories("ada", embed=embed)
    mine.add("Is a vegetarian.", topics=["food"])
    mine.add("Comes from Bergen.")
    assert [one.memory for one in mine.search("What shall I cook for dinner?")] == [
        "Is a vegetarian.", "Comes from Bergen."
    ]  # fmt: skip
    assert [one.memory for one in mine.search("Where is her house?", limit=1)] == ["Comes from Bergen."]
    assert mine.search("Where is her house?", topic="food")[0].memory == "Is a vegetarian."
    assert sum("Is a vegetarian." in texts for texts in asked) == 1, "vectors are kept"
    assert asyncio.run(mine.asearch("dinner", limit=1))[0].memory == "Is a vegetarian."
    assert storage.memories("bob", embed=embed).search("dinner") == []
    with pytest.raises(InvalidInputError):
        storage.memories("ada", embed=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError):
        storage.memories("ada", embed=lambda texts: []).search("dinner")
