"""Files of a session, as code sees them: names, limits, erasing, holding, archives, encryption, processes, crashes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessile import ANY_USER, MemoryStorage, SqliteStorage, Storage
from sessile.drivers.memory import MemoryDriver
from sessile.errors import (
    ConflictError,
    HeldError,
    InvalidInputError,
    SessionFileNotFoundError,
    SessionNotFoundError,
    TooLargeError,
)
from sessile.redaction import Patterns
from sessile.storage.wrapping import WrappedDriver
from sessile.transfer import export_archive, import_archive

TURNED = "invoice\u202efdp.exe"


def test_written_read_listed(storage: Storage) -> None:
    storage.create_session("s1", user_id="ada")
    mine = storage.files("s1", user_id="ada")
    made = mine.write("notes/plan.md", "# Plan")
    assert (made.version, made.media_type, made.size, made.run_id) == (1, "text/markdown", 6, None)
    assert mine.write("notes/plan.md", b"\xff", media_type="image/x-odd").version == 2
    assert mine.get("notes/plan.md") == mine.versions("notes/plan.md")[1]
    assert mine.get("notes/plan.md", 1) == made
    assert mine.get("plan.md") is None
    assert (mine.read("notes/plan.md", 1), mine.read("notes/plan.md")) == (b"# Plan", b"\xff")
    assert storage.media("s1", made.digest, user_id="ada") == b"# Plan"
    for name, version in (("plan.md", None), ("notes/plan.md", 3)):
        with pytest.raises(SessionFileNotFoundError):
            mine.read(name, version)
    assert mine.delete("notes/plan.md", 1) == 1
    assert [one.version for one in mine.versions("notes/plan.md")] == [2]
    assert mine.write("notes/plan.md", "x").version == 3
    assert storage.verify("s1", user_id="ada")


def test_whose_they_are(storage: Storage) -> None:
    storage.create_session("s1", user_id="ada")
    storage.files("s1", user_id="ada").write("a", "x")
    for user in (None, "bob"):
        others = storage.files("s1", user_id=user)
        for call in (
            others.all,
            lambda others=others: others.versions("a"),
            lambda others=others: others.get("a"),
            lambda others=others: others.read("a"),
            lambda others=others: others.write("a", "y"),
            lambda others=others: others.delete("a"),
        ):
            with pytest.raises(SessionNotFoundError):
                call()
    assert storage.files("s1", user_id=ANY_USER).read("a") == b"x"
    view = storage.for_user("bob")
    view.create_session("s1")
    mine = view.files("s1")
    assert mine.all() == []
    mine.write("a", "z")
    assert (mine.read("a"), mine.delete("a"), mine.all()) == (b"z", 1, [])


@pytest.mark.parametrize("name", ["..", "/etc/passwd", "a\\b", "C:con", "'; DROP", "👩‍💻.png", "x" * 255])
def test_any_name_is_only_a_name(memory: MemoryStorage, name: str) -> None:
    memory.create_session("s1")
    assert memory.files("s1").write(name, name).name == name
    assert memory.files("s1").read(name) == name.encode()


@pytest.mark.parametrize(
    "name", ["", "  ", "a\0b", "a\nb", "\x1b[31m", TURNED, "a\u200bb", "\ud800", "x" * 256, 3, None]
)
def test_what_is_no_name(memory: MemoryStorage, name: object) -> None:
    memory.create_session("s1")
    with pytest.raises(InvalidInputError):
        memory.files("s1").write(name, "x")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInputError):
        memory.files("s1").read(name)  # pyright: ignore[reportArgumentType]


def test_what_is_no_content(memory: MemoryStorage) -> None:
    memory.create_session("s1")
    for content in (None, 3, "\ud800", ["x"]):
        with pytest.raises(InvalidInputError):
            memory.files("s1").write("a", content)  # pyright: ignore[reportArgumentType]
    for kind in ("", "text", "text/", "text/ä", "a/" + "b" * 200, "text/x\r\nSet-Cookie: a"):
        with pytest.raises(InvalidInputError):
            memory.files("s1").write("a", "x", media_type=kind)
    assert memory.files("s1").all() == []


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqliteStorage(tmp_path / "s.db", max_media_bytes=1000) as storage:
        storage.create_session("s1")
        mine = storage.files("s1")
        with pytest.raises(TooLargeError):
            mine.write("a", "x" * 1001)
        mine.write("a", "x" * 1000)
        mine.write("b", "y", if_version=0)
        for version in (0, 2):
            with pytest.raises(ConflictError):
                mine.write("b", "z", if_version=version)
        monkeypatch.setattr("sessile.storage.files.MOST", 2)
        with pytest.raises(TooLargeError):
            mine.write("c", "z")
        assert [one.name for one in mine.all()] == ["a", "b"]


def test_erased_with_their_run_and_held_and_gone_with_the_session(storage: Storage) -> None:
    from sessile.storage.extending import operate
    from sessile.storage.files import Writer, new_file, write

    storage.add_run("s1", input="a", run_id="r1", user_id="ada")
    storage.add_run("s1", input="b", run_id="r2", user_id="ada")
    mine = storage.files("s1", user_id="ada")
    operate(storage, write, "s1", "ada", new_file("of-run-1", "secret"), Writer("r1", "a"))
    operate(storage, write, "s1", "ada", new_file("of-run-2", "kept"), Writer("r2", "a"))
    storage.hold("s1", "a lawsuit", user_id="ada")
    with pytest.raises(HeldError):
        mine.delete("of-run-1")
    storage.release("s1", user_id="ada")
    digest = mine.all()[0].digest
    storage.erase_run("s1", 1, user_id="ada")
    assert [one.name for one in mine.all()] == ["of-run-2"]
    assert "of-run-1" not in str([one.data for one in storage.entries("s1", user_id="ada")])
    with pytest.raises(Exception, match="missing"):
        storage.media("s1", digest, user_id="ada")
    storage.delete_user("ada")
    with pytest.raises(SessionNotFoundError):
        mine.all()


def test_deleting_goes_on_where_a_crash_has_left_it(storage: Storage) -> None:
    from sessile.storage.extending import operate
    from sessile.storage.files import mark_deleted

    storage.create_session("s1")
    mine = storage.files("s1")
    made = mine.write("a", "secret")
    operate(storage, mark_deleted, "s1", None, "a", None)  # and there the process was killed
    assert mine.all() == []
    assert storage.media("s1", made.digest) == b"secret"
    assert mine.delete("a") == 0
    with pytest.raises(Exception, match="missing"):
        storage.media("s1", made.digest)


def test_a_content_that_is_written_again_while_it_is_removed_stays() -> None:
    class Meanwhile(WrappedDriver):
        """Another process writes the same content under another name just before it is removed."""

        async def put_record(self, session_id: str, incarnation: str, key: str, value: Any, deadline: Any) -> bool:
            if value is None and not written:
                written.append(other.files("s1").write("b", "x" * 100))
            return await super().put_record(session_id, incarnation, key, value, deadline)

    written: list[Any] = []
    driver = MemoryDriver()
    with Storage(driver) as other:
        other.create_session("s1")
        other.files("s1").write("a", "x" * 100)
        assert Storage(Meanwhile(driver)).files("s1").delete("a") == 1
        assert written
        assert other.files("s1").read("b") == b"x" * 100


def test_a_content_that_a_message_names_stays(memory: MemoryStorage) -> None:
    from sessile.storage.media import REFERENCE

    memory.create_session("s1")
    made = memory.files("s1").write("a.png", b"x")
    part = {"kind": "binary", "media_type": "image/png", "data": {REFERENCE: made.digest, "size": 1}}
    memory.add_run("s1", messages=[{"part": part}], format="test/1")
    memory.files("s1").delete("a.png")
    assert memory.media("s1", made.digest) == b"x"


def test_they_travel(storage: Storage, tmp_path: Path) -> None:
    storage.create_session("s1", user_id="ada")
    mine = storage.files("s1", user_id="ada")
    mine.write("a", "1")
    mine.write("a", "2")
    export_archive(storage, tmp_path / "a.sessile")
    with MemoryStorage() as other:
        import_archive(tmp_path / "a.sessile", other)
        assert other.files("s1", user_id="ada").versions("a") == mine.versions("a")
        assert other.files("s1", user_id="ada").read("a", 1) == b"1"


def test_nothing_is_readable_that_was_encrypted_or_redacted(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from sessile.encryption import EncryptedStorage, new_key

    with EncryptedStorage(SqliteStorage(tmp_path / "s.db", redact=Patterns("mail")), keys={"k": new_key()}) as storage:
        storage.create_session("s1")
        mine = storage.files("s1")
        assert "example.com" not in mine.write("Bergen ada@example.com.txt", "Bergen").name
        assert mine.read("Bergen ada@example.com.txt") == b"Bergen"
        assert b"Bergen" not in b"".join(file.read_bytes() for file in tmp_path.glob("s.db*"))


WRITER = """
import sys
from sessile import SqliteStorage
with SqliteStorage(sys.argv[1]) as storage:
    print("ready", flush=True)
    for number in range(int(sys.argv[3])):
        storage.files("s1").write("shared.txt", f"{sys.argv[2]} {number} " + "x" * 50_000)
        print(number, flush=True)
"""


def test_several_processes_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with SqliteStorage(path) as storage:
        storage.create_session("s1")
        start = [sys.executable, "-c", WRITER, str(path)]
        writers = [subprocess.Popen([*start, name, "5"], stdout=subprocess.DEVNULL) for name in "abc"]
        assert [one.wait() for one in writers] == [0] * 3
        mine = storage.files("s1")
        found = mine.versions("shared.txt")
        assert [one.version for one in found] == list(range(1, 16))
        said = {mine.read("shared.txt", one.version).decode()[:3] for one in found}
        assert said == {f"{name} {number}" for name in "abc" for number in range(5)}


def test_after_a_kill_each_version_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with SqliteStorage(path) as storage:
        storage.create_session("s1")
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), "a", "1000"], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        while writer.stdout.readline().strip() != b"4":
            continue
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
        mine = storage.files("s1")
        found = mine.versions("shared.txt")
        assert len(found) in (len(told) + 5, len(told) + 6)
        assert all(mine.read("shared.txt", one.version).startswith(b"a ") for one in found)
        assert storage.verify("s1")
