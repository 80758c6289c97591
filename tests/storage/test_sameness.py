"""Whether two storage objects have one database is told by a session: a copy of that database is another one."""

from __future__ import annotations

from pathlib import Path

from sessile import MemoryStorage, SqliteStorage
from sessile.storage.sameness import shared_by
from sessile.transfer import copy


async def test_another_object_is_the_same_database_and_a_copy_is_not(tmp_path: Path) -> None:
    with SqliteStorage(tmp_path / "s.db") as one, SqliteStorage(tmp_path / "s.db") as same, MemoryStorage() as copied:
        one.add_run("s1", input="before", output="x")
        copy(one, copied)
        one.add_run("s1", input="just now", output="x")
        assert await shared_by(same, one, "s1")
        assert not await shared_by(copied, one, "s1")
